"""The rule by which an array of any layout and number type becomes 8-bit images."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.cache import finish_entry, load_entry, new_entry, write_images
from clusterloom.data.images import chunks
from clusterloom.errors import DataError, printable

MAX_CHANNELS = 16
# The most that deflate, the method of gzip and zip, can shrink its input.
DEFLATE_LIMIT = 1032
# Converted chunks are float64: eight times as large as the pixels that they become.
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True)
class PixelRange:
    """The numbers that become 0 and 255; what lies between is mapped linearly and rounded.

    Args:
        low: Becomes 0.
        high: Becomes 255.
        note: What the user should know about the choice.
    """

    low: float
    high: float
    note: str

    def to_pixels(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Map numbers to pixels.

        Args:
            values: Numbers from `low` to `high`, any shape.

        Returns:
            Pixels of the same shape.

        Example:
            >>> PixelRange(0.0, 1.0, "").to_pixels(np.array([0.0, 0.5, 1.0]))
            array([  0, 128, 255], dtype=uint8)
        """
        # Halved first, so that a range as wide as float64 itself does not overflow.
        half_width = self.high / 2 - self.low / 2
        if half_width == 0:
            return np.zeros(values.shape, np.uint8)
        return np.rint(255 * ((values.astype(np.float64) / 2 - self.low / 2) / half_width)).astype(np.uint8)


def arrange(array: NDArray[Any], name: str) -> tuple[NDArray[Any], list[str]]:
    """View an array as images with the channels last.

    Accepted are (N, H, W), (N, H, W, C) with 1 to 16 channels, (N, C, H, W) if C is 1 or 3 and the last axis is
    not, and (N, D) if D is a square number.

    Args:
        array: Images in any of these layouts.
        name: What the user named, for messages.

    Returns:
        A view of shape (N, H, W, C), and notes on what was guessed.

    Raises:
        DataError: another shape, or an empty one.

    Example:
        >>> view, notes = arrange(np.zeros((5, 64)), "a.npy")
        >>> view.shape, notes
        ((5, 8, 8, 1), ['rows of 64 numbers read as pictures of 8 x 8'])
    """
    shape = array.shape
    if 0 in shape:
        raise DataError(f"{printable(name)} holds no images: its shape is {shape}")
    if array.ndim == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        return array.reshape(len(array), side, side, 1), [
            f"rows of {shape[1]} numbers read as pictures of {side} x {side}"
        ]
    if array.ndim == 3:
        return array[..., np.newaxis], []
    if array.ndim == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        return np.moveaxis(array, 1, 3), [f"axis 1, of length {shape[1]}, read as the channels"]
    if array.ndim == 4 and shape[3] <= MAX_CHANNELS:
        return array, []
    raise DataError(
        f"{printable(name)}: shape {shape} cannot be read as images; reshape it to (N, H, W) for grey "
        f"or (N, H, W, C) with at most {MAX_CHANNELS} channels"
    )


def check_kind(dtype: np.dtype[Any], name: str) -> None:
    """Refuse arrays that hold anything but numbers.

    Args:
        dtype: Of the array.
        name: What the user named, for messages.

    Raises:
        DataError: objects, text, complex numbers, dates or records.
    """
    if dtype.hasobject:
        raise DataError(
            f"{printable(name)} holds Python objects, which are never unpickled; "
            f"save an array of numbers of one shape (N, H, W) or (N, H, W, C) instead"
        )
    if dtype.kind not in "buif":
        raise DataError(
            f"{printable(name)} holds {printable(str(dtype)[:80])}; expected booleans, integers or real numbers"
        )


def find_range(images: NDArray[Any], name: str) -> PixelRange:
    """Choose which numbers become black and white; reads the array once, in chunks.

    Booleans become 0 and 255. Real numbers that all lie in [0, 1] are multiplied by 255. Integers that all lie in
    [0, 255], at least one of them above 127, are pixels already. All else is scaled from the smallest and largest
    number of the whole set.

    Args:
        images: Numbers, shape (N, H, W, C).
        name: What the user named, for messages.

    Returns:
        The range and a note on it.

    Raises:
        DataError: a number is NaN or infinite; the message names the first such image.

    Example:
        >>> find_range(np.array([0.0, 0.5]).reshape(2, 1, 1, 1), "a.npy").high
        1.0
        >>> find_range(np.array([-4, 500]).reshape(2, 1, 1, 1), "a.npy").note
        'int64 numbers scaled linearly: -4 became 0 and 500 became 255; other images need the same range'
    """
    low, high = _extremes(images, name)
    kind = images.dtype.kind
    if kind == "b":
        return PixelRange(0.0, 1.0, "booleans: false became 0 and true 255")
    if kind == "f" and low >= 0 and high <= 1:
        return PixelRange(0.0, 1.0, f"{images.dtype} numbers in [0, 1] multiplied by 255")
    if kind in "ui" and low >= 0 and 127 < high <= 255:
        return PixelRange(0.0, 255.0, f"{images.dtype} numbers in [0, 255] taken as they are")
    note = f"{images.dtype} numbers scaled linearly: {low:g} became 0 and {high:g} became 255"
    return PixelRange(low, high, f"{note}; other images need the same range")


def _extremes(images: NDArray[Any], name: str) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    start = 0
    for chunk in chunks(images, _CHUNK_BYTES):
        values = chunk.astype(np.float64)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            first = start + int(np.argmin(finite))
            raise DataError(f"{printable(name)}: image {first} has pixels that are NaN or infinite; mend or remove it")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        start += len(values)
    return low, high


def convert_array(
    open_array: Callable[[Path], NDArray[Any]], folder: Path, name: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Convert an array into a cache entry, or take the entry that an earlier call made.

    Args:
        open_array: Gives the array, memory-mapped; its argument is a temporary folder where it may unpack the array.
        folder: The cache entry, keyed by everything that the array depends on.
        name: What the user named, for messages.

    Returns:
        Pixels of shape (N, H, W, C), memory-mapped, and notes.

    Raises:
        DataError: as `check_kind`, `arrange` and `find_range`.
    """
    entry = load_entry(folder)
    if entry is None:
        with new_entry(folder) as scratch, tempfile.TemporaryDirectory(dir=scratch) as unpacked:
            images, notes = arrange(open_array(Path(unpacked)), name)
            check_kind(images.dtype, name)
            if images.dtype == np.uint8:
                write_images(scratch, chunks(images), images.shape[1:])
            else:
                pixel_range = find_range(images, name)
                notes.append(pixel_range.note)
                write_images(scratch, _converted(images, pixel_range), images.shape[1:])
            finish_entry(scratch, {"notes": notes})
        entry = load_entry(folder)
        assert entry is not None
    return entry.images, tuple(entry.facts["notes"])


def _converted(images: NDArray[Any], pixel_range: PixelRange) -> Iterator[NDArray[np.uint8]]:
    for chunk in chunks(images, _CHUNK_BYTES):
        yield pixel_range.to_pixels(chunk)
