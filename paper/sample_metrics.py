"""How good and how varied new images are: from features of real ones (N, F) and of generated ones (M, F) to numbers.

Which features they are belongs to the result: figures in different spaces cannot be compared. Each figure says little
without its floor, the same figure of one half of the real images against the other.
"""

import numpy as np
from scipy.linalg import eigh, eigvalsh
from sklearn.metrics import pairwise_distances

from clusterloom.errors import DataError


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet distance between normal distributions fitted to two sets of features; 0 for equal ones.

    Heusel and others, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017), there
    on Inception features. It is biased upwards for small sets, so both sides and the floor need the same numbers.

    Raises:
        DataError: fewer than two rows, or different F.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(50, 3))
        >>> round(frechet_distance(points, points + [2, 0, 0]), 6)
        4.0
    """
    _check(real, generated, 2)
    first, second = (np.cov(features, rowvar=False).reshape(features.shape[1], -1) for features in (real, generated))
    # The trace of a root of their product is that of a symmetric matrix with the same eigenvalues.
    values, vectors = eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    overlap = np.sqrt(np.maximum(eigvalsh(root @ second @ root), 0)).sum()
    step = real.mean(0) - generated.mean(0)
    return float(step @ step + np.trace(first) + np.trace(second) - 2 * overlap)


def coverage(real: np.ndarray, generated: np.ndarray, k: int = 5) -> dict[str, float]:
    """Whether generated images lie among the real ones, and how many of the real ones have any near them.

    An image's neighbourhood reaches to the k-th nearest image of its own set.

    Returns:
        By name: "precision", the share of generated images inside some real image's neighbourhood, and "recall", the
        share of real ones inside some generated image's (Kynkäänniemi and others, 2019); "density", the mean number of
        real neighbourhoods that a generated image lies in, over k, which can exceed 1 and, unlike precision, is not
        raised by single outliers among the real images, and "coverage", the share of real images with a generated one
        in their neighbourhood (Naeem and others, 2020).

    Raises:
        DataError: k or fewer rows, or different F.
    """
    _check(real, generated, k + 1)
    # Distance of each image to its k-th nearest other one; the nearest is the image itself.
    radii = [np.partition(pairwise_distances(points), k, axis=1)[:, k] for points in (real, generated)]
    between = pairwise_distances(real, generated)
    inside_real, inside_generated = between <= radii[0][:, None], between <= radii[1]
    return {
        "precision": float(inside_real.any(0).mean()),
        "recall": float(inside_generated.any(1).mean()),
        "density": float(inside_real.sum(0).mean() / k),
        "coverage": float(inside_real.any(1).mean()),
    }


def vendi_score(features: np.ndarray) -> float:
    """Effective number of different images: 1 if all are alike, N if no two have anything in common.

    The exponential of the entropy of the eigenvalues of the cosine similarities over N: Friedman and Dieng, "The Vendi
    Score" (2023).

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


def _check(real: np.ndarray, generated: np.ndarray, least: int) -> None:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise DataError(f"features must be (N, F) and (M, F); got {real.shape} and {generated.shape}")
    if min(len(real), len(generated)) < least:
        raise DataError(f"at least {least} images are needed on each side; got {len(real)} and {len(generated)}")
