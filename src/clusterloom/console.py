"""What is said on a terminal: lines, results and progress, all of it in one place."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from clusterloom.device import is_main_process

# What is being done, how much of it is done, and of how much (0 where that is not known).
ProgressReport: TypeAlias = Callable[[str, int, int], None]

_LOG_SECONDS = 10.0  # between two lines of progress where there is no terminal to draw on


def no_progress(what: str, done: int, total: int) -> None:
    """A `ProgressReport` that nobody sees."""


class PlainConsole(Console):
    """Rich's console, without its own end of the program."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled; rich would leave with status 1."""
        raise


class Output:
    """Where a command says what it does (standard error) and prints its results (standard output).

    Under several processes the first one alone talks. Use it as a context manager, so that the terminal is left in
    order whatever happens.

    Args:
        quiet: Say nothing, print results only.
        verbose: Say more, see `detail`.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet or not is_main_process(), verbose
        self._talk = PlainConsole(stderr=True, emoji=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._said = time.monotonic()

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()

    def say(self, line: str) -> None:
        """One line on standard error; names in it are text, never markup."""
        if not self.quiet:
            self._talk.print(line, soft_wrap=True, highlight=False, markup=False)

    def detail(self, line: str) -> None:
        """A line for those who asked for more."""
        if self.verbose:
            self.say(line)

    def table(self, table: RenderableType) -> None:
        """A table among what is said, on standard error."""
        if not self.quiet:
            self._talk.print(table)

    def result(self, what: RenderableType) -> None:
        """Print a result on standard output."""
        # Piped output has no width of its own; 80 columns would break figures up.
        width = None if sys.stdout.isatty() else 160
        PlainConsole(width=width, emoji=False).print(
            what, soft_wrap=isinstance(what, str), highlight=False, markup=False
        )

    def json(self, values: Any) -> None:
        """Print one JSON object on standard output."""
        self.result(json.dumps(values))

    def progress(self, what: str, done: int, total: int) -> None:
        """A `ProgressReport`: a bar on a terminal, elsewhere a line now and then."""
        if self.quiet:
            return
        if not self._talk.is_terminal:
            if time.monotonic() - self._said >= _LOG_SECONDS:
                self._said = time.monotonic()
                share = f" {done / total:.0%}" if total else ""
                self.say(f"{what}{share}")
            return
        if self._bar is None:
            self._bar = Progress(
                BarColumn(bar_width=20),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
                console=self._talk,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(what)
        assert self._task is not None
        self._bar.update(self._task, description=what, completed=done, total=total or None)
        if total and done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
