"""At which resolution groups are divided."""

import numpy as np
import pytest
from recipe_helpers import rng

from clusterloom.recipe.points.partitions import Agreement
from clusterloom.recipe.pseudo_labels import division as module
from clusterloom.recipe.pseudo_labels.division import divide_ties, other_divisions, steadiest_resolution
from clusterloom.recipe.pseudo_labels.modularity import RESOLUTION, divide, modularity_matrix


def test_more_clusters_than_kinds_are_parts_of_them_and_no_scraps():
    """Two kinds of two parts each, which hardly differ; each part has twenty groups that differ among themselves."""
    part = np.repeat(np.arange(4), 20)
    alike, same_kind = part[:, None] == part, part[:, None] // 2 == part // 2
    noise = rng().random((80, 80)) ** 4
    ties = [0.02 + 0.9 * same_kind + 0.1 * alike + 0.05 * (noise + noise.T)]
    images = np.full(80, 5)
    scraps = divide(modularity_matrix(ties), images, 4, rng())
    assert np.bincount(scraps).min() < 5
    found = divide_ties(ties, images, 4, rng())
    assert len(set(zip(found.tolist(), part.tolist(), strict=True))) == 4


def test_kinds_that_are_seen_are_divided_as_ever():
    kinds = np.repeat([0, 1, 2], [40, 8, 3])  # the smallest has less than a quarter of the images of a mean one
    ties = [np.where(kinds[:, None] == kinds, 1.0, 0.01)]
    found = divide_ties(ties, np.ones(51, int), 3, rng())
    assert len(set(zip(found.tolist(), kinds.tolist(), strict=True))) == 3


def test_about_equal_kinds_are_divided_as_ever():
    kinds = np.repeat([0, 1, 2], [20, 18, 14])
    ties = [np.where(kinds[:, None] == kinds, 1.0, 0.01)]
    found = divide_ties(ties, np.ones(52, int), 3, rng())
    assert np.array_equal(found, divide(modularity_matrix(ties), np.ones(52, int), 3, rng()))


def test_small_kinds_that_hold_together_are_no_scraps():
    """Joining the two would raise modularity, and a higher resolution would cut a large kind of two parts instead."""
    kinds, part = np.repeat([0, 1, 2, 3], [40, 40, 3, 3]), np.repeat(range(6), [20, 20, 20, 20, 3, 3])
    same, alike, small = kinds[:, None] == kinds, part[:, None] == part, kinds >= 2
    ties = [0.01 + 0.5 * same + 0.5 * alike + 0.05 * (small[:, None] & small & ~same)]
    found = divide_ties(ties, np.ones(86, int), 4, rng())
    assert len(set(zip(found.tolist(), kinds.tolist(), strict=True))) == 4


def test_large_kinds_are_not_cut_to_have_small_ones_in_one_cluster():
    kinds, part = np.repeat([0, 1, 2, 3], [40, 40, 4, 4]), np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    ties = [0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)]
    images = np.ones(88, int)
    of_highest_modularity = divide(modularity_matrix(ties), images, 4, rng())
    assert sorted(np.bincount(of_highest_modularity).tolist()) == [20, 20, 24, 24]
    found = divide_ties(ties, images, 4, rng())
    assert len(set(zip(found.tolist(), kinds.tolist(), strict=True))) == 4


def test_a_lower_resolution_is_asked_where_one_leaves_open_how_unequal_kinds_are():
    """Two of four large kinds have halves that are so loosely tied that the first low resolution still cuts them."""
    kinds, part = np.repeat(np.arange(10), [40] * 4 + [4] * 6), np.repeat(np.arange(14), [20] * 8 + [4] * 6)
    of_halves = np.where(kinds < 2, 0.04, 0.3)[:, None] * ((kinds[:, None] == kinds) & (kinds < 4))
    ties = [np.where(part[:, None] == part, 1.0, np.maximum(of_halves, 0.001))]
    images = np.full(184, 6)
    first = divide(modularity_matrix(ties, 0.4), images, 10, rng())
    assert sorted(np.bincount(first).tolist()) == [4, 4, 8, 8, 20, 20, 20, 20, 40, 40]
    found = divide_ties(ties, images, 10, rng())
    assert len(set(zip(found.tolist(), kinds.tolist(), strict=True))) == 10


@pytest.mark.parametrize("agrees", [True, False])
def test_of_about_equal_clusters_those_that_agree_better_are_found(agrees):
    """A kind of two halves is as large as two others together, which is as even as equal kinds often are."""
    kinds, part = np.repeat(range(3), [40, 20, 16]), np.repeat(range(4), [20, 20, 20, 16])
    ties = [np.where(part[:, None] == part, 1.0, np.where((kinds[:, None] > 0) == (kinds > 0), 0.2, 0.01))]

    def judge(labels):
        return Agreement(*[0.1 * (agrees and len(set(labels[kinds == 0].tolist())) == 1)] * 2)

    found = divide_ties(ties, np.full(76, 10), 3, rng(), judge=judge)
    assert sorted(np.bincount(found).tolist()) == ([16, 20, 40] if agrees else [20, 20, 36])


def test_clusters_that_agree_better_by_one_entropy_alone_are_not_believed():
    kinds, part = np.repeat(range(3), [40, 20, 16]), np.repeat(range(4), [20, 20, 20, 16])
    ties = [np.where(part[:, None] == part, 1.0, np.where((kinds[:, None] > 0) == (kinds > 0), 0.2, 0.01))]

    def judge(labels):
        return Agreement(0.1 * (len(set(labels[kinds == 0].tolist())) == 1), 0.0)

    found = divide_ties(ties, np.full(76, 10), 3, rng(), judge=judge)
    assert sorted(np.bincount(found).tolist()) == [20, 20, 36]


@pytest.mark.parametrize("agrees", [True, False])
def test_a_rare_kind_is_found_where_it_agrees_better_though_clusters_were_equal(agrees):
    """Only the second low resolution does not cut the large kind."""
    kinds, part = np.repeat([0, 1], [40, 4]), np.repeat(range(3), [20, 20, 4])
    ties = [np.where(part[:, None] == part, 1.0, np.where(kinds[:, None] == kinds, 0.15, 0.05))]

    def judge(labels):
        return Agreement(*[0.1 * (agrees and len(set(labels[kinds == 0].tolist())) == 1)] * 2)

    found = divide_ties(ties, np.full(44, 10), 2, rng(), judge=judge)
    assert sorted(np.bincount(found).tolist()) == ([4, 40] if agrees else [20, 24])


@pytest.mark.parametrize(
    ("by", "worse", "may_be"), [("mean", 0.05, True), ("mean", 0.1, False), ("lower", 0.05, False)]
)
def test_unequal_clusters_that_agree_worse_are_not_believed(by, worse, may_be):
    """Unless it is little and in shares of the mean entropy, which prefers clusters that are cut rather than joined."""
    kinds, part = np.repeat([0, 1, 2, 3], [40, 40, 4, 4]), np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    ties = [0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)]

    def judge(labels):
        less = worse * (len(set(labels[kinds == 0].tolist())) == 1)
        return Agreement(0.5, 0.5)._replace(**{by: 0.5 - less})

    found = divide_ties(ties, np.ones(88, int), 4, rng(), judge=judge)
    assert (sorted(np.bincount(found).tolist()) == [4, 4, 40, 40]) == may_be


@pytest.mark.parametrize("joins", [True, False])
def test_unequal_clusters_of_all_starts_are_asked_as_those_of_some_were(joins, monkeypatch):
    """More starts may find clusters that agree much worse, here where two large kinds are one."""
    kinds, part = np.repeat([0, 1, 2, 3], [40, 40, 4, 4]), np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    ties = [0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)]

    def joining(matrix, images, n_clusters, generator, starts):
        labels = divide(matrix, images, n_clusters, generator, starts)
        return np.where(kinds == 1, labels[0], labels) if joins and starts > 40 else labels

    monkeypatch.setattr(module, "divide", joining)

    def judge(labels):
        return Agreement(float(labels[0] != labels[40]), 0.5)

    found = divide_ties(ties, np.ones(88, int), 4, rng(), judge=judge)
    assert sorted(np.bincount(found).tolist()) == ([20, 20, 24, 24] if joins else [4, 4, 40, 40])


@pytest.mark.parametrize("same", [True, False])
def test_unequal_clusters_are_not_believed_that_stand_on_one_kind_of_ties(same):
    """All kinds of ties hold four large parts and two small ones together; what they join of these may differ."""
    part = np.repeat(range(6), [20, 20, 20, 20, 4, 4])
    kinds, others = np.array([0, 0, 1, 1, 2, 3])[part], np.array([0, 1, 0, 1, 2, 3])[part]

    def tied(kinds):
        return 0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * (part[:, None] == part)

    ties = [1.2 * tied(kinds), tied(kinds if same else others)]
    found = divide_ties(ties, np.ones(88, int), 4, rng())
    assert (sorted(np.bincount(found).tolist()) == [4, 4, 40, 40]) == same


@pytest.mark.parametrize(("within", "may_be"), [(12, True), (2, False)])
def test_tiny_kinds_are_no_scraps_for_ties_that_they_cannot_have_within(within, may_be):
    """Four large kinds of two groups, six of four images, which have nine neighbours and so most of them elsewhere."""
    kinds = np.repeat(np.arange(10), [2] * 4 + [1] * 6)
    tiny = kinds >= 4
    ties = 40.0 * (kinds[:, None] == kinds)
    ties[tiny] = ties[:, tiny] = 1
    np.fill_diagonal(ties, np.where(tiny, within, 400))
    found = divide_ties([ties], np.where(tiny, 4, 20), 10, rng())
    assert (len(set(zip(found.tolist(), kinds.tolist(), strict=True))) == 10) == may_be


@pytest.mark.parametrize(
    ("small", "scraps", "agrees", "may_be"),
    [(3, 1, False, True), (3, 2, False, False), (3, 2, True, False), (5, 2, False, False), (5, 2, True, True)],
)
def test_few_scraps_do_not_keep_unequal_kinds_from_being_found(small, scraps, agrees, may_be):
    """Three large kinds of two parts, small ones, and odd images that are loosely tied to a large kind."""
    n_clusters = 3 + small + scraps
    kinds = np.repeat(np.arange(n_clusters), [40] * 3 + [8] * small + [3] * scraps)
    part = np.arange(len(kinds)) // 20 * (kinds < 3) + kinds * (kinds >= 3)
    ties = 0.01 + 0.2 * (kinds[:, None] == kinds) + 0.8 * ((part[:, None] == part) & (kinds[:, None] == kinds))
    odd = kinds >= 3 + small
    ties[np.ix_(odd, kinds == 0)] = ties[np.ix_(kinds == 0, odd)] = 0.1

    images = np.full(len(kinds), 10)
    usual = divide(modularity_matrix([ties]), images, n_clusters, rng())

    def judge(labels):
        return Agreement(*[0.1 * (agrees and not np.array_equal(labels, usual))] * 2)

    found = divide_ties([ties], images, n_clusters, rng(), judge=judge)
    whole = [len(set(found[kinds == kind].tolist())) == 1 for kind in range(3)]
    assert all(whole) == may_be


@pytest.mark.parametrize("n_kinds", [10, 24])
def test_many_clusters_are_no_more_unequal_than_few(n_kinds):
    """Two kinds lie side by side, and of a third one the two halves are a little farther apart."""
    kinds = np.repeat(np.arange(n_kinds), 2)
    ties = np.diag(np.full(len(kinds), 0.3)) + 0.2 * (kinds[:, None] == kinds)
    ties[:2, 2:4] = ties[2:4, :2] = 0.04
    ties[4, 5] = ties[5, 4] = 0.09
    found = divide_ties([ties], np.ones(len(ties), int), n_kinds, rng())
    np.testing.assert_array_equal(found[::2], found[1::2])
    assert len(set(found[::2].tolist())) == n_kinds


def test_where_kinds_are_known_to_be_equally_many_more_equal_clusters_count():
    """As above, but the two kinds lie closer together, and the division that joins them is better by a little."""
    kinds = np.repeat(np.arange(10), 2)
    ties = np.diag(np.full(len(kinds), 0.3)) + 0.2 * (kinds[:, None] == kinds)
    ties[:2, 2:4] = ties[2:4, :2] = 0.08
    ties[4, 5] = ties[5, 4] = 0.03
    joined, equal = (divide_ties([ties], np.ones(20, int), 10, rng(), r) for r in (RESOLUTION, module.OF_EQUAL_KINDS))
    assert joined[0] == joined[2]
    np.testing.assert_array_equal(equal[::2], equal[1::2])
    assert len(set(equal[::2].tolist())) == 10


@pytest.mark.parametrize("same", [True, False])
def test_a_lower_resolution_is_chosen_where_halves_of_a_large_kind_stand_on_one_kind_of_ties(same):
    """Both kinds of ties hold four parts of the large kind together, which lie beside two small kinds."""
    part = np.repeat(range(6), [10, 10, 10, 10, 12, 12])
    kinds = np.array([0, 0, 0, 0, 1, 2])[part]
    halves, others = np.array([0, 0, 1, 1, 2, 3])[part], np.array([0, 1, 0, 1, 2, 3])[part]
    small = kinds > 0

    def tied(halves):
        within = 0.4 * (kinds[:, None] == kinds) + 0.6 * (halves[:, None] == halves)
        return 0.01 + 0.1 * (small[:, None] & small) + within

    ties, images = [tied(halves), tied(halves if same else others)], np.ones(64, int)
    resolution = steadiest_resolution(ties, images, 3, rng())
    assert (resolution == RESOLUTION) == same
    assert resolution <= RESOLUTION
    found = divide_ties(ties, images, 3, rng(), resolution)
    assert sorted(np.bincount(found).tolist()) == ([20, 20, 24] if same else [12, 12, 40])


def test_other_divisions_differ_where_kinds_of_ties_do():
    """One kind of ties holds four groups together in pairs; of the other four two kinds say different pairs."""
    one, other = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 1, 1, 2, 3, 2, 3])
    ties = [(0.01 + (kinds[:, None] == kinds)) / 2 for kinds in (one, other)]
    total = sum(between.sum() for between in ties)
    found = other_divisions([between / total for between in ties], np.full(8, 5), 4, rng())
    together = (found[:, :, None] == found[:, None]).mean(0)
    assert together[0, 1] == together[2, 3] == 1
    assert 0.2 < together[4, 5] < 0.8
    assert 0.2 < together[4, 6] < 0.8
    assert together[4, 5] + together[4, 6] == pytest.approx(1)


@pytest.mark.parametrize("scale", [1, 1e-12])
def test_other_divisions_do_not_depend_on_how_strong_ties_are(scale):
    kinds = np.repeat(np.arange(3), 4)
    ties = [scale * (0.01 + (kinds[:, None] == kinds)), np.zeros((12, 12))]
    found = other_divisions(ties, np.full(12, 5), 3, rng())
    assert all(len(set(zip(of.tolist(), kinds.tolist(), strict=True))) == 3 for of in found)
