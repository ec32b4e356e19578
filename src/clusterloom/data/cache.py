"""Converted images kept on disk: written whole or not at all, checked when read, rebuilt when damaged.

When the entries take more than 20 GB, those that were not used for the longest time go.
"""

import atexit
import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from clusterloom.data.pixels import PixelRange, as_range
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.files import scratch_directory, sweep_all_stale

_IMAGES, _FACTS, _CHECK = "images.npy", "facts.json", "check.txt"
# Part of every key: raise it when a conversion rule changes, so that older entries are no longer found.
_RULE_VERSION = 5
_ENDS_BYTES = 1 << 24
_MOST_GB = 20
_BLOCK = 1024  # images that are compared at once
# Entries that this process has mapped or may read again: never removed to make room.
_in_use: set[Path] = set()


@dataclass(frozen=True)
class Entry:
    """Converted images with what else the reader needs to know about them.

    Args:
        images: Memory-mapped, read-only, shape (N, ...), uint8.
        facts: Whatever JSON the writer stored.
    """

    images: NDArray[np.uint8]
    facts: dict[str, Any]

    @property
    def pixel_range(self) -> PixelRange | None:
        """The fact of this name, see `clusterloom.data.ImageSet`."""
        known = self.facts["pixel_range"]
        return None if known is None else as_range(known)


def cache_root(cache_dir: Path | None = None) -> Path:
    """The folder for converted and fetched images.

    Args:
        cache_dir: Use this one instead of $CLUSTERLOOM_CACHE, or of the place that the system has for a user's caches.

    Returns:
        A folder that can be written: a temporary one, gone when Python ends, if the wanted one cannot.
    """
    # Of an account without a home folder this leaves the ~, of which a Path makes an exception.
    chosen = os.path.expanduser(os.environ.get("CLUSTERLOOM_CACHE", ""))  # noqa: PTH111
    wanted = cache_dir or (Path(chosen) if chosen else platformdirs.user_cache_path("clusterloom", appauthor=False))
    try:
        if str(wanted).startswith("~"):  # an account without a home folder
            return _temporary_root()
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        return _temporary_root()


@functools.cache
def _temporary_root() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="clusterloom-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def entry_folder(cache_dir: Path | None, **what: object) -> Path:
    """The folder for the conversion of one input: named by the SHA-256 of `what`, all that the result depends on."""
    key = json.dumps({"rule": _RULE_VERSION, **what}, sort_keys=True).encode("ascii")
    return cache_root(cache_dir) / "images" / hashlib.sha256(key).hexdigest()


def file_stamp(path: Path) -> list[object]:
    """What changes when a file changes: its place, size and times.

    The time of the last status change is part of it because tools that restore modification times leave it alone.
    """
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def load_or_make(folder: Path, make: Callable[[Path], dict[str, Any]]) -> Entry:
    """The entry in a folder; if there is none or it is damaged, `make` writes the images and returns the facts.

    Raises:
        DataError: the disk is full.
        SettingsError: $CLUSTERLOOM_CACHE_GB is no number.
    """
    if (entry := load_entry(folder)) is not None:
        return entry
    _most_bytes()  # refused before any work is done
    with new_entry(folder) as scratch:
        finish_entry(scratch, make(scratch))
    entry = load_entry(folder)
    if entry is None:
        raise DataError(f"{folder} was removed or damaged while it was written; run the command again")
    make_room(folder.parent)
    return entry


@contextmanager
def new_entry(folder: Path) -> Iterator[Path]:
    """A scratch folder for `write_images` and `finish_entry`, which becomes `folder` at the end or not at all.

    A damaged entry in `folder` is replaced, a good one kept.

    Raises:
        DataError: the disk is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch_directory(folder) as scratch:
            yield scratch
            _replace(folder, scratch)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"no room for the converted images in {folder.parent}; free some space, or set CLUSTERLOOM_CACHE to a "
            f"folder on a larger disk"
        ) from error


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


def write_images(folder: Path, blocks: Iterable[NDArray[np.uint8]], image_shape: tuple[int, ...]) -> int:
    """Write blocks of images (any, *image_shape) to the folder of a `new_entry`; how many there were.

    Plain writes instead of a memory map: a full disk raises OSError here, where a map would kill the process.
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


def drop_repeated_channels(folder: Path) -> bool:
    """Of images (N, H, W, C) that `write_images` wrote keep the first channel, if all others repeat it everywhere.

    Returns:
        Whether they do. The first block in which they do not ends the look.
    """
    images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
    blocks = [images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]
    if any((block != block[..., :1]).any() for block in blocks):
        return False
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_images(Path(scratch), (block[..., :1] for block in blocks), (*images.shape[1:3], 1))
        (Path(scratch) / _IMAGES).replace(folder / _IMAGES)
    return True


def _write_header(file: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(int(side) for side in shape)}
    np.lib.format.write_array_header_1_0(file, header)


def finish_entry(folder: Path, facts: dict[str, Any]) -> None:
    """Add facts, JSON values, to an entry whose images are written, and the check that later reads compare with."""
    (folder / _FACTS).write_text(json.dumps(facts), encoding="ascii")
    (folder / _CHECK).write_text(_check(folder), encoding="ascii")


def load_entry(folder: Path) -> Entry | None:
    """The entry in a folder, its images memory-mapped, or None if there is none or it is damaged."""
    try:
        if (folder / _CHECK).read_text("ascii") != _check(folder):
            return None
        facts = json.loads((folder / _FACTS).read_text("ascii"))
        images = np.load(folder / _IMAGES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    use_entry(folder)
    return Entry(images, facts)


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


def mark_used(path: Path) -> None:
    """Note that a kept file or folder is used now, by its modification time; `keep_recent` goes by that."""
    with contextlib.suppress(OSError):  # a cache that can only be read
        os.utime(path)


def use_entry(folder: Path) -> None:
    """Note that an entry is used: it stays while this process runs, and is among the last to go afterwards."""
    _in_use.add(folder)
    mark_used(folder)


def make_room(folder: Path) -> None:
    """`keep_recent` of what $CLUSTERLOOM_CACHE_GB allows, and of the entries that this process uses.

    Raises:
        SettingsError: $CLUSTERLOOM_CACHE_GB is no number.
    """
    keep_recent(folder, _most_bytes(), _in_use)


def keep_recent(folder: Path, most_bytes: float, spared: Collection[Path] = ()) -> None:
    """Remove the files and folders that were not used for the longest time, until the others fit.

    What killed processes have left unfinished in `folder` goes too.

    Args:
        folder: A folder that nobody but clusterloom writes to.
        most_bytes: What may be taken up.
        spared: What stays in any case.
    """
    sweep_all_stale(folder)
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            if not path.name.startswith("."):
                entries.append((path.stat().st_mtime_ns, _size(path), path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= most_bytes:
            return
        if path not in spared:
            with contextlib.suppress(OSError):  # in use by another process, where that forbids removal
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                total -= size


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def _most_bytes() -> float:
    text = os.environ.get("CLUSTERLOOM_CACHE_GB", "").strip() or str(_MOST_GB)
    try:
        most = float(text)
    except ValueError:
        most = math.nan
    if not most >= 0:
        raise SettingsError(f"CLUSTERLOOM_CACHE_GB is {printable(text)!r}; expected a number of gigabytes, such as 20")
    return most * 1e9
