"""A model that is fitted again to what a user said of its clusters."""

import copy
import csv
import json
import shutil

import numpy as np
import pytest
from corrections_helpers import PROBA, assigned
from PIL import Image
from recipe_helpers import QUICK, digits, quarters

from clusterloom import GuidedClusterer, load_model
from clusterloom.cli.program import run
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import ENTRY
from clusterloom.corrections.journal import Journal
from clusterloom.corrections.questions import question_order
from clusterloom.corrections.read import journal_path, read_assignment, weights_sha256
from clusterloom.corrections.refit import answers_of, carried_on, refitted_clusters
from clusterloom.data import load_images
from clusterloom.errors import DataError
from clusterloom.recipe.refit import NOBODY, Answers, affinities, pseudo_labels
from clusterloom.training.loop import DivergedError, Trainer

# What answers make of probabilities.


def test_an_answer_reaches_those_that_lie_near_and_no_others():
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 40)
    points = 20 * np.eye(3)[kinds] + rng.standard_normal((120, 3))
    q = np.tile(np.array([0.9, 0.1, 0.0], np.float32), (120, 1))  # the model takes all three for one
    confirmed = np.full(120, NOBODY)
    confirmed[[45, 50]] = 2
    found, _ = pseudo_labels([points], q, confirmed)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.argmax(1), np.where(kinds == 1, 2, 0))
    np.testing.assert_array_equal(found[45], [0, 0, 1])
    np.testing.assert_allclose(found[kinds != 1], q[kinds != 1], atol=1e-6)


def test_answers_that_say_what_the_model_says_change_nothing():
    points = np.random.default_rng(0).standard_normal((60, 2))
    q = np.tile(np.array([1.0, 0.0], np.float32), (60, 1))
    confirmed = np.full(60, NOBODY)
    confirmed[:5] = 0
    np.testing.assert_allclose(pseudo_labels([points], q, confirmed)[0], q, atol=1e-6)


def test_one_doubtful_answer_does_not_outweigh_a_cluster():
    """Far from it along the graph, its word is too faint to count."""
    points = np.linspace(0, 1, 400)[:, None]
    q = np.tile(np.array([0.9, 0.1], np.float32), (400, 1))
    confirmed = np.full(400, NOBODY)
    confirmed[0] = 1
    found, _ = pseudo_labels([points], q, confirmed)
    assert found[1:4].argmax(1).all()
    assert not found[100:].argmax(1).any()


@pytest.mark.parametrize("strangers", [0.0, 0.25])
def test_probabilities_are_as_sure_as_answers_bear_out(strangers):
    """A model that is 70 % sure: it is too little where answers always follow their neighbours, and right elsewhere."""
    rng = np.random.default_rng(0)
    kinds = np.arange(600) % 3
    points = 9 * np.eye(3)[kinds] + rng.standard_normal((600, 3))
    q = np.full((600, 3), 0.15, np.float32)
    q[np.arange(600), kinds] = 0.7
    truth = np.where(rng.uniform(size=600) < strangers, (kinds + 1) % 3, kinds)
    confirmed = np.full(600, NOBODY)
    _, before = pseudo_labels([points], q, confirmed)
    assert before == pytest.approx(0.7, abs=0.01)  # without an answer as sure as it was
    confirmed[:200] = truth[:200]
    found, sure = pseudo_labels([points], q, confirmed)
    right = np.mean(found[200:].argmax(1) == truth[200:])
    assert sure == pytest.approx(right, abs=0.07)
    confirmed[:] = truth
    assert pseudo_labels([points], q, confirmed)[1] == 1


def test_affinities_are_symmetric_and_never_grow():
    graph = affinities(np.random.default_rng(0).standard_normal((50, 4))).toarray()
    np.testing.assert_allclose(graph, graph.T)
    assert np.abs(np.linalg.eigvalsh(graph)).max() == pytest.approx(1)
    assert affinities(np.zeros((4, 2))).toarray().max() <= 1  # equal images


# What corrections say.


def test_merged_and_emptied_clusters_go_where_their_images_went():
    merged = assigned({"op": "merge", "clusters": [0, 1], "into": 1}, {"op": "confirm", "rows": [3]})
    answers = answers_of(merged, PROBA)
    assert refitted_clusters(merged) == [1, 2]
    np.testing.assert_allclose(answers.q[:, 1], PROBA[:, 2], atol=1e-5)
    assert answers.confirmed.tolist() == [NOBODY, NOBODY, NOBODY, 1]
    emptied = assigned({"op": "move", "rows": [2], "to": 0}, {"op": "outlier", "rows": [1]})
    answers = answers_of(emptied, PROBA)
    assert refitted_clusters(emptied) == [0, 2]
    np.testing.assert_allclose(answers.q[:, 0], PROBA[:, 0] + PROBA[:, 1], atol=1e-5)
    assert answers.outlier.tolist() == [False, True, False, False]


def test_a_new_cluster_begins_with_what_was_put_into_it():
    made = assigned({"op": "move", "rows": [1], "to": 3})
    answers = answers_of(made, PROBA)
    assert answers.q.shape == (4, 4)
    assert answers.confirmed.tolist() == [NOBODY, 3, NOBODY, NOBODY]
    assert answers.q[:, 3].max() < 1e-5  # the model knows nothing of it: its answers do


def test_what_was_said_of_images_goes_on_in_the_new_model():
    confirmed = np.array([0, 1, NOBODY, 1, 0])
    answers = Answers(np.full((5, 2), 0.5, np.float32), confirmed, np.array([0, 0, 1, 0, 0], bool))
    labels = np.array([0, 0, 1, 1, 1])
    assignment = Assignment(labels, 2)
    for edit in carried_on(answers, labels):
        assignment.apply(edit)
    assert assignment.labels.tolist() == [0, 1, 1, 1, 0]
    assert assignment.marks.tolist() == [1, 1, 2, 1, 1]


# In which order to ask.


def test_questions_come_from_all_groups_in_turn_and_each_image_once():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(8), 50)
    places = 30 * np.eye(8)[kinds] + rng.standard_normal((400, 8))
    doubt = rng.uniform(0.1, 0.5, 400)
    doubt[kinds == 0] = 0.9  # most doubtful of all, and yet not all of the first questions
    order = question_order(places, doubt)
    assert sorted(order.tolist()) == list(range(400))
    assert set(kinds[order[:24]]) == set(range(8))
    assert np.bincount(kinds[order[:24]]).argmax() == 0


def test_without_doubt_the_order_is_that_of_the_data():
    assert question_order(np.zeros((5, 2)), np.zeros(5)).tolist() == [0, 1, 2, 3, 4]
    assert question_order(np.zeros((3, 2)), np.array([0.1, 0.3, 0.2])).tolist() == [0, 1, 2]  # all alike


# The estimator.


@pytest.fixture(scope="module")
def halves():
    """Four kinds, of which a model knows two pairs."""
    images, kinds = quarters(240)
    model = GuidedClusterer(2, **QUICK).fit(images)
    return images, kinds, model


def truth(kinds, model, rows):
    """Answers about some images, whose clusters are the kinds; the two clusters of the model are two of them."""
    n = len(kinds)
    own = [int(np.bincount(kinds[model.labels_ == k], minlength=4).argmax()) for k in range(2)]
    assert own[0] != own[1]
    q = np.zeros((n, 4), np.float32)
    q[:, own] = model.predict_proba(quarters(240)[0])
    confirmed = np.full(n, NOBODY)
    confirmed[rows] = kinds[rows]
    return Answers(q, confirmed, np.zeros(n, bool))


def test_the_new_model_has_the_clusters_of_the_answers(halves):
    images, kinds, model = halves
    rows = np.random.default_rng(0).permutation(240)[:24]
    before = model.predict_proba(images)
    new = model.refit(images, truth(kinds, model, rows), ["a", "", "c", ""])
    others = np.setdiff1d(np.arange(240), rows)
    assert new.n_clusters_ == 4
    assert (new.labels_[others] == kinds[others]).mean() > 0.9
    assert new.cluster_names_ == ("a", "", "c", "")
    np.testing.assert_array_equal(new.corrected_, np.sort(rows))
    np.testing.assert_array_equal(model.predict_proba(images), before)  # the old one is as it was
    assert [record["stage"] for record in new.history_] == ["refit", "refit", "refine"]


def test_names_and_corrections_come_back_with_the_model(halves, tmp_path):
    images, kinds, model = halves
    new = model.refit(images, truth(kinds, model, np.arange(12)), ["a", "", "c", ""])
    new.about_["recipe"]["corrections"] = {"images": 12, "outliers": 0, "merged": 0, "made": 2, "named": 2}
    new.save(tmp_path / "new")
    loaded = load_model(tmp_path / "new")
    assert loaded.cluster_names_ == new.cluster_names_
    np.testing.assert_array_equal(loaded.corrected_, np.arange(12))
    np.testing.assert_array_equal(loaded.predict_proba(images), new.predict_proba(images))
    card = (tmp_path / "new" / "README.md").read_text()
    assert "12 images kept or moved, 2 clusters made, 2 clusters named" in card
    assert "| 0 a |" in card


def test_an_interrupted_refit_goes_on_to_the_same_bits(halves, tmp_path, monkeypatch):
    images, kinds, model = halves
    answers = truth(kinds, model, np.arange(20))
    whole = model.refit(images, answers)
    step, left = Trainer._step, [7]

    def stops(self, *arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", stops)
    of_run = {"run_dir": str(tmp_path), "resume": True}
    with pytest.raises(KeyboardInterrupt):
        model.refit(images, answers, **of_run)
    again = model.refit(images, answers, **of_run)
    np.testing.assert_array_equal(again.predict_proba(images), whole.predict_proba(images))


def test_a_refit_of_a_model_without_a_seed_of_its_own_is_taken_up(halves, tmp_path):
    images, kinds, model = halves
    unseeded = copy.deepcopy(model).set_params(random_state=None)  # `fit` drew one and keeps it
    of_run = {"run_dir": str(tmp_path), "resume": True}
    new = unseeded.refit(images, truth(kinds, model, np.arange(20)), **of_run)
    assert new.about_["seed"] == new.random_state == model.about_["seed"]


def test_views_are_those_of_the_fit_however_few_images_there_are(halves):
    images, kinds, model = halves
    model = copy.deepcopy(model)
    model.about_["recipe"]["views"] |= {"rotation_degrees": 180.0, "mirror_vertically": True}  # as of cells
    answers = truth(kinds, model, np.arange(20))
    few = Answers(answers.q[:40], answers.confirmed[:40], answers.outlier[:40])
    views = model.refit(images[:40], few).about_["recipe"]["views"]
    assert views == json.loads(json.dumps(model.about_["recipe"]["views"]))
    model.about_["recipe"]["views"] = {"of": "another release"}
    assert model.refit(images[:40], few).about_["recipe"]["views"].keys() == views.keys()


def test_a_refit_leaves_the_run_of_the_fit_alone(halves, tmp_path):
    images, kinds, _ = halves
    model = GuidedClusterer(2, **QUICK, run_dir=str(tmp_path), resume=True).fit(images)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    new = model.refit(images, truth(kinds, model, [0]))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert (new.run_dir, new.resume) == (None, False)


def test_a_second_decoder_of_other_clusters_does_not_stay(halves, tmp_path):
    images, kinds, model = halves
    model = copy.deepcopy(model).set_params(refine=False)
    new = model.refit(images, truth(kinds, model, np.arange(12)))
    assert new.network_.refiner is None
    new.save(tmp_path / "new")
    assert load_model(tmp_path / "new").sample(2, new.n_clusters_ - 1).shape == (2, *images.shape[1:])


@pytest.mark.parametrize(("stage", "remedy"), [("refit", "learning_rate=0.0003"), ("refine", "refine=false")])
def test_what_to_try_after_a_divergence_is_a_setting_that_the_stage_hears(halves, monkeypatch, stage, remedy):
    images, kinds, model = halves

    def check(self, sums):
        if self.stage == stage:
            raise FloatingPointError("a weight")

    monkeypatch.setattr(Trainer, "_check_finite", check)
    with pytest.raises(DivergedError, match=f"Try {remedy} or precision=fp32"):
        model.refit(images, truth(kinds, model, np.arange(12)))


def test_answers_of_other_images_are_refused(halves):
    images, kinds, model = halves
    with pytest.raises(DataError, match="answers about 10 images"):
        model.refit(images[:10], truth(kinds, model, [0]))


# The command.


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    """A folder of digits, a model, and its journal: a merge, a name, answers about forty images, an outlier."""
    folder = tmp_path_factory.mktemp("refit")
    (folder / "photos").mkdir()
    for i, image in enumerate(digits(200)):
        Image.fromarray(image).save(folder / "photos" / f"{i:03}.png")
    knobs = ["--set", "hidden_dim=32", "--set", "epochs=8", "-q"]
    assert run(["fit", str(folder / "photos"), "-k", "6", "-o", str(folder / "model"), *knobs]) == 0
    images = load_images(str(folder / "photos"))
    model = load_model(folder / "model")
    labels = model.predict(images)
    journal = Journal(journal_path(folder / "model"), weights_sha256(folder / "model"), images.fingerprint())
    assignment = Assignment(labels, 6)
    edits = [
        {"op": "merge", "clusters": [0, 5], "into": 0},
        {"op": "name", "cluster": 0, "name": "both"},
        {"op": "move", "rows": np.flatnonzero(labels == 1)[:20].tolist(), "to": 6},
        {"op": "confirm", "rows": np.flatnonzero(labels == 2)[:20].tolist()},
        {"op": "outlier", "rows": [int(np.flatnonzero(labels == 3)[0])]},
    ]
    for number, edit in enumerate(edits):
        journal.append(ENTRY.validate_python(edit), number)
        assignment.apply(ENTRY.validate_python(edit))
    assert run(["refit", str(folder / "model"), str(folder / "photos"), "-o", str(folder / "new"), "-q"]) == 0
    return folder, assignment


def test_refit_writes_a_model_that_has_heard_the_corrections(corrected):
    folder, assignment = corrected
    new = load_model(folder / "new")
    assert new.n_clusters_ == 6  # one merged, one made
    assert new.cluster_names_ == ("both", "", "", "", "", "")
    np.testing.assert_array_equal(new.corrected_, np.flatnonzero(assignment.marks))
    assert (
        "40 images kept or moved, 1 image marked as an outlier, 1 cluster merged, 1 cluster made, 1 cluster named"
        in ((folder / "new" / "README.md").read_text())
    )
    assert not (folder / "new.partial").exists()


def test_what_was_said_goes_on_in_the_new_journal(corrected):
    folder, assignment = corrected
    images, new = load_images(str(folder / "photos")), load_model(folder / "new")
    again = read_assignment(folder / "new", images, new.predict(images), 6, new.cluster_names_)
    np.testing.assert_array_equal(again.marks, assignment.marks)
    said = assignment.marks == 1
    clusters = refitted_clusters(assignment)
    np.testing.assert_array_equal(again.labels[said], np.searchsorted(clusters, assignment.labels[said]))
    assert again.title(0) == "both"


def test_scores_leave_out_what_was_corrected(corrected, tmp_path, capsys):
    folder, _ = corrected
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"{i % 10}\n" for i in range(200)))
    arguments = ["evaluate", str(folder / "new"), str(folder / "photos"), "--labels", str(labels), "-q", "--json"]
    capsys.readouterr()
    assert run(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["left_out"]) == (159, 41)
    assert "41 images corrected by hand" in result["note"]
    assert run(arguments[:-1]) == 0
    assert "without the 41 that were corrected" in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert (
        run(["report", str(folder / "new"), str(folder / "photos"), "--labels", str(labels), "-o", str(page), "-q"])
        == 0
    )
    assert "41 images corrected by hand" in page.read_text()


def test_predict_writes_the_names_of_a_model_for_any_images(corrected, tmp_path):
    folder, _ = corrected
    shutil.copytree(folder / "photos", tmp_path / "others")
    (tmp_path / "others" / "000.png").unlink()
    assert run(["predict", str(folder / "new"), str(tmp_path / "others"), "-o", str(tmp_path / "t.csv"), "-q"]) == 0
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert {row["name"] for row in rows if row["cluster"] == "0"} == {"both"}
    assert {row["name"] for row in rows if row["cluster"] != "0"} == {""}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: ["model", "photos", "-o", "model", "--overwrite"], "is MODEL itself"),
        (lambda folder: ["model", "photos", "-o", "new"], "holds a model already"),
        (
            lambda folder: ["model", "photos", "-o", "other", "--limit", "100"],
            "holds 5 corrections, but of other images than",
        ),
        (lambda folder: ["vae", "photos", "-o", "other"], "for models of method guided"),
    ],
)
def test_what_cannot_be_refitted_is_said_in_a_line(corrected, monkeypatch, capsys, change, said):
    folder, _ = corrected
    monkeypatch.chdir(folder)
    if not (folder / "vae").exists():
        assert run(["fit", "photos", "--method", "vae", "-k", "2", "-o", "vae", "--set", "epochs=1", "-q"]) == 0
    capsys.readouterr()
    assert run(["refit", *change(folder), "-q"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (folder / "other").exists()
