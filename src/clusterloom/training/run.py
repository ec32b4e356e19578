"""One run of an estimator: its stages one after the other, told to observers and kept in files as one training."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import nn

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.images import ImageArray
from clusterloom.device import Compute
from clusterloom.training.checkpoint import is_checkpoint, load_arrays, save_arrays
from clusterloom.training.loop import DivergedError, Targets, Trainer
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.processes import from_main
from clusterloom.training.progress import Observer, describe
from clusterloom.training.run_folder import CHECKPOINTS, checkpoint_name

_SECONDS = "_seconds"  # beside the arrays of a cached stage: how long they took


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
        progress: Told about work between epochs.
        tell: Takes a line on what was found, and one on every finished stage; None says nothing.
        keep: Called with every file that was written to `folder`; None calls nothing.

    Attributes:
        history: One record for every epoch of all stages; its "seconds" are those of the run up to there.
        stage_seconds: How long each stage took, over all sessions of a run that was taken up.
    """

    def __init__(
        self,
        images: ImageArray,
        identity: Any,
        compute: Compute,
        accelerator: Accelerator,
        folder: Path | None = None,
        resume: bool = False,
        observers: Sequence[Observer] = (),
        progress: ProgressReport = no_progress,
        tell: Callable[[str], None] | None = None,
        keep: Callable[[Path], None] | None = None,
    ) -> None:
        self._keep = keep
        self.compute, self.accelerator, self.folder, self.resume = compute, accelerator, folder, resume
        self.observers, self.progress, self._tell = observers, progress, tell
        self.history: list[dict[str, Any]] = []
        self.stage_seconds: dict[str, float] = {}
        self._identity = _identity(identity, compute, images)
        self._has_clusters = False
        if folder is not None and not resume:
            self._forget(folder)

    @property
    def seconds(self) -> float:
        """How long all stages took together, over all sessions of a run that was taken up."""
        return sum(self.stage_seconds.values())

    def train(
        self,
        model: nn.Module,
        plan: TrainingPlan,
        images: ImageArray,
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
        place = _Place(stage, len(self.history), self.seconds)
        observers = [_OfStage(observer, place, self.history) for observer in self.observers]
        checkpoint = self._file("checkpoint" if stage is None else f"checkpoint-{stage}")
        free = ("patience_epochs", "remedy", *(("epochs",) if may_grow else ()))
        identity = sha256(_as_json([self._identity, {k: v for k, v in asdict(plan).items() if k not in free}]))
        trainer = Trainer(
            model,
            plan,
            self.compute,
            self.accelerator,
            checkpoint,
            identity.hexdigest(),
            observers,
            stage or "",
            self._keep,
        )
        try:
            records = trainer.fit(images, self.resume, targets)
        except DivergedError as error:
            worth_keeping = self._has_clusters or (gives_clusters and error.history)
            history = self.history + place.of_all(error.history) if worth_keeping else []
            epoch = place.epochs + error.epoch
            raise DivergedError(error.what, epoch, error.batch, history, plan.remedy) from error
        self._has_clusters |= gives_clusters
        self.history = self.history + place.of_all(records)
        seconds = records[-1]["seconds"] if records else 0.0
        self._finished(stage or "training", seconds, *map(describe, records[-1:]))

    def cached(
        self, stage: str, compute: Callable[[], Mapping[str, np.ndarray]], everywhere: bool = False
    ) -> dict[str, np.ndarray]:
        """What `compute` returns, computed by the main process alone, and once for all resumptions of the run.

        Args:
            stage: Name of the file.
            compute: Returns arrays by name. The other processes wait, so it must not ask anything of them.
            everywhere: All processes compute, each its share, and all get the whole: then it may.
        """
        arrays = self.stored(stage)
        if arrays is None:
            arrays = _timed(compute) if everywhere else from_main(self.accelerator, lambda: _timed(compute))
            self.store(stage, arrays)
        self._finished(stage, arrays.pop(_SECONDS).item())
        return arrays

    def store(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write down what a stage needs to go on besides its model; every process calls it with the same arrays."""
        path = self._file(name)
        if path is None:
            return

        def write() -> None:
            save_arrays(path, arrays, f"{self._identity}-{name}")
            if self._keep is not None:
                self._keep(path)

        from_main(self.accelerator, write)

    def stored(self, name: str) -> dict[str, np.ndarray] | None:
        """What `store` wrote down in the run that is taken up, if any; every process calls it and gets the same."""
        path = self._file(name)
        if not self.resume or path is None:
            return None
        return from_main(
            self.accelerator, lambda: load_arrays(path, f"{self._identity}-{name}") if path.exists() else None
        )

    def expect(self, epochs: int) -> None:
        """Tell observers how many epochs the run has, where that is found out on the way."""
        for observer in self.observers:
            observer.on_length(epochs)

    def found_clusters(self) -> None:
        """From here on the model has clusters, though no stage of training gave them."""
        self._has_clusters = True

    def note(self, text: str) -> None:
        """Say what was found, or what is done between epochs."""
        if self._tell is not None:
            self._tell(text)

    def _finished(self, stage: str, seconds: float, *found: str) -> None:
        self.stage_seconds[stage] = seconds
        self.note("; ".join([f"{stage}: {seconds:,.0f} s", *found]))

    def _forget(self, folder: Path) -> None:
        """Remove what an earlier run has left: a later resumption would take it for this run's."""

        def remove() -> None:
            for path in folder.glob(CHECKPOINTS):
                if is_checkpoint(path):
                    path.unlink()

        from_main(self.accelerator, remove)

    def _file(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / checkpoint_name(name)


@dataclass(frozen=True)
class _Place:
    """Where a stage stands in its run: its name, and the epochs and seconds before it."""

    stage: str | None
    epochs: int
    seconds: float

    def of(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """A stage's record among the whole run's: numbered through, and with its stage's name."""
        name = {} if self.stage is None else {"stage": self.stage}
        return {**record, "epoch": self.epochs + record["epoch"], **name, "seconds": self.seconds + record["seconds"]}

    def of_all(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The same for several."""
        return [self.of(record) for record in records]


class _OfStage(Observer):
    """Passes one stage's progress on as part of the whole run."""

    def __init__(self, observer: Observer, place: _Place, before: Sequence[Mapping[str, Any]]) -> None:
        self._observer, self._place, self._before = observer, place, before

    def on_length(self, epochs: int) -> None:
        self._observer.on_length(epochs)

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        self._observer.on_start([*self._before, *self._place.of_all(history)])

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        self._observer.on_batch(self._place.epochs + epoch, images, self._place.of(record))

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        self._observer.on_epoch(self._place.of(record))


def _timed(compute: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What it returns, and how long it took, in the memory order that a file gives back.

    Sums over another order have other last bits.
    """
    started = time.perf_counter()
    arrays = {name: np.ascontiguousarray(array) for name, array in compute().items()}
    return {**arrays, _SECONDS: np.array([time.perf_counter() - started])}


def _identity(identity: Any, compute: Compute, images: ImageArray) -> str:
    """Identifies settings and images, so that a run is never continued with others."""
    digest = sha256(_as_json([identity, compute.precision, images.shape]))
    rows = np.linspace(0, len(images) - 1, min(len(images), 1000)).astype(np.int64)
    digest.update(np.ascontiguousarray(images[rows]).tobytes())
    return digest.hexdigest()


def _as_json(value: Any) -> bytes:
    # Parameters may be NumPy's numbers, as from `for k in np.arange(...)`.
    return json.dumps(value, default=lambda number: number.tolist()).encode()
