"""Fitting again from the local page: the process behind it, its requests, and the user's path."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from explore_browser import CONTRAST, SIZES, every_width, needs_chromium, said, until
from explore_helpers import guided_session, served, wait_until

from clusterloom import load_model
from clusterloom.cli.explore import _refit_command
from clusterloom.cli.options import Reading
from clusterloom.errors import DataError
from clusterloom.explore import refitting
from clusterloom.explore.refitting import Refitting, free_name
from clusterloom.explore.session import Session

pytest_plugins = ("explore_browser",)

SLOW = "import sys, time; print('refit, epoch 1/4, loss 2 (25%)', file=sys.stderr, flush=True); time.sleep(100)"
DEAF = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {SLOW}"
FAILS = "import sys; print('clusterloom: error: the disk is full', file=sys.stderr); sys.exit(1)"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return guided_session(tmp_path_factory.mktemp("refit"))


def command(program):
    return lambda old, new: [sys.executable, "-c", program]


# The process.


def test_a_refit_tells_how_far_it_is_and_ends_when_it_is_told_to(tmp_path):
    running = Refitting(command(SLOW)(None, None), tmp_path / "new")
    (tmp_path / "new.partial").mkdir()
    wait_until(lambda: running.share is not None)
    assert (running.running, running.share, running.text) == (True, 0.25, "refit, epoch 1/4, loss 2 (25%)")
    running.cancel()
    wait_until(lambda: not running.running)
    assert running.cancelled
    assert not running.succeeded
    assert not (tmp_path / "new.partial").exists()  # it would keep its name for ever


def test_a_refit_that_does_not_hear_the_interrupt_is_killed(tmp_path, monkeypatch):
    """As one does whose interrupt came while Python was ending an import."""
    monkeypatch.setattr(refitting, "_PATIENCE", 0.5)
    deaf = Refitting(command(DEAF)(None, None), tmp_path / "new")
    wait_until(lambda: deaf.share is not None)
    deaf.cancel()
    assert deaf.running
    deaf.wait()
    assert not deaf.succeeded


def test_a_refit_that_fails_says_why(tmp_path):
    failed = Refitting(command(FAILS)(None, None), tmp_path / "new")
    wait_until(lambda: not failed.running)
    assert not failed.succeeded
    assert failed.text == "the disk is full"


def test_new_models_get_names_that_nothing_has(tmp_path):
    assert free_name(tmp_path / "model").name == "model-2"
    (tmp_path / "model-2").mkdir()
    (tmp_path / "model-3.partial").mkdir()
    assert free_name(tmp_path / "model").name == "model-4"
    assert free_name(tmp_path / "model-2").name == "model-4"
    assert free_name(tmp_path / "-2").name == "-2-2"


def test_the_images_are_read_as_on_the_page():
    reading = replace(Reading(), image_size="24x32", tile=8, skip_bad=True, limit=50)
    asked = _refit_command(Path("-m"), "-data", Path("new"), reading)
    assert asked[3:] == [
        "refit", "--image-size", "24x32", "--tile", "8", "--skip-bad", "--limit", "50", "--overwrite", "--out", "new",
        "--", "-m", "-data",
    ]  # fmt: skip


# The requests.


def test_without_corrections_or_a_second_time_nothing_begins(client, session, tidy, monkeypatch):
    assert client.get_json("/api/refit") == {"possible": True, "heard": 0, "last": None}
    assert "nothing has been corrected" in client.refused("/api/refit/start", {})
    assert "no new model" in client.refused("/api/refit/open", {})
    client.edit({"op": "confirm", "rows": [3, 5]})
    monkeypatch.setattr(session, "_refit_command", command(SLOW))
    try:
        assert client.post_json("/api/refit/start", {})["last"]["running"]
        assert client.get_json("/api/refit")["heard"] == 2
        assert "already" in client.refused("/api/refit/start", {})
        assert "no new model" in client.refused("/api/refit/open", {})
    finally:
        client.post_json("/api/refit/cancel", {})
    wait_until(lambda: not client.get_json("/api/refit")["last"]["running"])
    assert client.get_json("/api/refit")["last"]["cancelled"]
    assert client.post("/api/refit/start", {}, X_Clusterloom_Token=None)[0] == 403
    assert client.refused("/api/refit/start", {"out": "/tmp/elsewhere"})


# The path of a user.


@needs_chromium
@every_width
def test_a_refit_is_watched_cancelled_and_told_about(open_page, session, client, tidy, monkeypatch, width):
    monkeypatch.setattr(session, "_refit_command", command(SLOW))
    page = open_page("review", SIZES[width])
    page.click("#review-keep")
    until(page, "document.getElementById('review-progress')?.textContent.startsWith('1 of 90')")
    page.click("#refit")
    until(page, "document.getElementById('refit-text')?.textContent === 'It will hear 1 correction.'")
    assert page.evaluate(CONTRAST) == []
    page.click("#refit-start")
    page.wait_for_selector("#refit-cancel")
    until(page, "document.getElementById('refit').textContent === 'Refit 25 %'")
    assert page.evaluate("document.getElementById('refit-progress').value") == 0.25
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Close").click()  # it goes on
    assert client.get_json("/api/refit")["last"]["running"]
    page.click("#refit")
    page.hover("#refit-cancel")
    assert page.evaluate(CONTRAST) == []
    page.click("#refit-cancel")
    said(page, "The refit was cancelled")
    page.wait_for_selector("#refit-start:enabled")
    monkeypatch.setattr(session, "_refit_command", command(FAILS))
    page.click("#refit-start")
    until(page, "document.getElementById('refit-error')?.textContent.includes('the disk is full')")
    assert page.evaluate(CONTRAST) == []


@needs_chromium
def test_a_refit_that_ends_while_it_is_cancelled_is_told_about(open_page, session, client, tidy, monkeypatch):
    """The answer to the cancelling is then the first to say that it has ended."""
    cancel = Refitting.cancel

    def cancel_and_wait(running):
        cancel(running)
        wait_until(lambda: not running.running)

    monkeypatch.setattr(Refitting, "cancel", cancel_and_wait)
    monkeypatch.setattr(session, "_refit_command", command(SLOW))
    client.edit({"op": "confirm", "rows": [3]})
    page = open_page("review")
    page.click("#refit")
    page.click("#refit-start")
    page.click("#refit-cancel")
    said(page, "The refit was cancelled")
    page.wait_for_selector("#refit-start:enabled")


@pytest.mark.parametrize("fails", [False, True])
def test_the_images_of_a_model_go_once_its_successor_has_its_own(session, fails):
    def load(model, progress):
        if fails and model is not session.model:
            raise DataError("the disk is gone")
        return session.collection.images

    told = []
    old = Session(session.model, session.path, load)
    old.start(lambda _: None)
    assert old.wait(60)
    old.refitting = SimpleNamespace(out=session.path, not_opened=told.append)
    old.open_refitted()
    wait_until(lambda: told if fails else not old.ready)
    assert (old.latest is old) is old.ready is fails


@needs_chromium
def test_from_corrections_to_the_new_model_in_two_tabs(browser, tmp_path):
    """Asked, named, fitted again and opened, all on the page; the other tab follows by itself."""
    session = guided_session(tmp_path)
    with served(session) as client:
        pages = [browser.new_context(viewport={"width": 1400, "height": 900}).new_page() for _ in range(2)]
        for page in pages:
            page.goto(client.address)
            page.wait_for_selector("html[data-started]")
        page = pages[0]
        kinds, labels = session.collection.images.labels, session.collection.predictions.labels
        alone = next(k for k in range(2) if len(set(kinds[labels == k].tolist())) == 1)
        mixed = np.flatnonzero(labels == 1 - alone)
        strange = [row for row in mixed.tolist() if kinds[row] != kinds[mixed[0]]]
        client.edit({"op": "move", "rows": strange[:6], "to": 2})
        client.edit({"op": "confirm", "rows": [row for row in mixed.tolist() if row not in strange][:6]})
        client.edit({"op": "name", "cluster": 2, "name": "strange ones"})
        page.click("#refit")
        until(page, "document.getElementById('refit-text')?.textContent === 'It will hear 13 corrections.'")
        page.click("#refit-start")
        page.wait_for_selector("#refit-open", timeout=120_000)
        assert page.locator("#refit").inner_text() == "Refit: done"
        page.click("#refit-open")
        for one in pages:
            one.wait_for_selector("h1:text-is('model-2')")
            one.wait_for_selector("#cluster-2 .title:text-is('strange ones')")
        new = load_model(tmp_path / "model-2")
        untold = np.setdiff1d(np.arange(90), new.corrected_)
        assert (new.labels_[untold] == 2).tolist() == np.isin(untold, strange).tolist()
        state = client.get_json("/api/state")
        assert [c["looked_at"] for c in state["clusters"]] == [
            0 if k == alone else 6 for k in range(3)
        ]  # what was said goes on
        assert client.get_json("/api/refit")["last"] is None
        assert (tmp_path / "model.journal.sqlite").exists()
        for one in pages:
            one.context.close()
