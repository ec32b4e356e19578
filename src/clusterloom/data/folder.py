"""Pictures in a folder and its sub-folders."""

import itertools
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clusterloom.console import ProgressReport
from clusterloom.data import fits, tiff
from clusterloom.data.boundary import only_data_errors, reason
from clusterloom.data.cache import entry_folder
from clusterloom.data.decoding import Picture, Problem
from clusterloom.data.images import ImageSet, limit_note, limited_rows
from clusterloom.data.options import ReadOptions
from clusterloom.data.pictures import read_pictures
from clusterloom.errors import DataError, printable
from clusterloom.marks import folder_kind

SUFFIXES = (
    frozenset({".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".webp"})
    | tiff.SUFFIXES
    | fits.SUFFIXES
)
SHARD_SUFFIXES = (".parquet", ".tar", ".tar.gz", ".tgz")


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name ends with one of some suffixes, in upper or lower case."""
    return name.lower().endswith(suffixes)


class NoPicturesError(DataError):
    """A folder has no pictures; `shards` are the files in it that may hold some, by their paths inside it."""

    def __init__(self, text: str, shards: Sequence[str]) -> None:
        super().__init__(text)
        self.shards = shards


@dataclass
class _Listing:
    """What a walk through a folder found."""

    # Identifier to path, size and times: all that tells whether a file has changed.
    stamps: dict[str, list[object]] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    shards: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_folder(folder: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read all pictures in a folder and its sub-folders, in the order of their paths.

    Files count as pictures by their suffix (`SUFFIXES`, in any case); hidden files and folders and all other files
    are ignored and counted in the notes. So is what clusterloom itself made: sub-folders that are models, exports or
    tables of shards, and pictures that it wrote. Links are followed, each folder being read once. How a picture becomes
    pixels is `clusterloom.data.convert.convert`'s to say, and its size `clusterloom.data.pictures.choose_size`'s.
    If all pictures lie in sub-folders, at least two of them, the names of these become the classes.

    Converted images are cached under the paths, sizes and times of the files, so that a second call is instant.

    Args:
        folder: The folder.
        name: What the user named, for messages.
        options: How pictures are read. With a limit, only the chosen pictures are looked at, also for the size.

    Returns:
        The images, identified by their paths inside the folder with `/` between the parts.

    Raises:
        clusterloom.data.folder.NoPicturesError: there is no picture.
        DataError: one cannot be read and `options.skip_bad` is off.
    """
    with only_data_errors(name):
        listing = _list_pictures(folder, options.progress)
        ids = sorted(listing.stamps)
        if not ids and not listing.problems:
            raise NoPicturesError(_nothing_found(name, listing), listing.shards)
        chosen = [ids[row] for row in limited_rows(len(ids), options.limit)]
        entry = read_pictures(
            lambda: (Picture(identifier, str(folder / identifier)) for identifier in chosen),
            len(chosen),
            entry_folder(
                options.cache_dir,
                folder=str(folder.resolve()),
                files=[[identifier, *listing.stamps[identifier]] for identifier in chosen],
                problems=listing.problems,
                options=options.as_key(),
            ),
            options,
            name,
            listing.problems,
            skip_ours=True,
        )
    kept: list[str] = entry.facts["ids"]
    ours = set(entry.facts["ours"])
    class_names = _class_folders([identifier for identifier in ids if identifier not in ours])
    notes = [*entry.facts["notes"], *_ignored_note(listing), *_class_note(class_names)]
    if len(chosen) < len(ids):
        notes.append(limit_note(len(chosen), len(ids)))
    labels = _folder_labels(kept, class_names)
    shown_names = tuple(printable(class_name) for class_name in class_names)
    return ImageSet(entry.images, kept, labels, shown_names, name, tuple(notes), entry.pixel_range)


def _list_pictures(folder: Path, progress: ProgressReport) -> _Listing:
    listing = _Listing()
    for identifier, status in _walk(folder, listing):
        listing.stamps[identifier] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        progress("looking for pictures", len(listing.stamps), 0)
    return listing


def stream_folder(folder: Path, name: str, problems: list[Problem]) -> Iterator[Picture]:
    """The pictures that `read_folder` reads, in the same order, while the folder is walked through.

    Of each folder on the way only its own names are in memory.

    Args:
        folder: The folder.
        name: What the user named, for messages.
        problems: Gets what cannot be read.

    Returns:
        Picture by picture.

    Raises:
        NoPicturesError: there is none, which is known before the first one is asked for.
    """
    listing = _Listing(problems=problems)
    found = _walk(folder, listing)
    first = next(found, None)
    if first is None and not problems:
        raise NoPicturesError(_nothing_found(name, listing), listing.shards)
    every = itertools.chain([] if first is None else [first], found)
    return (Picture(identifier, str(folder / identifier)) for identifier, _ in every)


def shards_below(folder: Path) -> list[str]:
    """Files of a folder that may hold pictures, by their paths inside it; none where it has pictures of its own."""
    listing = _Listing()
    return [] if next(_walk(folder, listing), None) is not None else listing.shards


def _walk(folder: Path, listing: _Listing) -> Iterator[tuple[str, os.stat_result]]:
    """Pictures by identifier, in its order; what else there is goes into the listing.

    By hand: links to folders are followed, and a real folder met before is not entered again.
    """
    seen: set[tuple[int, int]] = set()
    levels = [_list_level(folder, "", listing, seen)]
    while levels:
        for identifier, status in levels[-1]:
            if status is None:
                levels.append(_list_level(folder / identifier, identifier, listing, seen))
                break
            yield identifier, status
        else:
            levels.pop()


def _list_level(
    folder: Path, prefix: str, listing: _Listing, seen: set[tuple[int, int]]
) -> Iterator[tuple[str, os.stat_result | None]]:
    """Pictures of a folder, with None in place of the status its sub-folders, all in the order of identifiers.

    A sub-folder's name counts with the slash behind it, which puts it where the pictures inside belong.
    """
    found: list[tuple[str, os.stat_result | None]] = []
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        if prefix and folder_kind(folder) is not None:
            listing.ignored["folder that clusterloom made"] += 1
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    found += _list_entry(entry, prefix + entry.name, listing)
                except OSError as error:  # a link to nowhere, or to itself
                    listing.problems.append(Problem(prefix + entry.name, reason(error)))
    except OSError as error:
        listing.problems.append(Problem(prefix or ".", reason(error)))
    # Sorted, so that of two links to one folder always the same one counts.
    yield from sorted(found, key=itemgetter(0))


def _list_entry(entry: os.DirEntry[str], identifier: str, listing: _Listing) -> list[tuple[str, os.stat_result | None]]:
    stem, suffix = os.path.splitext(entry.name.lower())  # noqa: PTH122 (a Path per file doubles the time of the walk)
    if suffix == ".gz":
        suffix = os.path.splitext(stem)[1] + suffix  # noqa: PTH122
    if entry.name.startswith("."):
        listing.ignored["hidden"] += 1
    elif entry.is_dir():
        return [(f"{identifier}/", None)]
    elif suffix not in SUFFIXES:
        listing.ignored[suffix or "no suffix"] += 1
        if has_suffix(entry.name, SHARD_SUFFIXES) and entry.is_file():
            listing.shards.append(identifier)
    else:
        status = entry.stat()
        if stat.S_ISREG(status.st_mode):
            return [(identifier, status)]
        # Opening a pipe would wait for ever.
        listing.problems.append(Problem(identifier, "not a regular file"))
    return []


def _class_folders(ids: Sequence[str]) -> tuple[str, ...]:
    """Names of the first-level sub-folders if they hold all pictures and are at least two, otherwise none."""
    if not all("/" in identifier for identifier in ids):
        return ()
    names = sorted({identifier.split("/", 1)[0] for identifier in ids})
    return tuple(names) if len(names) >= 2 else ()


def _folder_labels(ids: Sequence[str], class_names: tuple[str, ...]) -> NDArray[np.int64] | None:
    if not class_names:
        return None
    index = {name: label for label, name in enumerate(class_names)}
    return np.array([index[identifier.split("/", 1)[0]] for identifier in ids], np.int64)


def _class_note(class_names: tuple[str, ...]) -> list[str]:
    return [f"labels from {len(class_names)} sub-folders, for evaluation alone"] if class_names else []


def _ignored_note(listing: _Listing) -> list[str]:
    if not listing.ignored:
        return []
    kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in listing.ignored.most_common(5))
    return [f"{listing.ignored.total()} other files or folders ignored ({kinds})"]


def _nothing_found(name: str, listing: _Listing) -> str:
    expected = ", ".join(sorted(SUFFIXES))
    return "; ".join([f"{printable(name)} holds no pictures ({expected})", *_ignored_note(listing)])
