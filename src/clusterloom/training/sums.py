"""Where a run stands, and what an epoch adds up to: loss terms, images of each cluster, and time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Position:
    """Where a run stands: the next thing to do is batch `batch` of epoch `epoch`, both counted from 0.

    Attributes:
        epoch: Epochs that are complete.
        batch: Batches of the current epoch that are complete.
        seconds: Training time so far, over all sessions.
        epoch_seconds: The part of it that belongs to the current epoch.
        history: One record for every complete epoch, as in metrics.jsonl.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class Sums:
    """Running sums over an epoch's images: loss terms in nats, images per most likely cluster.

    Args:
        values: Sums of an epoch that is taken up.
    """

    def __init__(self, values: dict[str, Tensor] | None = None) -> None:
        self.values = values or {}

    def add(self, images: int, terms: Mapping[str, Tensor], q: Tensor | None) -> None:
        """Add a batch of so many images. Stays on the device, so that no step waits for it."""
        device = next(iter(terms.values())).device
        precise = torch.float32 if device.type == "mps" else torch.float64
        added = {f"nats.{name}": term.detach().sum(dtype=precise) for name, term in terms.items()}
        if q is not None:
            added["cluster_images"] = torch.bincount(q.argmax(1), minlength=q.shape[1])
        added["images"] = torch.tensor(images, device=device)
        # The order of the names is the model's, also after a resume: a sum in another order has other last bits.
        self.values = {name: self.values[name] + value if self.values else value for name, value in added.items()}

    @property
    def images(self) -> int:
        """Images so far."""
        return int(self.values["images"])

    def terms(self) -> dict[str, float]:
        """Mean of each loss term, nats per image."""
        images = self.images
        return {k.removeprefix("nats."): float(v) / images for k, v in self.values.items() if k.startswith("nats.")}

    def clusters(self) -> dict[str, int]:
        """Number of clusters, and how many are the most likely one for at least a tenth of an even share of images."""
        if "cluster_images" not in self.values:
            return {}
        counts = self.values["cluster_images"]
        return {"clusters": len(counts), "clusters_in_use": int((counts * len(counts) * 10 >= counts.sum()).sum())}


class Clock:
    """Adds the time since the last tick to a position, so that nothing between two steps is left out.

    Args:
        position: Where the run stands.
    """

    def __init__(self, position: Position) -> None:
        self._position, self._last = position, time.perf_counter()

    def tick(self) -> None:
        """Add the time that has passed."""
        now = time.perf_counter()
        self._position.seconds += now - self._last
        self._position.epoch_seconds += now - self._last
        self._last = now
