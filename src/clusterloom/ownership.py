"""What is written by one process at a time."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusterloom.errors import DataError, printable
from clusterloom.files import naming, sweep_stale, try_lock


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make this process the only one that writes `path`, as long as the context lasts.

    The lock is on the file `.NAME.lock` beside `path`, which goes at the end. The system releases it when the process
    ends, however that happens, so a killed process blocks nobody. What such a process has left beside `path` is
    removed.

    Args:
        path: The file or folder to be written. The folders around it are made, and go again if they stay empty.

    Raises:
        DataError: another process, or another part of this one, writes it now.
        OSError: the folder around it cannot be written.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    made = [folder for folder in path.parents if not folder.exists()]
    with naming(path, lock.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _take(lock)
    if handle is None:
        raise DataError(_held_by(lock, path))
    try:
        _sign(handle)
        sweep_stale(path)
        yield
    finally:
        _release(handle, lock)
        with contextlib.suppress(OSError):  # the first that holds something, and those around it, stay
            for folder in made:
                folder.rmdir()


def _take(lock: Path) -> int | None:
    """Open and lock a file; None if another process holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if try_lock(handle) is False:
            os.close(handle)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                return handle
        os.close(handle)  # the owner before removed it between the two calls: this one has no name any more


def _sign(handle: int) -> None:
    """Say in a lock file whose it is."""
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    with contextlib.suppress(OSError):  # on a full disk it is held all the same
        os.truncate(handle, 0)
        os.write(handle, json.dumps(owner).encode())


def _release(handle: int, lock: Path) -> None:
    if os.name == "posix":
        # While it is still held: nobody can then lock a file that is about to lose its name.
        lock.unlink(missing_ok=True)
        os.close(handle)
        return
    os.close(handle)
    with contextlib.suppress(OSError):  # Windows removes no file that is open, as it may be again by now
        lock.unlink(missing_ok=True)


def _held_by(lock: Path, path: Path) -> str:
    try:
        owner = json.loads(lock.read_text(encoding="utf-8"))
        since = time.strftime("%H:%M", time.localtime(owner["since"]))
        elsewhere = "" if owner["host"] == socket.gethostname() else f" on {printable(owner['host'])}"
        who = f"process {owner['process']}{elsewhere} since {since}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just been made
        who = "another process"
    return f"{printable(path.name)} is being written by {who}; wait for it or choose another name"
