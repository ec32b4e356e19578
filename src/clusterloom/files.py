"""What clusterloom writes: whole or not at all, by one process at a time, cleaned up after a kill, and known again."""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clusterloom.errors import DataError, printable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# A PNG file with the text `Software: clusterloom` is a picture that clusterloom made: never data.
PNG_SOFTWARE = "clusterloom"
# Folders that clusterloom made: the file that tells, and names in the JSON object that it holds.
_FOLDER_MARKS = {
    "model": ("config.json", {"format_version", "settings"}),
    "export": ("export.json", {"clusterloom_export"}),
    "predictions": ("manifest.json", {"clusterloom_predictions"}),
}
_SCRATCH = r"\.(?P<target>{})\.(?P<old>old\.)?[0-9a-f]{{8}}"
_FRESH_SECONDS = 5  # a scratch file may be there for a moment before its owner has locked it
_STALE_SECONDS = 86_400  # where no lock can tell whether the owner lives
_LOCKED_BYTE = 1 << 30  # on Windows what is locked cannot be read: lock what lies behind the end


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at every moment `path` holds either its old contents or all of `data`.

    Raises:
        OSError: the disk is full or not writable; the old file is intact and no scratch file is left.
    """
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which takes the place of `path` at the end; see `write_atomically`.

    What killed processes have left beside `path` goes first.

    Args:
        path: The file to make or to replace; its folder is there.

    Yields:
        A scratch file beside it. If anything is raised, it goes and `path` stays as it was.

    Raises:
        OSError: the disk is full or not writable; it names `path`.
    """
    with _naming(path):
        sweep_stale(path)
        scratch = _scratch_name(path)
        try:
            with scratch.open("xb") as file:
                _try_lock(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `path` at the end: `path` is the old one or the new one, whole.

    Args:
        path: The folder to make or to replace, or a link to it; the folder around it is there.

    Yields:
        A scratch folder beside it. If anything is raised, it goes and `path` stays as it was.

    Raises:
        OSError: the disk is full or not writable; it names `path` or a file in it.
    """
    path = path.resolve()
    with _naming(path), scratch_directory(path) as scratch:
        yield scratch
        _replace_directory(scratch, path)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """A folder beside `path` for what is not finished; it is gone at the end unless it was renamed.

    What killed processes have left beside `path` goes first.

    Args:
        path: What the folder is for; the folder around it is there.

    Yields:
        The empty folder.
    """
    sweep_stale(path)
    scratch = _scratch_name(path)
    scratch.mkdir()
    handle = os.open(scratch, os.O_RDONLY) if os.name == "posix" else None
    try:
        if handle is not None:
            _try_lock(handle)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make this process the only one that writes `path`, as long as the context lasts.

    The lock is on the file `.NAME.lock` beside `path`, which goes at the end. The system releases it when the process
    ends, however that happens, so a killed process blocks nobody. What such a process has left beside `path` is
    removed.

    Args:
        path: The file or folder to be written; the folders around it are made.

    Raises:
        DataError: another process, or another part of this one, writes it now.
        OSError: the folder around it cannot be written.
    """
    path = path.resolve()
    lock = _lock_of(path)
    with _naming(path):
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


def sweep_stale(path: Path) -> None:
    """Remove scratch files and folders that killed processes have left beside `path`.

    An old folder that stepped aside for a new one is put back if the new one never came.

    Args:
        path: What the processes were writing.
    """
    _sweep(path.parent, re.escape(path.name))


def sweep_all_stale(folder: Path) -> None:
    """As `sweep_stale`, for everything in a folder that nobody but clusterloom writes to."""
    _sweep(folder, ".+")


def folder_kind(folder: Path) -> str | None:
    """What a folder is if clusterloom made it, whole or damaged: "model", "export", "predictions"; else None."""
    for kind, (file, names) in _FOLDER_MARKS.items():
        if names <= json_keys(folder / file):
            return kind
    return None


def json_keys(path: Path) -> set[str]:
    """Names in the JSON object that a file holds; none where it is missing or holds something else."""
    if not path.is_file():  # opening a pipe would wait for ever
        return set()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found) if isinstance(found, dict) else set()


def umask() -> int:
    """The process's file mode mask, as Linux shows it in /proc; elsewhere as it was when clusterloom was imported."""
    mask = _umask_in_proc()
    return _UMASK_AT_IMPORT if mask is None else mask


def _umask_in_proc() -> int | None:
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        return int(status.split("\nUmask:")[1].split()[0], 8)
    except (OSError, IndexError):
        return None


def _umask_at_import() -> int:
    """The mask by the system's only call for it, which sets it.

    In a server of many threads that would open new files to others for a moment, so it is made once, as clusterloom is
    imported, and only where there is no /proc.
    """
    if (mask := _umask_in_proc()) is not None:
        return mask
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK_AT_IMPORT = _umask_at_import()


def fsync_directory(path: Path) -> None:
    """Make a rename inside a folder survive a power cut, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _scratch_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors tell of what was wanted: nobody knows the scratch file, and a full disk names nothing."""
    try:
        yield
    except OSError as error:
        scratch = rf"{_SCRATCH.format(re.escape(path.name))}|{re.escape(_lock_of(path).name)}"
        wanted = error.filename2 or error.filename or path  # of a copy and its original, the copy
        error.filename = re.sub(scratch, lambda _: path.name, str(wanted))
        raise


def _replace_directory(new: Path, path: Path) -> None:
    """Put `new` where `path` is. Directories cannot be exchanged in one call everywhere, so the old one steps aside."""
    aside = None
    if path.exists():
        aside = path.with_name(f".{path.name}.old.{secrets.token_hex(4)}")
        path.replace(aside)
    try:
        new.replace(path)
    except OSError:
        if aside is not None:
            aside.replace(path)
        raise
    fsync_directory(path.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _sweep(parent: Path, name: str) -> None:
    scratch = re.compile(_SCRATCH.format(name), re.DOTALL)
    try:
        paths = list(parent.iterdir())
    except OSError:  # a folder that can be written but not listed
        return
    for path in paths:
        if found := scratch.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another process was faster
                if _is_abandoned(path):
                    _remove_or_put_back(path, parent / found["target"] if found["old"] else path)


def _is_abandoned(path: Path) -> bool:
    age = time.time() - path.lstat().st_mtime
    if age < _FRESH_SECONDS:
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return age > _STALE_SECONDS
    try:
        free = _try_lock(handle)
        return age > _STALE_SECONDS if free is None else free
    finally:
        os.close(handle)


def _remove_or_put_back(path: Path, target: Path) -> None:
    if not target.exists():
        path.rename(target)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")


def _take(lock: Path) -> int | None:
    """Open and lock a file; None if another process holds it."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        if _try_lock(handle) is False:
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


def _try_lock(handle: int) -> bool | None:
    """Lock an open file until it is closed or the process ends.

    Returns:
        False if another process holds it, None on a file system that has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    finally:
        if sys.platform == "win32":
            os.lseek(handle, 0, os.SEEK_SET)
    return True


def _held_by(lock: Path, path: Path) -> str:
    try:
        owner = json.loads(lock.read_text(encoding="utf-8"))
        since = time.strftime("%H:%M", time.localtime(owner["since"]))
        elsewhere = "" if owner["host"] == socket.gethostname() else f" on {printable(owner['host'])}"
        who = f"process {owner['process']}{elsewhere} since {since}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only just been made
        who = "another process"
    return f"{printable(path.name)} is being written by {who}; wait for it or choose another name"
