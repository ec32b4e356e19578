"""IDX files, the format of MNIST and its relatives, packed with gzip or not."""

import gzip
import math
import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.arrays import convert_array, use_in_place
from clusterloom.data.boundary import DEFLATE_LIMIT, MAX_UNPACKED_BYTES, only_data_errors, unpack
from clusterloom.data.cache import file_stamp
from clusterloom.data.ids import RowIds
from clusterloom.data.images import ImageSet, encode_labels
from clusterloom.data.options import ReadOptions
from clusterloom.errors import DataError, printable

_UINT8_CODE = 0x08
_MAX_AXES = 4


class IdxHeader(NamedTuple):
    """What the header of an IDX file of unsigned bytes claims: its shape, and where the data start, in bytes."""

    shape: tuple[int, ...]
    offset: int

    @property
    def file_bytes(self) -> int:
        """Size of the whole file, unpacked, in exact arithmetic."""
        return self.offset + math.prod(self.shape)


def read_idx(path: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read images from an IDX file, and labels from the file beside it that has the usual name.

    A plain file is used where it lies, memory-mapped; a packed one is unpacked into the cache. For
    `train-images-idx3-ubyte` the labels are looked for in `train-labels-idx1-ubyte`, each with or without `.gz`.

    Args:
        path: The file with the images: unsigned bytes, three or four axes.
        name: What the user named, for messages.
        options: For the cache.

    Returns:
        The images, identified by their row numbers.

    Raises:
        DataError: a file is damaged or claims more than it holds, or images and labels do not fit together.
    """
    with only_data_errors(name):
        header = _check_header(path, name)
        if len(header.shape) < 3:
            raise DataError(f"{printable(name)} has shape {header.shape}; name the file with images, not with labels")
        if _is_packed(path):
            pixels = convert_array(
                lambda unpacked: _unpack_idx(path, header, unpacked, name), name, options, idx=file_stamp(path)
            )
        elif options.picks is not None:
            pixels = convert_array(lambda _: _map_idx(path, header), name, options, idx=file_stamp(path))
        else:
            pixels = use_in_place(_map_idx(path, header), name, options)
    images, notes = pixels.images, pixels.notes
    labels_path = _find_labels(path)
    if labels_path is None:
        return ImageSet(images, RowIds(range(len(images))), None, (), name, notes)
    labels, class_names = encode_labels(read_idx_array(labels_path, str(labels_path), len(images)))
    notes = (*notes, f"labels from {printable(labels_path.name)}, for evaluation alone")
    return ImageSet(images, RowIds(range(len(images))), labels, class_names, name, notes)


def read_idx_array(path: Path, name: str, n_items: int) -> NDArray[np.uint8]:
    """Read an IDX file of `n_items` entries, packed or not, into memory.

    Raises:
        DataError: the file is damaged, or has another length.
    """
    with only_data_errors(name):
        header = _check_header(path, name)
        if header.shape[0] != n_items:
            raise DataError(f"{printable(name)} has shape {header.shape}; expected {n_items} entries, one per image")
        with _open(path) as file:
            content = file.read(header.file_bytes + 1)
        if len(content) != header.file_bytes:
            raise DataError(f"{printable(name)} does not hold the {header.file_bytes} bytes that its header claims")
    return np.frombuffer(content, np.uint8, offset=header.offset).reshape(header.shape)


def _check_header(path: Path, name: str) -> IdxHeader:
    """The header of an IDX file, its claims held against the size of the file before anything is allocated."""
    with _open(path) as file:
        header = _read_header(file, name)
    size = path.stat().st_size
    if _is_packed(path):
        fits = header.file_bytes <= min(MAX_UNPACKED_BYTES, size * DEFLATE_LIMIT + 1024)
    else:
        fits = header.file_bytes == size
    if not fits:
        raise DataError(
            f"{printable(name)}: its header claims {header.file_bytes} bytes for shape {header.shape}, but the file "
            f"has {size}{' packed' if _is_packed(path) else ''}; it is damaged or incomplete"
        )
    if 0 in header.shape:
        raise DataError(f"{printable(name)} holds no images: its shape is {header.shape}")
    return header


def _read_header(file: IO[bytes], name: str) -> IdxHeader:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{printable(name)} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}")
    if magic[2] != _UINT8_CODE or not 1 <= magic[3] <= _MAX_AXES:
        raise DataError(
            f"{printable(name)}: type 0x{magic[2]:02x} with {magic[3]} axes; expected unsigned bytes (0x08) with 3 or 4"
        )
    sides = file.read(4 * magic[3])
    return IdxHeader(struct.unpack(f">{magic[3]}I", sides), 4 + len(sides))


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if _is_packed(path) else path.open("rb")  # type: ignore[return-value]


def _map_idx(path: Path, header: IdxHeader) -> NDArray[Any]:
    return np.memmap(path, np.uint8, "r", header.offset, header.shape)


def _unpack_idx(path: Path, header: IdxHeader, unpacked: Path, name: str) -> NDArray[Any]:
    target = unpacked / "images.idx"
    with gzip.open(path, "rb") as stream:
        unpack(stream, target, header.file_bytes, name)  # type: ignore[arg-type]
    return _map_idx(target, header)


def _find_labels(path: Path) -> Path | None:
    for images_part, labels_part in (("images-idx3", "labels-idx1"), ("images.idx3", "labels.idx1")):
        stem = path.name.removesuffix(".gz").replace(images_part, labels_part)
        if stem == path.name.removesuffix(".gz"):
            continue
        for candidate in (path.with_name(stem), path.with_name(f"{stem}.gz")):
            if candidate.is_file():
                return candidate
    return None
