"""FITS pictures by astropy: the first image of a file, of any number type, compressed or not."""

import gzip
import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.planes import Planes, check_claims, checked_values, whole
from clusterloom.errors import DataError, MissingPackageError

MAGIC = b"SIMPLE"
GZIP_MAGIC = b"\x1f\x8b"
SUFFIXES = frozenset({".fits", ".fit", ".fts", ".fz", ".fits.gz", ".fit.gz", ".fts.gz"})
_MOST_UNPACKED = 1 << 32  # bytes of a file inside gzip
_UNPACKED_BYTES = 1 << 30  # of a compressed stack, which is unpacked as a whole; a larger one frame by frame
_MISSING = "FITS needs astropy: pip install 'clusterloom[fits]'"


def is_packed(file: IO[bytes]) -> bool:
    """Whether a file is FITS inside gzip; its place is as before."""
    place = file.tell()
    try:
        return file.read(2) == GZIP_MAGIC and _unpacking(file, place).read(len(MAGIC)) == MAGIC
    except (OSError, EOFError, zlib.error):
        return False
    finally:
        file.seek(place)


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """What a file holds inside gzip, in memory.

    Raises:
        DataError: it is too much.
        Exception: what gzip raises on damaged bytes.
    """
    content = _unpacking(file, file.tell()).read(_MOST_UNPACKED + 1)
    if len(content) > _MOST_UNPACKED:
        raise DataError("is more than 4 GB unpacked; unpack it with gunzip")
    return io.BytesIO(content)


def _unpacking(file: IO[bytes], place: int) -> gzip.GzipFile:
    file.seek(place)
    return gzip.GzipFile(fileobj=file)


@contextmanager
def open_fits(file: IO[bytes], is_stack: bool) -> Iterator[Planes]:
    """Open a FITS picture, or a stack of them: the first image of the file that has two axes or more.

    A third axis counts channels, or the frames of a stack if `is_stack`. Rows are turned round, for FITS counts them
    from below.

    Args:
        file: The file, open for reading and seeking.
        is_stack: Whether the file may hold several pictures.

    Yields:
        The picture, not decoded yet.

    Raises:
        DataError: damaged, without an image, or of more axes.
        MissingPackageError: astropy is not installed.
    """
    try:
        from astropy.io import fits
    except ImportError:
        raise MissingPackageError(_MISSING) from None
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    with fits.open(file, memmap=False, lazy_load_hdus=True) as units:
        for unit in units:
            if getattr(unit, "is_image", False) and len(getattr(unit, "shape", ())) >= 2:
                yield _planes(unit, size, is_stack, isinstance(unit, fits.CompImageHDU))
                return
    raise DataError("holds no image of two axes or more")


def _planes(unit: Any, size: int, is_stack: bool, is_compressed: bool) -> Planes:
    *outer, height, width = (whole(side) for side in unit.shape)
    if sum(side > 1 for side in outer) > 1:
        raise DataError(f"its image has the axes {unit.shape}; expected rows, columns and one more at most")
    n_outer = math.prod(outer)
    channels, frames = (1, n_outer) if is_stack else (n_outer, 1)
    bits = abs(whole(unit.header["BITPIX"]))  # of the image, where it is compressed too
    check_claims(height, width, channels, np.dtype(f"i{bits // 8}"))
    ends = unit.fileinfo()["datLoc"] + unit.fileinfo()["datSpan"]
    claimed = n_outer * height * width * bits // 8
    if (not is_compressed and unit.fileinfo()["datLoc"] + claimed > size) or ends - size >= 2880:
        raise DataError(f"damaged or incomplete: its header claims {claimed} bytes, more than follow")

    # A section reads no more than what is asked for, and scales it as BSCALE and BZERO say. But it unpacks whole tiles,
    # which may be of many planes.
    at_once = is_stack and is_compressed and claimed <= _UNPACKED_BYTES

    def read(frame: int, steps: list[str], keep_alpha: bool) -> NDArray[Any]:
        section = unit.data if at_once else unit.section
        if is_stack and n_outer > 1:
            place = tuple(int(i) for i in np.unravel_index(frame, outer))
            values = np.asarray(section[place])[np.newaxis]
        else:
            values = np.asarray(section[tuple(slice(None) for _ in unit.shape)]).reshape(n_outer, height, width)
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return checked_values(np.moveaxis(native, 0, 2)[::-1], height, width)

    return Planes(height, width, channels, bits == 8 and channels in (1, 3) and _is_unscaled(unit), frames, read)


def _is_unscaled(unit: Any) -> bool:
    return float(unit.header.get("BSCALE", 1)) == 1 and float(unit.header.get("BZERO", 0)) == 0
