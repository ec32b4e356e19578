"""NumPy's .npy files: the header is judged before anything is allocated, the pixels stay memory-mapped."""

import math
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.arrays import arrange, check_kind, convert_array
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.images import ImageSet, RowIds
from clusterloom.errors import DataError, printable

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyHeader(NamedTuple):
    """What the header of a .npy file claims.

    Args:
        shape: Of the array.
        fortran_order: Whether the first axis varies fastest.
        dtype: Of the array.
        offset: Where the data start, in bytes.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def data_bytes(self) -> int:
        """Size of the data in bytes, in exact arithmetic: a claim may exceed any machine integer."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path, name: str, cache_dir: Path | None = None) -> ImageSet:
    """Read images from a .npy file.

    An array of uint8 is used where it lies, memory-mapped: a million images cost no memory. Other number types are
    converted, chunk by chunk, into the cache. `clusterloom.data.arrays` says which layouts and numbers are accepted.

    Args:
        path: The file.
        name: What the user named, for messages.
        cache_dir: See `clusterloom.data.cache.cache_root`.

    Returns:
        The images, identified by their row numbers.

    Raises:
        DataError: the file is damaged, holds Python objects or no images, or has NaN or infinite pixels.
    """
    with only_data_errors(name):
        array = map_npy(path, name)
        if array.dtype == np.uint8:
            images, guesses = arrange(array, name)
            notes = tuple(guesses)
        else:
            images, notes = convert_array(lambda _: array, entry_folder(cache_dir, npy=file_stamp(path)), name)
    return ImageSet(images, RowIds(range(len(images))), None, (), name, notes)


def map_npy(path: Path, name: str) -> NDArray[Any]:
    """Memory-map a .npy file whose header has been found to agree with its size.

    Args:
        path: The file.
        name: What the user named, for messages.

    Returns:
        The array, read-only.

    Raises:
        DataError: the header claims another size than the file has, or anything but numbers.
    """
    with path.open("rb") as file:
        header = read_npy_header(file, name)
    present = path.stat().st_size - header.offset
    if present != header.data_bytes:
        raise DataError(
            f"{printable(name)}: its header claims {header.data_bytes} bytes for shape {header.shape}, "
            f"but {present} follow; the file is damaged or incomplete"
        )
    if not header.data_bytes:
        raise DataError(f"{printable(name)} holds no images: its shape is {header.shape}")
    order = "F" if header.fortran_order else "C"
    return np.memmap(path, header.dtype, "r", header.offset, header.shape, order)  # type: ignore[call-overload, no-any-return]


def read_npy_header(file: IO[bytes], name: str) -> NpyHeader:
    """Read the header of a .npy file, or of a member of a .npz file, and check what can be checked without the data.

    Args:
        file: Open at its start.
        name: What the user named, for messages.

    Returns:
        The header; its dtype is one of numbers.

    Raises:
        DataError: the array holds anything but numbers, or a side is negative.
        Exception: whatever else numpy raises on damaged bytes.
    """
    header = read_any_header(file, name)
    check_kind(header.dtype, name)
    return header


def read_any_header(file: IO[bytes], name: str) -> NpyHeader:
    """As `read_npy_header`, for arrays that may hold text as well."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        raise DataError(f"{printable(name)}: version {version} of the npy format is for records, not for images")
    shape, fortran_order, dtype = _HEADER_READERS[version](file)
    if any(side < 0 for side in shape):
        raise DataError(f"{printable(name)}: its header claims the shape {shape}")
    return NpyHeader(shape, fortran_order, dtype, file.tell())
