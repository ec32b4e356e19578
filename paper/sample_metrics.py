"""How good and how varied generated images are, measured in some feature space: rows of numbers in, a number out.

Which features they are belongs to the result: figures in different spaces cannot be compared. Each figure says little
without its floor, the same figure of one half of the real images against the other.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, eigvalsh
from sklearn.metrics import pairwise_distances

from clusterloom.errors import DataError


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between normal distributions fitted to two sets of features; 0 for equal ones.

    Heusel and others, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017), there
    on Inception features. It is biased upwards for small sets, so both sides and the floor need the same numbers.

    Args:
        real: Features, shape (N, F).
        generated: Features, shape (M, F).

    Raises:
        DataError: fewer than two rows, or different F.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet_distance(points, points + [2, 0, 0]), 6)
        4.0
    """
    _check(real, generated)
    first, second = (np.cov(features, rowvar=False).reshape(features.shape[1], -1) for features in (real, generated))
    # The trace of a root of their product is that of a symmetric matrix with the same eigenvalues.
    values, vectors = eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    overlap = np.sqrt(np.maximum(eigvalsh(root @ second @ root), 0)).sum()
    step = real.mean(0) - generated.mean(0)
    return float(step @ step + np.trace(first) + np.trace(second) - 2 * overlap)


@dataclass(frozen=True)
class Coverage:
    """Whether generated images lie among the real ones, and how many of the real ones have any near them.

    Attributes:
        precision: Share of generated images inside some real image's neighbourhood (Kynkäänniemi and others, 2019).
        recall: Share of real images inside some generated image's neighbourhood (likewise).
        density: Mean number of real neighbourhoods that a generated image lies in, over k (Naeem and others, 2020); can
            exceed 1, and, unlike precision, is not raised by single outliers among the real images.
        coverage: Share of real images with a generated one in their neighbourhood (likewise).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> Coverage:
    """Precision, recall, density and coverage, by neighbourhoods that reach to the k-th nearest image of the own set.

    Args:
        real: Features, shape (N, F).
        generated: Features, shape (M, F).
        k: Neighbours that a neighbourhood holds.

    Raises:
        DataError: k or fewer rows, or different F.
    """
    _check(real, generated, k + 1)
    real_radius, generated_radius = _radii(real, k), _radii(generated, k)
    between = pairwise_distances(real, generated)
    inside_real = between <= real_radius[:, None]
    return Coverage(
        precision=float(inside_real.any(0).mean()),
        recall=float((between <= generated_radius).any(1).mean()),
        density=float(inside_real.sum(0).mean() / k),
        coverage=float(inside_real.any(1).mean()),
    )


def vendi_score(features: np.ndarray) -> float:
    """Effective number of different images: 1 if all are alike, N if no two have anything in common.

    The exponential of the entropy of the eigenvalues of the cosine similarities over N: Friedman and Dieng, "The Vendi
    Score" (2023).

    Args:
        features: Shape (N, F).

    Example:
        >>> round(vendi_score(np.eye(4)), 6), round(vendi_score(np.ones((4, 2))), 6)
        (4.0, 1.0)
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    # The (F, F) product has the same eigenvalues, but for zeros, as the (N, N) one.
    product = unit.T @ unit if len(unit) > unit.shape[1] else unit @ unit.T
    values = eigvalsh(product / len(unit))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Distance of each point to its k-th nearest other one, shape (N,)."""
    # The nearest is the point itself.
    return np.partition(pairwise_distances(points), k, axis=1)[:, k]


def _check(real: np.ndarray, generated: np.ndarray, least: int = 2) -> None:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DataError(f"features must be (N, F) and (M, F); got {real.shape} and {generated.shape}")
    if min(len(real), len(generated)) < least:
        raise DataError(f"at least {least} images are needed on each side; got {len(real)} and {len(generated)}")
