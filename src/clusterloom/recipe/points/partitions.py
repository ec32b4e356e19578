"""Partitions of images: how even one is, how many images are where in two, and how far these agree."""

import numpy as np
from scipy import stats

_EVEN = 0.75  # effective number of parts of about equal size, in shares of their number


def effective_number(sizes: np.ndarray) -> float:
    """How many parts of equal size are as uneven as parts of some sizes, (K,): exp of the entropy of their shares.

    Example:
        >>> round(effective_number(np.array([5, 5, 5])), 6), round(effective_number(np.array([98, 1, 1])), 2)
        (3.0, 1.12)
    """
    return float(np.exp(stats.entropy(sizes)))


def evenness(sizes: np.ndarray) -> float:
    """The effective number of parts of sizes (K,) by their number: 1 if they are equal."""
    return effective_number(sizes) / len(sizes)


def are_uneven(sizes: np.ndarray) -> bool:
    """Whether parts of sizes (K,) are far from equal."""
    return evenness(sizes) < _EVEN


def counts_of(of: np.ndarray, labels: np.ndarray, n_of: int, n_clusters: int) -> np.ndarray:
    """How many images are in each part of one partition, (N,), and each of another, (N,); shape (n_of, n_clusters)."""
    return np.bincount(of * n_clusters + labels, minlength=n_of * n_clusters).reshape(n_of, n_clusters).astype(float)


def adjusted_rand_index(one: np.ndarray, other: np.ndarray) -> float:
    """The index of Hubert and Arabie (1985): 1 for the same partition, 0 on average for those drawn at random.

    scikit-learn's, on whose checks of a million labels the recipe would spend more time than on counting them.

    Args:
        one: Parts from 0, shape (N,).
        other: Parts from 0, shape (N,).

    Example:
        >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 2]))
        0.5714285714285714
    """
    counts = counts_of(one, other, one.max() + 1, other.max() + 1)
    # Ordered pairs of images: in one part of both, of each, and all. Products of these exceed 64 bits.
    both, of_one, of_other = (int((c**2).sum()) - len(one) for c in (counts, counts.sum(1), counts.sum(0)))
    every = len(one) * (len(one) - 1)
    by_chance = 2 * of_one * of_other
    possible = every * (of_one + of_other) - by_chance
    return (2 * every * both - by_chance) / possible if possible else 1.0
