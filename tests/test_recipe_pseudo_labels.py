"""Pseudo-labels: mixtures in a layout, and which of almost equally likely ones is taken."""

import math

import numpy as np
import pytest
from recipe_helpers import blobs

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.neighbours import layout_of
from clusterloom.recipe.pseudo_labels import first_pseudo_labels, second_pseudo_labels


def labels_of(points, n_clusters, seed):
    views = tuple(points + np.random.default_rng(i).standard_normal(points.shape).astype(np.float32) for i in (1, 2))
    return first_pseudo_labels(points, layout_of(points, seed), n_clusters, seed, views)


@pytest.mark.parametrize("n", [60, 400])
def test_they_find_blobs_and_repeat(n):
    points, labels = blobs(n)
    found, again = labels_of(points, 4, seed=3), labels_of(points, 4, seed=3)
    assert clustering_accuracy_score(labels, found.q.argmax(1)) > 0.98
    assert np.array_equal(found.q, again.q)
    assert (np.diff(np.bincount(found.q.argmax(1), minlength=4)) <= 0).all()  # numbered by falling size
    np.testing.assert_allclose(found.q.sum(1), 1, rtol=1e-5)
    assert found.partitions.shape == (len(found.finalists), n)
    assert clustering_accuracy_score(found.partitions[0], found.q.argmax(1)) == 1


def test_the_second_ones_refine_what_they_are_given_and_keep_the_numbers():
    points, labels = blobs()
    q = np.eye(4, dtype=np.float32)[(labels + 1) % 4]
    q[:20] = 0.25
    assert np.array_equal(second_pseudo_labels(layout_of(points, 0), q).argmax(1), (labels + 1) % 4)


def hexagon(degrees_closer):
    """Six blobs on a circle, of which 0 and 1, 2 and 3, 4 and 5 are closer than their other neighbours."""
    rng = np.random.default_rng(0)
    blob = np.arange(900) % 6
    angle = np.radians(60 * blob + np.where(blob % 2, -degrees_closer, degrees_closer) / 2)
    return (10 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.standard_normal((900, 2))).astype(np.float32), blob


@pytest.mark.parametrize("degrees_closer", [1, 5])
def test_what_two_views_share_decides_among_almost_equally_likely_mixtures_alone(degrees_closer):
    """Three clusters for six blobs, whose views stray from 1 to 2, from 3 to 4, from 5 to 0, and back.

    Clusters of those pairs tell ln 3 nats of a view. Clusters of the closer pairs are likelier, by 0.07 nats at one
    degree and 0.19 at five, and tell ln 1.5: each leaves two of three clusters for the other view.
    """
    layout, blob = hexagon(degrees_closer)
    embedding = np.eye(6, dtype=np.float32)[blob]
    strayed = embedding[:6][[5, 2, 1, 4, 3, 0]][blob]
    found = first_pseudo_labels(embedding, layout, 3, 0, (embedding, strayed))
    likely, shared = np.array(found.finalists).T
    by_views = degrees_closer == 1
    assert shared[0] == pytest.approx(math.log(3 if by_views else 1.5), abs=0.02)
    assert max(shared) == pytest.approx(math.log(3), abs=0.02)
    assert (likely[0] < max(likely)) == by_views
    pairs = (blob + 1) // 2 % 3 if by_views else blob // 2
    assert clustering_accuracy_score(pairs, found.q.argmax(1)) > 0.98


def test_one_cluster_and_one_point():
    assert labels_of(np.ones((1, 3), np.float32), 1, 0).q.tolist() == [[1.0]]
    assert labels_of(blobs(50)[0], 1, 0).q.shape == (50, 1)


def test_progress_counts_mixtures():
    points, told = blobs(60)[0], []
    first_pseudo_labels(points, points, 3, 0, (points, points), lambda *report: told.append(report))
    mixtures = [done for what, done, _ in told if what == "mixtures"]
    assert mixtures == sorted(mixtures)
    assert 24 in mixtures
    assert 24 < mixtures[-1] <= 36
