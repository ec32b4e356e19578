"""Pseudo-labels: what guides agree on, and what lies together in the layer that has learned it."""

import numpy as np
import pytest
from recipe_helpers import blobs

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe import pseudo_labels as module
from clusterloom.recipe.embeddings import NOTHING_KNOWN, Embeddings, SpaceRules
from clusterloom.recipe.layouts import layout_of, layouts_of
from clusterloom.recipe.pseudo_labels import FirstPseudoLabels, first_pseudo_labels, second_pseudo_labels


def second(layout, q, first, seed=0):
    return second_pseudo_labels(layout, q, first, np.random.default_rng(seed))


def of_points(layouts, n_clusters, rules=NOTHING_KNOWN, **more):
    """The first ones where spaces are as their layouts, and there are no views."""
    embeddings = Embeddings({s: found[0] for s, found in layouts.items()}, layouts, rules=rules)
    return first_pseudo_labels(embeddings, n_clusters, 0, **more)


def soft(labels, n_clusters, sure=0.9):
    """Assignments that give each image's cluster so much more than all others together."""
    return (sure * np.eye(n_clusters)[labels] + (1 - sure) / n_clusters).astype(np.float32)


@pytest.mark.parametrize("n", [20, 60, 199, 201, 400])
def test_the_first_ones_find_blobs_and_repeat(n):
    points, labels = blobs(n)
    noise = np.random.default_rng(1).standard_normal((n, 8)).astype(np.float32)
    spaces = {"one": points, "other": points[:, ::-1] ** 3, "noise": noise}
    layouts = layouts_of({"one": points}, 3, 2) | layouts_of({name: spaces[name] for name in ("other", "noise")}, 3, 1)
    views = {"one": np.stack([points, points])}
    found, again = (first_pseudo_labels(Embeddings(spaces, layouts, views), 4, seed=3) for _ in range(2))
    assert clustering_accuracy_score(labels, found.q.argmax(1)) > 0.98
    assert np.array_equal(found.q, again.q)
    assert (np.diff(np.bincount(found.q.argmax(1), minlength=4)) <= 0).all()  # numbered by falling size
    np.testing.assert_allclose(found.q.sum(1), 1, rtol=1e-5)
    assert found.follows["one"] > 0.8
    assert found.follows["noise"] < 0.25
    assert found.guides["one"].shape == (12 if n >= 200 else 6, n)
    assert max(clustering_accuracy_score(labels, g) for g in found.guides["one"]) > 0.98


def test_the_first_ones_survive_a_file():
    points = blobs(60)[0]
    found = of_points({"one": points[None], "two-words": points[None]}, 4)
    again = FirstPseudoLabels.from_arrays(found.arrays())
    assert np.array_equal(again.q, found.q)
    assert again.follows == found.follows
    assert np.array_equal(again.others, found.others)
    assert again.guides.keys() == found.guides.keys() == {"one", "two-words"}
    assert all(np.array_equal(again.guides[space], found.guides[space]) for space in found.guides)


@pytest.mark.parametrize(
    ("many", "most", "doubted", "made"), [(61, 4, True, 20), (60, 4, True, 0), (61, 3, True, 0), (61, 4, False, 0)]
)
def test_other_divisions_are_made_of_few_images_and_where_they_are_asked_for(many, most, doubted, made, monkeypatch):
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_MOST_REDIVIDED", most)
    points = blobs(60)[0]
    found = of_points({"one": points[None], "two": points[None]}, 4, doubted=doubted)
    assert found.others.shape == (made, found.groups.max() + 1)
    again = of_points({"one": points[None], "two": points[None]}, 4)
    assert np.array_equal(again.q, found.q)


@pytest.mark.parametrize(
    ("many", "clear", "led_by"),
    [(601, 1.01, "plain"), (600, 1.01, "learned"), (600, 0.9, "plain")],
    ids=["few", "many of no clear kinds", "many of clear kinds"],
)
def test_of_many_images_without_clear_kinds_a_space_yields(monkeypatch, many, clear, led_by):
    def points_of(seed):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(600) % 3)
        return (4 * np.eye(3)[labels] + 1.6 * rng.standard_normal((600, 3))).astype(np.float32), labels

    (learned, by_learned), (plain, by_plain) = points_of(0), points_of(1)
    again = (learned + 0.8 * np.random.default_rng(2).standard_normal(learned.shape)).astype(np.float32)
    spaces = {"one": learned, "two": again, "plain": plain}
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_CLEAR", clear)
    rules = SpaceRules(alone=("plain",), counts={"plain": 3.0}, yielding=("plain",))
    found = first_pseudo_labels(Embeddings(spaces, layouts_of(spaces, 0, 2), rules=rules), 3, 0)
    right = {"learned": by_learned, "plain": by_plain}[led_by]
    assert max(found.follows, key=found.follows.get) in {"learned": ("one", "two"), "plain": ("plain",)}[led_by]
    assert clustering_accuracy_score(right, found.q.argmax(1)) > 0.6  # by the other ones it is 0.35
    assert found.guides.keys() == found.follows.keys() == spaces.keys()  # all are asked how sure an image is


@pytest.mark.parametrize("heard", [False, True])
def test_a_space_on_more_islands_than_clusters_does_not_say_which_are_joined(monkeypatch, heard):
    """Its guides agree with each other, since in its layouts some islands happen to lie side by side."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 0, 1, 2, 3], 60)  # the first kind has two islands
    islands = np.repeat(np.array([[0, 0], [0, 9], [1, 9], [9, 0], [9, 9]]), 60, 0) + rng.normal(0, 0.1, (300, 2))
    blurred = np.array([[0, 0], [0, 3], [3, 0], [3, 3]])[kinds] + rng.normal(0, 0.8, (300, 2))
    layouts = {"islands": np.stack([islands] * 2), "blurred": np.stack([blurred] * 2)}
    if heard:
        monkeypatch.setattr(module, "_more_islands", lambda *_: {})
    found = of_points(
        {name: of.astype(np.float32) for name, of in layouts.items()}, 4, rules=SpaceRules(alone=("islands",))
    )
    assert (clustering_accuracy_score(kinds, found.labels) > 0.95) != heard


def test_progress_counts_searches():
    points, told = blobs(60)[0], []
    of_points({"one": np.stack([points, points])}, 3, progress=lambda *report: told.append(report))
    assert told == [("guides", done, 6) for done in range(7)]


def test_one_cluster_and_one_point():
    found = of_points({"points": np.ones((1, 1, 3), np.float32)}, 1)
    assert found.q.tolist() == [[1.0]]
    assert FirstPseudoLabels.from_arrays(found.arrays()).guides == {}
    assert second(np.ones((1, 3), np.float32), np.ones((1, 1)), np.ones((1, 1))).tolist() == [[1.0]]
    assert of_points({"points": blobs(50)[0][None]}, 1).q.tolist() == [[1.0]] * 50


@pytest.mark.parametrize("n", [20, 60, 199, 201, 400])
def test_the_second_ones_mend_what_they_are_given_and_keep_the_numbers(n):
    points, labels = blobs(n)
    right = (labels + 1) % 4
    wrong = right.copy()
    wrong[:: max(5, n // 20)] = (wrong[:: max(5, n // 20)] + 1) % 4
    found = second(layout_of(points, 0), soft(wrong, 4), soft(right, 4, 0.6))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert (found.argmax(1) == right).mean() > (wrong == right).mean()
    assert (found.argmax(1) == right).mean() > (0.98 if n >= 60 else 0.8)


def test_neighbours_outvote_a_model_that_is_wrong_in_places():
    points, labels = blobs(400)
    q = soft(labels, 4)
    q[:20] = soft((labels[:20] + 1) % 4, 4)
    assert np.array_equal(second(points, q, np.full_like(q, 0.25)).argmax(1), labels)


def test_images_that_guides_are_sure_of_are_not_voted_away():
    points, labels = blobs(400)
    other = labels.copy()
    other[:20] = (labels[:20] + 1) % 4  # their layer says otherwise
    q = soft(other, 4, 0.6)
    assert np.array_equal(second(points, q, soft(other, 4, 0.97)).argmax(1), other)
    assert np.array_equal(second(points, q, soft(other, 4, 0.6)).argmax(1), labels)


def test_of_few_images_fewer_neighbours_vote():
    """A cluster of three among thirty: fifteen neighbours would give it to another."""
    labels = np.repeat([0, 1, 2], [14, 13, 3])
    points = (10 * np.eye(3, 6)[labels] + np.random.default_rng(0).standard_normal((30, 6))).astype(np.float32)
    q = soft(labels, 3)
    assert np.array_equal(second(points, q, q).argmax(1), labels)


def test_the_model_and_the_first_ones_count_alike_for_neighbours():
    """Below the points that mixtures stand on, neighbours alone vote: of one image it is the product itself."""
    points = np.arange(3, dtype=np.float32)[:, None]
    q = np.array([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], np.float32)
    first = np.array([[0.5, 0.5], [0.25, 0.75], [0.5, 0.5]], np.float32)
    np.testing.assert_allclose(second(points, q, first), [[0.8, 0.2], [0.25, 0.75], [0.1, 0.9]], rtol=1e-5)


def test_votes_count_alike(monkeypatch):
    """Neighbours, finer mixtures and the mixture: each is asked once, and the mean of their answers is taken."""
    points, labels = blobs(300, k=2)
    monkeypatch.setattr(module, "_by_component", lambda mixture, layout, belief: np.tile([1.0, 0.0], (len(layout), 1)))
    found = second(points, soft(labels, 2, 1.0), soft(labels, 2, 1.0))
    np.testing.assert_allclose(found[labels == 0], np.tile([1, 0], ((labels == 0).sum(), 1)), atol=1e-5)
    np.testing.assert_allclose(found[labels == 1], np.tile([1 / 3, 2 / 3], ((labels == 1).sum(), 1)), atol=1e-5)


def test_more_images_than_mixtures_are_fitted_to(monkeypatch):
    monkeypatch.setattr(module, "FITTED_POINTS", 250)
    points, labels = blobs(900)
    found = second(points, soft(labels, 4), soft(labels, 4))
    assert np.array_equal(found.argmax(1), labels)
    assert np.array_equal(found, second(points, soft(labels, 4), soft(labels, 4)))


def test_equal_images_and_empty_clusters_have_pseudo_labels():
    q = soft(np.zeros(250, int), 4, 1.0)
    found = second(layout_of(np.ones((250, 4), np.float32), 0), q, q)
    assert np.isfinite(found).all()
    assert (found.argmax(1) == 0).all()


def test_images_that_are_all_equal_leave_clusters_empty():
    found = of_points({"one": np.ones((1, 30, 4), np.float32), "other": np.zeros((1, 30, 4), np.float32)}, 3)
    assert found.q.shape == (30, 3)
    assert (found.q.argmax(1) == 0).all()
