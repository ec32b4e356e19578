"""What one sees of a running training: a progress bar, plain lines when piped, metrics.jsonl, experiment trackers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from clusterloom.errors import SettingsError

# What a record holds besides the terms of the loss.
NOT_TERMS = frozenset({"epoch", "stage", "loss", "clusters", "clusters_in_use", "images_per_second", "seconds"})


class ProgressBar:
    """A bar over all epochs with loss terms, images per second, time left and clusters in use.

    On a terminal it is drawn in place by rich; elsewhere one plain line appears for every tenth of the run.
    Use it as a context manager, so that the terminal is left in order whatever happens.

    Args:
        n_images: Images per epoch.
        epochs: Epochs of the run.
        console: Where to draw; by default standard error.
    """

    def __init__(self, n_images: int, epochs: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._n_images, self._epochs = n_images, epochs
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._last_line = 0

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Show how far the run is already."""
        if self._task is None:
            self._task = self._bar.add_task("epoch 0", total=self._epochs * self._n_images, text="")
        self._bar.update(self._task, completed=len(history) * self._n_images)

    def on_note(self, text: str) -> None:
        """Show what happens between epochs."""
        if self._task is not None:
            self._bar.update(self._task, text=text)
        if not self._console.is_terminal:
            self._console.print(text, highlight=False, soft_wrap=True)

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Redraw."""
        self._draw(epoch, (epoch - 1) * self._n_images + images, record)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Redraw, or print a line."""
        epoch = record["epoch"]
        self._draw(epoch, epoch * self._n_images, record)
        tenth = epoch * 10 // self._epochs
        if not self._console.is_terminal and tenth > self._last_line:
            self._last_line = tenth
            self._console.print(
                f"{_where(record)} {epoch}/{self._epochs}: {describe(record)}", highlight=False, soft_wrap=True
            )

    def _draw(self, epoch: int, completed: int, record: Mapping[str, Any]) -> None:
        if self._task is not None:
            description = f"{_where(record)} {epoch}/{self._epochs}"
            self._bar.update(self._task, completed=completed, description=description, text=describe(record))


def _where(record: Mapping[str, Any]) -> str:
    return f"{record['stage']}, epoch" if "stage" in record else "epoch"


class MetricsFile:
    """metrics.jsonl: one JSON line per epoch, flushed as it comes.

    Args:
        path: The file; rewritten at the start, so that after a resume it holds each epoch once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_start(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the epochs that are done already."""
        self._path.write_text("".join(json.dumps(record) + "\n" for record in history), encoding="utf-8")

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Nothing: the file has a line per epoch."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Append the epoch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def on_note(self, text: str) -> None:
        """Nothing: the file is about epochs."""


class TrackerLog:
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

    def on_batch(self, epoch: int, images: int, record: Mapping[str, Any]) -> None:
        """Nothing: trackers get a point per epoch."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Log the epoch's numbers under their names in metrics.jsonl."""
        self._accelerator.log({k: v for k, v in record.items() if k not in ("epoch", "stage")}, step=record["epoch"])

    def on_note(self, text: str) -> None:
        """Nothing: trackers get numbers."""


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
