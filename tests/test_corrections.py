"""What corrections make of a model's word, and the commands that count them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from corrections_helpers import PROBA, assigned
from explore_helpers import folder_session

from clusterloom.cli.program import run
from clusterloom.corrections.apply import (
    cluster_places,
    corrected_columns,
    corrected_probabilities,
    probabilities_of,
)
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import ENTRY
from clusterloom.corrections.read import journal_path, read_assignment
from clusterloom.errors import DataError, DataWarning
from clusterloom.explore.session import Session
from clusterloom.tables import prediction_columns


def test_probabilities_go_where_their_clusters_went():
    merged = assigned({"op": "merge", "clusters": [0, 1], "into": 1})
    np.testing.assert_allclose(corrected_probabilities(PROBA, merged)[:, 1], PROBA[:, 0] + PROBA[:, 1])
    split = assigned({"op": "split", "cluster": 0, "parts": [[1]], "new": 3})
    np.testing.assert_allclose(corrected_probabilities(PROBA, split)[:2], [[0.6, 0.3, 0.1, 0], [0, 0.1, 0.4, 0.5]])
    moved = assigned({"op": "move", "rows": [2], "to": 0}, {"op": "confirm", "rows": [3]})
    np.testing.assert_allclose(corrected_probabilities(PROBA, moved)[2:], [[1, 0, 0], [0, 0, 1]])
    again = assigned(
        {"op": "split", "cluster": 0, "parts": [[1]], "new": 3}, {"op": "merge", "clusters": [3, 2], "into": 2}
    )
    np.testing.assert_allclose(corrected_probabilities(PROBA, again)[:2], [[0.6, 0.3, 0.1, 0], [0, 0.1, 0.9, 0]])
    # Whoever keeps an image in its part says nothing of others that are like it: refit sees no difference to the model.
    kept = assigned({"op": "split", "cluster": 0, "parts": [[1]], "new": 3}, {"op": "confirm", "rows": [1]})
    np.testing.assert_allclose(probabilities_of(PROBA, kept)[1], [0, 0.1, 0.4, 0.5])
    # The own cluster's probability goes with an image, not that of others that were merged.
    parted = assigned(
        {"op": "merge", "clusters": [1, 2], "into": 1}, {"op": "split", "cluster": 0, "parts": [[1]], "new": 3}
    )
    np.testing.assert_allclose(corrected_probabilities(PROBA, parted)[1], [0, 0.5, 0, 0.5])
    for assignment in (merged, split, moved, again):
        proba = corrected_probabilities(PROBA, assignment)
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
        np.testing.assert_array_equal(proba.argmax(1), assignment.labels)


def test_what_was_said_holds_where_the_model_puts_an_image_elsewhere_by_now():
    """Edits as a journal has them, taken again on labels that another machine's rounding has changed."""
    flipped = Assignment(np.array([1, 0, 1, 2]), 3)  # image 0 was in cluster 0
    for edit in (
        {"op": "confirm", "rows": [3, 0], "clusters": [2, 0]},
        {"op": "split", "cluster": 0, "parts": [[0, 1]], "new": 3},
    ):
        flipped.apply(ENTRY.validate_python(edit), again=True)
    assert flipped.labels.tolist() == [3, 3, 1, 2]
    assert flipped.marks.tolist() == [1, 0, 0, 1]
    with pytest.raises(DataError, match="not in cluster 1"):
        flipped.apply(ENTRY.validate_python({"op": "split", "cluster": 1, "parts": [[0]], "new": 4}))
    with pytest.raises(DataError, match="one cluster is wanted for each"):
        flipped.apply(ENTRY.validate_python({"op": "confirm", "rows": [0], "clusters": [0, 1]}))


def test_columns_say_who_put_each_image_where_it_is():
    said = {"proba": PROBA, "score": np.zeros(4), "outlier": np.zeros(4, bool)}
    assignment = assigned(
        {"op": "move", "rows": [2], "to": 0}, {"op": "name", "cluster": 0, "name": "a"}, {"op": "outlier", "rows": [3]}
    )
    columns = corrected_columns(prediction_columns(list("wxyz"), said), assignment)
    assert list(columns)[:6] == ["id", "cluster", "name", "changed", "marked", "model_cluster"]
    assert columns["cluster"].tolist() == [0, 0, 0, 2]
    assert columns["name"] == ["a", "a", "a", ""]
    assert columns["changed"].tolist() == [False, False, True, False]
    assert columns["marked"] == ["", "", "confirmed", "outlier"]
    assert columns["model_cluster"].tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(columns["probability"], PROBA.max(1))  # the model's, of its own cluster


def test_a_new_cluster_lies_where_it_began():
    position = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    assignment = assigned({"op": "split", "cluster": 0, "parts": [[1]], "new": 3}, {"op": "move", "rows": [2], "to": 3})
    places = cluster_places(np.zeros((3, 2)), position, assignment)
    np.testing.assert_array_equal(places, [[0, 0], [0, 0], [0, 0], [1, 0]])


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A model whose blue images, kind 2, are all in one cluster by hand; one image is confirmed, and one an outlier."""
    session = folder_session(tmp_path_factory.mktemp("corrected"))
    collection, editor = session.collection, session.collection.editor
    blue = np.flatnonzero(collection.images.labels == 2)
    labels = collection.predictions.labels
    home = int(np.bincount(labels[blue]).argmax())
    strays = blue[labels[blue] != home]
    assert len(strays) > 0
    sure = int(blue[labels[blue] == home][0])
    edits = [
        {"op": "move", "rows": strays.tolist(), "to": home},
        {"op": "name", "cluster": home, "name": "blue things"},
        {"op": "confirm", "rows": [sure]},
        {"op": "outlier", "rows": [int(blue[labels[blue] == home][1])]},
    ]
    for revision, edit in enumerate(edits):
        editor.edit(ENTRY.validate_python(edit), revision)
    return session, home, strays


def test_predict_writes_corrections_when_it_is_asked_to(corrected, tmp_path):
    session, home, strays = corrected
    for option, column in ((["--corrections"], "cluster"), ([], None)):
        out = tmp_path / f"{len(option)}.csv"
        assert run(["predict", str(session.path), str(session.source), "-o", str(out), *option, "-q"]) == 0
        rows = list(csv.DictReader(out.open()))
        if column is None:
            assert "model_cluster" not in rows[0]
            assert all(rows[row]["cluster"] != str(home) for row in strays)
        else:
            assert all(rows[row]["cluster"] == str(home) and rows[row]["name"] == "blue things" for row in strays)
            assert sum(row["changed"] == "true" for row in rows) == len(strays)
            assert sorted({row["marked"] for row in rows}) == ["", "confirmed", "outlier"]


def test_evaluate_scores_what_was_corrected_beside_the_model(corrected, capsys):
    session, _, strays = corrected
    arguments = ["evaluate", str(session.path), str(session.source), "-q"]
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    told = result["corrected"]
    assert told["accuracy"] == pytest.approx(result["accuracy"] + len(strays) / 90)
    assert (told["moved"], told["looked_at"]) == (len(strays), len(strays) + 2)
    assert result["accuracy"] < told["accuracy_of_the_others"] <= 1
    assert run([*arguments, "--json", "--no-corrections"]) == 0
    assert "corrected" not in json.loads(capsys.readouterr().out)
    assert run(arguments) == 0
    assert "as corrected" in capsys.readouterr().out


def test_report_shows_the_clusters_as_corrected(corrected, tmp_path):
    session, home, strays = corrected
    out = tmp_path / "report.html"
    assert run(["report", str(session.path), str(session.source), "-o", str(out), "-q"]) == 0
    text = out.read_text()
    assert f"Cluster {home}: blue things" in text
    assert f"Corrected by hand: {len(strays)} images are in another cluster than the model" in text
    assert "of the model alone" in text
    assert run(["report", str(session.path), str(session.source), "-o", str(out), "-q", "--no-corrections"]) == 0
    assert "blue things" not in out.read_text()


def test_report_of_a_split_and_a_merge(corrected, tmp_path):
    session, home, _ = corrected
    editor = session.collection.editor
    others = [k for k in range(3) if k != home]
    rows = session.collection.assignment.members(home)[:9].tolist()
    revision = editor.revision
    editor.edit(ENTRY.validate_python({"op": "split", "cluster": home, "parts": [rows], "new": 3}), revision)
    merge = {"op": "merge", "clusters": others, "into": others[1]}
    editor.edit(ENTRY.validate_python(merge), revision + 1)
    out = tmp_path / "report.html"
    try:
        assert run(["report", str(session.path), str(session.source), "-o", str(out), "-q"]) == 0
        text = out.read_text()
        assert "in 3 clusters" in text
        assert 'id="cluster-3"' in text
        assert f'id="cluster-{others[0]}"' not in text
    finally:
        editor.edit(ENTRY.validate_python({"op": "undo", "times": 2}), revision + 2)


def test_export_hands_corrections_over(corrected, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    session, home, strays = corrected
    out = tmp_path / "atlas.parquet"
    assert run(["export", str(session.path), str(session.source), "--to", "atlas", "-o", str(out), "-q"]) == 0
    table = parquet.read_table(out).to_pydict()
    assert {table["cluster"][row] for row in strays} == {home}
    assert {table["name"][row] for row in strays} == {"blue things"}


def test_a_link_to_a_model_has_the_model_s_corrections(corrected, tmp_path, monkeypatch):
    path = corrected[0].path
    (tmp_path / "link").symlink_to(path)
    (path / "below").mkdir()
    try:
        monkeypatch.chdir(path / "below")
        for name in (tmp_path / "link", Path("..")):
            session = Session(corrected[0].model, name, None)
            assert session.journal_path == journal_path(name) == corrected[0].journal_path
            assert session.export_dir == path.with_name(f"{path.name}.exports")
    finally:
        (path / "below").rmdir()


def test_other_images_have_no_corrections(corrected):
    session, _, _ = corrected
    images, said = session.collection.images, session.collection.predictions
    with pytest.warns(DataWarning, match="holds 4 corrections, but of other images than"):
        assert read_assignment(session.path, images.head(50), said.labels[:50], 3) is None
    np.testing.assert_array_equal(
        read_assignment(session.path, images, said.labels, 3).labels, session.collection.assignment.labels
    )
