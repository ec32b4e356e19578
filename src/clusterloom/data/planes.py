"""Pictures as planes of numbers: any number type and up to 16 channels, scaled by one range and brought to one size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.data.convert import largest_fit, padded
from clusterloom.data.images import limited_rows
from clusterloom.data.pixels import PixelRange, range_text, scale_pixels
from clusterloom.errors import DataError, printable

# Pillow warns above this and refuses only twice as much; here it is the limit for every picture.
MAX_PIXELS = 89_478_485
_MAX_BYTES = 1 << 32  # of one picture's numbers
# Percentiles of a sample are 0 and 255: a hot pixel or a dead one does not decide on the contrast of all pictures.
PERCENTILES = (0.1, 99.9)
SAMPLED_PICTURES = 500
_SAMPLED_VALUES = 4096  # of each channel of a picture, at least
_ALL_VALUES = 2_000_000  # of each channel of all sampled pictures, if there are so many


@dataclass(frozen=True)
class Planes:
    """A picture of numbers, not decoded yet.

    Attributes:
        height: In pixels.
        width: In pixels.
        channels: How many there are, transparency aside.
        is_plain: Whether the numbers are 8-bit greys or colours, as those of a PNG file are.
        frames: How many such pictures the file holds.
        read: From the number of the frame, a list for notes, and whether transparency is wanted as a channel too:
            numbers of shape (height, width, C). C is one more than `channels` where they are plain and transparent.
    """

    height: int
    width: int
    channels: int
    is_plain: bool
    frames: int
    read: Callable[[int, list[str], bool], NDArray[Any]]


def check_claims(height: int, width: int, channels: int, dtype: np.dtype[Any]) -> None:
    """Refuse a picture whose header claims no numbers, or too many of them, before any memory is taken for it.

    Raises:
        DataError: no real numbers, no pixels, or more than are allowed.
    """
    if dtype.kind not in "buif":
        raise DataError(f"its pixels are {dtype}; expected integers or real numbers")
    if height < 1 or width < 1 or channels < 1:
        raise DataError(f"its header claims {height} x {width} pixels and {channels} channels")
    if height * width > MAX_PIXELS:
        raise DataError(f"claims more than the {MAX_PIXELS:,} pixels that are allowed")
    if height * width * channels * dtype.itemsize > _MAX_BYTES:
        raise DataError(f"claims {channels} channels of {height} x {width} pixels, more than 4 GB")


def whole(value: Any) -> int:
    """A whole number that a header has to hold, in which damaged files have anything.

    Raises:
        DataError: it is none.
    """
    if not isinstance(value, int | np.integer):
        raise DataError(f"damaged: its header holds {printable(str(value))[:40]} where a whole number belongs")
    return int(value)


def checked_values(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Decoded numbers of shape (height, width, C), if that is what they are.

    Raises:
        DataError: another shape than the header claims, or NaN or infinite numbers.
    """
    if values.ndim != 3 or values.shape[:2] != (height, width):
        raise DataError(f"its header claims {height} x {width} pixels, but its data have the shape {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("has pixels that are NaN or infinite; mend or remove it")
    return values


def picked(values: NDArray[Any], picks: Sequence[int] | None) -> NDArray[Any]:
    """The channels that are wanted of numbers (..., C).

    Args:
        values: Channels last.
        picks: Numbers of channels, from 0; None for all.

    Raises:
        DataError: there are not so many channels.

    Example:
        >>> picked(np.array([[10, 11, 12]]), (2, 0)).tolist()
        [[12, 10]]
    """
    if picks is None:
        return values
    if max(picks) >= values.shape[-1]:
        raise DataError(f"has {values.shape[-1]} channels, numbered from 0; channel {max(picks)} was asked for")
    return values[..., list(picks)]


def value_sample(values: NDArray[Any], n_pictures: int) -> NDArray[Any]:
    """Evenly spaced numbers of a picture (H, W, C) for `percentile_range`, shape (n, C).

    Args:
        values: Channels last.
        n_pictures: How many pictures are sampled together; of few, more numbers are taken from each.
    """
    flat = values.reshape(-1, values.shape[-1])
    wanted = max(_SAMPLED_VALUES, _ALL_VALUES // max(1, n_pictures))
    return flat[:: max(1, -(-len(flat) // wanted))].copy()  # or it would keep the picture, or its stack, in memory


def sampled_rows(n_pictures: int, values_each: int = _SAMPLED_VALUES) -> NDArray[np.int64]:
    """Ascending rows of the pictures of which a sample is taken: 500 at random, more where they are very small.

    Args:
        n_pictures: How many there are.
        values_each: Numbers in each channel of one; the default where that is not known.
    """
    return limited_rows(n_pictures, max(SAMPLED_PICTURES, -(-_ALL_VALUES // values_each)))


def percentile_range(sample: NDArray[Any]) -> PixelRange:
    """The numbers that become 0 and 255: the 0.1th and the 99.9th percentile of a sample.

    Greys and colours have one range, so that colours stay what they are. With 2 or 4 to 16 channels each has its own,
    for they are measured in units of their own. Percentiles are numbers of the sample, so of few ones they are the
    smallest and the largest. These are taken too where both percentiles are one number, as of a few bright dots.

    Args:
        sample: Shape (n, C).

    Returns:
        Two numbers, or two tuples of C numbers.

    Example:
        >>> percentile_range(np.array([[3.0], [1.0], [2.0]]))
        (1.0, 3.0)
        >>> percentile_range(np.array([[1.0, 100.0], [2.0, 300.0]]))
        ((1.0, 100.0), (2.0, 300.0))
    """
    shared = sample.shape[1] in (1, 3)
    values = (sample.reshape(-1, 1) if shared else sample).astype(np.float64)
    low = np.percentile(values, PERCENTILES[0], axis=0, method="lower")
    high = np.percentile(values, PERCENTILES[1], axis=0, method="higher")
    flat = low == high
    low, high = np.where(flat, values.min(0), low), np.where(flat, values.max(0), high)
    if shared:
        return float(low[0]), float(high[0])
    return tuple(low.tolist()), tuple(high.tolist())


def chosen_note(pixel_range: PixelRange) -> str:
    """What to say of a range that `percentile_range` chose."""
    low, high = PERCENTILES
    return f"{range_text(pixel_range)}, percentiles {low:g} and {high:g}, became 0 to 255"


def check_range_fits(pixel_range: PixelRange, n_channels: int, name: str) -> None:
    """Refuse a range for another number of channels.

    Raises:
        DataError: it has a number for each channel, and there are more or fewer channels.
    """
    known = np.size(pixel_range[0])
    if known not in (1, n_channels):
        raise DataError(f"{printable(name)} has {n_channels} channels; the range given is for {known}")


def scale_planes(values: NDArray[Any], height: int, width: int, pixel_range: PixelRange) -> NDArray[np.uint8]:
    """Numbers of a picture as pixels of a given size.

    The picture is scaled to the largest size that fits, aspect kept (Lanczos filter, on the numbers and not on rounded
    ones), and what is left over at two sides becomes the median of the border, channel by channel.

    Args:
        values: Shape (H, W, C).
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        pixel_range: What becomes 0 and 255.

    Returns:
        Shape (height, width, C).
    """
    inner = largest_fit(values.shape[0], values.shape[1], height, width)
    if inner == values.shape[:2]:
        pixels = scale_pixels(values, pixel_range)
    else:
        unit = scale_pixels(values, pixel_range, np.float32)  # clipped first: one hot pixel has no rings around it
        planes = [_resized(unit[..., c], *inner) for c in range(unit.shape[2])]
        pixels = np.rint(np.stack(planes, 2).clip(0, 255)).astype(np.uint8)
    return pixels if inner == (height, width) else padded(pixels, height, width)


def _resized(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(plane), "F")
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))
