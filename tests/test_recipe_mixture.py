"""Mixtures of Gaussians from many starts at once: what scikit-learn finds, and what can be worked out by hand."""

import numpy as np
import pytest
from recipe_helpers import blobs
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from clusterloom.recipe.points.mixture import Mixture, fit_mixtures, mixture_of, mixtures_to_start_from


def stretched(n, dim, k, offset=0.0):
    """Overlapping Gaussians of different shapes, far from the origin by `offset`."""
    rng = np.random.default_rng(0)
    shapes, centres = rng.standard_normal((k, dim, dim)), 3 * rng.standard_normal((k, dim)) + offset
    labels = rng.integers(k, size=n)
    points = np.einsum("nij,nj->ni", shapes[labels], rng.standard_normal((n, dim))) + centres[labels]
    return points.astype(np.float32), labels


def as_scikit_learn(start):
    precisions = np.linalg.inv(start.covariances)
    return GaussianMixture(
        len(start.weights),
        reg_covar=1e-4,
        max_iter=200,
        weights_init=start.weights,
        means_init=start.means,
        precisions_init=(precisions + precisions.mT) / 2,
    )


@pytest.mark.parametrize(("dim", "k", "offset"), [(1, 2, 0), (3, 5, 0), (10, 7, 30)])
def test_every_start_leads_where_scikit_learn_leads_it(dim, k, offset):
    points, _ = stretched(700, dim, k, offset)
    starts = mixtures_to_start_from(points, k, range(6))
    for start, fitted in zip(starts, fit_mixtures(points, starts), strict=True):
        theirs = as_scikit_learn(start).fit(points.astype(np.float64))
        assert fitted.log_likelihood == pytest.approx(theirs.lower_bound_, abs=1e-5)
        np.testing.assert_allclose(fitted.weights, theirs.weights_, atol=1e-5)
        np.testing.assert_allclose(fitted.means, theirs.means_, atol=1e-3)
        np.testing.assert_allclose(fitted.covariances, theirs.covariances_, atol=1e-2, rtol=1e-3)
        np.testing.assert_allclose(fitted.predict_proba(points), theirs.predict_proba(points), atol=1e-3)


def test_densities_are_those_of_scipy():
    weights, means = np.array([0.3, 0.7]), np.array([[0.0, 1.0], [4.0, -1.0]])
    covariances = np.array([[[1.0, 0.4], [0.4, 0.5]], [[2.0, -0.3], [-0.3, 1.0]]])
    mixture, points = Mixture(weights, means, covariances), np.array([[0.5, 0.0], [2.0, 2.0], [1000.0, 0.0]])
    logs = np.log(weights) + np.stack(
        [multivariate_normal(m, c).logpdf(points) for m, c in zip(means, covariances, strict=True)], 1
    )
    total = np.logaddexp(*logs.T)
    np.testing.assert_allclose(mixture.predict_proba(points), np.exp(logs - total[:, None]), atol=1e-9)
    assert mixture.predict(points).tolist() == [0, 0, 1]


def test_the_mixture_of_known_clusters_has_their_shares_means_and_covariances():
    points, labels = stretched(500, 3, 4)
    mixture = mixture_of(points, np.eye(4)[labels])
    np.testing.assert_allclose(mixture.weights, np.bincount(labels) / 500)
    for k in range(4):
        np.testing.assert_allclose(mixture.means[k], points[labels == k].mean(0), rtol=1e-4)
        expected = np.cov(points[labels == k].T, bias=True) + 1e-4 * np.eye(3)
        np.testing.assert_allclose(mixture.covariances[k], expected, rtol=1e-4)


def test_more_clusters_than_different_points():
    points = np.repeat(np.eye(3, dtype=np.float32), 4, 0)
    for fitted in fit_mixtures(points, mixtures_to_start_from(points, 5, range(4))):
        q = fitted.predict_proba(points)
        np.testing.assert_allclose(q.sum(1), 1)
        assert np.array_equal(q[::4].argmax(1), fitted.predict(points)[::4])


def test_blobs_are_found_whatever_the_others_of_the_same_call_are():
    points, labels = blobs(300)
    starts = mixtures_to_start_from(points, 4, range(4))
    together = fit_mixtures(points, starts)
    for start, fitted in zip(starts, together, strict=True):
        (alone,) = fit_mixtures(points, [start])
        np.testing.assert_allclose(alone.means, fitted.means, rtol=1e-6, atol=1e-6)
    best = max(together, key=lambda mixture: mixture.log_likelihood)
    assert {tuple(np.bincount(best.predict(points)[labels == k], minlength=4) > 0) for k in range(4)} == {
        tuple(row) for row in np.eye(4, dtype=bool).tolist()
    }
