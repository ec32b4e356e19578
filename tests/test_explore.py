"""The local page's server: what it answers, what it keeps, and what it refuses."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from explore_helpers import HOSTILE, folder_session, served, wait_until
from PIL import Image
from recipe_helpers import digits

from clusterloom import DECClusterer, GuidedClusterer, VAEClusterer, load_model
from clusterloom.cli.program import run
from clusterloom.corrections.editor import Editor, StaleError
from clusterloom.corrections.edits import ENTRY
from clusterloom.corrections.journal import Journal, corrections
from clusterloom.data import ImageSet
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError
from clusterloom.explore.collection import Collection
from clusterloom.explore.latent_space import decode, new_images, walked
from clusterloom.explore.routes.state import _styles
from clusterloom.explore.session import Session, about
from clusterloom.explore.sheets import thumbnails
from clusterloom.explore.split import split_in
from clusterloom.map_layout import draw_map
from clusterloom.marks import folder_kind
from clusterloom.pictures import to_uint8
from clusterloom.predictions import Predictions
from clusterloom.recipe.views.places import frame_images
from clusterloom.report.contents import Seen, Subject, contents

PAGE = Path(__file__).parents[1] / "src" / "clusterloom" / "explore" / "page"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return folder_session(tmp_path_factory.mktemp("explore"), 'model "<b>x')


@pytest.fixture(scope="module")
def client(session):
    with served(session) as client:
        yield client


@pytest.fixture(autouse=True)
def as_before(request):
    """Edits of one test are not there in the next."""
    yield
    if "session" in request.fixturenames:
        session = request.getfixturevalue("session")
        session.journal_path.unlink(missing_ok=True)
        collection = session.collection
        journal = Journal(session.journal_path, session.model_sha256, collection.images.fingerprint())
        editor = Editor(collection.predictions.labels, session.model.n_clusters_, journal)
        object.__setattr__(collection, "editor", editor)
        collection.kept.clear()
        shutil.rmtree(session.export_dir, ignore_errors=True)


def png_of(body):
    return np.asarray(Image.open(io.BytesIO(body)))


def labels_of(client):
    """Cluster of each image, without the marks behind them."""
    return np.frombuffer(client.get("/api/labels")[2][:180], "<u2")


def marks_of(client):
    return np.frombuffer(client.get("/api/labels")[2][180:], "u1")


# What is there


def test_page_holds_the_token_and_escapes_names(client, session):
    status, headers, body = client.get("/")
    text = body.decode()
    assert status == 200
    assert client.app.token in text
    assert client.app.key not in text
    assert "&lt;b&gt;x" in text
    assert "<b>x" not in text
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    # Nothing inline that the policy would stop, and nothing from elsewhere.
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|https?://", text)


def test_key_becomes_a_cookie_and_leaves_the_address(client):
    status, headers, _ = client.get(f"/?key={client.app.key}", Cookie=None)
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=lax" in headers["set-cookie"].lower()
    assert client.get("/?key=guess", Cookie=None)[0] == 403


@pytest.mark.parametrize("neighbour", ['prefs={"theme": "dark"}', "a[0]=1", "a b=c", "long=" + "x" * 5000])
def test_cookies_of_other_programs_on_this_machine_are_no_hindrance(client, neighbour):
    ours = f"clusterloom-{client.port}={client.app.key}"
    assert client.get("/api/state", Cookie=f"{neighbour}; {ours}")[0] == 200
    assert client.get("/api/state", Cookie=f"{neighbour}; {ours}x")[0] == 403


def test_state_counts_what_the_model_predicts(client, session):
    state = client.get_json("/api/state")
    assert state["ready"]
    assert [c["size"] for c in state["clusters"]] == session.collection.predictions.sizes.tolist()
    assert state["data"]["images"] == 90
    assert state["data"]["linkable"]
    assert state["revision"] == 0
    assert state["undo"] == state["redo"] == ""
    for cluster in state["clusters"]:
        assert cluster["typical"] == session.collection.predictions.typical(cluster["number"], 16).tolist()


def test_a_cluster_looks_as_in_the_report_whatever_is_edited(client, session):
    collection = session.collection
    report = contents(Subject(session.model, Seen(collection.images, collection.predictions)))
    in_report = [[cluster.style.hex, cluster.style.shape] for cluster in report.clusters]
    assert client.get_json("/api/state")["styles"] == in_report
    assert len({colour for colour, _ in in_report}) == 3
    rows = np.flatnonzero(collection.predictions.labels == 0)
    client.edit({"op": "move", "rows": rows[:4].tolist(), "to": 3})
    state = client.edit({"op": "merge", "clusters": [0, 2], "into": 2})
    assert [c["number"] for c in state["clusters"]] == [1, 2, 3]
    assert state["styles"][:3] == in_report
    assert state["styles"][3] not in in_report
    assert len(state["styles"]) == 4


def test_map_data_are_the_predictions(client, session):
    predictions = session.collection.predictions

    def column(name, dtype="<f4"):
        return np.frombuffer(client.get(f"/api/columns/{name}")[2], dtype)

    np.testing.assert_array_equal(column("position").reshape(-1, 2), predictions.position)
    np.testing.assert_array_equal(column("confidence"), predictions.confidence)
    np.testing.assert_array_equal(column("doubtful").argsort(), predictions.by_doubt)
    assert column("question").tolist() == session.collection.question_ranks.tolist()
    for k in range(3):
        members = np.flatnonzero(predictions.labels == k)
        np.testing.assert_array_equal(members[column("typical")[members].argsort()], predictions.typical(k))
    np.testing.assert_array_equal(column("score").argsort(), predictions.score.argsort())
    np.testing.assert_array_equal(column("outlier", "u1"), predictions.outlier)
    np.testing.assert_array_equal(column("model", "<u2"), predictions.labels)
    np.testing.assert_array_equal(column("class", "<u2"), session.collection.images.labels)
    assert client.get("/api/columns/pixels")[0] == 404
    np.testing.assert_array_equal(labels_of(client), predictions.labels)
    assert client.get_json("/api/state")["data"]["classes"] == ["kind 0", "kind 1", "kind 2"]


def test_images_alone_and_on_sheets(client, session):
    images = session.collection.images.images
    np.testing.assert_array_equal(png_of(client.get("/image/5.png")[2]), images[5])
    rows = [*range(20), 7]
    sheet = png_of(client.get(f"/sprites.png?rows={','.join(map(str, rows))}")[2])
    assert sheet.shape == (48, 16 * 24, 3)
    np.testing.assert_array_equal(sheet[24:, 4 * 24 : 5 * 24], images[7])
    np.testing.assert_array_equal(sheet[:24, 3 * 24 : 4 * 24], images[3])
    assert "immutable" in client.get(f"/image/5.png?v={session.version}")[1]["cache-control"]
    assert client.get("/image/5.png?v=another")[1]["cache-control"] == "no-store"
    np.testing.assert_array_equal(png_of(client.get("/seen/5.png")[2]), images[5])
    assert client.get("/seen/90.png")[0] == 404


def test_an_image_as_a_model_sees_it_that_frames(client, session, monkeypatch):
    images = np.zeros((90, 24, 24, 1), np.uint8)
    images[:, 2:8, 3:9] = 200
    monkeypatch.setattr(session.model, "framing_", "middle")
    monkeypatch.setattr(session.model, "as_read", frame_images)
    monkeypatch.setitem(vars(session.collection.images), "images", images)
    expected = frame_images(images[5:6])[0]
    assert not np.array_equal(expected, images[5])
    np.testing.assert_array_equal(png_of(client.get("/seen/5.png")[2]), to_uint8(expected)[:, :, 0])
    np.testing.assert_array_equal(png_of(client.get("/image/5.png")[2]), images[5, :, :, 0])
    assert client.get_json("/api/state")["data"]["framed"] is True


def test_large_images_are_scaled_down_for_sheets():
    images = np.zeros((2, 40, 160, 1), np.uint8)
    images[1] = 200
    small = thumbnails(images[::-1])
    assert small.shape == (2, 16, 64, 1)
    assert (small[0] == 200).all()


def test_details_of_an_image(client, session):
    predictions = session.collection.predictions
    row = next(i for i, id_ in enumerate(session.collection.images.ids) if HOSTILE[0] in id_)
    details = client.get_json(f"/api/images/{row}")
    assert details["id"] == f"kind 0/{HOSTILE[0]}"
    assert details["cluster"] == predictions.labels[row] == details["probabilities"][0][0]
    assert details["probabilities"][0][1] == pytest.approx(predictions.confidence[row])
    assert details["score"] == pytest.approx(predictions.score[row])
    assert details["score_rank"] == pytest.approx((predictions.score < predictions.score[row]).sum() / 89)


def test_briefs_say_what_a_gallery_shows(client, session):
    rows = [7, 0, 7]
    images = client.post_json("/api/briefs", {"rows": rows})["images"]
    assert [image["row"] for image in images] == rows
    assert images[0]["probability"] == pytest.approx(float(session.collection.predictions.confidence[7]))
    client.edit({"op": "confirm", "rows": [7]})
    assert client.post_json("/api/briefs", {"rows": [7]})["images"][0]["mark"] == 1
    assert "rows: List should have at most 200" in client.refused("/api/briefs", {"rows": list(range(201))})
    client.refused("/api/briefs", {"rows": [90]}, 404)


def test_find_by_id_and_by_likeness(client, session):
    ids = session.collection.images.ids
    found = np.frombuffer(client.get("/api/find?text=PICTURE%208")[2], "<u4")
    assert {ids[row].split("/")[1] for row in found} == {f"picture {i}.png" for i in (8, *range(80, 90))}
    exact = np.frombuffer(client.get("/api/find?text=kind%202/picture%208.png")[2], "<u4")
    assert ids[exact[0]] == "kind 2/picture 8.png"
    predictions = session.collection.predictions
    similar = client.post_json("/api/similar", {"rows": [3, 9], "n": 5})
    rows, distances = predictions.similar(np.array([3, 9]), 5)
    assert [i["row"] for i in similar["images"]] == rows.tolist()
    assert similar["distances"] == pytest.approx(distances.tolist())
    assert len(client.post_json("/api/similar", {"rows": list(range(90)), "n": 5})["images"]) == 0
    other = int(predictions.labels[3] == 0)
    among = client.post_json("/api/similar", {"rows": [3], "n": 60, "cluster": other})["images"]
    assert {image["row"] for image in among} == set(np.flatnonzero(predictions.labels == other).tolist()) - {3}


# Edits and their journal


def test_edits_change_the_clusters_and_can_be_undone(client, session):
    labels = session.collection.predictions.labels
    first = np.flatnonzero(labels == 0)
    state = client.edit({"op": "name", "cluster": 0, "name": "  red \n things "})
    assert state["clusters"][0]["title"] == "red things"
    state = client.edit({"op": "move", "rows": first[:4].tolist(), "to": 1})
    assert [c["changed"] for c in state["clusters"]] == [0, 4, 0]
    assert client.get_json(f"/api/images/{first[0]}")["changed"]
    state = client.edit({"op": "move", "rows": first[:2].tolist(), "to": 3})
    assert [c["number"] for c in state["clusters"]] == [0, 1, 2, 3]
    assert state["clusters"][3]["size"] == 2
    state = client.edit({"op": "merge", "clusters": [0, 2], "into": 2})
    assert [c["number"] for c in state["clusters"]] == [1, 2, 3]
    assert state["clusters"][1]["title"] == "red things"
    now = labels_of(client)
    assert (now[first[:2]] == 3).all()
    assert (now[first[4:]] == 2).all()
    for _ in range(4):
        state = client.edit({"op": "undo"})
    assert not state["undo"]
    np.testing.assert_array_equal(labels_of(client), labels)
    assert state["clusters"][0]["title"] == "cluster 0"
    for _ in range(4):
        state = client.edit({"op": "redo"})
    np.testing.assert_array_equal(labels_of(client), now)
    assert not state["redo"]
    client.edit({"op": "undo"})
    assert not client.edit({"op": "name", "cluster": 1, "name": "x"})["redo"]


def test_marks_say_what_the_user_has_looked_at_and_undo_says_what_it_undoes(client, session):
    state = client.edit({"op": "confirm", "rows": [1, 2]})
    assert state["undo"] == "2 images kept"
    state = client.edit({"op": "outlier", "rows": [2, 5]})
    assert state["undo"] == "2 images marked as outliers"
    client.edit({"op": "move", "rows": [9], "to": 3})
    assert marks_of(client)[[1, 2, 5, 9, 4]].tolist() == [1, 2, 2, 1, 0]
    assert sum(c["looked_at"] for c in client.get_json("/api/state")["clusters"]) == 4
    history = client.get_json("/api/history")
    assert history["done"] == ["1 image moved to cluster 3", "2 images marked as outliers", "2 images kept"]
    state = client.edit({"op": "undo", "times": 2})
    assert (state["undo"], state["redo"]) == ("2 images kept", "2 images marked as outliers")
    assert marks_of(client)[[1, 2, 5, 9]].tolist() == [1, 1, 0, 0]
    assert client.get_json("/api/history")["undone"] == ["2 images marked as outliers", "1 image moved to cluster 3"]
    state = client.edit({"op": "redo", "times": 2})
    assert (state["undo"], state["redo"]) == ("1 image moved to cluster 3", "")
    error = client.refused("/api/edit", {"edit": {"op": "undo", "times": 4}, "revision": state["revision"]})
    assert error == "there is less to undo"


def test_names_are_each_clusters_own_and_no_formulas(client):
    client.edit({"op": "name", "cluster": 0, "name": "Boots"})
    revision = client.get_json("/api/state")["revision"]
    for name_, text in (
        ("boots", "another cluster is called 'boots' already"),
        ("Cluster 2", "another cluster"),
        ("=1+1", "formula"),
        ("\uff1d1+1", "formula"),
    ):
        edit = {"op": "name", "cluster": 1, "name": name_}
        assert text in client.refused("/api/edit", {"edit": edit, "revision": revision})
    assert client.edit({"op": "name", "cluster": 0, "name": "boots"})["clusters"][0]["name"] == "boots"


def test_a_cluster_without_images_is_gone_and_its_probability_goes_to_its_heir(client, session):
    labels, proba = session.collection.predictions.labels, session.collection.predictions.proba
    row = int(np.flatnonzero(labels == 1)[0])
    state = client.edit({"op": "move", "rows": np.flatnonzero(labels == 0).tolist(), "to": 2})
    assert [c["number"] for c in state["clusters"]] == [1, 2]
    assert session.collection.owners.tolist() == [2, 1, 2]
    probabilities = dict(client.get_json(f"/api/images/{row}")["probabilities"])
    assert probabilities == pytest.approx({1: proba[row, 1], 2: proba[row, 0] + proba[row, 2]})
    assert [c["number"] for c in client.edit({"op": "undo"})["clusters"]] == [0, 1, 2]


def test_the_nearest_cluster_is_the_one_whose_probability_its_images_have(client, session):
    proba, labels = session.collection.predictions.proba, session.collection.predictions.labels
    mean = np.array([proba[labels == k].mean(0) for k in range(3)])
    np.fill_diagonal(mean, 0)
    state = client.get_json("/api/state")
    assert [c["next"] for c in state["clusters"]] == mean.argmax(1).tolist()
    assert [c["next_share"] for c in state["clusters"]] == pytest.approx(mean.max(1).tolist())
    rows = np.flatnonzero(labels == 1)[:5].tolist()
    assert client.edit({"op": "move", "rows": rows, "to": 3})["clusters"][3]["next"] == 1


def test_a_new_cluster_keeps_its_colour_which_none_of_its_neighbours_has(tmp_path):
    """Ten clusters use all colours; the eleventh has that of one which is far away, whatever is edited afterwards."""
    position = np.stack([np.repeat(np.arange(10.0), 4), np.tile([0.0, 0.1, 0.2, 0.3], 10)], 1).astype(np.float32) / 9
    said = Predictions(
        np.eye(10, dtype=np.float32)[np.repeat(np.arange(10), 4)], position, np.zeros(40), np.zeros(40, bool), position
    )
    images = ImageSet(np.zeros((40, 4, 4, 1), np.uint8), RowIds(range(40)), None, (), "line", ())
    editor = Editor(said.labels, 10, Journal(tmp_path / "journal.sqlite", MODEL, DATA))
    collection = Collection(images, said, editor)
    editor.edit(ENTRY.validate_python({"op": "split", "cluster": 3, "parts": [[12, 13]], "new": 10}), 0)
    before = _styles(collection)
    far = [k for k in range(10) if before[k][0] == before[10][0]]
    assert all(abs(k - 3) > 4 for k in far)
    assert before[10] not in before[:10]
    editor.edit(ENTRY.validate_python({"op": "move", "rows": [36, 37, 38], "to": 10}), 1)
    assert _styles(collection) == before


def test_split_is_shown_before_it_is_taken(client, session):
    predictions = session.collection.predictions
    state = client.edit({"op": "merge", "clusters": [0, 1], "into": 0})
    preview = client.post_json("/api/split", {"cluster": 0})
    assert client.get_json("/api/state")["revision"] == state["revision"]
    members = np.flatnonzero(predictions.labels < 2)
    assert sum(preview["sizes"]) == len(members)
    (part,) = preview["parts"]
    np.testing.assert_array_equal(part, members[split_in(predictions.latents[members], 2) == 1])
    state = client.edit({"op": "split", "cluster": 0, "parts": preview["parts"], "new": 3})
    assert [c["size"] for c in state["clusters"] if c["number"] in (0, 3)] == preview["sizes"]
    client.edit({"op": "undo"})
    preview = client.post_json("/api/split", {"cluster": 0, "parts": 3})
    state = client.edit({"op": "split", "cluster": 0, "parts": preview["parts"], "new": 3})
    assert [c["size"] for c in state["clusters"] if c["number"] in (0, 3, 4)] == preview["sizes"]
    assert state["undo"] == "cluster 0 split into 3"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        ({"op": "name", "cluster": 7, "name": "x"}, "there is no cluster 7"),
        ({"op": "name", "cluster": True, "name": "x"}, "edit.name.cluster: Input should be a valid integer"),
        ({"op": "name", "cluster": 0, "name": "x" * 81}, "at most 80"),
        ({"op": "name", "cluster": 0, "name": "a\u202eb"}, "printable"),
        ({"op": "name", "cluster": 0}, "edit.name.name: Field required"),
        ({"op": "merge", "clusters": [0], "into": 0}, "at least two"),
        ({"op": "merge", "clusters": [0, 1], "into": 2}, "at least two"),
        ({"op": "move", "rows": [], "to": 1}, "edit.move.rows: List should have at least 1 item"),
        ({"op": "move", "rows": [90], "to": 1}, "there is no image 90"),
        ({"op": "move", "rows": [10**30], "to": 1}, "there is no image 1000000"),
        ({"op": "move", "rows": [-1], "to": 1}, "edit.move.rows.0: Input should be greater than or equal to 0"),
        ({"op": "move", "rows": ["1"] * 100_000, "to": 1}, "edit.move.rows.0: Input should be a valid integer"),
        ({"op": "move", "rows": [1], "to": 5}, "a new one would be 3"),
        ({"op": "split", "cluster": 0, "parts": [list(range(90))], "new": 3}, "not in cluster 0"),
        ({"op": "confirm", "rows": [90]}, "there is no image 90"),
        ({"op": "undo", "times": 0}, "edit.undo.times: Input should be greater than or equal to 1"),
        ({"op": "name", "cluster": 0, "name": "x", "more": "y" * 1000}, "edit.name.more: Extra inputs"),
        ({"op": "undo", "more": 1}, "edit.undo.more: Extra inputs"),
        ({"op": "undo"}, "nothing to undo"),
        ({"op": "redo"}, "nothing to redo"),
        ({"op": "rm -rf\n"}, "does not match any of the expected tags: 'name', 'merge', 'split'"),
        ({}, "edit: Unable to extract tag"),
        (["undo"], "edit: Input should be a valid dictionary"),
    ],
)
def test_impossible_edits_leave_no_trace(client, session, edit, text):
    assert text in client.refused("/api/edit", {"edit": edit, "revision": 0})
    assert not session.journal_path.exists()


def test_an_edit_of_what_is_no_longer_there_is_refused(client):
    client.edit({"op": "name", "cluster": 0, "name": "first"})
    error = client.refused("/api/edit", {"edit": {"op": "name", "cluster": 0, "name": "x"}, "revision": 0}, 409)
    assert "changed meanwhile" in error
    assert client.get_json("/api/state")["clusters"][0]["name"] == "first"


MODEL, DATA = "m" * 64, "d" * 64


def editor_of(path, data=DATA):
    return Editor(np.arange(12) % 3, 3, Journal(path, MODEL, data))


def name(text, cluster=0):
    return ENTRY.validate_python({"op": "name", "cluster": cluster, "name": text})


def change(path, statement, *values):
    """What somebody else does to a journal."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(statement, values)


def test_journal_gives_the_state_again(tmp_path):
    path = tmp_path / "journal.sqlite"
    editor = editor_of(path)
    assert not path.exists()
    editor.edit(ENTRY.validate_python({"op": "move", "rows": [0, 3], "to": 3}), 0)
    editor.edit(name("größer", 3), 1)
    editor.edit(ENTRY.validate_python({"op": "undo"}), 2)
    again = editor_of(path)
    np.testing.assert_array_equal(again.assignment.labels, editor.assignment.labels)
    assert again.assignment.labels[[0, 3]].tolist() == [3, 3]
    assert again.assignment.names == editor.assignment.names
    assert (again.revision, again.history) == (3, editor.history)
    assert (len(again.history.done), len(again.history.undone)) == (1, 1)
    assert os.listdir(tmp_path) == ["journal.sqlite"]


def test_corrections_are_the_edits_that_hold(tmp_path):
    path = tmp_path / "journal.sqlite"
    assert corrections(path, MODEL, DATA) == []
    editor = editor_of(path)
    entries = [name("a"), name("b"), {"op": "undo"}, name("c", 1), {"op": "undo"}, {"op": "undo"}, {"op": "redo"}]
    for revision, entry in enumerate(entries):
        editor.edit(ENTRY.validate_python(entry), revision)
    assert corrections(path, MODEL, DATA) == [name("a")]
    editor.edit(name("d", 2), len(entries))
    assert corrections(path, MODEL, DATA) == [name("a"), name("d", 2)]
    assert corrections(path, MODEL, "e" * 64) == []


def test_other_images_and_other_models_share_the_file_and_not_the_edits(tmp_path):
    path = tmp_path / "journal.sqlite"
    editor_of(path).edit(name("of these"), 0)
    other = editor_of(path, "e" * 64)
    assert other.revision == 0
    other.edit(name("of those"), 0)
    Editor(np.zeros(5, int), 1, Journal(path, "n" * 64, DATA)).edit(name("of another model"), 0)
    assert editor_of(path).assignment.names[0] == "of these"
    assert editor_of(path, "e" * 64).assignment.names[0] == "of those"


def test_a_transaction_that_was_torn_is_rolled_back(tmp_path):
    """As a power cut leaves it: pages of a second edit in the file, and beside it the journal that takes them back."""
    path, torn = tmp_path / "journal.sqlite", tmp_path / "torn.sqlite"
    editor_of(path).edit(name("kept"), 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN IMMEDIATE")
        for number in range(2, 3000):
            database.execute(
                "INSERT INTO edits VALUES (?, ?, ?, ?)", (MODEL, DATA, number, name("lost").model_dump_json())
            )
        assert path.stat().st_size > 100_000, "nothing has been written yet"
        shutil.copy(path, torn)
        shutil.copy(f"{path}-journal", f"{torn}-journal")
        database.execute("ROLLBACK")
    editor = editor_of(torn)
    assert (editor.revision, editor.assignment.names[0]) == (1, "kept")
    editor.edit(name("next"), 1)
    assert editor_of(torn).assignment.names[0] == "next"


def test_an_empty_file_is_a_journal_without_edits(tmp_path):
    """What a process leaves that is killed before its first edit is written."""
    path = tmp_path / "journal.sqlite"
    path.touch()
    editor_of(path).edit(name("x"), 0)
    assert editor_of(path).assignment.names[0] == "x"


def test_what_is_no_journal_is_refused_until_it_is_mended(tmp_path):
    path = tmp_path / "journal.sqlite"
    editor = editor_of(path)
    editor.edit(name("kept"), 0)
    good = path.read_bytes()

    def refused(contents, text):
        path.write_bytes(contents)
        for act in (lambda: editor_of(path), editor.refresh, lambda: editor.edit(name("lost"), 1)):
            with pytest.raises(DataError, match=text) as caught:
                act()
            assert "\n" not in str(caught.value)
        assert path.read_bytes() == contents

    refused(b"garbage\n" * 400, "damaged, or no journal .file is not a database.; move it away")
    refused(b'{"clusterloom_journal":1}\n', "damaged, or no journal")
    refused(good[:100] + b"\xff" * 4000 + good[4100:], "damaged, or no journal .database disk image is malformed")
    refused(good[:60] + b"\0\0\0\2" + good[64:], "newer release of clusterloom")  # user_version
    refused(good[:68] + b"GPKG" + good[72:], "is no journal; move it away")  # application_id
    path.write_bytes(good)
    editor.edit(name("mended"), 1)
    assert editor_of(path).assignment.names[0] == "mended"


def test_a_journal_that_loses_edits_is_refused_until_it_is_put_back(tmp_path):
    path = tmp_path / "journal.sqlite"
    editor = editor_of(path)
    editor.edit(name("one"), 0)
    before = path.read_bytes()
    editor.edit(name("two"), 1)
    after = path.read_bytes()
    path.write_bytes(before)
    for _ in range(2):
        with pytest.raises(DataError, match="has lost edits since it was read"):
            editor.edit(name("lost"), 2)
        path.unlink(missing_ok=True)
    assert not path.exists()
    path.write_bytes(after)
    editor.edit(name("three"), 2)
    assert editor_of(path).assignment.names[0] == "three"


@pytest.mark.parametrize("bad", ['{"op":"name","cluster":99,"name":"x"}', '{"op":"rotate"}', "[[[", '{"op":"redo"}'])
def test_behind_an_impossible_entry_nothing_is_taken_or_written_until_it_is_gone(tmp_path, bad):
    """What came after it would be in the file, but in no state: the next start would refuse all of it."""
    path = tmp_path / "journal.sqlite"
    editor = editor_of(path)
    editor.edit(name("kept"), 0)
    for number, text in enumerate((bad, name("later", 1).model_dump_json()), 2):
        change(path, "INSERT INTO edits VALUES (?, ?, ?, ?)", MODEL, DATA, number, text)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(DataError, match=r"edit 2: (there is n|not an edit)"):
            editor.refresh()
        with pytest.raises(DataError, match=r"edit 2: (there is n|not an edit)"):
            editor.edit(name("lost", 2), editor.revision)
    assert path.read_bytes() == before
    assert editor.assignment.names[0] == "kept"
    change(path, "DELETE FROM edits WHERE number = 2")
    editor.refresh()
    assert (editor.revision, editor.assignment.names[1]) == (3, "later")
    editor.edit(name("after"), 3)
    assert editor_of(path).assignment.names == {0: "after", 1: "later", 2: ""}


def test_two_processes_share_a_journal(tmp_path):
    path = tmp_path / "journal.sqlite"
    one, two = editor_of(path), editor_of(path)
    one.edit(name("one"), 0)
    with pytest.raises(StaleError):
        two.edit(name("two"), 0)
    assert two.assignment.names[0] == "one"
    two.edit(name("two"), two.revision)
    one.refresh()
    assert one.assignment.names[0] == "two"


def test_an_edit_between_looking_and_writing_is_not_written_over(tmp_path, monkeypatch):
    path = tmp_path / "journal.sqlite"
    one, two = editor_of(path), editor_of(path)
    before = Journal.append

    def late(journal, entry, since):
        monkeypatch.setattr(Journal, "append", before)
        two.edit(name("two"), 0)
        return before(journal, entry, since)

    monkeypatch.setattr(Journal, "append", late)
    with pytest.raises(StaleError):
        one.edit(name("one"), 0)
    assert (one.revision, one.assignment.names[0]) == (1, "two")
    assert corrections(path, MODEL, DATA) == [name("two")]


def test_many_writers_at_once_corrupt_nothing(tmp_path):
    """Two editors, as two processes would have, with three threads each."""
    path = tmp_path / "journal.sqlite"
    editors = [editor_of(path), editor_of(path)]
    made = []

    def work(number):
        editor = editors[number % 2]
        for i in range(15):
            while True:
                try:
                    editor.edit(name(f"{number}-{i}", number % 3), editor.revision)
                    made.append(f"{number}-{i}")
                    break
                except StaleError:
                    editor.refresh()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 90
    assert sorted(edit.name for edit in corrections(path, MODEL, DATA)) == sorted(made)
    again = editor_of(path)
    for editor in editors:
        editor.refresh()
        assert editor.assignment.names == again.assignment.names


KILLED = """
import os, signal, sys, time
import numpy as np
from dataclasses import replace
from pathlib import Path
from clusterloom.corrections.edits import ENTRY
from clusterloom.explore.collection import Collection
from clusterloom.corrections.editor import Editor
from clusterloom.corrections.journal import Journal

path, rng, known = Path(sys.argv[1]), np.random.default_rng(0), 0
for _ in range(25):
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        editor = Editor(np.arange(12) % 3, 3, Journal(path, "m" * 64, "d" * 64))
        while True:
            text = str(editor.revision + 1)
            editor.edit(ENTRY.validate_python({"op": "name", "cluster": 0, "name": text}), editor.revision)
            os.write(told, b"%d\\n" % editor.revision)
    os.close(told)
    first = os.read(heard, 100)
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = first + b"".join(iter(lambda: os.read(heard, 65536), b""))
    os.close(heard)
    acknowledged = int(said.split()[-1])
    assert acknowledged > known
    editor = Editor(np.arange(12) % 3, 3, Journal(path, "m" * 64, "d" * 64))
    assert acknowledged <= editor.revision <= acknowledged + 1, (acknowledged, editor.revision)
    assert editor.assignment.names[0] == str(editor.revision)
    known = editor.revision
print("kept", known)
"""


def test_no_acknowledged_edit_is_lost_when_the_process_is_killed(tmp_path):
    """Killed 25 times in the middle of edits."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "journal.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("kept "), done.stderr


FULL = """
import resource, sys
import numpy as np
from dataclasses import replace
from pathlib import Path
from clusterloom.corrections.edits import ENTRY
from clusterloom.explore.collection import Collection
from clusterloom.corrections.editor import Editor
from clusterloom.corrections.journal import Journal

def name(text):
    return ENTRY.validate_python({"op": "name", "cluster": 0, "name": text})

path = Path(sys.argv[1])
editor = Editor(np.arange(12) % 3, 3, Journal(path, "m" * 64, "d" * 64))
editor.edit(name("kept"), 0)
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), resource.RLIM_INFINITY))
for _ in range(100):  # until what is there is full
    try:
        editor.edit(name("x" * 80), editor.revision)
    except OSError as error:
        print(error)
        break
assert 0 < editor.revision < 100
assert path.stat().st_size == len(before)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
editor.refresh()
editor.edit(name("later"), editor.revision)
print(Editor(np.arange(12) % 3, 3, Journal(path, "m" * 64, "d" * 64)).assignment.names[0])
"""


def test_a_full_disk_changes_nothing(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "journal.sqlite")]
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "the journal cannot be used" in done
    assert done.endswith("\nlater\n")


def test_a_journal_that_stays_locked_is_one_line(client, session, monkeypatch):
    """As on a network file system where nobody answers for the locks."""
    client.edit({"op": "name", "cluster": 0, "name": "x"})
    monkeypatch.setattr("clusterloom.corrections.journal._BUSY_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(session.journal_path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        edit = {"edit": {"op": "undo"}, "revision": 1}
        assert "the journal cannot be used (database is locked)" in client.refused("/api/edit", edit, 507)
        assert client.get("/api/state")[0] == 507
        database.execute("ROLLBACK")
    assert client.get_json("/api/state")["clusters"][0]["name"] == "x"


def test_a_bad_journal_does_not_block_the_page_once_it_is_mended(client, session):
    client.edit({"op": "name", "cluster": 0, "name": "x"})
    good = session.journal_path.read_bytes()
    session.journal_path.write_bytes(b"garbage")
    assert "damaged, or no journal" in json.loads(client.get("/api/state")[2])["error"]
    session.journal_path.write_bytes(good)
    assert client.edit({"op": "undo"})["clusters"][0]["name"] == ""


def test_splitting_finds_the_blobs_that_there_are_and_refuses_what_has_none():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((300, 5)).astype(np.float32)
    latents[:100, 2] += 9
    second = split_in(latents, 2)
    assert second.sum() == pytest.approx(100, abs=3)
    assert second[:100].mean() > 0.98
    np.testing.assert_array_equal(second, split_in(latents, 2))
    latents[:40, 2] += 9
    third = split_in(latents, 3)
    assert np.bincount(third) == pytest.approx([200, 60, 40], abs=3)
    assert (third[:40] == 2).mean() > 0.95
    with pytest.raises(DataError, match="at least 4"):
        split_in(latents[:3], 2)
    with pytest.raises(DataError, match="at least 10 images for 5 parts"):
        split_in(latents[:9], 5)
    with pytest.raises(DataError, match="all alike"):
        split_in(np.zeros((50, 5), np.float32), 2)


# Files out


def test_labels_with_names_and_corrections(client, session):
    labels = session.collection.predictions.labels
    row = int(np.flatnonzero(labels == 0)[0])
    client.edit({"op": "name", "cluster": 1, "name": "blue, or so"})
    client.edit({"op": "move", "rows": [row], "to": 1})
    saved = client.post_json("/api/save/labels", {"format": "csv"})
    path = Path(saved["path"])
    assert path.parent == session.export_dir
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 90
    assert (rows[row]["cluster"], rows[row]["name"], rows[row]["changed"]) == ("1", "blue, or so", "true")
    assert rows[row]["model_cluster"] == "0"
    assert [r["model_cluster"] for r in rows] == [str(k) for k in labels]
    assert sum(r["changed"] == "true" for r in rows) == 1
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(client.post_json("/api/save/labels", {"format": "parquet"})["path"]).to_pydict()
    assert table["cluster"] == [int(r["cluster"]) for r in rows]
    assert table["name"] == [r["name"] for r in rows]


def test_selections_as_copies_and_links(client, session):
    ids = session.collection.images.ids
    rows = [0, 31, 62]
    for how in ("copies", "links"):
        folder = Path(client.post_json("/api/save/images", {"rows": rows, "how": how})["path"])
        assert folder_kind(folder) == "export", "copies would be read as more images of the folder that they came from"
        files = sorted(folder.glob("*.png"))
        assert len(files) == 3
        assert all(file.is_symlink() == (how == "links") for file in files)
        originals = {(session.source / ids[row]).read_bytes() for row in rows}
        assert {file.read_bytes() for file in files} == originals
    assert not [path for path in session.export_dir.iterdir() if path.name.startswith(".")]


def test_what_a_killed_page_was_saving_goes_with_the_next_save(client, session):
    """Names hold the time, so that nobody writes under the same one again; hidden folders of others stay."""
    left, mine = (session.export_dir / name for name in (".selection-1.clusterloom-0123abcd", ".mine.20261127"))
    for folder in (left, mine):
        (folder / "inside").mkdir(parents=True)
        os.utime(folder, (0, 0))
    client.post_json("/api/save/labels", {"format": "csv"})
    assert mine.exists()
    assert not left.exists()


def test_selections_of_arrays_become_pictures(client, session, monkeypatch):
    monkeypatch.setattr(session, "source", None)
    saved = client.post_json("/api/save/images", {"rows": [4, 2], "how": "copies"})
    files = list(Path(saved["path"]).glob("*.png"))
    assert saved["count"] == len(files) == 2
    name = Path(session.collection.images.ids[2]).name
    pixels = np.asarray(Image.open(next(f for f in files if f.name.startswith(name[:6]))))
    assert any((pixels == session.collection.images.images[row]).all() for row in (2, 4))
    error = client.refused("/api/save/images", {"rows": [4], "how": "links"})
    assert "no files to link to" in error


def test_a_vanished_original_leaves_no_half_folder(client, session):
    victim = session.source / session.collection.images.ids[5]
    data = victim.read_bytes()
    victim.unlink()
    try:
        assert "no longer in the folder" in client.refused("/api/save/images", {"rows": [4, 5], "how": "copies"})
        assert not session.export_dir.exists() or not list(session.export_dir.iterdir())
    finally:
        victim.write_bytes(data)


# New images


@pytest.mark.parametrize("spread", [0, 1, 2.5])
def test_the_page_draws_the_images_that_the_command_draws(client, session, spread):
    """One sampler: the same seed gives the same images, redrawn ones among them."""
    sheet = client.post("/api/generate", {"cluster": 1, "spread": spread, "n": 16, "seed": 5})[2]
    images = png_of(sheet).reshape(24, 16, 24, 3).swapaxes(0, 1)
    by_command = session.model.sample(16, 1, spread, random_state=5)
    np.testing.assert_allclose(
        images, to_uint8(session.model.to_unit(by_command)).astype(int), atol=1
    )  # batches of another size round anew
    if spread == 2.5:
        unchecked = session.model.sample(16, 1, spread, random_state=5, checked=False)
        assert (unchecked != by_command).any(), "nothing was drawn again"


def test_new_images_repeat_and_belong_to_their_cluster(client, session):
    values = {"cluster": 1, "spread": 1, "n": 16, "seed": 5}
    sheet = client.post("/api/generate", values)[2]
    assert sheet == client.post("/api/generate", values)[2]
    assert sheet != client.post("/api/generate", {**values, "seed": 6})[2]
    images = png_of(sheet).reshape(24, 16, 24, 3).swapaxes(0, 1)
    assert (session.model.predict(images) == 1).mean() > 0.9
    middle = png_of(client.post("/api/generate", {**values, "spread": 0})[2]).reshape(24, 16, 24, 3).swapaxes(0, 1)
    assert (middle == middle[:1]).all()


def test_new_images_of_merged_clusters_come_from_both_and_belong_there(client, session):
    rows = np.flatnonzero(session.collection.predictions.labels == 2)[:5].tolist()
    client.edit({"op": "move", "rows": rows, "to": 0})  # a third part, with a distribution of its own
    client.edit({"op": "merge", "clusters": [0, 1], "into": 0})
    sheet = client.post("/api/generate", {"cluster": 0, "spread": 1, "n": 32, "seed": 1})[2]
    images = png_of(sheet).reshape(2, 24, 16, 24, 3).swapaxes(1, 2).reshape(32, 24, 24, 3)
    shares = np.bincount(session.model.predict(images), minlength=3) / 32
    assert shares[:2].min() > 0.2
    again = client.post("/api/generate", {"cluster": 0, "spread": 1, "n": 32, "seed": 1})[2]
    assert sheet == again


def test_new_images_follow_corrections(client, session):
    rows = np.flatnonzero(session.collection.predictions.labels == 2)[:5].tolist()
    client.edit({"op": "move", "rows": rows, "to": 3})
    mean = session.collection.predictions.latents[rows].mean(0, keepdims=True)
    sheet = png_of(client.post("/api/generate", {"cluster": 3, "spread": 0, "n": 1})[2])
    np.testing.assert_allclose(sheet / 255, session.model.decode(mean)[0], atol=0.003)
    client.edit({"op": "merge", "clusters": [0, 3], "into": 0})
    assert client.post("/api/generate", {"cluster": 0, "spread": 1, "n": 4})[0] == 200
    assert "there is no cluster 3" in client.refused("/api/generate", {"cluster": 3, "spread": 1, "n": 4})


def test_saved_images_are_those_that_were_shown(client, session):
    values = {"cluster": 0, "spread": 1.2, "n": 4}
    sheets = [png_of(client.post("/api/generate", {**values, "seed": s})[2]) for s in (3, 4)]
    saved = client.post_json("/api/save/generated", {**values, "seeds": [3, 4]})
    files = sorted(Path(saved["path"]).iterdir())
    assert len(files) == saved["count"] == 8
    np.testing.assert_array_equal(np.asarray(Image.open(files[5])), sheets[1][:, 24:48])


def test_walks_and_dimensions(client, session):
    latents = session.collection.predictions.latents
    way = png_of(client.post("/api/walk", {"from": {"row": 0}, "to": {"row": 7}, "steps": 5})[2])
    assert way.shape == (24, 5 * 24, 3)
    expected = session.model.decode(np.stack([latents[0], (latents[0] + latents[7]) / 2, latents[7]]))
    for step, image in zip((0, 2, 4), expected, strict=True):
        np.testing.assert_allclose(way[:, step * 24 : step * 24 + 24] / 255, image, atol=0.003)
    image = png_of(client.post("/api/latent/image", {"from": {"row": 7}, "offsets": [0, 1.5, 0, 0]})[2])
    moved = latents[7] + np.array([0, 1.5, 0, 0], np.float32) * latents.std(0)
    np.testing.assert_allclose(image / 255, session.model.decode(moved[None])[0], atol=0.003)
    strips = client.post_json("/api/latent/strips", {"from": {"cluster": 1}})
    assert sorted(strips["dimensions"]) == [0, 1, 2, 3]
    assert strips["dimensions"][0] == latents.std(0).argmax()
    assert len(strips["sheet"]) > 100


def test_a_model_that_refines_shows_refined_new_images_and_walks(tmp_path):
    model = GuidedClusterer(3, hidden_dim=16, epochs=4, random_state=0).fit(digits(120))
    model.save(tmp_path / "model")
    session = Session(model, tmp_path / "model", None)
    assert about(model)["refines"]
    for spread in (0.0, 1.0):
        drawn = new_images(session, 1, 6, spread, seed=5)
        by_command = to_uint8(model.sample(6, 1, spread, random_state=5))
        np.testing.assert_allclose(drawn.astype(int), by_command.astype(int), atol=1)
    latents = model.network_.class_means.detach().numpy()[[0, 0, 1]]
    way = walked(session, latents).astype(int)
    assert np.array_equal(way[0], way[1])  # one noise for all
    decoded = to_uint8(model.decode(latents)).astype(int)
    assert np.abs(way - decoded).max() > 5
    np.testing.assert_allclose(decode(session, latents).astype(int), decoded, atol=1)


def test_a_dropped_image_is_recognised(client, session):
    collection = session.collection
    for row in (0, 40):
        body = (session.source / collection.images.ids[row]).read_bytes()
        status, _, answer = client.request("POST", "/api/drop", body, Content_Type="application/octet-stream")
        said = json.loads(answer)
        assert status == 200
        assert said["cluster"] == collection.predictions.labels[row]
        assert said["probabilities"][0][1] == pytest.approx(collection.predictions.confidence[row], abs=1e-4)
        assert said["nearest"][0]["row"] == row
    jpeg = io.BytesIO()
    Image.new("RGBA", (300, 200), (250, 20, 20, 128)).convert("RGB").save(jpeg, "JPEG")
    said = json.loads(client.request("POST", "/api/drop", jpeg.getvalue())[2])
    assert "scaled to fit" in said["steps"]


# Attacks


@pytest.mark.parametrize(
    "path",
    [
        "/image/..%2f..%2fetc%2fpasswd",
        "/image/..%2f..%2f..%2fetc%2fpasswd.png",
        "/image/../../../etc/passwd",
        "/image//etc/passwd",
        "/image/%2fetc%2fpasswd.png",
        "/image/picture%201.png",
        "/image/kind%200/picture%203.png",
        "/image/-1.png",
        "/image/90.png",
        "/image/1e1.png",
        "/image/%31%00.png",
        "/image/٣.png".encode().decode("latin-1"),
        f"/image/{'9' * 5000}.png",
        "/static/..%2fpage%2fpage.js",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/",
        "/static//etc/passwd",
        "/api/images/..%2f1",
        "/etc/passwd",
        "//etc/passwd",
    ],
)
def test_paths_lead_nowhere(client, path):
    """Images are addressed by number alone; nothing in an address is ever a path."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        cookie = f"Cookie: clusterloom-{client.port}={client.app.key}\r\n"
        request = f"GET {path} HTTP/1.1\r\nHost: {client.host}\r\n{cookie}Connection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ", 2)[1] in (b"404", b"400")
    assert b"root:" not in answer


def test_links_in_the_data_folder_are_not_followed_from_outside(client, session):
    (session.source / "secret.png").symlink_to("/etc/passwd")
    try:
        assert client.get("/image/secret.png")[0] == 404
        assert client.get("/static/secret.png")[0] == 404
    finally:
        (session.source / "secret.png").unlink()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:80"},
        {"Host": ""},
        {"Host": None},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Cookie": None},
        {"Cookie": "clusterloom-1=x"},
        {"X_Clusterloom_Token": None},
        {"X_Clusterloom_Token": "guess"},
        {"X_Clusterloom_Token": "ü"},
    ],
)
def test_strangers_are_refused(client, session, headers):
    """A foreign name of this machine, a foreign site, or one without key and token."""
    edit = {"edit": {"op": "name", "cluster": 0, "name": "hacked"}, "revision": 0}
    try:
        status, answered, _ = client.post("/api/edit", edit, **headers)
    except ConnectionError:  # the server may hang up on a request without a host before it has read it to the end
        assert headers == {"Host": None}
        status, answered = 400, {}
    assert status in (400, 403, 421)
    assert "access-control-allow-origin" not in answered
    assert not session.journal_path.exists()
    if not set(headers) & {"X_Clusterloom_Token"}:
        assert client.get("/api/state", **headers)[0] in (400, 403, 421)


def test_own_names_are_answered(client):
    for host in (f"localhost:{client.port}", f"127.0.0.1:{client.port}", f"[::1]:{client.port}", "localhost:9000"):
        assert client.get("/api/state", Host=host, Origin=f"http://{host}")[0] == 200
    assert client.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


def test_preflights_and_other_methods_are_refused(client):
    assert client.request("OPTIONS", "/api/edit", X_Clusterloom_Token=None)[0] == 403
    assert client.request("PUT", "/api/edit")[0] == 405
    assert client.request("DELETE", "/image/1.png")[0] == 405
    assert client.get("/api/edit")[0] == 405


def test_it_listens_on_loopback_alone(client):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {line[1] for line in listening if line[1].endswith(f":{client.port:04X}") and line[3] == "0A"}
    assert addresses == {f"0100007F:{client.port:04X}"}


def anonymous_mb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/api/drop", "/api/edit", "/api/nothing"])
def test_a_gigabyte_is_refused_while_it_comes(client, path, chunked):
    """Refused early, memory flat."""
    before = most = anonymous_mb()
    sent = 0
    head = f"POST {path} HTTP/1.1\r\nHost: {client.host}\r\nCookie: clusterloom-{client.port}={client.app.key}\r\n"
    head += f"X-Clusterloom-Token: {client.app.token}\r\nContent-Type: application/json\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else f"Content-Length: {1 << 30}\r\n\r\n"
    block = b"a" * (1 << 18)
    framed = b"%x\r\n%s\r\n" % (len(block), block) if chunked else block
    answer = b""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(head.encode())
        try:
            while sent < 1 << 30:
                connection.sendall(framed)
                sent += len(block)
                most = max(most, anonymous_mb())
        except OSError:
            pass
        try:
            answer = connection.recv(65536)
        except OSError:
            answer = b"HTTP/1.1 413 "  # the connection was cut while more was coming
    assert answer.split(b" ", 2)[1] in (b"413", b"404")
    assert sent < 64 << 20
    assert most - before < 48  # a picture dropped in may have 16 MB
    assert client.get("/api/state")[0] == 200


@pytest.mark.parametrize("head", ["", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
def test_half_open_connections_do_not_block_the_page_for_long(session, monkeypatch, head):
    monkeypatch.setattr("clusterloom.explore.server._HEAD_SECONDS", 1.5)
    monkeypatch.setattr("clusterloom.explore.server._MOST_CONNECTIONS", 100)
    with served(session) as client, contextlib.ExitStack() as stack:
        for _ in range(100):
            half = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=20))
            half.sendall(head.encode())
        assert client.get("/api/state")[0] == 503
        end = time.monotonic() + 20
        while (status := client.get("/api/state")[0]) == 503 and time.monotonic() < end:
            with contextlib.suppress(OSError):
                half.sendall(b"x" if head else b"")  # a drop now and then is no whole head
            time.sleep(0.1)
        assert status == 200


def test_a_slow_body_is_waited_for(session, monkeypatch):
    monkeypatch.setattr("clusterloom.explore.server._HEAD_SECONDS", 0.3)
    with served(session) as client:
        body = json.dumps({"cluster": 0, "spread": 1, "n": 1}).encode()
        lines = [f"POST /api/generate HTTP/1.1\r\nHost: {client.host}", f"X-Clusterloom-Token: {client.app.token}"]
        lines += [f"Cookie: clusterloom-{client.port}={client.app.key}", "Content-Type: application/json"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}\r\n\r\n"])
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(head.encode() + body[:5])
            time.sleep(0.8)
            connection.sendall(body[5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_body_that_is_longer_than_it_says_is_cut(client):
    with contextlib.suppress(ConnectionResetError):  # it may be cut before the answer has been read
        assert client.request("POST", "/api/drop", b"abc", Content_Length="-5")[0] in (400, 413)
    assert client.get("/api/state")[0] == 200


def test_forms_ranges_and_odd_bodies_are_refused(client):
    fields = "&".join(f"f{i}={i}" for i in range(10_000)).encode()
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        assert client.request("POST", "/api/edit", fields, Content_Type=kind)[0] == 400
    assert client.get("/image/1.png", Range=",".join(f"bytes={i}-{i + 1}" for i in range(900)))[0] == 416
    with contextlib.suppress(ConnectionResetError):  # it does not wait for the rest of such a head
        assert client.get("/image/1.png", X_Long="x" * 200_000)[0] in (400, 431)
    for body in (b"", b"[]", b"7", b'"x"', b"{", b"\xff\xfe", b"[" * 200_000, b'{"edit":' * 50_000, b"NaN"):
        assert client.request("POST", "/api/edit", body)[0] == 400
    assert client.get("/api/state?" + "&".join(f"a{i}=1" for i in range(5000)))[0] in (200, 400)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/api/generate", {"cluster": 0, "spread": "1"}),
        ("/api/generate", {"cluster": 0, "spread": 1e9}),
        ("/api/generate", {"cluster": 0, "spread": True}),
        ("/api/generate", {"cluster": 0, "spread": 1, "n": 10**9}),
        ("/api/generate", {"cluster": -1, "spread": 1}),
        ("/api/generate", {"cluster": 0, "spread": 1, "seed": -1}),
        ("/api/walk", {"from": {"row": 0}, "to": {"row": 10**12}}),
        ("/api/walk", {"from": {"row": 0}, "to": "x"}),
        ("/api/walk", {"from": {"row": 0}, "to": {"row": 1}, "steps": 10**6}),
        ("/api/latent/image", {"from": {"row": 0}, "offsets": [0, 0, 0]}),
        ("/api/latent/image", {"from": {"row": 0}, "offsets": [0, 0, 0, 1e300]}),
        ("/api/latent/image", {"from": {"row": 0}, "offsets": {"0": 1}}),
        ("/api/latent/strips", {"from": {}}),
        ("/api/similar", {"rows": [0], "n": 10**6}),
        ("/api/similar", {"rows": "0"}),
        ("/api/split", {"cluster": [0]}),
        ("/api/split", {"cluster": 0, "parts": 9}),
        ("/api/save/labels", {"format": "/etc/passwd"}),
        ("/api/save/labels", {"format": "../x.csv"}),
        ("/api/save/images", {"rows": [0], "how": "move"}),
        ("/api/save/images", {"rows": [1.5], "how": "copies"}),
        ("/api/save/generated", {"cluster": 0, "spread": 1, "n": 4, "seeds": list(range(1000))}),
    ],
)
def test_values_out_of_range_are_refused(client, session, path, values):
    client.refused(path, values)
    assert not session.export_dir.exists()


def test_non_finite_numbers_are_refused(client):
    for body in (b'{"cluster":0,"spread":NaN}', b'{"cluster":0,"spread":Infinity}'):
        assert client.request("POST", "/api/generate", body)[0] == 400


def bomb():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", 20000, 20000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def ico():
    buffer = io.BytesIO()
    Image.new("L", (16, 16)).save(buffer, "ICO")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (bomb(), "89,478,485 pixels"),
        (ico(), "not one of the formats"),
        (b"<svg onload=alert(1)>", "not one of the formats"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "cannot be read"),
        (b"", "empty"),
    ],
)
def test_bad_pictures_are_refused(client, body, text):
    status, _, answer = client.request("POST", "/api/drop", body)
    assert status == 400
    assert text in json.loads(answer)["error"]


# Other models, and the command


def test_without_data_the_model_alone_is_shown(session):
    alone = Session(session.model, session.path, None)
    alone.start(lambda _: None)
    with served(alone) as client:
        state = client.get_json("/api/state")
        assert not state["has_data"]
        assert len(state["clusters"]) == len(state["styles"]) == 3
        assert client.post("/api/generate", {"cluster": 1, "spread": 1, "n": 4})[0] == 200
        assert client.post("/api/walk", {"from": {"cluster": 0}, "to": {"cluster": 1}})[0] == 200
        assert client.post("/api/latent/strips", {"from": {"cluster": 1}})[0] == 200
        body = (session.source / session.collection.images.ids[0]).read_bytes()
        assert json.loads(client.request("POST", "/api/drop", body)[2])["nearest"] == []
        for path in ("/image/0.png", "/api/columns/position", "/api/labels", "/api/history", "/api/find?text=a"):
            status, _, answer = client.get(path)
            assert status == 503
            assert "without DATA" in json.loads(answer)["error"]


def test_of_very_many_images_the_page_shows_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.explore.session.MOST_SHOWN", 25)
    pixels = np.random.default_rng(0).integers(0, 90, (40, 8, 8, 1)).astype(np.uint8)
    pixels[::2, :4] += 150
    images = ImageSet(pixels, RowIds(range(40)), np.arange(40) % 2, ("a", "b"), "halves", ())
    VAEClusterer(2, hidden_dim=8, latent_dim=2, epochs=1, random_state=0).fit(images).save(tmp_path / "m")
    session = Session(load_model(tmp_path / "m"), tmp_path / "m", lambda model, progress: images)
    session.start(lambda _: None)
    assert session.wait(60)
    rows = [int(id_) for id_ in session.collection.images.ids]
    assert len(rows) == 25
    assert [row % 2 for row in rows] == session.collection.labels.numbers.tolist()
    with served(session) as client:
        data = client.get_json("/api/state")["data"]
        assert (data["name"], data["images"]) == ("halves, a sample of its 40 images", 25)


def test_it_is_at_work_for_a_moment_after_all_is_ready(session, monkeypatch):
    """Who ended it in that moment ended it with a crash."""
    goes_on = threading.Event()
    monkeypatch.setattr(Collection, "question_ranks", property(lambda self: goes_on.wait(60)))
    images = session.collection.images
    again = Session(session.model, session.path, lambda model, progress: images)
    assert not again.at_work
    again.start(lambda _: None)
    assert again.wait(60)
    assert again.at_work
    goes_on.set()
    wait_until(lambda: not again.at_work, 60)


def test_methods_that_cannot_generate_say_why(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 90, (40, 8, 8, 1)).astype(np.uint8)
    pixels[::2, :4] += 150
    images = ImageSet(pixels, RowIds(range(40)), None, (), "halves", ())
    small = {"hidden_dims": (16,), "latent_dim": 3, "pretrain_epochs": 1, "finetune_epochs": 1, "epochs": 1}
    DECClusterer(2, **small, random_state=0).fit(images).save(tmp_path / "dec")
    session = Session(load_model(tmp_path / "dec"), tmp_path / "dec", lambda model, progress: images)
    session.start(lambda _: None)
    assert session.wait(60)
    with served(session) as client:
        state = client.get_json("/api/state")
        assert "DECClusterer learns no distribution" in state["why_not_generating"]
        assert "learns no distribution" in client.refused("/api/generate", {"cluster": 0, "spread": 1})
        assert "decoder" in client.refused("/api/walk", {"from": {"row": 0}, "to": {"row": 1}})
        assert client.get("/image/3.png")[0] == 200
        picture = io.BytesIO()
        Image.fromarray(pixels[3, ..., 0]).save(picture, "PNG")
        said = json.loads(client.request("POST", "/api/drop", picture.getvalue())[2])
        assert said["rebuilt"] == ""
        assert said["nearest"][0]["row"] == 3


def one_line(arguments, text, capsys):
    capsys.readouterr()
    assert run([str(a) for a in arguments]) == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if line.startswith("clusterloom: error: ")]
    assert text in line
    assert "Traceback" not in err


def test_bad_input_is_one_line_and_status_2(session, tmp_path, capsys):
    start = ["explore", session.path, "--no-browser", "--port", 0]
    one_line([*start, tmp_path / "nowhere"], "there is no file, folder or built-in data set", capsys)
    one_line([*start, "digits"], "expects (24, 24, 3)", capsys)
    one_line(["explore", tmp_path, session.source, "--no-browser"], "config.json is missing", capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one_line(["explore", session.path, "--no-browser", "--port", port], f"port {port} cannot be used", capsys)
    one_line(["explore", session.path, "--port", 70000], "--port", capsys)
    session.journal_path.write_text('{"clusterloom_journal":1,"model_sha256":"x","data_sha256":"y"}\n')
    one_line([*start, session.source], "is damaged, or no journal", capsys)


def test_a_journal_that_the_disk_cannot_open_is_one_line_and_status_1(session, capsys):
    session.journal_path.mkdir()
    try:
        capsys.readouterr()
        assert run(["explore", str(session.path), str(session.source), "--no-browser", "--port", "0"]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert "journal.sqlite: the journal cannot be used (unable to open database file)" in line
    finally:
        session.journal_path.rmdir()


def test_the_page_says_how_far_the_preparation_is(session):
    told = []
    images = session.collection.images
    waiting = Session(session.model, session.path, lambda model, progress: images)
    waiting._report("applying the model", 1, 4)
    assert waiting.progress == "asking the model, 25%"
    shares = []

    def report(*told_of):
        told.append(told_of)
        waiting._report(*told_of)
        shares.append(waiting.share)

    draw_map(session.collection.predictions.features, session.collection.predictions.labels, report)
    assert waiting.progress == "drawing the map"
    waiting._report("neighbours", 1, 2)  # of the images that are placed among the map's
    shares.append(waiting.share)
    assert shares == sorted(shares)
    assert 0.35 <= shares[0] < shares[-1] < 1
    journal = Journal(session.journal_path, "another model", "other images")
    Collection.prepare(session.model, images, journal, lambda *all_: told.append(all_))
    assert told[-1] == ("putting images in order", 0, 0)


@pytest.mark.parametrize("with_data", [True, False])
def test_ctrl_c_ends_it_cleanly(session, with_data):
    """The address is a result: a quiet start prints it too, and nothing else."""
    data = [str(session.source)] if with_data else ["--quiet"]
    command = [sys.executable, "-m", "clusterloom", "explore", str(session.path), *data, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True)
    reader.start()
    wait_until(lambda: any("http://127.0.0.1:" in line for line in lines) or process.poll() is not None, 120)
    address = re.fullmatch(r"explore: http://127\.0\.0\.1:(\d+)/\?key=([\w-]+)\n", "".join(lines))
    assert address, lines
    with socket.create_connection(("127.0.0.1", int(address[1])), timeout=30) as connection:
        connection.sendall(f"GET /?key={address[2]} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert b"303" in connection.recv(200)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    reader.join(5)
    told = process.stderr.read()
    assert ("Ctrl-C ends it" in told) if with_data else (told == "")
    assert "Traceback" not in told


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not here")
@pytest.mark.parametrize("scale", [300, 800, 5000])
def test_names_on_the_map_do_not_cover_each_other(scale):
    rng = np.random.default_rng(0)
    places = np.concatenate([rng.uniform(0, 1, (12, 2)), rng.normal(0.5, 0.01, (12, 2))])
    titles = [{"number": k, "x": x, "y": y, "width": 21 + 40 * (k % 3)} for k, (x, y) in enumerate(places.tolist())]
    script = f"import {{ placed }} from {json.dumps(str(PAGE / 'map' / 'titles.js'))};"
    script += f"console.log(JSON.stringify(placed({json.dumps(titles)}, {scale})));"
    command = ["node", "--input-type=module", "-e", script]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(found) > 16
    own = np.array([[t["x"] * scale, (1 - t["y"]) * scale] for t in found])
    size = np.array([[t["width"], t["height"]] for t in found])
    middle = np.array([[t["left"], t["top"]] for t in found]) + size / 2
    np.testing.assert_allclose(middle[0], own[0])  # the first stays where it belongs
    assert np.linalg.norm(middle - own, axis=1).max() < 49
    for i in range(len(found)):
        for j in range(i):
            assert (abs(middle[i] - middle[j]) >= (size[i] + size[j]) / 2).any()
    if scale == 5000:
        assert len(found) == 24  # near enough, all have room


@pytest.mark.skipif(shutil.which("node") is None or shutil.which("npm") is None, reason="node and npm are not here")
def test_the_bundle_is_what_the_sources_give(tmp_path):
    """`make page` has been run since the page's sources were changed."""
    page = tmp_path / "page"
    shutil.copytree(PAGE, page, ignore=shutil.ignore_patterns("node_modules"))
    if (PAGE / "node_modules" / ".bin" / "esbuild").exists():
        (page / "node_modules").symlink_to(PAGE / "node_modules")
    elif subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=page, capture_output=True, check=False).returncode:
        pytest.skip("the page's packages cannot be fetched")
    (tmp_path / "out").mkdir()
    subprocess.run(["node", "build.mjs", str(tmp_path / "out")], cwd=page, check=True, capture_output=True)
    made = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in made] == ["LICENSES.txt", "page.css", "page.js"]
    for file in made:
        assert file.read_bytes() == (PAGE.parent / "static" / file.name).read_bytes(), f"{file.name}: run make page"
