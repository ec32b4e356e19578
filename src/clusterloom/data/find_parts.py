"""Which parts a source has: shards in folders, tar files, lists of addresses, and what lies at an address."""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from clusterloom.data import parquet
from clusterloom.data.addresses import Address, fetched, is_address, list_address, shown_address
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import file_stamp
from clusterloom.data.decoding import Problem
from clusterloom.data.folder import SHARD_SUFFIXES, has_suffix, shards_below
from clusterloom.data.folder import SUFFIXES as PICTURES
from clusterloom.data.parts import Part, Parts
from clusterloom.data.source_kind import LIST_SUFFIXES, kind_of
from clusterloom.errors import DataError, printable

_MAX_LINE = 4096
_ID_DIGITS = 16  # fewer would come twice among millions


def shards_in_folder(folder: Path, shards: Sequence[str], name: str) -> Parts:
    """Shards that lie in a folder of this machine, by their paths inside it; what clusterloom wrote is none.

    Raises:
        DataError: there are no others.
    """
    with only_data_errors(name):
        ours = {path for path in shards if has_suffix(path, (".parquet",)) and parquet.is_ours(folder / path)}
    found = [Part(path, str(folder / path), True) for path in sorted(set(shards) - ours)]
    if not found:
        raise DataError(
            f"{name} holds no pictures and no shards but {len(ours)} parquet files that clusterloom itself wrote, "
            "which are not read as data"
        )
    notes = (f"{len(ours)} parquet files that clusterloom itself wrote left out",) if ours else ()
    return Parts(name, lambda: iter(found), [], notes)


def single_tar(path: Path, name: str) -> Parts:
    """A tar file alone; its ids begin with its name, as they would in its folder."""
    return Parts(name, lambda: iter([Part(path.name, str(path), True)]), [])


def listed_addresses(path: Path, name: str, base: "str | None" = None) -> Parts:
    """A text file with one address or path per line, of a picture or of a shard.

    Addresses that differ in their query alone would be shown alike. Their ids end in a hash of the whole line.

    Args:
        path: The file, UTF-8. Empty lines are passed over.
        name: What the user named.
        base: What relative paths begin with; the folder of the file if it is None.

    Raises:
        DataError: it is no text, or a line comes twice.
    """
    parent = str(path.resolve().parent)
    with only_data_errors(name):
        # Sixteen bytes for each: the lines of ten million pictures would take a gigabyte.
        hashes = (number for line in _lines(path, name) for number in (hash(line), hash(shown_address(line))))
        digests = np.fromiter(hashes, np.int64).reshape(-1, 2)
        if not len(digests):
            raise DataError(f"{printable(name)} holds no addresses; expected one per line")
        if len(np.unique(digests[:, 0])) < len(digests):
            raise DataError(f"{printable(name)}: {_repeated(path, name)}")
        shown, counts = np.unique(digests[:, 1], return_counts=True)
        shared = set(shown[counts > 1].tolist())

    def parts() -> Iterator[Part | Problem]:
        for line in _lines(path, name):
            part = Part.from_line(line, base or parent)
            if hash(part.id) in shared:
                part = part._replace(id=f"{part.id}~{sha256(line.encode()).hexdigest()[:_ID_DIGITS]}")
            yield part

    return Parts(name, parts, [*file_stamp(path), base])


def parts_at(address: Address) -> Parts:
    """What lies at an address: pictures, shards if there are no pictures, or one shard.

    Raises:
        DataError: there is neither.
    """
    name = str(address)
    found = list_address(address)
    pictures = [file for file in found if has_suffix(file.path, tuple(PICTURES))]
    shards = [file for file in found if has_suffix(file.path, SHARD_SUFFIXES)]
    chosen = pictures or shards
    if not chosen:
        raise DataError(
            f"{name} holds no pictures and no shards ({', '.join(SHARD_SUFFIXES)}); of its {len(found)} files the "
            f"first is {printable(found[0].path)}"
        )
    parts = [Part(file.path, file.address, not pictures) for file in chosen]
    return Parts(name, lambda: iter(parts), [[file.address.url, *file.stamp] for file in chosen])


def parts_of(source: "str | Path", name: str, cache_dir: Path | None = None) -> Parts:
    """The pictures of an address, a tar file or a list of addresses.

    Args:
        source: What the user named, of the kind "parts".
        name: The same, for messages.
        cache_dir: See `clusterloom.data.cache.cache_root`.

    Raises:
        DataError: there is nothing at the address, or the list cannot be read.
    """
    if is_address(source):
        address = Address(str(source))
        if has_suffix(str(address), LIST_SUFFIXES):
            found = list_address(address)
            if len(found) != 1:
                raise DataError(f"{printable(name)} is a folder; expected a text file with one address per line")
            base = address.url.partition("?")[0].rpartition("/")[0]
            return listed_addresses(fetched(address, found[0].stamp, cache_dir), name, base)
        return parts_at(address)
    path = Path(source)
    return listed_addresses(path, name) if has_suffix(path.name, LIST_SUFFIXES) else single_tar(path, name)


def parts_in(source: "str | Path") -> "Parts | None":
    """The parts of a source whose pictures lie in many places: as `parts_of`, and of a folder that holds shards.

    Raises:
        DataError: as `parts_of`.
    """
    name, path, kind = shown_address(str(source)), Path(source), kind_of(source)
    with only_data_errors(name):
        if kind == "folder" and (shards := shards_below(path)):
            return shards_in_folder(path, shards, f"folder {printable(path.resolve().name)}")
        return parts_of(source, name) if kind == "parts" else None


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
        if line in seen:
            return f"{shown_address(line)} is listed twice; remove one"
        seen.add(line)
    return "a line is listed twice"
