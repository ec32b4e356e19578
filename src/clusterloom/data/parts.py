"""Parts: pictures in many files, one by one or by the shard, and how they are read."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data import parquet, webdataset
from clusterloom.data.addresses import Address, is_address, open_address, shown_address
from clusterloom.data.boundary import is_our_defect, only_data_errors, reason
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.decoding import Picture, Problem
from clusterloom.data.folder import SHARD_SUFFIXES, has_suffix
from clusterloom.data.images import ImageSet, encode_labels, limit_note, limited_rows
from clusterloom.data.one_picture import Source
from clusterloom.data.options import ReadOptions
from clusterloom.data.pictures import read_pictures
from clusterloom.errors import MissingPackageError

_REMOTE = ("s3://", "gs://", "http://", "https://")


class Part(NamedTuple):
    """A picture, or a shard with many.

    Args:
        id: Of the picture, or what the ids of a shard's pictures begin with.
        place: A path, or an address.
        is_shard: Which of the two.
    """

    id: str
    place: str | Address
    is_shard: bool

    @property
    def is_tar(self) -> bool:
        """Whether it is a tar file, by its name."""
        return has_suffix(str(self.place), webdataset.SUFFIXES)

    @classmethod
    def from_line(cls, line: str, base: str) -> "Part":
        """What a line of a list means: an address or a path, of a picture or of a shard.

        Args:
            line: Of the list.
            base: What a relative path begins with: a folder or an address.
        """
        shown = shown_address(line)
        place: str | Address
        if is_address(line):
            place = Address(line)
        elif is_address(base):
            place = Address(f"{base.rstrip('/')}/{line}")
        else:
            place = str(Path(base, line))
        return cls(shown, place, has_suffix(shown, SHARD_SUFFIXES))


@dataclass
class Parts:
    """Pictures in many places, in their order.

    Args:
        name: What the user named, for messages.
        parts: Gives them; may be called several times.
        stamp: What changes when the parts are others, JSON values; files of this machine need none. What an address in
            a list or on a web server holds counts as unchanging.
        notes: Sentences on what was left out.
    """

    name: str
    parts: Callable[[], Iterator["Part | Problem"]]
    stamp: list[object]
    notes: tuple[str, ...] = ()
    _n_pictures: int | None = field(default=None, init=False)

    def pictures(self, rows: "NDArray[np.int64] | None" = None) -> Iterator[Picture | Problem]:
        """All pictures, or those of ascending rows; a shard that cannot be read to its end is a problem."""
        every = itertools.chain.from_iterable(map(_pictures_of, self.parts()))
        if rows is None:
            yield from every
            return
        wanted = iter(rows.tolist())
        row = next(wanted, None)
        for number, picture in enumerate(every):
            if number == row or isinstance(picture, Problem):
                yield picture
            if number == row:
                row = next(wanted, None)

    def n_pictures(self) -> int:
        """How many pictures there are; 0 where only reading all of them would tell.

        Parquet files say it at their end and tar files of this machine in their headers; tar files at addresses do not.
        """
        if self._n_pictures is None:
            self._n_pictures = _count(self.parts())
        return self._n_pictures


def read_parts(parts: Parts, options: ReadOptions) -> ImageSet:
    """Read the pictures of many places by way of the cache, by the same rule as pictures in folders.

    Args:
        parts: Where they are.
        options: How pictures are read. With a limit, only the chosen pictures are decoded.

    Returns:
        The images. Ids of those in shards are `shard#row` and `shard#member`, so a shard that comes or goes changes no
        others. Labels, if every picture has one, are from a column `label` or `labels`, or from members `.cls`.

    Raises:
        DataError: a picture or a shard cannot be read and `options.skip_bad` is off, or there are none.
    """
    name = parts.name
    with only_data_errors(name):
        n_pictures = parts.n_pictures()
        rows = None
        if options.limit is not None:
            n_pictures = n_pictures or sum(1 for _ in parts.pictures())
            rows = limited_rows(n_pictures, options.limit)
        entry = read_pictures(
            lambda: parts.pictures(rows),
            n_pictures if rows is None else len(rows),
            entry_folder(
                options.cache_dir, parts=parts.stamp, local=_local_stamps(parts.parts()), options=options.as_key()
            ),
            options,
            name,
            skip_ours=True,
        )
    labels, class_names, notes = _labels(entry.facts["labels"])
    limited = [limit_note(len(rows), n_pictures)] if rows is not None and len(rows) < n_pictures else []
    notes = [*entry.facts["notes"], *parts.notes, *notes, *limited]
    return ImageSet(entry.images, entry.facts["ids"], labels, class_names, name, tuple(notes), entry.pixel_range)


def _local_stamps(parts: "Iterable[Part | Problem]") -> str:
    """What changes when a file of this machine changes, comes or goes, as a SHA-256."""
    digest = sha256()
    for part in parts:
        if isinstance(part, Part) and isinstance(part.place, str):
            try:
                stamp = file_stamp(Path(part.place))
            except OSError:
                stamp = [part.place]
            digest.update(json.dumps([part.id, *stamp]).encode())
    return digest.hexdigest()


def some_shards(parts: Parts, most: int) -> Parts:
    """Whole shards, chosen at random (seeded, without a look at labels), that hold at least so many pictures together.

    They keep their order. All shards are taken where they hold no more than that, or where only reading all of them
    would tell how many they hold.

    Args:
        parts: Shards.
        most: Pictures that are wanted.
    """
    if parts.n_pictures() <= most:
        return parts
    every = list(parts.parts())
    chosen, n_pictures = [], 0
    for row in np.random.default_rng(0).permutation(len(every)).tolist():
        if n_pictures < most:
            chosen.append(row)
            n_pictures += _count([every[row]])
    some = [every[row] for row in sorted(chosen)]
    name = f"{parts.name}: {len(some)} of its {len(every)} shards, chosen at random"
    return Parts(name, lambda: iter(some), [*parts.stamp, "some", most], parts.notes)


def _pictures_of(part: "Part | Problem") -> Iterator[Picture | Problem]:
    if isinstance(part, Problem):
        yield part
    elif not part.is_shard:
        yield Picture(part.id, part.place)
    else:
        try:
            yield from _shard(part)
        except MissingPackageError:
            raise
        except Exception as error:  # tar, gzip and parquet raise nearly anything on damaged bytes
            if is_our_defect(error):
                raise
            yield Problem(part.id, f"the shard cannot be read: {reason(error)}")


def _shard(part: Part) -> Iterator[Picture | Problem]:
    with _open(part.place) as file:
        if part.is_tar:
            yield from webdataset.tar_pictures(file, part.id)
        else:
            yield from parquet.shard_pictures(file, part.id, _beside(part.place))


def _beside(place: "str | Address") -> Callable[[str], Source]:
    """How a text in a shard becomes a picture's source: an address, or a path from the folder of the shard."""
    text = place.url if isinstance(place, Address) else place
    folder = text.rpartition("/")[0]

    def source(picture: str) -> Source:
        # A shard may come from anyone. What it names on this machine are files beside it, by plain paths: of protocols,
        # others than these open files of this machine too, and so may any that comes behind a ::.
        path = PurePosixPath(picture)
        if (
            path.is_absolute()
            or ".." in path.parts
            or (is_address(picture) and not picture.lower().startswith(_REMOTE))
        ):
            return b""
        part = Part.from_line(picture, folder or ".")
        return b"" if isinstance(part.place, Address) and "::" in picture else part.place

    return source


@contextmanager
def _open(place: "str | Address") -> Iterator[IO[bytes]]:
    if isinstance(place, Address):
        with open_address(place) as file:
            yield file
    else:
        with Path(place).open("rb") as file:
            yield file


def _count(parts: "Iterable[Part | Problem]") -> int:
    total = 0
    for part in parts:
        if isinstance(part, Problem) or not part.is_shard:
            total += 1
            continue
        if part.is_tar and isinstance(part.place, Address):
            return 0
        try:
            with _open(part.place) as file:
                total += webdataset.n_pictures(file) if part.is_tar else parquet.n_rows(file, part.id)
        except MissingPackageError:
            raise
        except Exception as error:  # it is said when the shard is read
            if is_our_defect(error):
                raise
    return total


def _labels(texts: "list[str | None]") -> tuple[NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    known = sum(text is not None for text in texts)
    if not known:
        return None, (), []
    if known < len(texts):
        return None, (), [f"labels left out: {len(texts) - known} of {len(texts)} images have none"]
    numbers = all(text is not None and text.isdecimal() for text in texts)
    values = np.array([int(text) if numbers else text for text in texts if text is not None])
    return *encode_labels(values), ["labels from the shards, for evaluation alone"]
