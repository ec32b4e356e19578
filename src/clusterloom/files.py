"""What clusterloom writes: whole or not at all, and cleaned up after a kill."""

import contextlib
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Our own name is in it, for a user's hidden copy may end in a date, .NAME.20261127, which looks like random digits.
_SCRATCH = r"\.(?P<target>{})\.clusterloom-(?P<old>old-)?[0-9a-f]{{8}}"
_LONGEST_NAME = 220  # bytes; file systems take 255, the rest is for what a scratch name adds
_FRESH_SECONDS = 5  # a scratch file may be there for a moment before its owner has locked it
_STALE_SECONDS = 86_400  # where no lock can tell whether the owner lives
_LOCKED_BYTE = 1 << 30  # on Windows what is locked cannot be read: lock what lies behind the end


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at every moment `path` holds either its old contents or all of `data`; see `new_file`.

    Raises:
        OSError: the disk is full or not writable; the old file is intact and no scratch file is left.
    """
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which takes the place of `path` at the end.

    What killed processes have left beside `path` goes first.

    Args:
        path: The file to make or to replace, or a link to it; its folder is there.

    Yields:
        A scratch file beside it. If anything is raised, it goes and `path` stays as it was.

    Raises:
        OSError: the disk is full or not writable; it names `path`.
    """
    path = path.resolve()
    with naming(path):
        sweep_stale(path)
        scratch = _scratch_name(path)
        try:
            with scratch.open("xb") as file:
                try_lock(file.fileno())
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
    with naming(path), scratch_directory(path) as scratch:
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
            try_lock(handle)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def sweep_stale(path: Path) -> None:
    """Remove scratch files and folders that killed processes have left beside `path`.

    An old folder that stepped aside for a new one is put back if the new one never came.

    Args:
        path: What the processes were writing.
    """
    _sweep(path.parent, re.escape(_short_name(path)), path)


def sweep_all_stale(folder: Path) -> None:
    """As `sweep_stale`, for whatever processes were writing in a folder."""
    _sweep(folder, ".+")


def fsync_directory(path: Path) -> None:
    """Make a rename inside a folder survive a power cut, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _scratch_name(path: Path, kind: str = "") -> Path:
    return path.with_name(f".{_short_name(path)}.clusterloom-{kind}{secrets.token_hex(4)}")


def _short_name(path: Path) -> str:
    """The name of a file, or what stands for it where nothing can be added to it."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= _LONGEST_NAME else hashlib.sha256(name).hexdigest()


@contextmanager
def naming(path: Path, *others: str) -> Iterator[None]:
    """Make errors tell of what was wanted: nobody knows the scratch file, and a full disk names nothing.

    Args:
        path: What is being written.
        others: Names of more files beside it that nobody knows.
    """
    try:
        yield
    except OSError as error:
        scratch = "|".join([_SCRATCH.format(re.escape(_short_name(path))), *map(re.escape, others)])
        wanted = error.filename2 or error.filename or path  # of a copy and its original, the copy
        error.filename = re.sub(scratch, lambda _: path.name, str(wanted))
        raise


def _replace_directory(new: Path, path: Path) -> None:
    """Put `new` where `path` is. Directories cannot be exchanged in one call everywhere, so the old one steps aside."""
    aside = None
    if path.exists():
        aside = _scratch_name(path, "old-")
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


def _sweep(parent: Path, name: str, target: Path | None = None) -> None:
    scratch = re.compile(_SCRATCH.format(name), re.DOTALL)
    try:
        paths = list(parent.iterdir())
    except OSError:  # a folder that can be written but not listed
        return
    for path in paths:
        if found := scratch.fullmatch(path.name):
            with contextlib.suppress(OSError):  # another process was faster
                if _is_abandoned(path):
                    _remove_or_put_back(path, (target or parent / found["target"]) if found["old"] else path)


def _is_abandoned(path: Path) -> bool:
    age = time.time() - path.lstat().st_mtime
    if age < _FRESH_SECONDS:
        return False
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return age > _STALE_SECONDS
    try:
        free = try_lock(handle)
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


def try_lock(handle: int) -> bool | None:
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
