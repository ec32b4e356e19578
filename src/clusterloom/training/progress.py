"""What is told of a running training: its progress, a line per epoch, metrics.jsonl, experiment trackers."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from clusterloom.console import ProgressReport
from clusterloom.errors import SettingsError

# What a record holds besides the terms of the loss.
NOT_TERMS = frozenset({"epoch", "stage", "loss", "clusters", "clusters_in_use", "images_per_second", "seconds"})


class Observer:
    """Is told how training goes; never changes it. What a kind of observer does not care for it leaves out."""

    def on_length(self, epochs: int) -> None:
        """The run turns out to have so many epochs."""

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Training starts, or goes on after the epochs in `history`."""

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Some batches are done: `images` of this epoch (from 1) so far, with means over them in `record`."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch is complete."""


class TrainingProgress(Observer):
    """Epochs and batches as one piece of work, counted in images.

    Args:
        progress: What is told.
        n_images: Images per epoch.
        epochs: Epochs of the run, over all its stages.
    """

    def __init__(self, progress: ProgressReport, n_images: int, epochs: int) -> None:
        self._progress, self._n_images, self._epochs = progress, n_images, epochs

    def on_length(self, epochs: int) -> None:
        """Reckon with so many epochs."""
        self._epochs = epochs

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Show how far the run is already."""
        self._report(f"epoch {min(len(history) + 1, self._epochs)}/{self._epochs}", len(history) * self._n_images)

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Show the epoch so far."""
        self._report(self._text(record), (epoch - 1) * self._n_images + images)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Show the epoch."""
        self._report(self._text(record), record["epoch"] * self._n_images)

    def _text(self, record: Mapping[str, Any]) -> str:
        """The most important first: a narrow terminal shows the beginning alone."""
        used = f", {record['clusters_in_use']} of {record['clusters']} clusters" if "clusters" in record else ""
        speed = f", {record['images_per_second']:,.0f} images/s"
        return f"{_where(record)}/{self._epochs}, loss {record['loss']:.2f}{used}{speed}"

    def _report(self, text: str, done: int) -> None:
        self._progress(text, done, self._epochs * self._n_images)


class EpochLines(Observer):
    """A line of text for every epoch.

    Args:
        tell: Takes it.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Tell of the epoch."""
        self._tell(f"{_where(record)}: {describe(record)}")


class MetricsFile(Observer):
    """metrics.jsonl: one JSON line per epoch, flushed as it comes.

    Args:
        path: The file; rewritten at the start, so that after a resume it holds each epoch once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the epochs that are done already."""
        self._path.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Append the epoch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class TrackerLog(Observer):
    """Passes every epoch on to the trackers that `accelerator` was made with (TensorBoard, MLflow, ...).

    Args:
        accelerator: Its `log_with` names the trackers.
        settings: Flat settings of the run, for the tracker's table.
    """

    def __init__(self, accelerator: Accelerator, settings: Mapping[str, Any]) -> None:
        self._accelerator, self._settings = accelerator, settings
        self._started = False

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Open the trackers.

        Raises:
            SettingsError: a tracker did not start: it is misconfigured, or its server does not answer.
        """
        if self._started:
            return
        self._started = True
        simple = {k: v if isinstance(v, int | float | str | bool) else str(v) for k, v in self._settings.items()}
        try:
            self._accelerator.init_trackers("clusterloom", config=simple)
        except Exception as error:  # every tracker has its own kinds
            raise SettingsError(f"the tracker did not start: {error}; check its settings, or leave it out") from error

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Log the epoch's numbers under their names in metrics.jsonl."""
        self._accelerator.log({k: v for k, v in record.items() if k not in ("epoch", "stage")}, step=record["epoch"])


def describe(record: Mapping[str, Any]) -> str:
    """One line on an epoch, or the part of it so far.

    Example:
        >>> describe({"loss": 40.0, "reconstruction": 30.0, "kl": 11.0, "category": -1.0, "clusters": 10,
        ...           "clusters_in_use": 9, "images_per_second": 2500.0, "epoch": 1, "seconds": 24.0})
        'loss 40.00 = reconstruction 30.00 + kl 11.00 + category -1.00; 9 of 10 clusters in use; 2,500 images/s'
    """
    terms = " + ".join(f"{name} {value:.2f}" for name, value in record.items() if name not in NOT_TERMS)
    used = f"{record['clusters_in_use']} of {record['clusters']} clusters in use; " if "clusters" in record else ""
    return f"loss {record['loss']:.2f} = {terms}; {used}{record['images_per_second']:,.0f} images/s"


def _where(record: Mapping[str, Any]) -> str:
    stage = f"{record['stage']}, " if "stage" in record else ""
    return f"{stage}epoch {record['epoch']}"
