"""Paths that a user takes from one view of the local page to another, at several widths.

Where a path is short, one window takes it at every width, as `at_every_width` makes it narrower.
"""

import contextlib
import csv
import io
import socket
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from explore_browser import (
    CONTRAST,
    SIZES,
    at_every_width,
    every_width,
    held_back,
    needs_chromium,
    places_in,
    said,
    until,
    wait_for_map,
)
from explore_helpers import folder_session, served
from PIL import Image

from clusterloom.corrections.read import read_assignment
from clusterloom.data import load_images
from clusterloom.explore.session import Session

pytest_plugins = ("explore_browser",)
pytestmark = needs_chromium


def look_at(page, session, name):
    """Look at an image by way of its id; its row."""
    page.fill("#search-text", name)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#image-details h2:has-text('{name}')", state="attached")
    (row,) = [row for row, id_ in enumerate(session.collection.images.ids) if id_.endswith(f"/{name}")]
    return row


def centre_of(page):
    """The map's scale and what lies in the middle of it."""
    return page.evaluate(
        """() => { const { k, x, y } = document.querySelector("#map .overlay").__zoom;
        const { clientWidth: w, clientHeight: h } = document.getElementById("map");
        return [k, (w / 2 - x) / k, (h / 2 - y) / k, w, h]; }"""
    )


@every_width
def test_on_the_map_shows_the_image_in_the_middle_from_every_view(open_page, session, width):
    page = open_page("gallery", SIZES[width])
    for name, view in (("picture 33.png", "gallery/1"), ("picture 40.png", "generate/0"), ("picture 52.png", "try")):
        page.evaluate(f"location.hash = '/{view}'")
        page.wait_for_selector(f"body[data-view={view.split('/')[0]}]")
        row = look_at(page, session, name)
        if not page.locator("#image-on-map").is_visible():  # in a sheet, beside what was found
            page.get_by_role("button", name="Image", exact=True).click()
        page.click("#image-on-map")
        page.wait_for_selector("body[data-view=map]")
        until(page, "document.querySelector('#map .overlay').__zoom.k >= 12")
        until(page, "Number(document.getElementById('map').dataset.drawn) > 0")
        _, x, y, w, h = centre_of(page)
        position = session.collection.predictions.position[[row]].astype(float)
        np.testing.assert_allclose([x, y], places_in(w, h, position)[0], atol=1)
        page.evaluate("document.getElementById('zoom-all').click()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_button_can_be_read_while_it_is_pointed_at_or_pressed(open_page, scheme):
    page = open_page("gallery/0", color_scheme=scheme)
    page.locator("#gallery .tile .tick").first.click()
    page.wait_for_selector("#move")
    page.evaluate("location.hash = '/map'")
    page.click("#lasso")
    for width in at_every_width(page):
        if width == 390:
            page.get_by_role("button", name="1 selected").click()
        for selector in ("#lasso", "#zoom-in", "#move", "#history", "#views a[aria-current=page]", "#cluster-0"):
            page.hover(selector, force=True)
            assert page.evaluate(CONTRAST) == [], (selector, "pointed at", width)
            page.mouse.down()
            assert page.evaluate(CONTRAST) == [], (selector, "pressed", width)
            page.mouse.move(0, 0)  # let go elsewhere, it does nothing
            page.mouse.up()
    assert page.locator("#lasso").get_attribute("aria-pressed") == "true"


def test_a_button_can_be_read_after_it_was_touched(open_page):
    page = open_page("map", SIZES[390], has_touch=True, is_mobile=True)
    assert page.evaluate("matchMedia('(hover: none)').matches")
    for width in at_every_width(page):
        for selector in ("#lasso", "#lasso", "#as-images", "#to-map"):
            page.tap(selector)
            assert page.evaluate(CONTRAST) == [], (selector, width)


def look_at_first_of(page, session, cluster, where):
    """Look at the first image of a cluster in its gallery; its row. `where` tells that its details are there."""
    row = int(np.flatnonzero(session.collection.predictions.labels == cluster)[0])
    page.evaluate(f"location.hash = '/gallery/{cluster}'")
    page.locator(f"#gallery .tile[data-row='{row}']").click()
    page.wait_for_selector(where.format(row=row))
    return row


def test_walk_from_here_is_kept_while_another_cluster_is_opened(open_page, session):
    page = open_page("map")
    page.click("#to-generate")
    page.click("#tab-walk")
    page.wait_for_selector("#walk .film canvas")
    for _ in at_every_width(page):
        first = look_at_first_of(page, session, 2, "#choose-image[data-row='{row}']")
        page.click("#image-walk-from")
        page.wait_for_selector("#walk .end img")
        last = look_at_first_of(page, session, 0, "#choose-image[data-row='{row}']")
        with page.expect_request(lambda r: r.url.endswith("/api/walk")) as asked:
            page.click("#image-walk-to")
        assert asked.value.post_data_json["from"] == {"row": first}
        assert asked.value.post_data_json["to"] == {"row": last}
        ends = page.locator("#walk .walk-end")
        assert "an image of cluster 2" in ends.nth(0).inner_text()
        assert "an image of cluster 0" in ends.nth(1).inner_text()
        assert not page.locator("#walk-from").is_visible()
        for _ in range(2):
            page.locator("#walk").get_by_role("button", name="use a cluster instead").first.click()
        assert page.locator("#walk-from").is_visible()


# Corrections


@every_width
def test_the_queue_of_doubt_is_answered_by_keys_and_undone(open_page, client, session, tidy, width):
    said_of, page = session.collection.predictions, open_page("gallery/0", SIZES[width])
    page.evaluate("location.hash = '/review'")
    first, second, third, fourth = session.collection.question_ranks.argsort()[:4].tolist()
    ids = session.collection.images.ids
    shows = """([id, done]) => document.querySelector('#review h2')?.textContent === id
        && document.getElementById('review-progress').textContent.startsWith(done)"""
    until(page, shows, [ids[first], "0 of 90"])
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    near = page.evaluate("[...document.querySelectorAll('.review-near section:first-child img')].map((i) => i.alt)")
    own = said_of.labels == said_of.labels[first]
    assert near == [ids[row] for row in said_of.similar([first], 8, own)[0]]
    page.keyboard.press("k")
    until(page, shows, [ids[second], "1 of 90"])
    runner_up = int(np.argsort(-said_of.proba[second])[1])
    page.keyboard.press("m")
    until(page, shows, [ids[third], "2 of 90"])
    page.keyboard.press("o")
    until(page, shows, [ids[fourth], "3 of 90"])
    page.keyboard.press("s")
    until(page, "(id) => document.querySelector('#review h2').textContent !== id", ids[fourth])
    assert "1 skipped" in page.locator("#review-progress").inner_text()
    assignment = session.collection.assignment
    assert assignment.marks[[first, second, third, fourth]].tolist() == [1, 1, 2, 0]
    assert assignment.labels[second] == runner_up
    page.keyboard.press("z")
    said(page, "Undone: 1 image marked as an outlier")
    until(page, shows, [ids[third], "2 of 90"])
    other = next(k for k in range(3) if k != said_of.labels[third])
    page.keyboard.press(str(other))
    until(page, "document.getElementById('review-progress').textContent.startsWith('3 of 90')")
    assert session.collection.assignment.labels[third] == other
    # What was moved here is marked there, and the list of edits takes it back.
    page.evaluate(f"location.hash = '/gallery/{other}'")
    page.wait_for_selector(f"#gallery .tile[data-row='{third}']")
    page.click("#history")
    page.wait_for_selector("dialog[open] .history li")
    assert page.locator("dialog .history li span").all_inner_texts()[0].endswith(f"moved to cluster {other}")
    page.get_by_role("button", name="Take back all from here").last.click()
    said(page, "Taken back, from: 1 image kept")
    assert not session.collection.assignment.marks.any()


def test_the_queue_says_that_it_is_being_made(open_page):
    page = open_page("gallery/0")
    question = held_back(page, "**/api/columns/question")
    page.evaluate("location.hash = '/review'")
    page.wait_for_selector("#review [role=status]:has-text('Working out what to ask first')")
    question().continue_()
    page.wait_for_selector("#review-keep")


@every_width
def test_merging_offers_the_nearest_cluster_and_a_double_click_merges_once(open_page, client, session, tidy, width):
    state = client.get_json("/api/state")
    nearest = state["clusters"][1]["next"]
    page = open_page("map", SIZES[width])
    page.evaluate("location.hash = '/gallery/1'")
    page.click("#merge")
    page.wait_for_selector("dialog[open] #merge-with")
    assert page.input_value("#merge-with") == str(nearest)
    assert page.locator("dialog .strip").count() == 2
    page.get_by_role("button", name="Leave it").click()
    assert client.get_json("/api/state")["revision"] == state["revision"]
    page.click("#merge")
    page.dblclick("#merge-take")
    said(page, f"cluster {nearest} is now part of cluster 1")
    page.wait_for_timeout(300)
    assert client.get_json("/api/state")["revision"] == state["revision"] + 1
    page.click("#undo")
    said(page, f"Undone: cluster {nearest} merged into cluster 1")


def test_a_cluster_is_split_into_three_after_a_look_and_its_parts_are_told_apart(open_page, session, tidy):
    page = open_page("gallery/0")
    for _ in at_every_width(page):
        page.click("#split")
        page.wait_for_selector("dialog[open] .halves section")
        page.fill("#split-parts", "3")
        until(page, "document.querySelectorAll('dialog .halves section').length === 3")
        page.click("#split-take")
        said(page, "clusters 3, 4 are new")
        assert sorted(session.collection.assignment.names) == [0, 1, 2, 3, 4]
        until(page, "document.querySelectorAll('#cluster-list a .dot[data-marker]').length === 5")
        colours = "[...document.querySelectorAll('#cluster-list a .dot[data-marker]')].map((dot) => dot.style.color)"
        assert len(set(page.evaluate(colours))) == 5
        page.click("#undo")
        said(page, "Undone")


def test_what_was_edited_is_seen_everywhere(open_page, client, session, tidy):
    """A merged cluster is in no bars, an emptied one in no list."""
    labels = session.collection.predictions.labels
    client.edit({"op": "merge", "clusters": [0, 1], "into": 1})
    row = int(np.flatnonzero(labels == 0)[0])
    page = open_page("gallery/1")
    page.click(f"#gallery .tile[data-row='{row}']")
    page.wait_for_selector("#image-details .bars")
    for _ in at_every_width(page):
        assert not page.locator("#cluster-0").is_visible()
        assert "cluster 0" not in page.locator("#image-details .bars").inner_text()
        assert "cluster 1" in page.locator("#image-details .bars").inner_text()
    client.edit({"op": "move", "rows": np.flatnonzero(labels == 2).tolist(), "to": 1})
    until(page, "document.getElementById('cluster-2') === null")


@pytest.mark.parametrize(("probability", "text"), [(1.0, "> 99.9 %"), (0.99996, "> 99.9 %"), (0.9931, "99.3 %")])
def test_a_probability_is_written_alike_everywhere(open_page, client, session, monkeypatch, probability, text):
    said_of = session.collection.predictions
    cluster = int(said_of.labels[0])
    proba = np.full((90, 3), (1 - probability) / 2, np.float32)
    proba[np.arange(90), said_of.labels] = probability
    sure = replace(said_of, proba=proba)
    monkeypatch.setattr(session, "_collection", replace(session.collection, predictions=sure, kept={}))
    page = open_page("gallery")
    page.click("summary:has-text('Clusters at a glance')")
    for width in at_every_width(page):
        page.evaluate("location.hash = '/gallery'")
        page.wait_for_selector(f"#card-{cluster}:has-text('mean probability {text}')")
        page.click("#gallery .tile[data-row='0']")
        page.wait_for_selector("#choose-image[data-row='0']")
        assert page.locator("#image-details .bars .figure").first.inner_text() == text
        assert page.locator("#gallery .tile[data-row='0']").get_attribute("aria-label").endswith(text)
        if width == 390:
            page.get_by_label("Close the details").click()
        page.evaluate("location.hash = '/review'")
        page.wait_for_selector("#review .bars")
        assert page.locator("#review .bars .figure").first.inner_text() == text


def test_no_image_is_among_the_most_typical_and_the_most_doubtful(open_page, session):
    page = open_page("gallery/0")
    shown = "[...document.querySelectorAll('#gallery .tile')].map((t) => Number(t.dataset.row))"
    said_of = session.collection.predictions
    for _ in at_every_width(page):
        rows = {}
        for order, expected in (("doubtful", said_of.doubtful(0)), ("typical", said_of.typical(0))):
            page.select_option("#order", order)
            until(page, f"(rows) => ({shown}).join() === rows.join()", expected.tolist())
            rows[order] = expected[: len(expected) // 2].tolist()
        assert not set(rows["typical"]) & set(rows["doubtful"])


def test_what_is_corrected_on_the_page_is_read_by_everything_else(open_page, session, tidy):
    """By its own export, and by what `report`, `predict`, `export`, `evaluate` and `refit` read it with."""
    page, images, said_of = open_page("gallery/0"), session.collection.images, session.collection.predictions
    moved = []
    for width in at_every_width(page):
        page.evaluate("location.hash = '/gallery/0'")
        row = int(np.flatnonzero(session.collection.assignment.labels == 0)[0])
        page.hover(f"#gallery .tile[data-row='{row}']")
        page.locator(f"#gallery .tile[data-row='{row}'] .tick").click()
        page.wait_for_selector("#move")
        page.select_option("#move-to", "2")
        page.click("#move")
        said(page, "1 image moved to cluster 2")
        moved.append(row)
        if width == 390:
            page.get_by_label("Close the details").click()
        page.click("summary:has-text('Export')")
        page.click("[data-save=csv]")
        said(page, "Labels of 90 images in")
        path = page.locator("#status").inner_text().split(" in ", 1)[1]
        with Path(path).open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert {i for i, line in enumerate(lines) if line["changed"] == "true"} == set(moved)
        read = read_assignment(session.path, images, said_of.labels, 3)
        assert np.flatnonzero(read.labels != said_of.labels).tolist() == sorted(moved)


def test_other_images_of_the_same_model_have_edits_of_their_own(browser, session, client, tidy):
    """Fewer of the images, as `--limit` reads them, are another set: both are edited, and neither sees the other's."""
    fewer = Session(session.model, session.path, lambda model, progress: load_images(session.source, limit=60))
    fewer.start(lambda: None)
    assert fewer.wait(60)
    with served(fewer) as other:
        pages = [browser.new_context(viewport=SIZES[1600]).new_page() for _ in range(2)]
        for page, of, n in zip(pages, (client, other), (90, 60), strict=True):
            page.goto(f"{of.address}#/gallery/0")
            page.wait_for_selector(f"#subtitle:has-text('{n} images')")
        for width in SIZES:
            for page, n in zip(pages, (90, 60), strict=True):
                page.set_viewport_size(SIZES[width])
                page.evaluate("location.hash = '/gallery/0'")
                page.fill("#cluster-name", f"{n} at {width}")
                page.click("text=Rename")
                said(page, f"is called “{n} at {width}”")
        for of, n in ((client, 90), (other, 60)):
            assert of.get_json("/api/state")["clusters"][0]["name"] == f"{n} at 390"
        for page in pages:
            page.context.close()


@pytest.mark.parametrize(
    ("name", "text"), [("Things", "another cluster is called"), ("=1+1", "formula"), ("@sum", "formula")]
)
def test_a_name_is_one_clusters_alone_and_no_formula(open_page, client, tidy, name, text):
    client.edit({"op": "name", "cluster": 1, "name": "things"})
    page = open_page("gallery/0")
    revision = client.get_json("/api/state")["revision"]
    for _ in at_every_width(page):
        page.evaluate("document.getElementById('status').textContent = ''")
        page.fill("#cluster-name", name)
        page.click("text=Rename")
        said(page, text)
        assert page.locator("#cluster-0 .title").inner_text() == "cluster 0"
    assert client.get_json("/api/state")["revision"] == revision


def test_a_journal_that_was_mended_is_used_at_once(open_page, client, session, tidy):
    client.edit({"op": "name", "cluster": 1, "name": "things"})
    page = open_page("gallery/0")
    for width in at_every_width(page):
        good = session.journal_path.read_bytes()
        session.journal_path.write_bytes(b"garbage")
        page.fill("#cluster-name", f"at {width}")
        with page.expect_response("**/api/edit"):  # or the file would change under an edit that is on its way
            page.click("text=Rename")
        said(page, "damaged, or no journal")
        session.journal_path.write_bytes(good)
        with page.expect_response("**/api/edit"):
            page.click("text=Rename")
        said(page, f"is called “at {width}”")


def test_a_name_that_is_typed_while_the_last_one_is_saved_is_not_lost(open_page, tidy):
    page = open_page("gallery/0")
    edit = held_back(page, "**/api/edit")
    page.fill("#cluster-name", "first")
    page.click("text=Rename")
    first = edit()
    page.fill("#cluster-name", "second")
    first.continue_()
    said(page, "is called “first”")
    page.wait_for_timeout(100)  # what follows on the words
    assert page.evaluate("document.activeElement.id") == "cluster-name"
    page.unroute("**/api/edit")
    page.click("text=Rename")
    said(page, "is called “second”")


# Filters and the selection


@every_width
def test_a_filter_holds_in_every_view_and_one_selection_too(open_page, client, session, width):
    images, said_of = session.collection.images, session.collection.predictions
    page = open_page("map", SIZES[width])
    page.click("#filter-toggle")
    page.locator("#filter-high").fill("60")
    expected = np.flatnonzero(said_of.confidence <= 0.6)
    assert 0 < len(expected) < 90
    until(page, "(n) => document.getElementById('filter-count').textContent.startsWith(`${n} of 90`)", len(expected))
    page.select_option("#filter-label", "2")
    expected = expected[images.labels[expected] == 2]
    page.wait_for_selector(f"#filter-count:has-text('{len(expected)} of 90 images')")
    page.click("#filter-toggle")
    page.evaluate("location.hash = '/gallery'")
    page.wait_for_selector(f"text={len(expected)} of {len(expected)} images shown")
    page.select_option("#order", "doubtful")
    in_order = [row for row in said_of.by_doubt.tolist() if row in set(expected.tolist())]
    until(
        page,
        "(rows) => [...document.querySelectorAll('#gallery .tile')].map((t) => t.dataset.row).join() === rows.join()",
        in_order,
    )
    page.click("#select-shown")
    page.wait_for_selector(f"#selection h2:has-text('{len(expected)} images selected')", state="attached")
    page.evaluate("location.hash = '/labels'")
    page.wait_for_selector("#labels table")
    assert page.locator("#labels tbody tr").nth(0).locator(".cell").count() == 0  # the filter holds here too
    page.locator("#filters .chip").first.click()  # the probability
    page.locator("#filters .chip").first.click()  # the label
    page.wait_for_selector("#labels tbody tr:first-child .cell")
    cell = page.locator("#labels tbody tr").nth(0).locator(".cell").first
    count = int(cell.inner_text())
    cell.click()
    said(page, f"{count} image")
    page.reload()  # a reload keeps the selection
    page.wait_for_selector("html[data-started]")
    page.wait_for_selector(f"#selection h2:has-text('{count} image')", state="attached")
    chosen = page.evaluate(
        "[...document.querySelectorAll('#selection .tile img')].map((i) => Number(i.src.match(/image.(\\d+)/)[1]))"
    )
    assert (images.labels[chosen] == 0).all()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_selection_is_inverted_narrowed_shown_and_marked(open_page, client, session, tidy):
    labels = session.collection.predictions.labels
    page = open_page("gallery/0")
    page.click("#select-all")
    page.click("#invert-selection")
    page.wait_for_selector(f"#selection h2:has-text('{(labels != 0).sum()} images selected')")
    page.click("#cluster-1")
    page.click("#intersect-selection")
    page.wait_for_selector(f"#selection h2:has-text('{(labels == 1).sum()} images selected')")
    page.click("#show-selection")
    page.wait_for_selector(f"text={(labels == 1).sum()} of {(labels == 1).sum()} images shown")
    page.click("#confirm-selection")
    said(page, f"{(labels == 1).sum()} images kept")
    assert (session.collection.assignment.marks == (labels == 1)).all()


def test_keys_choose_in_a_gallery(open_page, session):
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    selected = "document.querySelectorAll('#gallery [aria-selected=true]').length"
    size = int(session.collection.predictions.sizes[0])
    for _ in at_every_width(page):
        page.focus("#gallery .tile[tabindex='0']")
        page.keyboard.press("Home")
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        until(page, f"{selected} === 3")
        page.keyboard.press("Escape")
        until(page, f"{selected} === 0")
        page.keyboard.press("Control+a")
        page.wait_for_selector(f"#selection h2:has-text('{size} images selected')", state="attached")
        page.keyboard.press("Escape")
        page.wait_for_selector("#selection h2:has-text('Nothing selected')", state="attached")


def test_going_back_finds_the_gallery_where_it_was(open_page, client, tidy):
    client.edit({"op": "merge", "clusters": [0, 1, 2], "into": 0})
    page = open_page("gallery/0")
    page.wait_for_selector("#gallery .tile")
    for width in SIZES:
        page.set_viewport_size({"width": width, "height": 500 if width == 390 else 300})
        scroller = "document.getElementById('main')" if width > 900 else "document.scrollingElement"
        page.locator(".sentinel").scroll_into_view_if_needed()
        page.wait_for_selector("text=90 of 90 images shown")
        page.evaluate(f"{scroller}.scrollTop = 250")
        page.click("#to-map")
        page.wait_for_selector("body[data-view=map]")
        page.go_back()
        page.wait_for_selector("body[data-view=gallery]")
        until(page, f"Math.abs({scroller}.scrollTop - 250) < 2")
        page.evaluate("location.hash = '/gallery'")
        page.wait_for_selector("h2:has-text('All clusters')")
        page.go_back()
        page.wait_for_selector("#gallery h2:has-text('cluster 0')")
        until(page, f"Math.abs({scroller}.scrollTop - 250) < 2")


def test_select_these_has_the_image_that_was_asked_about(open_page, session):
    page = open_page("gallery/0")
    for width in at_every_width(page):
        row = look_at_first_of(page, session, 0, "#choose-image[data-row='{row}']")
        page.click("#more-like-this")
        page.wait_for_selector("#found .tile")
        page.click("#select-found")
        until(page, f"document.querySelector('#found [data-row=\"{row}\"]').ariaSelected === 'true'")
        page.wait_for_selector("#selection h2:has-text('90 images selected')", state="attached")
        if width == 390:
            page.get_by_role("button", name="90 selected").click()
        page.click("#clear-selection")
        page.wait_for_selector("#selection h2:has-text('Nothing selected')", state="attached")
        if width == 390:
            page.get_by_label("Close the details").click()


# What is looked at stays in sight


@pytest.mark.parametrize("width", [1600, 1024, 920])
def test_a_found_image_is_looked_at_where_it_can_be_seen(open_page, session, width):
    page = open_page("gallery/0", {"width": width, "height": 700})
    for tile in (1, 3, 4):
        page.locator("#gallery .tile .tick").nth(tile).click()
    page.locator("#gallery .tile").first.click()
    page.click("#more-like-this")
    page.wait_for_selector("#found .tile")
    tile = page.locator("#found .tile").nth(40)
    tile.scroll_into_view_if_needed()
    tile.click()
    name = session.collection.images.ids[int(tile.get_attribute("data-row"))]
    until(page, "(name) => document.querySelector('#image-details h2').textContent === name", name)
    for selector in ("#image-details h2", "#image-details .large", "#found .tile.current"):
        box = page.locator(selector).bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 700, selector
    # Nothing lies on anything else in the panel.
    tops = page.evaluate(
        """[...document.querySelectorAll('#image-details > *')].map((e) => e.getBoundingClientRect())
        .map(({ top, bottom }) => [top, bottom])"""
    )
    assert all(below[0] >= above[1] - 0.5 for above, below in pairwise(tops))


@pytest.mark.parametrize("width", [1600, 1100, 1024, 920, 901, 390])
def test_latent_dimensions_fit_at_every_width(open_page, width):
    page = open_page("generate/0", {"width": width, "height": 844})
    page.click("#tab-dimensions")
    page.wait_for_selector("#dimensions li canvas")
    right = page.evaluate(
        "[...document.querySelectorAll('#dimensions canvas, #dimensions input')]"
        ".map((e) => e.getBoundingClientRect().right)"
    )
    edge = page.evaluate("document.getElementById('main').getBoundingClientRect().right")
    assert max(right) <= edge
    assert page.evaluate(
        "document.getElementById('main').scrollWidth <= document.getElementById('main').clientWidth + 1"
    )


def test_the_maps_colours_have_legends_and_change_thumbnails_too(open_page):
    page = open_page("map")
    overlay = "document.querySelector('#map .overlay').toDataURL()"
    for width in at_every_width(page):
        wait_for_map(page)
        page.wait_for_timeout(300)
        shown = {"cluster": page.evaluate(overlay)}
        for by, text in (("doubt", "unsure, 45 % or less"), ("label", "kind 1")):
            page.select_option("#colour-by", by)
            page.wait_for_selector(f"#map-legend:has-text('{text}')")
            until(page, f"(before) => {overlay} !== before", next(reversed(shown.values())))
            shown[by] = page.evaluate(overlay)
            legend = page.locator("#map-legend").bounding_box()
            assert 0 <= legend["x"] <= legend["x"] + legend["width"] <= width
        page.select_option("#colour-by", "cluster")
        assert not page.locator("#map-legend").is_visible()
        assert len(set(shown.values())) == 3


def test_forced_colours_show_what_is_current(open_page):
    page = open_page("gallery/0", forced_colors="active")
    page.locator("#gallery .tile").nth(1).click()
    page.locator("#gallery .tile .tick").nth(3).click()
    for _ in at_every_width(page):
        for selector in ("#to-gallery", "#cluster-0", "#gallery .tile.current", "#gallery [aria-selected=true]"):
            assert page.locator(selector).first.is_visible()
            style = page.evaluate("(s) => getComputedStyle(document.querySelector(s)).outlineStyle", selector)
            assert style == "solid", selector


def test_a_sheet_makes_way_for_another_view(open_page, session):
    page = open_page("gallery/0", SIZES[390], has_touch=True, is_mobile=True)
    look_at_first_of(page, session, 0, "#choose-image[data-row='{row}']")
    page.tap("#more-like-this")
    page.wait_for_selector("#found .tile")
    page.tap("#to-map")  # what was found is lit up there
    page.wait_for_selector("body[data-view=map]")
    assert not page.locator("#found .tile").first.is_visible()
    page.get_by_role("button", name="Found", exact=True).tap()
    assert page.locator("#found .tile").first.is_visible()


# Pictures of the user's own


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@every_width
def test_several_pictures_are_told_apart_and_shown_on_the_map(open_page, session, width):
    rng = np.random.default_rng(3)
    row = 40
    good = (session.source / session.collection.images.ids[row]).read_bytes()
    page = open_page("try", SIZES[width])
    files = [
        ("good.png", good),
        ("bad.png", b"nothing"),
        ("noise.png", png(rng.integers(0, 256, (24, 24, 3)).astype(np.uint8))),
        ("black.png", png(np.zeros((24, 24, 3), np.uint8))),
    ]
    page.set_input_files("#drop-file", [{"name": n, "mimeType": "image/png", "buffer": b} for n, b in files])
    until(
        page,
        "document.querySelectorAll('#drop-result .brought').length === 4 && document.getElementById('brought-on-map')",
    )
    cards = [card.inner_text() for card in page.locator("#drop-result .brought").all()]
    assert "outlier" not in cards[0]
    assert "not one of the formats" in cards[1]
    assert "An outlier: " in cards[2]
    assert "An outlier: " in cards[3]
    page.click("#brought-on-map")
    page.wait_for_selector("body[data-view=map]")
    until(page, "document.getElementById('map').dataset.drawn !== undefined")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("location.hash = '/try'")
    page.set_input_files("#drop-file", {"name": "x.png", "mimeType": "image/png", "buffer": b"nothing of the kind"})
    page.wait_for_selector("#drop-result [role=alert]:has-text('not one of the formats')")
    assert page.locator("#drop-result .pair").count() == 0


def test_a_picture_is_pasted(open_page, session):
    page = open_page("gallery/0")
    data = list((session.source / session.collection.images.ids[7]).read_bytes())
    page.evaluate(
        """(bytes) => { const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
        const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
        document.body.dispatchEvent(event); }""",
        data,
    )
    page.wait_for_selector("body[data-view=try]")
    page.wait_for_selector("#drop-result .brought:has-text('pasted.png')")


def test_an_image_is_enlarged_and_tiles_too(open_page):
    page = open_page("gallery/0")
    page.locator("#gallery .tile").first.click()
    page.click("#enlarge")
    image = page.locator("dialog .zoomed img")
    before = image.bounding_box()["width"]
    whole = page.locator("dialog .zoomed").evaluate("frame => frame.scrollHeight <= frame.clientHeight")
    assert whole, "the image is cut off before anybody has enlarged it"
    page.keyboard.press("+")
    page.keyboard.press("+")
    until(page, f"document.querySelector('dialog .zoomed img').getBoundingClientRect().width > {2 * before}")
    page.keyboard.press("Escape")
    small = page.locator("#gallery .tile").first.bounding_box()["width"]
    page.locator("#tile-size").fill("200")
    assert page.locator("#gallery .tile").first.bounding_box()["width"] > 2 * small
    page.locator("#tile-size").fill("76")


def test_the_large_view_shows_the_file_and_what_the_model_sees(browser, tmp_path):
    session = folder_session(tmp_path)
    model, collection = session.model, session.collection
    name = collection.images.ids[50]
    Image.new("RGB", (300, 200), (10, 120, 250)).save(session.source / name)  # larger by now than what was read
    with served(session) as client:
        page = browser.new_context(viewport=SIZES[1600]).new_page()
        page.goto(client.address)
        page.wait_for_selector("html[data-started]")
        look_at(page, session, name.rpartition("/")[2])
        for width in at_every_width(page):
            if not page.locator("#enlarge").is_visible():
                page.get_by_role("button", name="Image", exact=True).click()
            page.click("#enlarge")
            until(page, "document.querySelector('dialog .zoomed img').naturalWidth === 300")
            assert page.evaluate("document.querySelector('dialog').getBoundingClientRect().right") <= width
            page.click("#as-seen")
            until(page, f"document.querySelector('dialog .zoomed img').naturalWidth === {model.image_shape_[1]}")
            assert page.locator("#as-seen").get_attribute("aria-pressed") == "true"
            page.click("#as-seen")
            until(page, "document.querySelector('dialog .zoomed img').naturalWidth === 300")
            page.keyboard.press("Escape")
        page.context.close()
        (session.source / name).write_bytes(b"no picture")
        status, _, body = client.get("/original/50.png")
        assert (status, b"cannot be read" in body) == (400, True)
        (session.source / name).unlink()
        assert client.get("/original/50.png")[0] == 404
        assert client.get("/original/90.png")[0] == 404
        assert client.get("/original/..%2F50.png")[0] == 404


# The server


def test_an_old_tab_says_what_happened_and_goes_on_by_itself(browser, session):
    """Explore is started anew: the old tab says so in words, and works again once the new address has been opened."""
    context, version = browser.new_context(), session.version
    old = context.new_page()
    with served(session) as first:
        old.goto(first.address)
        old.wait_for_selector("html[data-started]")
    try:
        session.version = "of another start"
        with served(session, first.port) as second:
            said(old, "explore has been started anew")
            for width in at_every_width(old):
                line = old.locator("#status").bounding_box()
                assert 0 <= line["x"] <= line["x"] + line["width"] <= width
                assert 0 <= line["y"] <= line["y"] + line["height"] <= 844
            old.evaluate("document.documentElement.dataset.old = 'yes'")
            new = context.new_page()
            new.goto(second.address)
            new.wait_for_selector("html[data-started]")
            old.wait_for_selector("html[data-started]:not([data-old])")  # it has loaded itself anew
            old.wait_for_selector("#cluster-1")
    finally:
        session.version = version
        context.close()


def test_the_table_is_only_offered_where_it_can_be_written(open_page, client, monkeypatch):
    from clusterloom.explore.routes import state

    monkeypatch.setattr(state, "_HAS_PYARROW", False)
    page = open_page("gallery/0")
    page.click("summary:has-text('Export')")
    for _ in at_every_width(page):
        assert page.locator("[data-save=csv]").is_visible()
        assert not page.locator("[data-save=parquet]").is_visible()


def test_a_hundred_half_open_connections_are_no_hindrance(open_page, client):
    page = open_page("gallery/0")
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
        for _ in at_every_width(page):
            page.reload()
            page.wait_for_selector("html[data-started]")
            page.wait_for_selector("#gallery .tile")


def test_all_clusters_at_once_and_a_spread_of_nothing(open_page):
    page = open_page("generate")
    page.wait_for_selector("#generated .generated-row canvas")
    assert page.locator("#generated .generated-row").count() == 3
    page.locator("#spread").fill("0")
    until(page, "document.querySelectorAll('#generated canvas').length === 3")
    page.select_option("#generate-cluster", "1")
    until(page, "document.querySelectorAll('#generated canvas').length === 1")
    assert "one image only" in page.locator("#new-images").inner_text()
