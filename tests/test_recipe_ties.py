"""Ties between images: neighbours in layouts, and what two views of one image are near to."""

import numpy as np
import pytest
from recipe_helpers import blobs, guide, rng

from clusterloom.recipe.pseudo_labels import ties as module
from clusterloom.recipe.pseudo_labels.ties import guide_ties, ties_of, view_ties
from clusterloom.recipe.spaces.embeddings import Embeddings


def all_ties(n, k=4, layouts=2, **more):
    points, labels = blobs(n, k)
    views = {"a": np.stack([points[: n // 2], points[: n // 2]])}
    embeddings = Embeddings({"a": points, "b": points}, {"a": np.stack([points] * layouts), "b": points[None]}, views)
    return ties_of(embeddings, [], k, rng()), labels


def test_blobs_are_tied_to_themselves_alone():
    found, labels = all_ties(300)
    assert [(t.space, t.counts, len(t.parts)) for t in found] == [("a", 1, 2), ("b", 1, 1), ("a", 0.5, 1)]
    for ties in found:
        between = ties.between(labels)
        assert between.shape == (4, 4)
        assert between.trace() > 0.99 * between.sum() > 0
        np.testing.assert_allclose(between, between.T)


def test_many_images_are_looked_at_in_parts(monkeypatch):
    monkeypatch.setattr(module, "_PER_CLUSTER", 20)
    found, labels = all_ties(500)  # six parts of 80 or so
    assert [len(t.parts) for t in found] == [12, 6, 1]
    rows = [part[0] for part in found[1].parts]
    assert all(80 <= len(r) <= 84 for r in rows)
    assert len(np.unique(np.concatenate(rows))) == 500
    monkeypatch.setattr(module, "_PARTS", 2)
    found = all_ties(500)[0]
    assert [len(t.parts) for t in found] == [4, 2, 1]
    assert [len(rows) for rows, _ in found[1].parts] == [250, 250]  # all images, however many
    between = found[2].between(labels)
    assert between.trace() > 0.99 * between.sum()


@pytest.mark.parametrize(("n", "neighbours"), [(400, 15), (80, 10), (20, 2), (5, 1)])
def test_neighbours_are_at_most_half_of_a_cluster(n, neighbours):
    found, _ = all_ties(n)
    ((_, ties),) = found[1].parts
    assert neighbours <= ties.sum(1).min() <= 2 * neighbours


def test_ties_of_views_are_counted():
    points = np.array([[0.0], [1.0], [5.0], [6.0]])
    views = np.array([[[0.1], [5.1]], [[1.1], [5.2]]])  # two images: between the first two points, and at the third
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = 1
    expected[2, 2] = 2
    np.testing.assert_allclose(view_ties(points, views, 1).toarray(), expected)


def test_guides_tie_what_they_keep_together():
    labels = np.array([0, 0, 1, 1, 1])
    once = guide_ties([labels]).toarray()
    np.testing.assert_allclose(once[:2, :2], 1 / 2)
    np.testing.assert_allclose(once[2:, 2:], 1 / 3)
    assert not once[:2, 2:].any()
    np.testing.assert_allclose(guide_ties([labels, labels]).toarray(), 2 * once)


def test_guides_of_some_spaces_tie_and_finer_ones_do_not():
    points, labels = blobs(300)
    guides = [guide("b", labels), guide("b", np.arange(300) % 9, coarse=False)]
    embeddings = Embeddings({"a": points, "b": points}, {"a": points[None], "b": points[None]})
    found = ties_of(embeddings, guides, 4, rng())
    assert [(t.space, t.counts) for t in found] == [("a", 1), ("b", 1), ("b", 0.25)]
    between = found[2].between(labels)
    np.testing.assert_allclose(between, np.diag(np.bincount(labels)))
