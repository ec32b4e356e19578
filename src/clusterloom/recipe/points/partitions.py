"""Partitions of images: how even one is, how many images are where in two, and how far these agree."""

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.metrics.cluster import expected_mutual_information


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


class Agreement(NamedTuple):
    """Adjusted mutual information (Vinh, Epps and Bailey, 2010) of two partitions, from about 0 to 1.

    Args:
        mean: In shares of the mean of their entropies.
        lower: In shares of the lower one: 1 also where one partition is the other one cut finer.
    """

    mean: float
    lower: float


def agreement_of(one: np.ndarray, other: np.ndarray) -> Agreement:
    """How far two partitions agree, beside what is by chance.

    scikit-learn's `adjusted_mutual_info_score` twice, whose expectation by chance, which both have in common, takes
    nearly all of the time.

    Args:
        one: Parts from 0, shape (N,), N at least 1.
        other: Parts from 0, shape (N,).

    Example:
        >>> agreement_of(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 1, 1, 1]))
        Agreement(mean=0.6153846153846154, lower=1.0)
    """
    counts = counts_of(one, other, one.max() + 1, other.max() + 1)
    counts = counts[counts.any(1)][:, counts.any(0)]
    if 1 in counts.shape:
        same = float(counts.size == 1)
        return Agreement(same, same)
    entropies = [float(stats.entropy(counts.sum(axis))) for axis in (1, 0)]
    shared = sum(entropies) - float(stats.entropy(counts.ravel()))
    by_chance = float(expected_mutual_information(counts, len(one)))

    def beyond_chance(information: float) -> float:  # never 0, of which there are no shares
        beyond, least = information - by_chance, float(np.finfo(float).eps)
        return min(beyond, -least) if beyond < 0 else max(beyond, least)

    mean, lower = (beyond_chance(shared) / beyond_chance(whole) for whole in (sum(entropies) / 2, min(entropies)))
    return Agreement(mean, lower)
