"""The training loop. It knows no model: anything that turns a batch and its noise into loss terms can be trained.

Everything random derives from (seed, stage, epoch, batch), never from a generator's state, so that an interrupted run
goes on to the same bits, and so that the split of a batch over processes does not change what is drawn.

Batches are not prepared ahead on another thread: picking one takes next to nothing of a step's time, and where it was
tried on a CPU the thread cost more than it gave.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from clusterloom.data.images import ImageArray
from clusterloom.device import Compute
from clusterloom.errors import CollapseWarning, SettingsError, TrainingError
from clusterloom.training.adamw import AdamW
from clusterloom.training.checkpoint import read_checkpoint, restore, save_checkpoint
from clusterloom.training.muon import Muon
from clusterloom.training.plan import TrainingPlan, batch_bounds, epoch_order
from clusterloom.training.processes import from_main
from clusterloom.training.progress import Observer
from clusterloom.training.randomness import torch_generator
from clusterloom.training.sums import Clock, Position, Sums

_CHECK_BATCHES = 50  # how often losses are looked at for NaN: a look waits for the device
_SETTLED_STEPS = 100  # before that, empty clusters mean nothing
_CHECKPOINT_SECONDS = 60.0  # how much work a kill can cost in the middle of a long epoch
_SHOWN_SECONDS = 0.25  # between two reports within an epoch


class Output(Protocol):
    """What a training step returns; see `clusterloom.networks.step.StepOutput`."""

    terms: dict[str, Tensor]
    q: Tensor | None


# Numbers for each image that a model asks for besides, float32, shape (N, ...): given once, or made for each epoch
# (from 0), where None ends the training.
Targets: TypeAlias = np.ndarray | Callable[[int], np.ndarray | None] | None


class DivergedError(TrainingError):
    """The loss became NaN or infinite. The model has been put back to its last good epoch.

    Attributes:
        what: What became NaN or infinite.
        epoch: Where that was seen, counted from 1.
        batch: Batches of that epoch that were done.
        history: Records of the epochs whose model is kept; empty where none is.
    """

    def __init__(self, what: str, epoch: int, batch: int, history: list[dict[str, Any]], remedy: str) -> None:
        kept = f"the model of epoch {len(history)} is kept" if history else "there is no model with clusters to keep"
        super().__init__(
            f"training stopped in epoch {epoch}, batch {batch}: {what} became NaN or infinite; {kept}. "
            f"Try {remedy} or precision=fp32"
        )
        self.what, self.epoch, self.batch, self.history = what, epoch, batch, history


class Trainer:
    """Trains one model; see `fit`.

    Args:
        model: Already on the device. Its `draw_noise(n, generator)` gives noise for n images, and the model itself an
            `Output` for images (B, C, H, W), their noise and, where there are any, their rows of the targets.
        plan: How long and how.
        compute: Device and precision.
        accelerator: Knows the other processes, if there are any.
        checkpoint: File to keep the run's state in, for `resume`; None keeps none.
        run_id: Identifies settings and data in the checkpoint.
        observers: Told about progress, on the main process only.
        stage: Name of the stage of a run; order and noise are its own.
        keep: Called with the checkpoint's path whenever it was written; None calls nothing.
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
        stage: str = "",
        keep: Callable[[Path], None] | None = None,
    ) -> None:
        self._keep = keep
        self.model, self.plan, self.compute, self.accelerator = model, plan, compute, accelerator
        self.checkpoint, self.run_id, self.stage = checkpoint, run_id, stage
        self.observers = observers if accelerator.is_main_process else ()
        trained = [p for p in model.parameters() if p.requires_grad]
        of_plan = (trained, plan.learning_rate, plan.weight_decay)
        self.optimizer = AdamW(*of_plan) if plan.kernel_step is None else Muon(*of_plan, plan.kernel_step)
        self._step_model: nn.Module = accelerator.prepare(model) if accelerator.num_processes > 1 else model
        has_batch_norm = any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model.modules())
        # Batch norm cannot divide by the deviation of one image: every process needs two of every batch.
        self._least_images = 2 * accelerator.num_processes if has_batch_norm else 1
        self._collapse_warned_at: int | None = None

    def fit(self, images: ImageArray, resume: bool = False, targets: Targets = None) -> list[dict[str, Any]]:
        """Train on images, shape (N, H, W, C), and leave the result in the model.

        Args:
            images: uint8 or float; may be memory-mapped, only batches of it are ever read.
            resume: Go on from the checkpoint, if there is one.
            targets: What the model asks for besides; see `Targets`.

        Returns:
            One record per epoch: mean of every loss term in nats per image, speed, time, clusters in use.

        Raises:
            DivergedError: the loss became NaN or infinite.
            ModelError: the checkpoint is damaged or of another run.
            SettingsError: batches are too small for batch norm in so many processes.
        """
        self._check_shares(len(images))
        position, sums = self._taken_up() if resume else (Position(), Sums())
        self.model.train()
        for observer in self.observers:
            observer.on_start(position.history)
        clock = Clock(position)
        with self.compute.deterministic():
            while not self.plan.is_over(position.history):
                rows = targets(position.epoch) if callable(targets) else targets
                if callable(targets) and rows is None:
                    break
                record = self._epoch_or_back(images, rows, position, sums, clock)
                position.history.append(record)
                position.epoch, position.batch, position.epoch_seconds = position.epoch + 1, 0, 0.0
                sums = Sums()
                self._save(position, sums)
                visits = min(len(images), self.plan.epoch_images or len(images))
                self._warn_of_collapse(record, position.epoch * math.ceil(visits / self.plan.batch_size))
                for observer in self.observers:
                    observer.on_epoch(record)
        self.model.eval()
        return position.history

    def _check_shares(self, n_images: int) -> None:
        processes, smallest = self.accelerator.num_processes, min(n_images, self.plan.batch_size)
        if processes > 1 and smallest < self._least_images:
            raise SettingsError(
                f"batch norm needs two images of every batch in each of the {processes} processes, and batches have "
                f"{smallest}; try a larger batch_size, fewer processes, or batch_norm=false"
            )

    def _taken_up(self) -> tuple[Position, Sums]:
        """Put model and optimiser back to where the main process's checkpoint stands, if it has one."""
        path = self.checkpoint
        if path is None:
            return Position(), Sums()
        found = from_main(self.accelerator, lambda: read_checkpoint(path, self.run_id) if path.exists() else None)
        if found is None:
            return Position(), Sums()
        tensors, position = found
        sums = restore(tensors, self.model, self.optimizer)
        return position, Sums(sums if self.accelerator.is_main_process else {})

    def _epoch_or_back(
        self, images: ImageArray, targets: np.ndarray | None, position: Position, sums: Sums, clock: Clock
    ) -> dict[str, Any]:
        """Complete the current epoch, or put the model back to where it was before."""
        last_good = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        try:
            return self._epoch(images, targets, position, sums, clock)
        except FloatingPointError as error:
            self.model.load_state_dict(last_good)
            self.model.eval()
            epoch, batch, remedy = position.epoch + 1, position.batch, self.plan.remedy
            raise DivergedError(str(error), epoch, batch, position.history, remedy) from error

    def _epoch(
        self, images: ImageArray, targets: np.ndarray | None, position: Position, sums: Sums, clock: Clock
    ) -> dict[str, Any]:
        """Complete the current epoch from `position.batch` on; the record of the epoch."""
        order = epoch_order(len(images), self.plan.seed, position.epoch, self.stage, self.plan.epoch_images)
        bounds = batch_bounds(len(order), self.plan.batch_size, self._least_images)
        shown = saved = time.perf_counter()
        for batch in range(position.batch, len(bounds)):
            self._set_learning_rate((position.epoch + batch / len(bounds)) / self.plan.epochs)
            self._step(images, targets, order[slice(*bounds[batch])], position.epoch, batch, sums)
            position.batch = batch + 1
            clock.tick()
            now = time.perf_counter()
            if (batch + 1) % _CHECK_BATCHES == 0:
                self._check_finite(sums)
                self._clear_faded_moments()
            if self.observers and now - shown > _SHOWN_SECONDS and sums.images:  # small batches leave some without
                shown = now
                for observer in self.observers:
                    observer.on_batch(position.epoch + 1, bounds[batch][1], self._record(sums, position))
            # Sums of several processes would have to be collected first, so they save at the end of epochs only.
            if self.checkpoint and self.accelerator.num_processes == 1 and now - saved > _CHECKPOINT_SECONDS:
                self._check_finite(sums)
                self._save(position, sums)
                saved = now
        self._check_finite(sums)
        self._clear_faded_moments()
        self._share_buffers()
        return self._record(self._over_processes(sums), position)

    def _share_buffers(self) -> None:
        """Give all processes the first one's running statistics: each has seen its own share of the last batch."""
        if self.accelerator.num_processes > 1:
            for buffer in self.model.buffers():
                broadcast(buffer)

    def _set_learning_rate(self, progress: float) -> None:
        self.optimizer.learning_rate = self.plan.learning_rate_at(progress)

    def _step(
        self,
        images: ImageArray,
        targets: np.ndarray | None,
        rows: np.ndarray,
        epoch: int,
        batch: int,
        sums: Sums,
    ) -> None:
        """One gradient step on the images `rows`, of which each process computes its share."""
        generator = torch_generator(self.plan.seed, "noise", self.stage, epoch, batch)
        noise = self.model.draw_noise(len(rows), generator)  # type: ignore[operator]
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        start, stop = len(rows) * rank // processes, len(rows) * (rank + 1) // processes
        used = stop - start
        # A process without a share still takes part in the exchange of gradients; its image counts for nothing.
        share = slice(start, stop) if used else slice(0, 1)
        with self.compute.autocast():
            inputs = [self.compute.batch(images[rows[share]]), self.compute.on_device(noise[share])]
            if targets is not None:
                inputs.append(self.compute.on_device(targets[rows[share]]))
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

    def _check_finite(self, sums: Sums) -> None:
        """Raise FloatingPointError, on every process alike, when a loss or a weight is not finite."""
        values = self._over_processes(sums).terms()
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        # A loss can still be finite while the step that followed it was not.
        if not bad and not all(bool(torch.isfinite(p.detach()).all()) for p in self.model.parameters()):
            bad = ["a weight"]
        if bad:
            raise FloatingPointError(", ".join(bad))

    def _over_processes(self, sums: Sums) -> Sums:
        if self.accelerator.num_processes == 1:
            return sums
        return Sums({k: self.accelerator.reduce(v.clone(), "sum") for k, v in sums.values.items()})

    def _record(self, sums: Sums, position: Position) -> dict[str, Any]:
        terms = sums.terms()
        return {
            "epoch": position.epoch + 1,
            "loss": sum(terms.values()),
            **terms,
            **sums.clusters(),
            "images_per_second": sums.images / max(position.epoch_seconds, 1e-9),
            "seconds": position.seconds,
        }

    def _save(self, position: Position, sums: Sums) -> None:
        path = self.checkpoint
        if path is None:
            return

        def write() -> None:
            save_checkpoint(path, self.model, self.optimizer, sums.values, position, self.run_id)
            if self._keep is not None:
                self._keep(path)

        from_main(self.accelerator, write)

    def _warn_of_collapse(self, record: Mapping[str, Any], steps: int) -> None:
        """Warn, once per loss of further clusters, when fewer than half of them hold images after the first epochs."""
        if not self.plan.warns_of_collapse or "clusters" not in record or steps < _SETTLED_STEPS:
            return
        used, total = record["clusters_in_use"], record["clusters"]
        worse = self._collapse_warned_at is None or used < self._collapse_warned_at
        if record["epoch"] >= 3 and used < total / 2 and worse and self.accelerator.is_main_process:
            self._collapse_warned_at = used
            warnings.warn(
                f"epoch {record['epoch']}: only {used} of {total} clusters are in use; the others hold (almost) no "
                "images. Another seed, fewer clusters or a larger reconstruction_weight may help",
                CollapseWarning,
                stacklevel=3,
            )
