"""The training loop. It knows no model: anything that turns a batch and its noise into loss terms can be trained.

Everything random derives from (seed, epoch, batch), never from a generator's state, so that an interrupted run goes on
to the same bits, and so that the split of a batch over processes does not change what is drawn.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from clusterloom.device import Compute
from clusterloom.errors import CollapseWarning, SettingsError, TrainingError
from clusterloom.training.checkpoint import Position, load_checkpoint, save_checkpoint

_CHECK_BATCHES = 50  # how often losses are looked at for NaN: a look waits for the device
_SETTLED_STEPS = 100  # before that, empty clusters mean nothing
_CHECKPOINT_SECONDS = 60.0  # how much work a kill can cost in the middle of a long epoch


class Output(Protocol):
    """What a training step returns; see `clusterloom.networks.step.StepOutput`."""

    terms: dict[str, Tensor]
    q: Tensor | None


class TrainingModel(Protocol):
    """What the loop asks of a model, besides being an `nn.Module`."""

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Noise for `n` images, the first dimension of the result."""

    def __call__(self, x: Tensor, noise: Tensor, targets: Tensor | None = None) -> Output:
        """Loss terms, and soft assignments if there are any, for images (B, C, H, W) and their rows of the targets."""


class Observer(Protocol):
    """Is told how training goes; never changes it."""

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Training starts, or goes on after the epochs in `history`."""

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Some batches are done: `images` of this epoch (from 1) so far, with means over them in `record`."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is complete."""

    def on_note(self, text: str) -> None:
        """Something is done between epochs; `text` says what."""


# Numbers for each image that a model asks for besides, float32, shape (N, ...): given once, or made for each epoch
# (from 0), where None ends the training.
Targets: TypeAlias = np.ndarray | Callable[[int], np.ndarray | None] | None


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


class DivergedError(TrainingError):
    """The loss became NaN or infinite. The model has been put back to its last good epoch.

    Attributes:
        history: Records of the good epochs.
    """

    def __init__(self, message: str, history: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.history = history


class Trainer:
    """Trains one model; see `fit`.

    Args:
        model: Already on the device.
        plan: How long and how.
        compute: Device and precision.
        accelerator: Knows the other processes, if there are any.
        checkpoint: File to keep the run's state in, for `resume`; None keeps none.
        run_id: Identifies settings and data in the checkpoint.
        observers: Told about progress, on the main process only.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: TrainingPlan,
        compute: Compute,
        accelerator: Accelerator,
        checkpoint: Path | None = None,
        run_id: str = "",
        observers: Sequence[Observer] = (),
    ) -> None:
        self.model, self.plan, self.compute, self.accelerator = model, plan, compute, accelerator
        self.checkpoint, self.run_id = checkpoint, run_id
        self.observers = observers if accelerator.is_main_process else ()
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
        self._step_model: nn.Module = accelerator.prepare(model) if accelerator.num_processes > 1 else model
        self._has_batch_norm = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
        self._collapse_warned_at: int | None = None

    def fit(self, images: np.ndarray, resume: bool = False, targets: Targets = None) -> list[dict[str, Any]]:
        """Train on images, shape (N, H, W, C), and leave the result in the model.

        Args:
            images: uint8 or float; may be memory-mapped, only batches of it are ever read.
            targets: What the model asks for besides; see `Targets`.
            resume: Go on from the checkpoint, if there is one.

        Returns:
            One record per epoch: mean of every loss term in nats per image, speed, time, clusters in use.

        Raises:
            DivergedError: the loss became NaN or infinite.
            ModelError: the checkpoint is damaged or of another run.
        """
        position, sums = Position(), _Sums()
        if resume and self.checkpoint is not None and self.checkpoint.exists():
            restored, position = load_checkpoint(self.checkpoint, self.model, self.optimizer, self.run_id)
            sums = _Sums(restored if self.accelerator.is_main_process else {})
        self.model.train()
        for observer in self.observers:
            observer.on_start(position.history)
        last_good = _snapshot(self.model)
        while position.epoch < self.plan.epochs and not self._stalled(position.history):
            rows = targets(position.epoch) if callable(targets) else targets
            if callable(targets) and rows is None:
                break
            try:
                record = self._epoch(images, rows, position, sums)
            except FloatingPointError as error:
                self.model.load_state_dict(last_good)
                self.model.eval()
                raise DivergedError(self._divergence_text(position, str(error)), position.history) from error
            position.history.append(record)
            position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
            sums = _Sums()
            last_good = _snapshot(self.model)
            self._save(position, sums)
            self._warn_of_collapse(record, position.epoch * math.ceil(len(images) / self.plan.batch_size))
            for observer in self.observers:
                observer.on_epoch(record)
        self.model.eval()
        return position.history

    def _epoch(
        self, images: np.ndarray, targets: np.ndarray | None, position: Position, sums: "_Sums"
    ) -> dict[str, Any]:
        """Complete the current epoch from `position.batch` on; the record of the epoch."""
        n, batch_size = len(images), self.plan.batch_size
        order = epoch_order(n, self.plan.seed, position.epoch)
        batches = math.ceil(n / batch_size)
        if n % batch_size == 1 and batches > 1 and self._has_batch_norm:
            batches -= 1  # one image alone has no deviation to divide by; it joins the batch before
        clock = _Clock(position)
        shown = saved = time.perf_counter()
        for batch in range(position.batch, batches):
            self._set_learning_rate((position.epoch + batch / batches) / self.plan.epochs)
            rows = order[batch * batch_size : (batch + 1) * batch_size if batch + 1 < batches else n]
            self._step(images, targets, rows, position.epoch, batch, sums)
            position.batch = batch + 1
            clock.tick()
            now = time.perf_counter()
            last = batch + 1 == batches
            if last or (batch + 1) % _CHECK_BATCHES == 0:
                self._check_finite(sums)
                self._clear_faded_moments()
            if last:
                break
            if self.observers and now - shown > 0.25:
                shown = now
                for observer in self.observers:
                    observer.on_batch(position.epoch + 1, (batch + 1) * batch_size, self._record(sums, position))
            # Sums of several processes would have to be collected first, so they save at the end of epochs only.
            if self.checkpoint and self.accelerator.num_processes == 1 and now - saved > _CHECKPOINT_SECONDS:
                self._check_finite(sums)
                self._save(position, sums)
                saved = now
        self._share_buffers()
        return self._record(self._over_processes(sums), position)

    def _share_buffers(self) -> None:
        """Give all processes the first one's running statistics: each has seen its own share of the last batch."""
        if self.accelerator.num_processes > 1:
            for buffer in self.model.buffers():
                broadcast(buffer)

    def _set_learning_rate(self, progress: float) -> None:
        if self.plan.schedule == "one-cycle":
            for group in self.optimizer.param_groups:
                group["lr"] = self.plan.learning_rate * one_cycle(progress)

    def _step(
        self,
        images: np.ndarray,
        targets: np.ndarray | None,
        rows: np.ndarray,
        epoch: int,
        batch: int,
        sums: "_Sums",
    ) -> None:
        """One gradient step on the images `rows`, of which each process computes its share."""
        generator = torch.Generator().manual_seed(batch_seed(self.plan.seed, epoch, batch))
        noise = self.model.draw_noise(len(rows), generator)  # type: ignore[operator]
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        start, stop = len(rows) * rank // processes, len(rows) * (rank + 1) // processes
        used = stop - start
        # A process without a share still takes part in the exchange of gradients; its image counts for nothing.
        share = slice(start, stop) if used else slice(0, 1)
        x = self.compute.batch(images[rows[share]])
        with self.compute.autocast():
            inputs = [x, noise[share].to(self.compute.device, non_blocking=True)]
            if targets is not None:
                inputs.append(torch.from_numpy(targets[rows[share]]).to(self.compute.device, non_blocking=True))
            output: Output = self._step_model(*inputs)
        terms = {name: term[:used] for name, term in output.terms.items()}
        # Distributed training averages gradients over processes; the factor makes that the mean over the whole batch.
        loss = sum(term.sum() for term in terms.values()) * (processes / len(rows))
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        sums.add(used, terms, None if output.q is None else output.q[:used])

    def _clear_faded_moments(self) -> None:
        """Set to zero what has faded from Adam's first moments, on the CPU.

        Where a weight gets no gradient any more, as behind a ReLU that has gone silent, its moment shrinks to the
        smallest numbers there are and stays at them, and steps with those take a CPU many times as long.
        """
        if self.compute.device.type == "cpu":
            for state in self.optimizer.state.values():
                moment = state["exp_avg"]
                moment.masked_fill_(moment.abs() < torch.finfo(moment.dtype).tiny, 0)

    def _check_finite(self, sums: "_Sums") -> None:
        """Raise FloatingPointError, on every process alike, when a loss or a weight is not finite."""
        values = self._over_processes(sums).terms()
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        # A loss can still be finite while the step that followed it was not.
        if not bad and not all(bool(torch.isfinite(p.detach()).all()) for p in self.model.parameters()):
            bad = ["a weight"]
        if bad:
            raise FloatingPointError(f"{', '.join(bad)} became NaN or infinite")

    def _over_processes(self, sums: "_Sums") -> "_Sums":
        if self.accelerator.num_processes == 1:
            return sums
        return _Sums({k: self.accelerator.reduce(v.clone(), "sum") for k, v in sums.values.items()})

    def _record(self, sums: "_Sums", position: Position) -> dict[str, Any]:
        terms = sums.terms()
        return {
            "epoch": position.epoch + 1,
            "loss": sum(terms.values()),
            **terms,
            **sums.clusters(),
            "images_per_second": sums.images / max(position.epoch_seconds, 1e-9),
            "seconds": position.seconds,
        }

    def _save(self, position: Position, sums: "_Sums") -> None:
        if self.checkpoint is not None and self.accelerator.is_main_process:
            save_checkpoint(self.checkpoint, self.model, self.optimizer, sums.values, position, self.run_id)
        self.accelerator.wait_for_everyone()

    def _stalled(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last `patience_epochs` brought nothing: derived from the history, so that it survives resume."""
        patience = self.plan.patience_epochs
        if patience is None or len(history) <= patience:
            return False
        before = min(record["loss"] for record in history[:-patience])
        recent = min(record["loss"] for record in history[-patience:])
        return bool(recent > before - abs(before) * self.plan.min_improvement)

    def _warn_of_collapse(self, record: Mapping[str, Any], steps: int) -> None:
        """Warn, once per loss of further clusters, when fewer than half of them hold images after the first epochs."""
        if "clusters" not in record or steps < _SETTLED_STEPS:
            return
        used, total = record["clusters_in_use"], record["clusters"]
        worse = self._collapse_warned_at is None or used < self._collapse_warned_at
        if record["epoch"] >= 3 and used < total / 2 and worse and self.accelerator.is_main_process:
            self._collapse_warned_at = used
            warnings.warn(
                f"epoch {record['epoch']}: only {used} of {total} clusters are in use; the others hold (almost) no "
                "images. Another seed, fewer clusters or a larger reconstruction weight may help",
                CollapseWarning,
                stacklevel=3,
            )

    def _divergence_text(self, position: Position, what: str) -> str:
        return (
            f"training stopped in epoch {position.epoch + 1}, batch {position.batch}: {what}; "
            f"the model of epoch {position.epoch} is kept. Try a smaller learning rate "
            f"(now {self.plan.learning_rate:g}) or precision fp32"
        )


class _Sums:
    """Running sums over an epoch's images: loss terms in nats, images per most likely cluster."""

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


class _Clock:
    """Adds the time since the last tick to a position."""

    def __init__(self, position: Position) -> None:
        self.position, self.last = position, time.perf_counter()

    def tick(self) -> None:
        now = time.perf_counter()
        self.position.seconds += now - self.last
        self.position.epoch_seconds += now - self.last
        self.last = now


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` images in an epoch: a permutation, shape (n,), of that seed and epoch alone.

    Example:
        >>> sorted(epoch_order(5, seed=0, epoch=0).tolist())
        [0, 1, 2, 3, 4]
    """
    return np.random.default_rng([seed, epoch]).permutation(n)


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


def batch_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the noise of one batch."""
    return int(np.random.SeedSequence([seed, epoch, batch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
