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


@dataclass(frozen=True)
class TrainingPlan:
    """How long and how to train.

    Attributes:
        epochs: Passes over the images, at most.
        batch_size: Images per step, over all processes together.
        learning_rate: Of Adam; the highest one of a one-cycle schedule.
        seed: Fixes order and noise; initial weights are the caller's.
        patience_epochs: Stop when the training loss has not improved for so many epochs; None never does.
        min_improvement: Share of the best loss that counts as an improvement.
        schedule: "constant" learning rate, or "one-cycle", see `one_cycle`.
        weight_decay: Decoupled from the gradient, as in AdamW; 0 makes it Adam.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    patience_epochs: int | None = None
    min_improvement: float = 1e-3
    schedule: Literal["constant", "one-cycle"] = "constant"
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise SettingsError(f"learning_rate must be a positive number, got {self.learning_rate}")
        if self.patience_epochs is not None and self.patience_epochs < 1:
            raise SettingsError(f"patience_epochs must be at least 1, got {self.patience_epochs}")

    @classmethod
    def of(cls, settings: TrainingSettings, seed: int) -> "TrainingPlan":
        """The plan of a method that trains in one stage."""
        return cls(settings.epochs, settings.batch_size, settings.learning_rate, seed, settings.patience_epochs)

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
        return bool(recent > before - abs(before) * self.min_improvement)


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


def epoch_order(n: int, seed: int, epoch: int, stage: str = "") -> np.ndarray:
    """The order of `n` images in an epoch: a permutation, shape (n,).

    Example:
        >>> sorted(epoch_order(5, seed=0, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    return numpy_generator(seed, "order", stage, epoch).permutation(n)


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
