"""Converted images kept on disk: written whole or not at all, checked when read, rebuilt when damaged."""

import atexit
import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.errors import DataError

_IMAGES, _FACTS, _CHECK = "images.npy", "facts.json", "check.txt"
# Part of every key: raise it when a conversion rule changes, so that older entries are no longer found.
_RULE_VERSION = 1
_ENDS_BYTES = 1 << 24
_STALE_SECONDS = 86_400


@dataclass(frozen=True)
class Entry:
    """Converted images with what else the reader needs to know about them.

    Args:
        images: Memory-mapped, read-only, shape (N, ...), uint8.
        facts: Whatever JSON the writer stored.
    """

    images: NDArray[np.uint8]
    facts: dict[str, Any]


def cache_root(cache_dir: Path | None = None) -> Path:
    """The folder for converted and fetched images.

    Args:
        cache_dir: Use this one instead of $CLUSTERLOOM_CACHE, $XDG_CACHE_HOME/clusterloom or ~/.cache/clusterloom.

    Returns:
        A folder that can be written: a temporary one, gone when Python ends, if the wanted one cannot.
    """
    wanted = cache_dir or _wanted_root()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        return _temporary_root()


def _wanted_root() -> Path:
    if chosen := os.environ.get("CLUSTERLOOM_CACHE"):
        return Path(chosen)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "clusterloom"
    try:
        return Path.home() / ".cache" / "clusterloom"
    except RuntimeError:  # an account without a home folder
        return _temporary_root()


@functools.cache
def _temporary_root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clusterloom-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def entry_folder(cache_dir: Path | None, **what: object) -> Path:
    """Where the conversion of one input with one group of settings is kept.

    Args:
        cache_dir: See `cache_root`.
        **what: All that the result depends on, as JSON values.

    Returns:
        A folder named by the SHA-256 of `what`; it need not exist.
    """
    key = json.dumps({"rule": _RULE_VERSION, **what}, sort_keys=True).encode("ascii")
    return cache_root(cache_dir) / "images" / hashlib.sha256(key).hexdigest()


def file_stamp(path: Path) -> list[object]:
    """What changes when a file changes: its place, size and times.

    The time of the last status change is part of it because tools that restore modification times leave it alone.
    """
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


@contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """Write an entry in a scratch folder that becomes `folder` at the end, whole or not at all.

    Args:
        folder: Where the entry goes; a damaged entry there is replaced, a good one kept.

    Yields:
        The scratch folder, to be filled by `write_images` and `finish_entry`.

    Raises:
        DataError: the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    # Not tempfile's: its folders are closed to others, and a cache may be shared.
    scratch = folder.parent / f".partial-{uuid.uuid4().hex}"
    scratch.mkdir()
    try:
        yield scratch
        _replace(folder, scratch)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"no room for the converted images in {folder.parent}; free some space, or set CLUSTERLOOM_CACHE to a "
            f"folder on a larger disk"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _replace(folder: Path, scratch: Path) -> None:
    # Another process may have finished the same entry meanwhile, and be about to read it.
    if load_entry(folder) is not None:
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        scratch.rename(folder)
    except OSError:
        if load_entry(folder) is None:
            raise


def _sweep(parent: Path) -> None:
    """Remove what killed processes left behind."""
    for scratch in parent.glob(".partial-*"):
        try:
            if time.time() - scratch.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(scratch, ignore_errors=True)
        except OSError:  # another process was faster
            continue


def write_images(folder: Path, blocks: Iterable[NDArray[np.uint8]], image_shape: tuple[int, ...]) -> int:
    """Write images to an entry, block by block, without knowing beforehand how many there will be.

    Plain writes instead of a memory map: a full disk raises OSError here, where a map would kill the process.

    Args:
        folder: The scratch folder of `new_entry`.
        blocks: Images, each of shape (any, *image_shape), uint8.
        image_shape: Shape of one image.

    Returns:
        The number of images written.
    """
    n_images = 0
    with (folder / _IMAGES).open("wb") as file:
        _write_header(file, (0, *image_shape))
        for block in blocks:
            file.write(np.ascontiguousarray(block).data)
            n_images += len(block)
        file.seek(0)
        # numpy pads the header for a growing first axis, so its length is the same for every number of images.
        _write_header(file, (n_images, *image_shape))
    return n_images


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(int(side) for side in shape)}
    np.lib.format.write_array_header_1_0(file, header)


def finish_entry(folder: Path, facts: dict[str, Any]) -> None:
    """Add the facts to an entry whose images are written, and the check that later reads compare with.

    Args:
        folder: The scratch folder of `new_entry`.
        facts: JSON values; text may hold surrogate escapes.
    """
    (folder / _FACTS).write_text(json.dumps(facts), encoding="ascii")
    (folder / _CHECK).write_text(_check(folder), encoding="ascii")


def load_entry(folder: Path) -> Entry | None:
    """The entry in a folder, or None if there is none or it is damaged.

    Args:
        folder: As `entry_folder` gives it.

    Returns:
        The entry, its images memory-mapped.
    """
    try:
        if (folder / _CHECK).read_text("ascii") != _check(folder):
            return None
        facts = json.loads((folder / _FACTS).read_text("ascii"))
        return Entry(np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False), facts)
    except (OSError, ValueError):
        return None


def _check(folder: Path) -> str:
    """SHA-256 over the facts, the size of the image file and its ends.

    The first and the last 16 MB hold all of a small set; of a large one they catch truncation and blocks that never
    reached the disk, without the minutes that reading all of it would take.
    """
    path = folder / _IMAGES
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size}\n".encode("ascii") + (folder / _FACTS).read_bytes())
    with path.open("rb") as file:
        digest.update(file.read(_ENDS_BYTES))
        file.seek(max(file.tell(), size - _ENDS_BYTES))
        digest.update(file.read(_ENDS_BYTES))
    return digest.hexdigest()
