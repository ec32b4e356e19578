"""What is said on a terminal: lines, results and progress, all of it in one place."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from rich.console import Console, RenderableType

if TYPE_CHECKING:
    from rich.progress import Progress

# What is being done, how much of it is done, and of how much (0 where that is not known).
ProgressReport: TypeAlias = Callable[[str, int, int], None]

_FIRST_LOG_SECONDS = 3.0  # until the first line on a piece of work, where there is no terminal to draw on
_LOG_SECONDS = 10.0  # between two of them


def no_progress(what: str, done: int, total: int) -> None:
    """A `ProgressReport` that nobody sees."""


def is_main_process() -> bool:
    """Whether this process does the talking and writing, known before any process group exists."""
    return os.environ.get("RANK", "0") == "0"


class PlainConsole(Console):
    """Rich's console, to which text is text and no markup or emoji; without its own end of the program."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, markup=False, **options)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled; rich would leave with status 1."""
        raise


class Output:
    """Where a command says what it does (standard error) and prints its results (standard output).

    Under several processes the first one alone talks. Use it as a context manager, so that the terminal is left in
    order whatever happens.

    Args:
        quiet: Say nothing, print results only.
        talk: Where to say it, in place of standard error.
    """

    def __init__(self, quiet: bool = False, talk: Console | None = None) -> None:
        self.quiet = quiet or not is_main_process()
        self._talk = talk or PlainConsole(stderr=True)
        self._bar: Progress | None = None
        self._work = _Work(0, 0)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_bar()

    def say(self, line: str) -> None:
        """One line on standard error; names in it are text, never markup."""
        if not self.quiet:
            self._talk.print(line, soft_wrap=True, highlight=False, markup=False)

    def table(self, table: RenderableType) -> None:
        """A table among what is said, on standard error."""
        if not self.quiet:
            self._talk.print(table)

    def result(self, what: RenderableType) -> None:
        """Print a result on standard output."""
        # Piped output has no width of its own; 80 columns would break figures up.
        width = None if sys.stdout.isatty() else 160
        PlainConsole(width=width).print(what, soft_wrap=isinstance(what, str), highlight=False)

    def json(self, values: Any) -> None:
        """Print one JSON object on standard output."""
        self.result(json.dumps(values))

    def progress(self, what: str, done: int, total: int) -> None:
        """A `ProgressReport`: a bar on a terminal, elsewhere a line now and then.

        Another total, or less done than before, is another piece of work, and its time is estimated anew.
        """
        if self.quiet:
            return
        if not self._work.goes_on(done, total):
            self._end_bar()
            self._work = _Work(done, total)
        self._work.done = done
        if self._talk.is_terminal:
            self._draw(what, done, total)
        elif self._work.is_line_due():
            self.say(f"{what} ({done / total:.0%})" if total else what)

    def _draw(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = _new_bar(self._talk)
            self._bar.start()
            self._bar.add_task(what, total=total or None, completed=done)
        self._bar.update(self._bar.task_ids[0], description=what, completed=done)
        if total and done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _Work:
    """One piece of work that `Output.progress` is told about."""

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._next_line = time.monotonic() + _FIRST_LOG_SECONDS

    def goes_on(self, done: int, total: int) -> bool:
        return total == self.total and done >= self.done

    def is_line_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_line:
            return False
        self._next_line = now + _LOG_SECONDS
        return True


def _new_bar(console: Console) -> "Progress":
    """Bar, share, time left and text; of these a narrow terminal cuts the text alone."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    return Progress(
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        console=console,
        transient=True,
        expand=True,
    )
