"""How long the stages of the guided recipe train, and how many images they look at."""

import math
from dataclasses import dataclass

import numpy as np

from clusterloom.training.randomness import numpy_generator

MAX_VISITED = 1_000_000  # of more images an epoch visits so many, so that the cost grows no further
MAX_EMBEDDED = 100_000  # of more images a sample gets pseudo-labels: neighbours cost the square of their number
_REFINE_SHARE = 6  # of the epochs of the other stages one is for the second decoder


@dataclass(frozen=True)
class Epochs:
    """Passes over the images in each training stage."""

    represent: int
    first_fit: int
    second_fit: int

    @classmethod
    def split(cls, total: int) -> "Epochs":
        """Divide a run's epochs, at least 3: half to represent, a quarter to each fit."""
        fit = round(total / 4)
        return cls(total - 2 * fit, fit, fit)


def most_visited() -> int:
    """So many different images are visited at most where epochs and their images are automatic.

    Example:
        >>> most_visited()
        6000000
    """
    return Epochs.split(automatic_epochs(MAX_VISITED)).represent * MAX_VISITED


def automatic_epochs(n_images: int) -> int:
    """16 for 70,000 images, more or fewer with the fifth root of how many there are: 120 at most, 10 from a million on.

    Example:
        >>> [automatic_epochs(n) for n in (300, 10_000, 70_000, 1_000_000, 10_000_000)]
        [48, 24, 16, 10, 10]
    """
    return min(120, math.ceil(16 * (70_000 / min(n_images, MAX_VISITED)) ** 0.2))


def automatic_batch_size(n_images: int) -> int:
    """The power of two from 32 to 512 that comes closest to 2,200 steps in all: small sets need steps, not big batches.

    Example:
        >>> [automatic_batch_size(n) for n in (300, 10_000, 70_000, 1_000_000)]
        [32, 128, 512, 512]
    """
    return min(512, max(32, 2 ** round(math.log2(n_images * automatic_epochs(n_images) / 2200))))


def epoch_images(n_images: int) -> int | None:
    """How many images an epoch visits where that is automatic; None for all."""
    return MAX_VISITED if n_images > MAX_VISITED else None


def refine_epochs(epochs: int) -> int:
    """How many epochs refine takes beside so many of the other stages: a sixth.

    Example:
        >>> [refine_epochs(epochs) for epochs in (3, 16, 24, 34)]
        [1, 3, 4, 6]
    """
    return max(1, round(epochs / _REFINE_SHARE))


def sampled_rows(n: int, seed: int) -> np.ndarray:
    """Rows of the images that get pseudo-labels, of n, ascending: all, or a sample of very many."""
    if n <= MAX_EMBEDDED:
        return np.arange(n)
    return np.sort(numpy_generator(seed, "sample", "embedding").permutation(n)[:MAX_EMBEDDED])
