"""Groups of images that guides keep together, and how sure an image is of its cluster."""

import numpy as np
import pytest
from recipe_helpers import guide, rng, wrong_somewhere
from sklearn.metrics import adjusted_rand_score

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.pseudo_labels import consensus as module
from clusterloom.recipe.pseudo_labels.consensus import groups_of, shares_of

EVEN = {"a": 1.0, "b": 1.0}


def test_guides_that_are_wrong_in_different_places_are_right_together():
    labels = np.repeat(np.arange(5), 60)
    guides = [guide("a" if i % 2 else "b", wrong_somewhere(labels, 0.3, i)) for i in range(10)]
    assert max(clustering_accuracy_score(labels, g.labels) for g in guides) < 0.85
    assert clustering_accuracy_score(labels, groups_of(guides, EVEN, 5, rng())) > 0.98


def test_a_space_of_no_weight_is_not_followed():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    guides = [guide(space, wrong_somewhere(labels, 0.1, i)) for i, space in enumerate("ab")]
    guides += [guide("c", other) for _ in range(6)]  # alike and many
    assert clustering_accuracy_score(labels, groups_of(guides, EVEN | {"c": 0.0}, 4, rng())) > 0.9


def test_groups_are_the_parts_that_all_guides_keep_together():
    """Three guides cut one kind in two and join others, each elsewhere."""
    parts = np.repeat(np.arange(8), 40)
    joined = [
        np.array(m)[parts] for m in ([0, 1, 2, 2, 3, 3, 3, 3], [0, 0, 1, 1, 1, 1, 2, 3], [0, 0, 1, 2, 3, 4, 5, 5])
    ]
    guides = [guide(space, j) for space in "ab" for j in joined]
    groups = groups_of(guides, EVEN, 20, rng())
    assert adjusted_rand_score(parts, groups) == 1
    assert sorted(set(groups.tolist())) == list(range(8))  # no more than differ


def test_the_same_draw_gives_the_same_groups_and_another_one_nearly():
    labels = rng().integers(0, 4, 900)
    guides = [guide("ab"[i % 2], wrong_somewhere(labels, 0.3, i)) for i in range(8)]
    first, again, other = (groups_of(guides, EVEN, 4, rng(seed), linked=100) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert adjusted_rand_score(first, other) > 0.98  # the rounds over all images mend the rest
    assert clustering_accuracy_score(labels, first) > 0.95


@pytest.mark.parametrize("n", [module._LINKED - 1, module._LINKED, module._LINKED + 1])
def test_a_few_images_more_than_are_linked_change_nothing(n):
    labels = rng().integers(0, 6, n)
    guides = [guide("ab"[i % 2], wrong_somewhere(labels, 0.2, i)) for i in range(6)]
    assert clustering_accuracy_score(labels, groups_of(guides, EVEN, 6, rng())) > 0.97


@pytest.mark.parametrize(("n", "n_groups"), [(1, 1), (1, 6), (2, 2), (3, 3), (20, 20), (20, 60)])
def test_a_handful_of_images_and_more_groups_than_images(n, n_groups):
    guides = [guide(space, np.arange(n)) for space in "ab"]
    assert sorted(groups_of(guides, EVEN, n_groups, rng())) == list(range(n))


def test_equal_images_are_one_group():
    assert set(groups_of([guide("a", np.zeros(30, int))], EVEN, 5, rng()).tolist()) == {0}


def test_probabilities_are_shares_of_what_guides_keep_together():
    labels = np.repeat(np.arange(3), [70, 40, 20])
    split = labels.copy()
    split[-5:] = 0  # one guide of four puts five images elsewhere
    guides = [guide(space, g) for space, g in (("a", labels), ("a", labels), ("b", labels), ("b", split))]
    q = shares_of(guides, EVEN, labels, 3)
    assert q.dtype == np.float32
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(q[labels == 1], np.eye(3)[1][None].repeat(40, 0), atol=1e-6)
    # Of the 75 images where `split` puts the five, 70 are in the largest cluster.
    np.testing.assert_allclose(q[-5:], np.tile([0.25 * 70 / 75, 0, 0.75 + 0.25 * 5 / 75], (5, 1)), atol=1e-5)
    heavier = shares_of(guides, {"a": 0.0, "b": 1.0}, labels, 3)
    np.testing.assert_allclose(heavier[-5:, 0], 0.5 * 70 / 75, atol=1e-5)


def test_what_one_lost_cluster_is_given_is_not_all_that_another_one_had():
    labels = np.repeat(np.arange(3), [1, 4, 12])
    guides = [
        guide("a", np.array([0, 2, 1, 0, 2, 1, 1, 0, 2, 2, 1, 1, 2, 2, 0, 2, 1])),
        guide("a", np.array([0, 1, 0, 0, 1, 2, 1, 2, 2, 0, 1, 1, 2, 2, 2, 2, 2])),
        guide("a", np.array([1, 1, 1, 2, 1, 2, 2, 1, 1, 2, 2, 2, 1, 0, 0, 2, 0])),
    ]
    q = shares_of(guides, EVEN, labels, 3)
    assert (np.bincount(q.argmax(1), minlength=3) > 0).all()


def test_a_small_cluster_that_most_guides_merge_is_not_lost():
    """Of six guides two tell it from its large neighbour; its images have the smaller share of themselves."""
    labels = np.repeat(np.arange(3), [100, 90, 8])
    merged = np.where(labels == 2, 1, labels)
    merged[:50] = 2
    guides = [guide(space, labels) for space in "ab"] + [guide(space, merged) for space in "ab" for _ in range(2)]
    q = shares_of(guides, EVEN, labels, 3)
    assert (np.bincount(q.argmax(1), minlength=3) > 0).all()
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
