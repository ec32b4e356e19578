"""What is settled before a step is made: how long to train, at which learning rate, and how images are dealt out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from clusterloom.errors import SettingsError
from clusterloom.settings import TrainingSettings
from clusterloom.training.randomness import numpy_generator

_BLOCK = 1024  # neighbours that are visited together where an epoch does not visit all images
_GROUP = 256  # blocks that are shuffled together
_LEAST_GAIN = 1e-3  # share of the best loss that counts as an improvement


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train.

    Attributes:
        epochs: Passes over the images, at most.
        batch_size: Images per step, over all processes together.
        learning_rate: Of the optimiser; the highest one of a one-cycle schedule.
        seed: Fixes order and noise; initial weights are the caller's.
        patience_epochs: Stop when the training loss has not improved for so many epochs; None never does.
        schedule: "constant" learning rate, or "one-cycle", see `one_cycle`.
        weight_decay: Decoupled from the gradient, as in AdamW; 0 makes it Adam.
        epoch_images: Images that an epoch visits, see `epoch_order`; None for all of them.
        kernel_step: Conv kernels are trained by `clusterloom.training.muon.Muon`, with steps of this size times the
            learning rate; None leaves them to AdamW.
        warns_of_collapse: Say so when clusters are lost; not where they come back afterwards.
        remedy: The setting to try if the loss becomes NaN. By itself a tenth of the learning rate, and so it stays in
            plans made of this one: a stage may have another rate, which users cannot set.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    patience_epochs: int | None = None
    schedule: Literal["constant", "one-cycle"] = "constant"
    weight_decay: float = 0.0
    epoch_images: int | None = None
    kernel_step: float | None = None
    warns_of_collapse: bool = True
    remedy: str = ""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"learning_rate must be a positive number, got {self.learning_rate}")
        if self.patience_epochs is not None and self.patience_epochs < 1:
            raise SettingsError(f"patience_epochs must be at least 1, got {self.patience_epochs}")
        object.__setattr__(self, "remedy", self.remedy or f"learning_rate={self.learning_rate / 10:g}")

    @classmethod
    def of(cls, settings: TrainingSettings, seed: int) -> "TrainingPlan":
        """The plan of a method that trains in one stage."""
        return cls(settings.epochs, settings.batch_size, settings.learning_rate, seed, settings.patience_epochs)

    def sees_all(self, n_images: int) -> bool:
        """Whether every epoch visits all of so many images."""
        return self.epoch_images is None or n_images <= self.epoch_images

    def rows_seen(self, n_images: int, stage: str) -> np.ndarray:
        """Rows, ascending, of as many of the images as all epochs together visit: all, or a seeded choice of them."""
        most = n_images if self.epoch_images is None else self.epochs * self.epoch_images
        if self.sees_all(n_images) or n_images <= most:
            return np.arange(n_images)
        return np.sort(epoch_order(n_images, self.seed, 0, stage, most))

    def rows_described(self, n_images: int) -> np.ndarray | None:
        """Rows, ascending, of a sample as large as an epoch, where epochs do not visit all images; else None."""
        if self.sees_all(n_images):
            return None
        return np.sort(epoch_order(n_images, self.seed, 0, "described", self.epoch_images))

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate when so much of the training is done, 0 to 1."""
        return self.learning_rate * (one_cycle(progress) if self.schedule == "one-cycle" else 1)

    def is_over(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether training ends after these epochs; derived from their records, so that it survives a resume."""
        return len(history) >= self.epochs or self._has_stalled(history)

    def _has_stalled(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last `patience_epochs` brought nothing."""
        patience = self.patience_epochs
        if patience is None or len(history) <= patience:
            return False
        before = min(record["loss"] for record in history[:-patience])
        recent = min(record["loss"] for record in history[-patience:])
        return bool(recent > before - abs(before) * _LEAST_GAIN)


def one_cycle(progress: float) -> float:
    """Learning rate as a share of the highest one: up from 1/25 in the first 30 % of training, then down to nothing.

    Source: Smith and Topin, "Super-Convergence" (2018), with cosines in place of lines.

    Args:
        progress: Share of training that is done, 0 to 1.

    Example:
        >>> [round(one_cycle(p), 3) for p in (0, 0.3, 0.65, 1)]
        [0.04, 1.0, 0.5, 0.0]
    """
    rise = 0.3
    if progress < rise:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / rise)) / 2
    return (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


def epoch_order(n: int, seed: int, epoch: int, stage: str = "", visits: int | None = None) -> np.ndarray:
    """The order in which an epoch visits images.

    Without `visits`, or where there are no more images than that, it is a permutation of all. Otherwise passes over all
    images go on from epoch to epoch: 256 blocks of 1,024 neighbours each, chosen at random, are shuffled together, then
    the next 256. So a disk reads them in pieces, and no number that is kept grows with that of the images but one for
    each block.

    Args:
        n: Images.
        seed: Of the run.
        epoch: Counted from 0.
        stage: Name of the stage of the run.
        visits: Images of an epoch; None for all.

    Returns:
        Row numbers, shape (n,) or (visits,).

    Example:
        >>> sorted(epoch_order(5, seed=0, epoch=0).tolist())
        [0, 1, 2, 3, 4]
        >>> len(epoch_order(5, 0, 0, visits=2)), len({*epoch_order(5, 0, 0, visits=2), *epoch_order(5, 0, 1, visits=2)})
        (2, 4)
    """
    if visits is None or visits >= n:
        return numpy_generator(seed, "order", stage, epoch).permutation(n)
    first, last = epoch * visits, (epoch + 1) * visits
    passes = range(first // n, -(-last // n))
    parts = [_part_of_pass(n, seed, stage, p, max(first - p * n, 0), min(last - p * n, n)) for p in passes]
    return np.concatenate(parts)


def _part_of_pass(n: int, seed: int, stage: str, number: int, start: int, stop: int) -> np.ndarray:
    """What one pass over `n` images visits between two of its steps."""
    blocks = numpy_generator(seed, "order", f"{stage} blocks", number).permutation(-(-n // _BLOCK))
    sizes = np.minimum(_BLOCK, n - blocks * _BLOCK)  # the last block may be smaller
    groups = range(0, len(blocks), _GROUP)
    ends = np.cumsum([int(sizes[g : g + _GROUP].sum()) for g in groups])
    visited = []
    for index, (g, end) in enumerate(zip(groups, ends.tolist(), strict=True)):
        begin = end - int(sizes[g : g + _GROUP].sum())
        if begin < stop and end > start:
            rows = np.concatenate([np.arange(b * _BLOCK, min(n, (b + 1) * _BLOCK)) for b in blocks[g : g + _GROUP]])
            numpy_generator(seed, "order", f"{stage} groups", number, index).shuffle(rows)
            visited.append(rows[max(start - begin, 0) : stop - begin])
    return np.concatenate(visited)


def batch_bounds(n: int, batch_size: int, least: int = 1) -> list[tuple[int, int]]:
    """Where each batch of an epoch begins and ends.

    Args:
        n: Images.
        batch_size: Images per batch; the last one has the rest.
        least: A rest of fewer images joins the batch before.

    Example:
        >>> batch_bounds(27, 13), batch_bounds(27, 13, least=2)
        ([(0, 13), (13, 26), (26, 27)], [(0, 13), (13, 27)])
    """
    starts = list(range(0, n, batch_size))
    if len(starts) > 1 and n - starts[-1] < least:
        starts.pop()
    return list(pairwise([*starts, n]))
