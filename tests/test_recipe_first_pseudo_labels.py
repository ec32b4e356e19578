"""First pseudo-labels: what guides agree on."""

import numpy as np
import pytest
from recipe_helpers import blobs

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.points.layouts import layouts_of
from clusterloom.recipe.pseudo_labels import first as module
from clusterloom.recipe.pseudo_labels.first import FirstPseudoLabels, first_pseudo_labels
from clusterloom.recipe.spaces.embeddings import NOTHING_KNOWN, Embeddings, SpaceRules


def of_points(layouts, n_clusters, rules=NOTHING_KNOWN, **more):
    """The first ones where spaces are as their layouts, and there are no views."""
    embeddings = Embeddings({s: found[0] for s, found in layouts.items()}, layouts, rules=rules)
    return first_pseudo_labels(embeddings, n_clusters, 0, **more)


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
    assert found.others.shape == (20, found.groups.max() + 1)
    assert np.array_equal(again.others, found.others)
    assert again.guides.keys() == found.guides.keys() == {"one", "two-words"}
    assert all(np.array_equal(again.guides[space], found.guides[space]) for space in found.guides)


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


def test_images_that_are_all_equal_leave_clusters_empty():
    found = of_points({"one": np.ones((1, 30, 4), np.float32), "other": np.zeros((1, 30, 4), np.float32)}, 3)
    assert found.q.shape == (30, 3)
    assert (found.q.argmax(1) == 0).all()


def test_one_cluster_and_one_point():
    found = of_points({"points": np.ones((1, 1, 3), np.float32)}, 1)
    assert found.q.tolist() == [[1.0]]
    assert FirstPseudoLabels.from_arrays(found.arrays()).guides == {}
    assert of_points({"points": blobs(50)[0][None]}, 1).q.tolist() == [[1.0]] * 50
