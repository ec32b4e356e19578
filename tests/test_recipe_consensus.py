"""Guides, how far spaces confirm each other, and the clusters on which guides agree."""

import numpy as np
import pytest
from recipe_helpers import blobs
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe import consensus as module
from clusterloom.recipe.consensus import Guide, confirmations, consensus, guides_in, guides_of


def rng(seed=0):
    return np.random.default_rng(seed)


def guide(space, labels, coarse=True):
    return Guide(space, np.asarray(labels, np.int32), coarse)


def wrong_somewhere(labels, share, seed):
    """The same partition under other numbers, with a share of the images at random."""
    generator = rng(seed)
    n_clusters = labels.max() + 1
    moved = np.where(generator.random(len(labels)) < share, generator.integers(0, n_clusters, len(labels)), labels)
    return generator.permutation(n_clusters)[moved]


def random_guides(space, n, n_clusters, count, seed=0):
    return [guide(space, rng(seed + i).integers(0, n_clusters, n)) for i in range(count)]


@pytest.mark.parametrize("n", [60, 300])  # k-means for a few points, mixtures for more
def test_guides_find_blobs_with_as_many_clusters_as_are_wanted_and_more(n):
    points, labels = blobs(n)
    guides = guides_of("points", points, 4, rng())
    coarse = [g for g in guides if g.coarse]
    assert (len(guides), len(coarse)) == (6, 2)
    assert {g.labels.max() + 1 for g in guides} == {4, 6, 8}
    assert max(clustering_accuracy_score(labels, g.labels) for g in coarse) > 0.98
    again = guides_of("points", points, 4, rng())
    assert all(np.array_equal(one.labels, other.labels) for one, other in zip(guides, again, strict=True))


@pytest.mark.parametrize(("n", "n_clusters"), [(1, 1), (3, 3), (3, 2), (20, 20), (20, 7)])
def test_of_a_handful_of_points_guides_ask_for_no_more_clusters_than_there_are(n, n_clusters):
    guides = guides_of("points", rng().standard_normal((n, 5)).astype(np.float32), n_clusters, rng())
    assert all(g.labels.shape == (n,) and g.labels.min() >= 0 and g.labels.max() < n for g in guides)
    assert any(g.coarse for g in guides)


def test_a_mixture_that_is_fitted_to_some_points_places_all_of_them(monkeypatch):
    monkeypatch.setattr(module, "FITTED_POINTS", 200)
    points, labels = blobs(1000)
    guides = guides_of("points", points, 4, rng())
    assert all(g.labels.shape == (1000,) for g in guides)
    assert max(clustering_accuracy_score(labels, g.labels) for g in guides if g.coarse) > 0.98


def test_guides_of_all_layouts_know_their_space_and_tell_how_far_they_are():
    points, told = blobs(60)[0], []
    layouts = {"one": np.stack([points, points]), "other": points[None]}
    guides = guides_in(layouts, 4, rng(), lambda *report: told.append(report))
    assert [g.space for g in guides] == ["one"] * 12 + ["other"] * 6
    assert told == [("guides", 1, 3), ("guides", 2, 3), ("guides", 3, 3)]


def test_a_space_is_confirmed_by_the_one_that_is_most_like_it():
    labels = np.repeat(np.arange(4), 50)
    halved = labels // 2
    guides = [guide("a", labels), guide("b", labels), guide("c", halved), *random_guides("d", 200, 4, 2)]
    guides.append(guide("c", labels, coarse=False))  # finer guides do not count
    confirmed = confirmations(guides)
    assert confirmed["a"] == confirmed["b"] == 1
    assert confirmed["c"] == pytest.approx(adjusted_rand_score(labels, halved))
    assert 0 <= confirmed["d"] < 0.1


def test_a_space_may_be_confirmed_by_its_own_guides():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    guides = [guide(space, wrong_somewhere(labels, 0.3, i)) for i, space in enumerate("aabb")]
    guides += [guide("c", other), guide("c", other)]
    assert confirmations(guides)["c"] < 0.1
    assert confirmations(guides, by_itself=True)["c"] == 1
    assert clustering_accuracy_score(labels, consensus(guides, 4, rng()).q.argmax(1)) > 0.8
    assert clustering_accuracy_score(other, consensus(guides, 4, rng(), by_itself=True).q.argmax(1)) > 0.95


def test_one_space_alone_is_taken_at_its_word():
    assert confirmations(random_guides("only", 50, 3, 4)) == {"only": 1.0}


def test_guides_that_are_wrong_in_different_places_are_right_together():
    labels = np.repeat(np.arange(5), 60)
    guides = [guide("a" if i % 2 else "b", wrong_somewhere(labels, 0.3, i)) for i in range(10)]
    alone = [clustering_accuracy_score(labels, g.labels) for g in guides]
    found = consensus(guides, 5, rng())
    assert max(alone) < 0.85
    assert clustering_accuracy_score(labels, found.q.argmax(1)) > 0.98


def test_a_space_that_no_other_confirms_is_not_followed():
    labels, other = np.repeat(np.arange(4), 50), np.tile(np.arange(4), 50)
    guides = [guide(space, wrong_somewhere(labels, 0.1, i)) for i, space in enumerate("ab")]
    guides += [guide("c", other) for _ in range(6)]  # alike and many, but alone
    found = consensus(guides, 4, rng())
    assert found.weights["c"] < 0.1 < 0.7 < found.weights["a"]
    assert clustering_accuracy_score(labels, found.q.argmax(1)) > 0.9


def test_finer_guides_tell_which_parts_belong_together():
    """Three coarse guides cut one kind in two and join others, each elsewhere; what all keep together are the parts."""
    parts = np.repeat(np.arange(8), 40)
    labels = parts // 2
    joined = [
        np.array(m)[parts] for m in ([0, 1, 2, 2, 3, 3, 3, 3], [0, 0, 1, 1, 1, 1, 2, 3], [0, 0, 1, 2, 3, 3, 3, 3])
    ]
    guides = [guide(space, j) for space in "ab" for j in joined]
    guides += [guide(space, parts, coarse=False) for space in "ab"]
    assert max(clustering_accuracy_score(labels, j) for j in joined) < 0.8
    assert clustering_accuracy_score(labels, consensus(guides, 4, rng()).q.argmax(1)) == 1


def test_clusters_are_numbered_by_falling_size_and_probabilities_are_shares_of_guides():
    labels = np.repeat(np.arange(3), [20, 70, 40])
    split = labels.copy()
    split[:5] = 1  # one guide of four puts five images elsewhere
    guides = [guide(space, g) for space, g in (("a", labels), ("a", labels), ("b", labels), ("b", split))]
    q = consensus(guides, 3, rng()).q
    assert q.dtype == np.float32
    assert np.bincount(q.argmax(1)).tolist() == [70, 40, 20]
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(q[labels == 2], np.eye(3)[1][None].repeat(40, 0), atol=1e-6)
    # Of the 75 images where `split` puts the five, 70 are in the largest cluster; weights of a and b are equal.
    np.testing.assert_allclose(q[:5], np.tile([0.25 * 70 / 75, 0, 0.75 + 0.25 * 5 / 75], (5, 1)), atol=1e-5)


def test_the_same_draw_gives_the_same_bits_and_another_one_the_same_clusters(monkeypatch):
    monkeypatch.setattr(module, "_LINKED", 100)
    labels = rng().integers(0, 4, 900)
    guides = [guide("ab"[i % 2], wrong_somewhere(labels, 0.3, i)) for i in range(8)]
    first, again, other = (consensus(guides, 4, rng(seed)).q for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert adjusted_rand_score(first.argmax(1), other.argmax(1)) > 0.98  # the rounds over all images mend the rest
    assert clustering_accuracy_score(labels, first.argmax(1)) > 0.95


@pytest.mark.parametrize("n", [module._LINKED - 1, module._LINKED, module._LINKED + 1])
def test_a_few_images_more_than_are_linked_change_nothing(n):
    labels = rng().integers(0, 6, n)
    guides = [guide("ab"[i % 2], wrong_somewhere(labels, 0.2, i)) for i in range(6)]
    assert clustering_accuracy_score(labels, consensus(guides, 6, rng()).q.argmax(1)) > 0.97


@pytest.mark.parametrize("n_clusters", [2, 5])
def test_with_the_whole_weight_of_sizes_linkage_is_that_of_ward(monkeypatch, n_clusters):
    monkeypatch.setattr(module, "_SIZES_COUNT", 1)
    points = rng().standard_normal((60, 3))
    apart = ((points[:, None] - points) ** 2).sum(2).astype(np.float32)
    expected = fcluster(linkage(points, "ward"), n_clusters, "maxclust")
    found = module._linked(apart, n_clusters)
    assert adjusted_rand_score(found, expected) == 1
    assert sorted(set(found.tolist())) == list(range(n_clusters))


def test_a_large_kind_is_not_cut_for_two_small_ones():
    """A wide group of 400 beside two of 12: Ward's linkage cuts the large one, which costs it most."""
    generator = rng()
    labels = np.repeat(np.arange(3), [400, 12, 12])
    middles, widths = np.array([[0, 0], [9, 0], [9, 5]]), np.array([1, 0.3, 0.3])
    points = middles[labels] + widths[labels, None] * generator.normal(size=(424, 2))
    apart = ((points[:, None] - points) ** 2).sum(2).astype(np.float32)
    ward = fcluster(linkage(points, "ward"), 3, "maxclust")
    assert adjusted_rand_score(labels, ward) < 0.7
    assert adjusted_rand_score(labels, module._linked(apart, 3)) > 0.98


@pytest.mark.parametrize(("n", "n_clusters"), [(2, 2), (3, 3), (3, 2), (20, 20), (60, 60), (60, 1)])
def test_as_many_clusters_as_images_or_few_images(n, n_clusters):
    guides = [guide(space, wrong_somewhere(np.arange(n) % n_clusters, 0, i)) for i, space in enumerate("ab")]
    q = consensus(guides, n_clusters, rng()).q
    assert q.shape == (n, n_clusters)
    assert sorted(np.bincount(q.argmax(1), minlength=n_clusters)) == sorted(np.bincount(np.arange(n) % n_clusters))


def test_guides_that_find_fewer_clusters_than_are_wanted_leave_some_empty():
    """Images that are all equal, or of two kinds only."""
    for labels in (np.zeros(30, int), np.arange(30) % 2):
        q = consensus([guide(space, labels) for space in "ab"], 4, rng()).q
        assert q.shape == (30, 4)
        assert adjusted_rand_score(labels, q.argmax(1)) == 1
        np.testing.assert_allclose(q.sum(1), 1, rtol=1e-6)


def test_guides_that_nobody_confirms_count_alike():
    """Every adjusted Rand index is 0 or less: no weight is left to divide by."""
    one, other = np.repeat([0, 1], 2), np.tile([0, 1], 2)
    q = consensus([guide("a", one), guide("b", other)], 2, rng()).q
    assert np.isfinite(q).all()
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-6)


def test_a_small_cluster_that_most_guides_merge_is_not_lost():
    """Of six guides two tell it from its large neighbour; its images have the smaller share of themselves."""
    labels = np.repeat(np.arange(3), [100, 90, 8])
    merged = np.where(labels == 2, 1, labels)
    merged[:50] = 2
    guides = [guide(space, labels) for space in "ab"] + [guide(space, merged) for space in "ab" for _ in range(2)]
    q = consensus(guides, 3, rng()).q
    assert (np.bincount(q.argmax(1), minlength=3) > 0).all()
    np.testing.assert_allclose(q.sum(1), 1, rtol=1e-5)
