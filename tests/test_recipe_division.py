"""At which resolution groups are divided."""

import numpy as np
import pytest
from recipe_helpers import rng

from clusterloom.recipe.pseudo_labels import division as module
from clusterloom.recipe.pseudo_labels.division import OF_EQUAL_KINDS, Agreement, divide_ties
from clusterloom.recipe.pseudo_labels.modularity import RESOLUTION, divide, modularity_matrix

# Four parts of a large kind, or of two, which two kinds of ties join in other pairs.
PAIRS, OTHER_PAIRS = [0, 0, 1, 1], [0, 1, 0, 1]


def labels_of(ties, images, n_clusters, **options):
    return divide_ties(ties, images, n_clusters, rng(), **options).labels


def same_partition(one, other):
    return (
        len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(set(one.tolist())) == len(set(other.tolist()))
    )


def test_more_clusters_than_kinds_are_parts_of_them_and_no_scraps():
    """Two kinds of two parts each, which hardly differ; each part has twenty groups that differ among themselves."""
    part = np.repeat(np.arange(4), 20)
    alike, same_kind = part[:, None] == part, part[:, None] // 2 == part // 2
    noise = rng().random((80, 80)) ** 4
    ties = [0.02 + 0.9 * same_kind + 0.1 * alike + 0.05 * (noise + noise.T)]
    images = np.full(80, 5)
    scraps = divide(modularity_matrix(ties), images, 4, rng())
    assert np.bincount(scraps).min() < 5
    assert same_partition(labels_of(ties, images, 4), part)


@pytest.mark.parametrize("sizes", [[40, 8, 3], [20, 18, 14]])
def test_kinds_that_are_seen_are_divided_at_any_resolution(sizes):
    kinds = np.repeat([0, 1, 2], sizes)
    ties = [np.where(kinds[:, None] == kinds, 1.0, 0.01)]
    assert same_partition(labels_of(ties, np.ones(len(kinds), int), 3), kinds)


def halved(sizes, within):
    """Kinds of ties that see other halves of kind 0, and the kinds; small ones lie beside each other."""
    part = np.repeat(range(len(sizes) + 3), [sizes[0] // 4] * 4 + sizes[1:])
    kinds = np.maximum(np.arange(len(sizes) + 3) - 3, 0)[part]
    small = kinds > 0

    def tied(pairs):
        halves = np.concatenate([pairs, np.arange(2, len(sizes) + 1)])[part]
        of_kind = within * (kinds[:, None] == kinds) + (1 - within) * (halves[:, None] == halves)
        return 0.01 + 0.1 * (small[:, None] & small) + of_kind

    return tied(PAIRS), tied(OTHER_PAIRS), kinds


@pytest.mark.parametrize("same", [True, False])
def test_clusters_count_that_are_found_again_where_ties_count_otherwise(same):
    """At a high resolution the large kind is cut in two, in halves that one kind of ties sees, and the small ones
    are joined; unless both see the same halves that is not found again."""
    one, other, kinds = halved([40, 12, 12], within=0.4)
    found = labels_of([1.2 * one, one if same else other], np.ones(64, int), 3)
    assert sorted(np.bincount(found).tolist()) == ([20, 20, 24] if same else [12, 12, 40])
    assert same or same_partition(found, kinds)


@pytest.mark.parametrize("same", [True, False])
def test_large_kinds_are_whole_unless_that_stands_on_one_kind_of_ties(same):
    """All kinds of ties hold four large parts and two small ones together; what they join of these may differ."""
    part = np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    kinds, others = np.array([0, 0, 1, 1, 2, 3])[part], np.array([*OTHER_PAIRS, 2, 3])[part]

    def tied(kinds):
        return 0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)

    found = labels_of([tied(kinds), tied(kinds if same else others)], np.ones(88, int), 4)
    assert sorted(np.bincount(found).tolist()) == ([4, 4, 40, 40] if same else [20, 20, 24, 24])


@pytest.mark.parametrize(
    ("agreement", "many", "sizes"),
    [
        (1, 20, [16, 20, 40]),
        (0.13, 20, [16, 20, 40]),
        (0.1, 20, [20, 20, 36]),
        (0.1, 3, [16, 20, 40]),
        (0, 20, [20, 20, 36]),
        (0, 3, [20, 20, 36]),
    ],
)
def test_clusters_count_that_agree_with_what_is_known_and_of_those_as_good_the_most_even(
    agreement, many, sizes, monkeypatch
):
    """A kind of two halves is as large as two others together. As one it agrees better, though it is found again less:
    the index is .92, and 1 for the halves. So by .05 or .02 one kind is better on the whole at .13 and .1. Of many
    clusters .02 is much."""
    monkeypatch.setattr(module, "_MANY", many)
    kinds, part = np.repeat(range(3), [40, 20, 16]), np.repeat(range(4), [20, 20, 20, 16])
    ties = [np.where(part[:, None] == part, 1.0, np.where((kinds[:, None] > 0) == (kinds > 0), 0.2, 0.01))]

    def judge(labels):
        return Agreement(agreement * (len(set(labels[kinds == 0].tolist())) == 1), 0.5)

    found = labels_of(ties, np.full(76, 10), 3, judge=judge)
    assert sorted(np.bincount(found).tolist()) == sizes


def test_where_it_is_known_what_clusters_are_worth_the_best_at_any_resolution_count():
    """As above. No judge is asked, and no others are looked for."""
    kinds, part = np.repeat(range(3), [40, 20, 16]), np.repeat(range(4), [20, 20, 20, 16])
    ties = [np.where(part[:, None] == part, 1.0, np.where((kinds[:, None] > 0) == (kinds > 0), 0.2, 0.01))]

    def whole(labels):
        return float(len(set(labels[kinds == 0].tolist())) == 1)

    def in_halves(labels):
        return -whole(labels)

    for worth, sizes in [(whole, [16, 20, 40]), (in_halves, [20, 20, 36])]:
        found = divide_ties(ties, np.full(76, 10), 3, rng(), judge=pytest.fail, worth=worth)
        assert sorted(np.bincount(found.labels).tolist()) == sizes
        assert found.others.shape == (0, 76)


@pytest.mark.parametrize(("worse", "may_be"), [(0.05, True), (0.15, False)])
def test_clusters_that_agree_much_worse_in_shares_of_the_mean_entropy_do_not_count(worse, may_be):
    kinds, part = np.repeat([0, 1, 2, 3], [40, 40, 4, 4]), np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    ties = [0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)]

    def judge(labels):
        whole = len(set(labels[kinds == 0].tolist())) == 1
        return Agreement(float(whole), 0.5 - worse * whole)

    found = labels_of(ties, np.ones(88, int), 4, judge=judge)
    assert (sorted(np.bincount(found).tolist()) == [4, 4, 40, 40]) == may_be


@pytest.mark.parametrize(("within", "may_be"), [(12, True), (2, False)])
def test_tiny_kinds_are_no_scraps_for_ties_that_they_cannot_have_within(within, may_be):
    """Four large kinds of two groups, six of four images, which have nine neighbours and so most of them elsewhere."""
    kinds = np.repeat(np.arange(10), [2] * 4 + [1] * 6)
    tiny = kinds >= 4
    ties = 40.0 * (kinds[:, None] == kinds)
    ties[tiny] = ties[:, tiny] = 1
    np.fill_diagonal(ties, np.where(tiny, within, 400))

    def judge(labels):
        return Agreement(float(same_partition(labels, kinds)), 0.5)

    found = labels_of([ties], np.where(tiny, 4, 20), 10, judge=judge)
    assert same_partition(found, kinds) == may_be


@pytest.mark.parametrize(("many", "too_many", "tried"), [(5, 100, 4), (4, 100, 6), (3, 3, 1)])
def test_more_resolutions_are_tried_of_many_clusters_and_one_of_too_many(many, too_many, tried, monkeypatch):
    monkeypatch.setattr(module, "_MANY", many)
    monkeypatch.setattr(module, "_TOO_MANY", too_many)
    kinds, judged = np.repeat(range(4), 5), []

    def judge(labels):
        judged.append(labels)
        return Agreement(1.0, 1.0)

    found = labels_of([np.where(kinds[:, None] == kinds, 1.0, 0.01)], np.ones(20, int), 4, judge=judge)
    assert same_partition(found, kinds)
    assert max(len(judged), 1) == tried  # a single one need not be judged


@pytest.mark.parametrize("n_kinds", [10, 24])
def test_many_clusters_are_no_more_unequal_than_few(n_kinds):
    """Two kinds lie side by side, and of a third one the two halves are a little farther apart."""
    kinds = np.repeat(np.arange(n_kinds), 2)
    ties = np.diag(np.full(len(kinds), 0.3)) + 0.2 * (kinds[:, None] == kinds)
    ties[:2, 2:4] = ties[2:4, :2] = 0.04
    ties[4, 5] = ties[5, 4] = 0.09
    assert same_partition(labels_of([ties], np.ones(len(kinds), int), n_kinds), kinds)


def test_where_kinds_are_known_to_be_equally_many_more_equal_clusters_count():
    """As above, but the two kinds lie closer together, and the division that joins them is better by a little."""
    kinds = np.repeat(np.arange(10), 2)
    ties = np.diag(np.full(20, 0.3)) + 0.2 * (kinds[:, None] == kinds)
    ties[:2, 2:4] = ties[2:4, :2] = 0.08
    ties[4, 5] = ties[5, 4] = 0.03
    joined, equal = (labels_of([ties], np.ones(20, int), 10, resolution=r) for r in (RESOLUTION, OF_EQUAL_KINDS))
    assert joined[0] == joined[2]
    assert same_partition(equal, kinds)


def test_other_divisions_differ_where_kinds_of_ties_do():
    """One kind of ties holds four groups together in pairs; of the other four two kinds say different pairs."""
    one, other = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 1, 1, 2, 3, 2, 3])
    ties = [0.01 + (kinds[:, None] == kinds) for kinds in (one, other)]
    found = divide_ties(ties, np.full(8, 5), 4, rng()).others
    assert found.shape == (20, 8)
    together = (found[:, :, None] == found[:, None]).mean(0)
    assert together[0, 1] == together[2, 3] == 1
    assert 0.2 < together[4, 5] < 0.8
    assert 0.2 < together[4, 6] < 0.8
    assert together[4, 5] + together[4, 6] == pytest.approx(1)


def test_kinds_of_ties_without_any_change_nothing():
    kinds = np.repeat(np.arange(3), 4)
    ties = [0.01 + (kinds[:, None] == kinds), np.zeros((12, 12))]
    found = divide_ties(ties, np.full(12, 5), 3, rng())
    assert all(same_partition(labels, kinds) for labels in (found.labels, *found.others))
