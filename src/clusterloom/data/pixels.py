"""Numbers as pixels from 0 to 255: of which range they are, and how much of it images use; a part at a time, so that
large arrays need little memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK_BYTES = 1 << 24
_SAMPLE_IMAGES = 200
_LEAST_CONTRAST = 64  # of 255

PixelRange = tuple[float | tuple[float, ...], float | tuple[float, ...]]
"""What becomes 0, and what becomes 255: two numbers, or two tuples with a number for each channel."""


def scale_pixels(values: NDArray[Any], pixel_range: PixelRange, dtype: Any = np.uint8) -> NDArray[Any]:
    """Numbers as pixels: those of a range become 0 and 255, what lies between is mapped linearly and rounded.

    Args:
        values: Finite numbers, of any shape with an axis or more, channels last; those outside the range are clipped.
        pixel_range: What becomes 0, and what becomes 255. If both are one number, all pixels are 0.
        dtype: Of the result; a floating-point type is not rounded.

    Returns:
        Pixels of the same shape.

    Example:
        >>> scale_pixels(np.array([0.0, 0.5, 1.0, 7.0]), (0.0, 1.0))
        array([  0, 128, 255, 255], dtype=uint8)
    """
    low, high = (np.asarray(bound, np.float64) for bound in pixel_range)
    # Halved first, so that a range as wide as float64 itself does not overflow.
    half_width = high / 2 - low / 2
    pixels, start = np.empty(values.shape, dtype), 0
    for chunk in chunks(values):  # in double precision a large picture would take many times its size
        inside = chunk.astype(np.float64).clip(low, high)
        scaled = 255 * ((inside / 2 - low / 2) / np.where(half_width > 0, half_width, 1))
        pixels[start : start + len(chunk)] = np.rint(scaled) if np.issubdtype(dtype, np.integer) else scaled
        start += len(chunk)
    return pixels


def as_range(pixel_range: Any) -> PixelRange:
    """A range that has been through JSON, its numbers or lists of numbers as floats or tuples of floats.

    Raises:
        ValueError: it is none, or of numbers that cannot be a range.
        TypeError: likewise.

    Example:
        >>> as_range([[0, 1], [10, 20]])
        ((0.0, 1.0), (10.0, 20.0))
    """
    low, high = (tuple(map(float, b)) if isinstance(b, list | tuple) else float(b) for b in pixel_range)
    below = np.less_equal(low, high)
    if np.shape(low) != np.shape(high) or not (below.all() and np.isfinite([low, high]).all()):
        raise ValueError(f"{low} to {high} is no range")
    return low, high


def range_text(pixel_range: PixelRange) -> str:
    """A range in words; of several channels one after the other.

    Example:
        >>> range_text((0.0, 4095.0)), range_text(((0.0, 1.0), (10.0, 20.0)))
        ('0 to 4095', '0 to 10, 1 to 20')
    """
    lows, highs = (bound if isinstance(bound, tuple) else (bound,) for bound in pixel_range)
    return ", ".join(f"{low:g} to {high:g}" for low, high in zip(lows, highs, strict=True))


def chunks(array: NDArray[Any], chunk_bytes: int = _CHUNK_BYTES) -> list[NDArray[Any]]:
    """Consecutive groups of rows of about `chunk_bytes` each, as views, so that work on an array needs little memory.

    Example:
        >>> [len(chunk) for chunk in chunks(np.zeros((5, 8), np.uint8), chunk_bytes=16)]
        [2, 2, 1]
    """
    rows = max(1, chunk_bytes // max(1, array[:1].nbytes))
    return [array[start : start + rows] for start in range(0, len(array), rows)]


def contrast_note(images: NDArray[np.uint8]) -> str:
    """What to say where an evenly spaced sample of images uses less than a quarter of the range from black to white.

    Args:
        images: Shape (N, H, W, C), N at least 1.

    Returns:
        A sentence, or "" where there is nothing to say.

    Example:
        >>> contrast_note(np.array([0, 15], np.uint8).reshape(2, 1, 1, 1))
        'images use 0 to 15 of 255; they are taken as they are'
    """
    sample = images[:: -(-len(images) // _SAMPLE_IMAGES)]
    low, high = int(sample.min()), int(sample.max())
    return f"images use {low} to {high} of 255; they are taken as they are" if high - low < _LEAST_CONTRAST else ""
