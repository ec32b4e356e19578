"""One run of an estimator: its stages one after the other, told to observers and kept in files as one training."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import Compute
from clusterloom.training.checkpoint import is_checkpoint, load_arrays, save_arrays
from clusterloom.training.loop import DivergedError, Observer, Targets, Trainer, TrainingPlan

CHECKPOINTS = "*.safetensors"  # pattern of the names of all files that only an unfinished run needs


class Run:
    """Carries what all stages of a run share, and numbers their epochs through.

    Args:
        images: What the run is about, shape (N, H, W, C).
        identity: Anything that tells this run from others, besides images and plans; must survive `json`.
        compute: Device and precision.
        accelerator: Knows the other processes.
        folder: Where each stage keeps its state for `resume`; None keeps none.
        resume: Take up what is in `folder`.
        observers: Told about all stages as one run.
    """

    def __init__(
        self,
        images: np.ndarray,
        identity: Any,
        compute: Compute,
        accelerator: Accelerator,
        folder: Path | None = None,
        resume: bool = False,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.compute, self.accelerator, self.folder, self.resume = compute, accelerator, folder, resume
        self.observers = observers
        self.progress: ProgressReport = no_progress  # of work between epochs
        self.history: list[dict[str, Any]] = []
        self.stage_seconds: dict[str, float] = {}
        self._identity = _identity(identity, compute, images)
        self._has_clusters = False
        if folder is not None and not resume:
            self._forget(folder)

    def train(
        self,
        model: nn.Module,
        plan: TrainingPlan,
        images: np.ndarray,
        stage: str | None = None,
        targets: Targets = None,
        *,
        gives_clusters: bool = True,
        may_grow: bool = False,
    ) -> None:
        """Train a model in place and add its epochs to `history`.

        Args:
            model: What to train.
            plan: How long and how.
            images: What to train on; all of the run's images, or some.
            stage: Name in records and files; None for a run of one stage.
            targets: See `Trainer.fit`.
            gives_clusters: After an epoch of this stage the model has clusters.
            may_grow: A run that is taken up may have more epochs: nothing in this stage or after it depends on them.

        Raises:
            DivergedError: see `Trainer.fit`; its history covers the stages before as well, and is empty where the model
                has no clusters yet and is not worth keeping.
        """
        observers = [_OfStage(observer, stage, self.history) for observer in self.observers]
        checkpoint = self._file("checkpoint" if stage is None else f"checkpoint-{stage}")
        free = ("patience_epochs", "min_improvement", *(("epochs",) if may_grow else ()))
        identity = sha256(_as_json([self._identity, {k: v for k, v in asdict(plan).items() if k not in free}]))
        trainer = Trainer(model, plan, self.compute, self.accelerator, checkpoint, identity.hexdigest(), observers)
        try:
            records = trainer.fit(images, self.resume, targets)
        except DivergedError as error:
            worth_keeping = self._has_clusters or (gives_clusters and error.history)
            history = _joined(self.history, error.history, stage) if worth_keeping else []
            raise DivergedError(str(error), history) from error
        self._has_clusters |= gives_clusters
        self.history = _joined(self.history, records, stage)
        if stage is not None:
            self.stage_seconds[stage] = records[-1]["seconds"]

    def cached(self, stage: str, compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What `compute` returns, computed by the main process alone, and once for all resumptions of the run.

        Args:
            stage: Name of the file.
            compute: Returns arrays by name.
        """
        path = self._file(stage)
        identity = f"{self._identity}-{stage}"
        if self.resume and path is not None and path.exists():
            return load_arrays(path, identity)
        started = time.perf_counter()
        results: list[Any] = [None]
        if self.accelerator.is_main_process:
            # In the memory order that a file gives back: sums over another one have other last bits.
            results = [{name: np.ascontiguousarray(array) for name, array in compute().items()}]
        if self.accelerator.num_processes > 1:
            broadcast_object_list(results)
        if path is not None and self.accelerator.is_main_process:
            save_arrays(path, results[0], identity)
        self.accelerator.wait_for_everyone()
        self.stage_seconds[stage] = time.perf_counter() - started
        return results[0]

    def store(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write down what a stage needs to go on besides its model; every process calls it with the same arrays."""
        path = self._file(name)
        if path is not None and self.accelerator.is_main_process:
            save_arrays(path, arrays, f"{self._identity}-{name}")
        self.accelerator.wait_for_everyone()

    def stored(self, name: str) -> dict[str, np.ndarray] | None:
        """What `store` wrote down in the run that is taken up, if any."""
        path = self._file(name)
        if not self.resume or path is None or not path.exists():
            return None
        return load_arrays(path, f"{self._identity}-{name}")

    def found_clusters(self) -> None:
        """From here on the model has clusters, though no stage of training gave them."""
        self._has_clusters = True

    def note(self, text: str) -> None:
        """Tell the observers what is done between epochs."""
        for observer in self.observers:
            observer.on_note(text)

    def _forget(self, folder: Path) -> None:
        """Remove what an earlier run has left: a later resumption would take it for this run's."""
        if self.accelerator.is_main_process:
            for path in folder.glob(CHECKPOINTS):
                if is_checkpoint(path):
                    path.unlink()
        self.accelerator.wait_for_everyone()

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}.safetensors"


class _OfStage:
    """Passes one stage's progress on as part of the whole run: epochs and seconds go on from the stages before."""

    def __init__(self, observer: Observer, stage: str | None, before: Sequence[Mapping[str, Any]]) -> None:
        self._observer, self._stage, self._before = observer, stage, list(before)

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        self._observer.on_start(_joined(self._before, history, self._stage))

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        self._observer.on_batch(epoch + len(self._before), images, _placed(self._before, record, self._stage))

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        self._observer.on_epoch(_placed(self._before, record, self._stage))

    def on_note(self, text: str) -> None:
        self._observer.on_note(text)


def _joined(
    before: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]], stage: str | None
) -> list[dict[str, Any]]:
    return [*map(dict, before), *(_placed(before, record, stage) for record in records)]


def _placed(before: Sequence[Mapping[str, Any]], record: Mapping[str, Any], stage: str | None) -> dict[str, Any]:
    """A stage's record among the whole run's: numbered through, and with its stage's name."""
    if stage is None:
        return dict(record)
    seconds = (before[-1]["seconds"] if before else 0.0) + record["seconds"]
    return {**record, "epoch": len(before) + record["epoch"], "stage": stage, "seconds": seconds}


def _identity(identity: Any, compute: Compute, images: np.ndarray) -> str:
    """Identifies settings and images, so that a run is never continued with others."""
    digest = sha256(_as_json([identity, compute.precision, images.shape]))
    rows = np.linspace(0, len(images) - 1, min(len(images), 1000)).astype(np.int64)
    digest.update(np.ascontiguousarray(images[rows]).tobytes())
    return digest.hexdigest()


def _as_json(value: Any) -> bytes:
    # Parameters may be NumPy's numbers, as from `for k in np.arange(...)`.
    return json.dumps(value, default=lambda number: number.tolist()).encode()
