"""The search for the division of highest modularity."""

from itertools import product

import networkx
import numpy as np
import pytest
from recipe_helpers import rng
from scipy.sparse import csr_array

from clusterloom.recipe.pseudo_labels import modularity as module
from clusterloom.recipe.pseudo_labels.modularity import divide, modularity_matrix, quality
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
