"""The division of highest modularity, over all ties."""

from itertools import product

import networkx
import numpy as np
import pytest
from recipe_helpers import rng
from scipy.sparse import csr_array

from clusterloom.recipe.points.partitions import Agreement
from clusterloom.recipe.pseudo_labels import division as module
from clusterloom.recipe.pseudo_labels.division import divide, divide_ties, modularity_matrix, other_divisions, quality
from clusterloom.recipe.pseudo_labels.ties import Ties, between_groups


def random_ties(n, seed=0):
    """Symmetric ties of random strengths among n groups of one image each."""
    ties = rng(seed).random((n, n)) ** 4
    return ties + ties.T


def ties_in(space, ties, counts=1.0):
    return Ties(space, [(np.arange(len(ties)), csr_array(ties))], counts)


def matrix_of(ties, groups=None):
    """Of one space, each image a group of its own if nothing else is said."""
    groups = np.arange(len(ties)) if groups is None else groups
    return modularity_matrix(between_groups([ties_in("a", ties)], {"a": 1.0}, groups))


def each(matrix):
    """One image in each group."""
    return np.ones(len(matrix), int)


def test_the_matrix_sums_to_the_modularity_that_networkx_finds():
    ties = random_ties(12)
    labels = np.arange(12) % 3
    matrix = matrix_of(ties)
    graph = networkx.from_numpy_array(ties - np.diag(ties.diagonal()) / 2)  # it counts a loop twice
    clusters = [set(np.flatnonzero(labels == c).tolist()) for c in range(3)]
    expected = networkx.community.modularity(graph, clusters, resolution=module.RESOLUTION)
    assert quality(matrix, labels) == pytest.approx(expected)


def test_spaces_count_by_their_weights_and_ties_by_theirs():
    one, other = random_ties(8), random_ties(8, 1)
    each = np.arange(8)
    alone = [matrix_of(t) for t in (one, other)]
    both = modularity_matrix(between_groups([ties_in("a", one), ties_in("b", other, 0.5)], {"a": 0.75, "b": 0.5}, each))
    np.testing.assert_allclose(both, 0.75 * alone[0] + 0.25 * alone[1])
    none = matrix_of(np.zeros((8, 8)))
    assert not none.any()


def test_groups_have_the_ties_of_their_images():
    ties, groups = random_ties(8), np.array([0, 0, 1, 1, 2, 2, 2, 2])
    fine = matrix_of(ties)
    coarse = matrix_of(ties, groups)
    assert quality(coarse, np.array([0, 1, 1])) == pytest.approx(quality(fine, np.array([0, 1, 1])[groups]))


@pytest.mark.parametrize(("n_clusters", "seed"), list(product([2, 3], range(4))))
def test_the_best_of_all_divisions_is_found(n_clusters, seed):
    matrix = matrix_of(random_ties(8, seed))
    found = divide(matrix, each(matrix), n_clusters, rng())
    of_all = (np.array(labels) for labels in product(range(n_clusters), repeat=8) if len(set(labels)) == n_clusters)
    assert quality(matrix, found) == pytest.approx(max(quality(matrix, labels) for labels in of_all))
    assert np.array_equal(found, divide(matrix, each(matrix), n_clusters, rng()))


@pytest.mark.parametrize(("n_groups", "n_clusters"), [(1, 1), (5, 1), (5, 5), (30, 7), (60, 59)])
def test_no_cluster_is_empty(n_groups, n_clusters):
    matrix = matrix_of(random_ties(n_groups))
    assert sorted(set(divide(matrix, each(matrix), n_clusters, rng()).tolist())) == list(range(n_clusters))


def test_clusters_may_differ_in_size():
    kinds = np.repeat([0, 1, 2], [20, 8, 6])
    ties = np.where(kinds[:, None] == kinds, 1.0, 0.02)
    matrix = matrix_of(ties)
    assert len(set(zip(divide(matrix, each(matrix), 3, rng()).tolist(), kinds.tolist(), strict=True))) == 3


def test_more_clusters_than_kinds_are_parts_of_them_and_no_scraps():
    """Two kinds of two parts each, which hardly differ; each part has twenty groups that differ among themselves."""
    part = np.repeat(np.arange(4), 20)
    alike, same_kind = part[:, None] == part, part[:, None] // 2 == part // 2
    ties = [0.02 + 0.9 * same_kind + 0.1 * alike + 0.05 * random_ties(80)]
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
    found = divide_ties([ties], each(ties), n_kinds, rng())
    np.testing.assert_array_equal(found[::2], found[1::2])
    assert len(set(found[::2].tolist())) == n_kinds


def test_where_kinds_are_known_to_be_equally_many_more_equal_clusters_count():
    """As above, but the two kinds lie closer together, and the division that joins them is better by a little."""
    kinds = np.repeat(np.arange(10), 2)
    ties = np.diag(np.full(len(kinds), 0.3)) + 0.2 * (kinds[:, None] == kinds)
    ties[:2, 2:4] = ties[2:4, :2] = 0.08
    ties[4, 5] = ties[5, 4] = 0.03
    joined, equal = (divide_ties([ties], each(ties), 10, rng(), r) for r in (module.RESOLUTION, module.OF_EQUAL_KINDS))
    assert joined[0] == joined[2]
    np.testing.assert_array_equal(equal[::2], equal[1::2])
    assert len(set(equal[::2].tolist())) == 10


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


@pytest.mark.parametrize(("odd", "alone"), [(2, False), (40, True)])
def test_a_handful_of_odd_images_is_no_cluster_and_a_small_kind_is(odd, alone):
    """Two kinds lie side by side; a third one, of so many images, is tied to nothing. There are to be two clusters."""
    images = np.array([100, 100, 100, 100, odd])
    ties = np.array([[9, 5, 4, 4, 0], [5, 9, 4, 4, 0], [4, 4, 9, 5, 0], [4, 4, 5, 9, 0], [0, 0, 0, 0, 9]], float)
    found = divide(matrix_of(ties), images, 2, rng())
    assert (np.bincount(found, images).min() == odd) == alone


def test_where_no_move_of_one_group_helps_two_clusters_are_joined_and_one_is_cut():
    """Four kinds of three groups each; the start joins two of them and cuts a third."""
    kinds = np.repeat(np.arange(4), 3)
    matrix = matrix_of((kinds[:, None] == kinds) + 0.01)
    start = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    assert np.array_equal(module._climbed(matrix, each(matrix), start, 4, 0)[:6], start[:6])

    def cut(members):
        return module._cut_in_two(matrix, each(matrix), np.frombuffer(members, int), 0)

    found = module._improved(matrix, each(matrix), start, 4, 0, cut)
    assert quality(matrix, found) == pytest.approx(quality(matrix, kinds))


def test_groups_without_ties_are_cut_somewhere():
    for n in (2, 3):
        half, loss = module._cut_in_two(np.zeros((5, 5)), np.ones(5), np.arange(n) + 1, 0)
        assert set(half) < set(range(1, n + 1))
        assert (0 < len(half) < n, loss) == (True, 0)
