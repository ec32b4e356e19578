"""Pictures in many files: parquet and WebDataset shards, lists of addresses, and folders at an address."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data import parquet, webdataset
from clusterloom.data.addresses import Address, fetched, is_address, list_address, open_address, shown_address
from clusterloom.data.boundary import is_our_defect, only_data_errors, reason
from clusterloom.data.builtin import BUILTIN
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.decoding import Picture, Problem
from clusterloom.data.folder import SHARD_SUFFIXES, shards_below
from clusterloom.data.folder import SUFFIXES as PICTURES
from clusterloom.data.images import ImageSet, encode_labels, limit_note, limited_rows
from clusterloom.data.one_picture import Source
from clusterloom.data.options import ReadOptions
from clusterloom.data.pictures import read_pictures
from clusterloom.errors import DataError, MissingPackageError, printable

LIST_SUFFIXES = (".txt", ".list")
_ARRAY_SUFFIXES = (".npy", ".npz", ".gz", ".idx", "-ubyte")
_LOCAL = ("file:", "local:")
_MAX_LINE = 4096


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


@dataclass
class Parts:
    """Pictures in many places, in their order.

    Args:
        name: What the user named, for messages.
        parts: Gives them; may be called several times.
        stamp: What changes when one of them changes, JSON values; addresses in a list count as unchanging.
        n_parts: How many parts there are.
    """

    name: str
    parts: Callable[[], Iterator["Part | Problem"]]
    stamp: list[object]
    n_parts: int
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
            entry_folder(options.cache_dir, parts=parts.stamp, options=options.as_key()),
            options,
            name,
            skip_ours=True,
        )
    labels, class_names, notes = _labels(entry.facts["labels"])
    limited = [limit_note(len(rows), n_pictures)] if rows is not None and len(rows) < n_pictures else []
    notes = [*entry.facts["notes"], *notes, *limited]
    return ImageSet(entry.images, entry.facts["ids"], labels, class_names, name, tuple(notes), entry.pixel_range)


def shards_in_folder(folder: Path, shards: Sequence[str], name: str) -> Parts:
    """Shards that lie in a folder of this machine, by their paths inside it."""
    found = [Part(path, str(folder / path), True) for path in sorted(shards)]
    stamp = [[part.id, *file_stamp(Path(str(part.place)))] for part in found]
    return Parts(name, lambda: iter(found), [*stamp], len(found))


def single_tar(path: Path, name: str) -> Parts:
    """A tar file alone; its ids begin with its name, as they would in its folder."""
    return Parts(name, lambda: iter([Part(path.name, str(path), True)]), file_stamp(path), 1)


def listed_addresses(path: Path, name: str, base: "str | None" = None) -> Parts:
    """A text file with one address or path per line, of a picture or of a shard.

    Args:
        path: The file, UTF-8. Empty lines are passed over.
        name: What the user named.
        base: What relative paths begin with; the folder of the file if it is None.

    Raises:
        DataError: it is no text, or a line comes twice.
    """
    parent = str(path.resolve().parent)
    with only_data_errors(name):
        # Eight bytes for each: the lines of ten million pictures would take a gigabyte.
        digests = np.fromiter((hash(shown_address(line)) for line in _lines(path, name)), np.int64)
        if not len(digests):
            raise DataError(f"{printable(name)} holds no addresses; expected one per line")
        if len(np.unique(digests)) < len(digests):
            raise DataError(f"{printable(name)}: {_repeated(path, name)}")

    def parts() -> Iterator[Part | Problem]:
        for line in _lines(path, name):
            yield _line_part(line, base or parent)

    return Parts(name, parts, [*file_stamp(path), base], len(digests))


def parts_at(address: Address) -> Parts:
    """What lies at an address: pictures, shards if there are no pictures, or one shard.

    Raises:
        DataError: there is neither.
    """
    name = str(address)
    found = list_address(address)
    pictures = [file for file in found if _has_suffix(file.path, tuple(PICTURES))]
    shards = [file for file in found if _has_suffix(file.path, SHARD_SUFFIXES)]
    chosen = pictures or shards
    if not chosen:
        raise DataError(
            f"{name} holds no pictures and no shards ({', '.join(SHARD_SUFFIXES)}); of its {len(found)} files the "
            f"first is {printable(found[0].path)}"
        )
    parts = [Part(file.path, file.address, not pictures) for file in chosen]
    return Parts(name, lambda: iter(parts), [[file.address.url, *file.stamp] for file in chosen], len(parts))


def parts_of(source: "str | Path", name: str) -> "Parts | None":
    """The pictures of a source that is an address, a tar file or a list of addresses; None for all others.

    Args:
        source: What the user named.
        name: The same, for messages.

    Raises:
        DataError: there is nothing at the address, or the list cannot be read.
    """
    if is_address(source):
        address = Address(str(source))
        if is_list(str(address)):
            (file,) = list_address(address)
            return listed_addresses(fetched(address, file.stamp), name, address.url.rpartition("/")[0])
        return parts_at(address)
    path = Path(source)
    if not path.is_file():
        return None
    if _has_suffix(path.name, webdataset.SUFFIXES):
        return single_tar(path, name)
    return listed_addresses(path, name) if is_list(path) else None


def parts_in(source: "str | Path") -> "Parts | None":
    """The parts of a source whose pictures lie in many places: as `parts_of`, and of a folder that holds shards.

    Raises:
        DataError: as `parts_of`.
    """
    name, path = shown_address(str(source)), Path(source)
    if isinstance(source, str) and source in BUILTIN:
        return None
    with only_data_errors(name):
        if not is_address(source) and path.is_dir() and str(source):
            shards = shards_below(path)
            return shards_in_folder(path, shards, f"folder {printable(path.resolve().name)}") if shards else None
        return None if is_array_address(source) else parts_of(source, name)


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
    return Parts(name, lambda: iter(some), [*parts.stamp, "some", most], len(some))


def is_array_address(source: "str | Path") -> bool:
    """Whether a source is the address of a single file that is no shard: an array, a stack or a picture."""
    if not is_address(source):
        return False
    shown = shown_address(str(source))
    return _has_suffix(shown, (*_ARRAY_SUFFIXES, *PICTURES)) and not _has_suffix(shown, SHARD_SUFFIXES)


def is_list(path: "Path | str") -> bool:
    """Whether a name is that of a list of addresses."""
    return str(path).lower().endswith(LIST_SUFFIXES)


def _line_part(line: str, base: str) -> Part:
    shown = shown_address(line)
    place: str | Address
    if is_address(line):
        place = Address(line)
    elif is_address(base):
        place = Address(f"{base.rstrip('/')}/{line}")
    else:
        place = str(Path(base, line))
    return Part(shown, place, _has_suffix(shown, SHARD_SUFFIXES))


def _lines(path: Path, name: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline=None) as file:
        number = 0
        while line := file.readline(_MAX_LINE + 1):
            number += 1
            if len(line) > _MAX_LINE or "\0" in line:
                raise DataError(f"{printable(name)}: line {number} is no address")
            if line.strip():
                yield line.strip()


def _repeated(path: Path, name: str) -> str:
    seen: set[str] = set()
    for line in _lines(path, name):
        shown = shown_address(line)
        if shown in seen:
            return f"{shown} is listed twice; remove one"
        seen.add(shown)
    return "a line is listed twice"


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
        if _has_suffix(part.id, webdataset.SUFFIXES):
            yield from webdataset.tar_pictures(file, part.id)
        else:
            yield from parquet.shard_pictures(file, part.id, _beside(part.place))


def _beside(place: "str | Address") -> Callable[[str], Source]:
    """How a text in a shard becomes a picture's source: an address, or a path from the folder of the shard."""
    text = place.url if isinstance(place, Address) else place
    folder = text.rpartition("/")[0]

    def source(picture: str) -> Source:
        # A shard may come from anyone; what it names on this machine are files beside it, by plain paths.
        if picture.lower().startswith(_LOCAL):
            return b""
        return _line_part(picture, folder or ".").place

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
        is_tar = _has_suffix(part.id, webdataset.SUFFIXES)
        if is_tar and isinstance(part.place, Address):
            return 0
        try:
            with _open(part.place) as file:
                total += webdataset.n_pictures(file) if is_tar else parquet.n_rows(file, part.id)
        except MissingPackageError:
            raise
        except Exception as error:  # it is said when the shard is read
            if is_our_defect(error):
                raise
    return total


def _has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)


def _labels(texts: "list[str | None]") -> tuple[NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    known = sum(text is not None for text in texts)
    if not known:
        return None, (), []
    if known < len(texts):
        return None, (), [f"labels left out: {len(texts) - known} of {len(texts)} images have none"]
    numbers = all(text is not None and text.isdecimal() for text in texts)
    values = np.array([int(text) if numbers else text for text in texts if text is not None])
    return *encode_labels(values), ["labels from the shards, for evaluation alone"]
