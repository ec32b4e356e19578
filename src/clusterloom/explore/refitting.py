"""A refit in a process of its own, which the page can watch and cancel."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from clusterloom.errors import printable

_EPOCH, _SHARE = re.compile(r"\w+, epoch "), re.compile(r"\((\d{1,3})%\)")
_ERROR = "clusterloom: error: "
_PATIENCE = 5.0  # seconds between asking a process to end and ending it


class Refitting:
    """`clusterloom refit` as it runs.

    Args:
        command: What to run; what it says of its progress goes to its standard error, line by line.
        out: The model directory that it writes.

    Attributes:
        out: See above.
        text: The last line that it said.
        cancelled: Whether `cancel` has been called.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], out: Path) -> None:
        self.out = out
        self.text = "starting"
        self.cancelled = False
        self._share, self._opens = 0.0, True
        self._began, self._ended = time.monotonic(), 0.0
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._listener.is_alive()

    @property
    def succeeded(self) -> bool:
        """Whether the new model is there."""
        return not self.running and self._process.returncode == 0 and self._opens

    @property
    def share(self) -> float | None:
        """How much of the training is done, from 0 to 1; None before it begins."""
        return self._share or None

    @property
    def seconds(self) -> int:
        """How long it has run."""
        return int((self._ended or time.monotonic()) - self._began)

    def not_opened(self, error: Exception) -> None:
        """Keep in mind that the new model cannot be shown, and why."""
        self._opens, self.text = False, printable(str(error))

    def cancel(self) -> None:
        """End it; no model is written.

        It is asked first, so that it can put away what it was writing. Python loses an interrupt that comes during a
        callback of its own (one that ends an import, say), so what goes on for five more seconds is killed.
        """
        if self.running:
            self.cancelled = True
            self._process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
            killing = threading.Timer(_PATIENCE, self._process.kill)  # does nothing to one that has ended
            killing.daemon = True
            killing.start()

    def wait(self) -> None:
        """Until it has ended: soon, after `cancel`."""
        self._listener.join()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.strip():
                self.text = printable(line.strip().removeprefix(_ERROR))
                if _EPOCH.match(line) and (share := _SHARE.search(line)):
                    self._share = int(share[1]) / 100
        self._process.wait()
        if self.cancelled:  # what it would be taken up with, which nobody will
            shutil.rmtree(self.out.with_name(self.out.name + ".partial"), ignore_errors=True)
        self._ended = time.monotonic()


def free_name(model: Path) -> Path:
    """Where the next model goes: MODEL-2 beside MODEL, MODEL-3 beside MODEL-2, the first that is not taken."""
    counted = re.fullmatch(r"(.+)-(\d{1,6})", model.name)
    name, number = (counted[1], int(counted[2])) if counted else (model.name, 1)
    while True:
        number += 1
        path = model.with_name(f"{name}-{number}")
        if not path.exists() and not path.with_name(path.name + ".partial").exists():
            return path
