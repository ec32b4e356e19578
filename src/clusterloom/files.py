"""Writing files and folders so that a crash, a kill or a full disk never leaves half of one; telling what one holds."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at every moment `path` holds either its old contents or all of `data`.

    Raises:
        OSError: the disk is full or not writable; the old file is intact and no temporary file is left.
    """
    with new_file(path) as file:
        file.write(data)


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write piece by piece, which takes the place of `path` at the end; see `write_atomically`.

    Args:
        path: The file to make or to replace; its folder is there.

    Yields:
        A scratch file beside it. If anything is raised, it goes and `path` stays as it was.

    Raises:
        OSError: the disk is full or not writable; it names `path`.
    """
    with _naming(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
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
    with _naming(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o777 & ~umask())
            _replace_directory(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Make errors tell of what was wanted: nobody knows the scratch file, and a full disk names nothing."""
    try:
        yield
    except OSError as error:
        scratch = rf"\.{re.escape(path.name)}\.(old\.)?\w+"
        error.filename = re.sub(scratch, lambda _: path.name, str(error.filename or path))
        raise


def _replace_directory(new: Path, path: Path) -> None:
    """Put `new` where `path` is. Directories cannot be exchanged in one call everywhere, so the old one steps aside."""
    aside = None
    if path.exists():
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
        try:
            path.replace(aside)
        except OSError:
            aside.rmdir()
            raise
    try:
        new.replace(path)
    except OSError:
        if aside is not None:
            aside.replace(path)
        raise
    fsync_directory(path.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


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
    """The process's file mode mask; the only way to read it is to set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fsync_directory(path: Path) -> None:
    """Make a rename inside a folder survive a power cut, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
