"""Second pseudo-labels: what lies together in the layer that has learned the first ones."""

import numpy as np
import pytest
from recipe_helpers import blobs

from clusterloom.recipe.points.layouts import layout_of
from clusterloom.recipe.pseudo_labels import second as module
from clusterloom.recipe.pseudo_labels.second import second_pseudo_labels


def second(layout, q, first, seed=0):
    return second_pseudo_labels(layout, q, first, np.random.default_rng(seed))


def soft(labels, n_clusters, sure=0.9):
    """Assignments that give each image's cluster so much more than all others together."""
    return (sure * np.eye(n_clusters)[labels] + (1 - sure) / n_clusters).astype(np.float32)


def test_one_cluster_and_one_point():
    assert second(np.ones((1, 3), np.float32), np.ones((1, 1)), np.ones((1, 1))).tolist() == [[1.0]]


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


@pytest.mark.parametrize(("learned", "moves"), [(400, True), (390, True), (320, False), (200, False)])
def test_a_layer_moves_images_as_far_as_it_has_learned_the_first_ones(learned, moves):
    """Its neighbours say that forty images belong elsewhere."""
    points, labels = blobs(400)
    first, q = labels.copy(), labels.copy()
    first[:40] = q[:40] = (labels[:40] + 1) % 4
    q[learned:] = (labels[learned:] + 1) % 4  # which the first ones, surer, set right
    found = second(points, soft(q, 4, 0.5), soft(first, 4, 0.7))
    assert np.array_equal(found.argmax(1), labels if moves else first)


def test_images_that_keep_their_first_pseudo_label_are_as_sure_of_it():
    points, labels = blobs(400)
    first = soft(np.where(np.arange(400) < 40, (labels + 1) % 4, labels), 4, 0.7)
    q = soft(np.where(np.arange(400) < 320, first.argmax(1), (labels + 1) % 4), 4, 0.5)
    np.testing.assert_array_equal(second(points, q, first)[:40], first[:40])


def test_a_cluster_that_the_model_has_not_learned_keeps_its_images():
    """Of too few images for finer mixtures: the model puts two blobs into one cluster, the first ones know better."""
    points, labels = blobs(200)
    q = soft(np.minimum(labels, 2), 4, 0.5)
    found = second(points, q, soft(labels, 4, 0.85))
    assert np.array_equal(found.argmax(1), labels)
    assert found.max(1)[labels == 3].mean() > 0.8


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
