"""Scores of generated images, against closed forms, brute force and chance."""

import numpy as np
import pytest

from clusterloom import DataError
from paper.sample_metrics import coverage, frechet_distance, vendi_score


def cloud(n=200, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def test_frechet_distance_in_closed_form():
    """For covariances that commute, the square of the steps of means and of standard deviations."""
    points = cloud(300, 4)
    points = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points, rowvar=False))).T
    scale, step = np.array([1.0, 2.0, 3.0, 0.5]), np.array([1.0, -1.0, 0.0, 2.0])
    expected = (step**2).sum() + ((scale - 1) ** 2).sum()
    assert frechet_distance(points, points * scale + step) == pytest.approx(expected)
    assert frechet_distance(points * scale + step, points) == pytest.approx(expected)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-6)
    flat = points * [1, 1, 0, 0]  # a singular covariance
    assert frechet_distance(flat, flat + step) == pytest.approx((step**2).sum(), abs=1e-6)


def test_coverage_against_brute_force():
    real, generated, k = cloud(30), cloud(25, seed=1) * 0.6 + 0.3, 3

    def radius(points, i):
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]

    distance = np.array([[np.linalg.norm(r - g) for g in generated] for r in real])
    in_real = np.array([[distance[i, j] <= radius(real, i) for j in range(25)] for i in range(30)])
    in_generated = np.array([[distance[i, j] <= radius(generated, j) for j in range(25)] for i in range(30)])
    found = coverage(real, generated, k)
    assert found["precision"] == pytest.approx(in_real.any(0).mean())
    assert found["recall"] == pytest.approx(in_generated.any(1).mean())
    assert found["density"] == pytest.approx(in_real.sum() / k / 25)
    assert found["coverage"] == pytest.approx(in_real.any(1).mean())
    assert 0 < found["recall"] < 1


def test_coverage_tells_quality_from_variety():
    real = cloud(300)
    same, narrow, far = cloud(300, seed=1), cloud(300, seed=1) * 0.1, cloud(300, seed=1) + 50
    assert coverage(real, same)["coverage"] > 0.9
    assert coverage(real, same)["density"] == pytest.approx(1, abs=0.1)
    assert coverage(real, narrow)["precision"] > 0.99
    assert coverage(real, narrow)["recall"] < 0.05
    assert coverage(real, narrow)["coverage"] < 0.5
    assert coverage(real, far) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_vendi_score_counts_kinds():
    kinds = np.repeat(np.eye(5), 20, axis=0)
    assert vendi_score(kinds) == pytest.approx(5)
    assert vendi_score(kinds * np.arange(1, 101)[:, None]) == pytest.approx(5)  # lengths do not count
    unequal = np.concatenate([np.repeat([[1.0, 0.0]], 30, 0), np.repeat([[0.0, 1.0]], 10, 0)])
    assert vendi_score(unequal) == pytest.approx(np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25))))
    assert vendi_score(np.eye(7, 20)) == pytest.approx(7)  # more dimensions than images
    spread = [vendi_score(cloud(100, 8) * scale + 1) for scale in (0.01, 0.3, 3)]
    assert spread == sorted(spread)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match="got \\(9, 2\\) and \\(9, 3\\)"):
        frechet_distance(cloud(9, 2), cloud(9, 3))
    with pytest.raises(DataError, match="at least 6 images"):
        coverage(cloud(5), cloud(9))
