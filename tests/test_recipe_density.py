"""Whether divisions are told apart by clusters of any size."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from clusterloom.recipe.pseudo_labels import density
from clusterloom.recipe.pseudo_labels.density import agreement_with_density, clusters_apart, found_again

SIZES = [300, 150, 100, 50, 50, 30]


def blobs(sizes, seed=0):
    """Points around as many centres, shape (2, N, 3), and whose they are, (N,)."""
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    points = np.random.default_rng(seed).normal(size=(2, len(kinds), 3))
    points[:, :, 0] += 12 * kinds
    return points, kinds


def agreement(layouts, weights, groups, n_clusters):
    return agreement_with_density(layouts, weights, groups, n_clusters, np.random.default_rng(0))


@pytest.mark.parametrize("times", [1, 5])  # of many points not all are looked at
def test_kinds_of_any_size_that_lie_apart_are_found_whole(times):
    layout, kinds = blobs([times * size for size in [*SIZES, 12]])
    found = clusters_apart(layout[0], 7)
    assert found.shape == kinds.shape
    assert adjusted_rand_score(kinds, found) > 0.999


def test_the_few_points_between_kinds_go_to_the_nearest():
    layout, _ = blobs(SIZES)
    layout[0, 10] += 5
    assert clusters_apart(layout[0], 6)[10] == clusters_apart(layout[0], 6)[11]


@pytest.mark.parametrize(("wanted", "are"), [(3, False), (4, True), (11, True), (20, False)])
def test_clusters_are_about_as_many_as_are_wanted_or_none(wanted, are):
    layout, _ = blobs(SIZES)
    assert (clusters_apart(layout[0], wanted) is not None) == are


def test_one_cluster_of_nearly_all_images_tells_no_kinds_apart():
    layout, _ = blobs([600, 12, 12, 12, 12, 12])
    assert clusters_apart(layout[0], 6) is None


def test_nothing_lies_apart_in_noise_or_among_a_handful():
    assert clusters_apart(np.random.default_rng(0).uniform(size=(600, 3)), 6) is None
    assert clusters_apart(blobs([10] * 6)[0][0], 6) is None


def test_the_kinds_agree_better_than_equal_clusters():
    layout, kinds = blobs(SIZES)
    halves = 2 * kinds + np.arange(len(kinds)) % 2
    agreed = agreement({"a": layout}, {"a": 1.0}, halves, 6)
    right, equal = np.arange(12) // 2, np.array([0, 1, 2, 2, 3, 3, 4, 4, 4, 4, 5, 5])
    for of_right, of_equal in zip(agreed(right), agreed(equal), strict=True):
        assert of_right > 0.95
        assert of_equal < of_right - 0.05


def test_kinds_that_density_joins_are_no_better_joined():
    """The last two of six kinds lie together; a division that joins them cuts a little off the first instead."""
    kinds = np.repeat(np.arange(6), 60)
    layout = np.random.default_rng(0).normal(size=(2, len(kinds), 3))
    layout[:, :, 0] += 12 * np.minimum(kinds, 4)
    groups = np.arange(len(kinds)) // 6  # ten of each kind
    agreed = agreement({"a": layout}, {"a": 1.0}, groups, 6)
    right = np.arange(60) // 10
    joined = np.where(right == 5, 4, right)
    joined[0] = 5
    assert agreed(joined).mean > agreed(right).mean + 0.01
    assert agreed(joined).lower == pytest.approx(agreed(right).lower, abs=0.005)


def test_spaces_are_heard_as_much_as_they_count():
    layout, kinds = blobs(SIZES)
    noise = np.random.default_rng(1).uniform(size=layout.shape)
    heard = [agreement({"a": layout, "b": noise}, {"a": a, "b": 1.0}, kinds, 6)(np.arange(6)).mean for a in (1.0, 9.0)]
    assert heard[1] > heard[0] + 0.2


def test_of_a_handful_of_images_density_says_nothing():
    layout, kinds = blobs([10] * 6)
    assert agreement({"a": layout}, {"a": 1.0}, kinds, 6)(np.arange(6)) == (0, 0)


def test_a_space_in_which_all_are_left_out_says_nothing(monkeypatch):
    layout, kinds = blobs(SIZES)
    usual = density._by_density

    def by_density(points, n_clusters):
        return usual(points, n_clusters) if points.any() else np.full(len(points), -1)

    monkeypatch.setattr(density, "_by_density", by_density)
    joined = np.arange(6) // 2
    alone = agreement({"a": layout}, {"a": 1.0}, kinds, 6)(joined)
    assert alone.mean < 0.9
    assert agreement({"a": layout, "b": 0 * layout}, {"a": 1.0, "b": 5.0}, kinds, 6)(joined) == alone
    assert agreement({"b": 0 * layout}, {"b": 5.0}, kinds, 6)(joined) == (0, 0)


def test_it_is_looked_for_when_it_is_first_asked_for(monkeypatch):
    layout, kinds = blobs(SIZES)
    monkeypatch.setattr("clusterloom.recipe.pseudo_labels.density.HDBSCAN", lambda **_: pytest.fail("nobody has asked"))
    agreement({"a": layout}, {"a": 1.0}, kinds, 6)


@pytest.mark.parametrize("times", [1, 5])
def test_clusters_are_found_again_that_lie_apart_in_some_space(times):
    layout, kinds = blobs([times * size for size in SIZES])
    noise = np.random.default_rng(1).uniform(size=layout.shape)
    joined = np.minimum(kinds, 4)  # the last two kinds are one cluster
    for layouts, found in (({"a": noise, "b": layout}, [True] * 4 + [False]), ({"a": noise}, [False] * 5)):
        np.testing.assert_array_equal(found_again(layouts, joined, 5), found)


def test_a_cluster_twice_as_large_as_all_others_may_be_two_kinds_that_lie_apart_together():
    layout, kinds = blobs([200, *[100] * 8])
    assert found_again({"a": layout}, kinds, 9).tolist() == [False] + [True] * 8
    layout, kinds = blobs([400, 300, 200, *[30] * 4])  # the largest is twice the mean, and no other is near it
    assert found_again({"a": layout}, kinds, 7).all()


def test_no_cluster_of_a_handful_is_found_again():
    layout, kinds = blobs([10] * 6)
    assert not found_again({"a": layout, "b": layout}, kinds, 6).any()
