"""The rule by which an array of any layout and number type becomes 8-bit images."""

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.console import ProgressReport
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import entry_folder, load_or_make, write_images
from clusterloom.data.options import MAX_CHANNELS, ReadOptions
from clusterloom.data.pixels import PixelRange, chunks, range_text, scale_pixels
from clusterloom.data.planes import (
    check_range_fits,
    chosen_note,
    percentile_range,
    picked,
    sampled_rows,
    value_sample,
)
from clusterloom.errors import DataError, printable

# Converted chunks are float64: eight times as large as the pixels that they become.
_CHUNK_BYTES = 1 << 22


class Pixels(NamedTuple):
    """What an array became: images (N, H, W, C), notes and range, as in `clusterloom.data.ImageSet`."""

    images: NDArray[np.uint8]
    notes: tuple[str, ...]
    pixel_range: PixelRange | None


class Scaling(NamedTuple):
    """Which numbers become 0 and 255, whether that is the same for every source, and a note on the choice."""

    pixel_range: PixelRange
    is_fixed: bool
    note: str


def arrange(array: NDArray[Any], name: str) -> tuple[NDArray[Any], list[str]]:
    """View an array as images with the channels last.

    Accepted are (N, H, W), (N, H, W, C) with 1 to 16 channels, (N, C, H, W) if C is 1 or 3 and the last axis is
    not, or if C is up to 16 and both other axes are longer, and (N, D) if D is a square number.

    Args:
        array: Images in any of these layouts.
        name: What the user named, for messages.

    Returns:
        A view of shape (N, H, W, C), and notes on what was guessed.

    Raises:
        DataError: another shape, or an empty one.

    Example:
        >>> view, notes = arrange(np.zeros((50, 3, 32, 32)), "a.npy")
        >>> view.shape, notes
        ((50, 32, 32, 3), ['axis 1, of length 3, read as the channels'])
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
    if array.ndim == 4 and is_channels_first(shape):
        return np.moveaxis(array, 1, 3), [f"axis 1, of length {shape[1]}, read as the channels"]
    if array.ndim == 4 and shape[3] <= MAX_CHANNELS:
        return array, []
    raise DataError(
        f"{printable(name)}: shape {shape} cannot be read as images; reshape it to (N, H, W) for grey "
        f"or (N, H, W, C) with at most {MAX_CHANNELS} channels"
    )


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether an array of shape (N, A, B, C) has its channels in the first axis after N, as PyTorch has them.

    Example:
        >>> is_channels_first((9, 3, 32, 32)), is_channels_first((9, 7, 64, 64)), is_channels_first((9, 8, 8, 4))
        (True, True, False)
    """
    return (shape[1] in (1, 3) and shape[3] not in (1, 3)) or shape[1] <= MAX_CHANNELS < min(shape[2:])


def check_kind(dtype: np.dtype[Any], name: str) -> None:
    """Refuse arrays that hold anything but numbers.

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


def choose_scaling(images: NDArray[Any], name: str, options: ReadOptions) -> Scaling:
    """Choose which numbers become black and white; reads the array once, in chunks.

    Booleans become 0 and 255. All else is scaled by `options.pixel_range` where one is given, the range of a model.
    Without it, real numbers that all lie in [0, 1] are multiplied by 255, integers that all lie in [0, 255], at least
    one of them above 127, are pixels already, and any other set is scaled by `percentile_range` of a sample.

    Args:
        images: Numbers, shape (N, H, W, C).
        name: What the user named, for messages.
        options: For its range.

    Returns:
        The choice.

    Raises:
        DataError: a number is NaN or infinite; the message names the first such image.

    Example:
        >>> images = np.array([-4, 500]).reshape(2, 1, 1, 1)
        >>> choose_scaling(images, "a.npy", ReadOptions()).note
        'int64 numbers scaled: -4 to 500, percentiles 0.1 and 99.9, became 0 to 255'
        >>> choose_scaling(images, "a.npy", ReadOptions(pixel_range=(0, 400))).pixel_range
        (0, 400)
    """
    low, high = _extremes(images, name, options.progress)
    kind = images.dtype.kind
    if kind == "b":
        return Scaling((0.0, 1.0), True, "booleans: false became 0 and true 255")
    if options.pixel_range is not None:
        check_range_fits(options.pixel_range, images.shape[3], name)
        note = f"{images.dtype} numbers scaled by the range given: {range_text(options.pixel_range)} became 0 to 255"
        return Scaling(options.pixel_range, False, note)
    if kind == "f" and low >= 0 and high <= 1:
        return Scaling((0.0, 1.0), True, f"{images.dtype} numbers in [0, 1] multiplied by 255")
    if kind in "ui" and low >= 0 and 127 < high <= 255:
        return Scaling((0.0, 255.0), True, f"{images.dtype} numbers in [0, 255] taken as they are")
    chosen = array_range(images)
    return Scaling(chosen, False, f"{images.dtype} numbers scaled: {chosen_note(chosen)}")


def array_range(images: NDArray[Any]) -> PixelRange:
    """The `percentile_range` of a sample of numbers of shape (N, H, W, C)."""
    values_each = images.shape[1] * images.shape[2]
    rows = sampled_rows(len(images), values_each)
    if len(rows) * values_each <= _CHUNK_BYTES:
        return percentile_range(np.asarray(images[rows]).reshape(-1, images.shape[3]))
    return percentile_range(np.concatenate([value_sample(images[row], len(rows)) for row in rows]))


def _with_channels(images: NDArray[Any], picks: tuple[int, ...], scratch: Path, name: str) -> NDArray[Any]:
    """The picked channels of an array, copied to a file, for no view has channels in any order."""
    with only_data_errors(name):
        first = picked(images[:1], picks)
    copy = np.lib.format.open_memmap(scratch / "picked.npy", "w+", images.dtype, (len(images), *first.shape[1:]))
    start = 0
    for chunk in chunks(images, _CHUNK_BYTES):
        copy[start : start + len(chunk)] = picked(chunk, picks)
        start += len(chunk)
    return copy


def _extremes(images: NDArray[Any], name: str, progress: ProgressReport) -> tuple[float, float]:
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
        progress("looking for the range of pixels", start, len(images))
    return low, high


def use_in_place(array: NDArray[np.uint8], name: str, options: ReadOptions) -> Pixels:
    """Images of an array of unsigned bytes, which are pixels already, without a copy; no channels may be picked."""
    images, notes = arrange(array, name)
    return Pixels(images, (*notes, *options.unused_range_note()), None)


def convert_array(
    open_array: Callable[[Path], NDArray[Any]], name: str, options: ReadOptions, **source: object
) -> Pixels:
    """Convert an array into a cache entry, or take the entry that an earlier call made.

    Args:
        open_array: Gives the array, memory-mapped; its argument is a temporary folder where it may unpack the array.
        name: What the user named, for messages.
        options: For the range, the cache and the progress.
        **source: All that the array depends on, as JSON values: the key of the entry.

    Returns:
        The images, memory-mapped.

    Raises:
        DataError: as `check_kind`, `arrange` and `choose_scaling`.
    """

    def make(scratch: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=scratch) as unpacked:
            images, notes = arrange(open_array(Path(unpacked)), name)
            check_kind(images.dtype, name)
            if options.picks is not None:
                images = _with_channels(images, options.picks, Path(unpacked), name)
            if images.dtype == np.uint8:
                write_images(scratch, chunks(images), images.shape[1:])
                return {"notes": [*notes, *options.unused_range_note()], "pixel_range": None}
            scaling = choose_scaling(images, name, options)
            clipped: list[int] = []
            write_images(scratch, _converted(images, scaling, clipped, options.progress), images.shape[1:])
            notes.append(scaling.note)
            if any(clipped):
                notes.append(f"{sum(clipped)} of {len(images)} images have numbers outside that range: clipped")
            return {"notes": notes, "pixel_range": None if scaling.is_fixed else scaling.pixel_range}

    entry = load_or_make(
        entry_folder(options.cache_dir, pixel_range=options.pixel_range, picks=options.picks, **source), make
    )
    return Pixels(entry.images, tuple(entry.facts["notes"]), entry.pixel_range)


def _converted(
    images: NDArray[Any], scaling: Scaling, clipped: list[int], progress: ProgressReport
) -> Iterator[NDArray[np.uint8]]:
    low, high = (np.asarray(bound) for bound in scaling.pixel_range)
    done = 0
    for chunk in chunks(images, _CHUNK_BYTES):
        outside = ((chunk < low) | (chunk > high)).reshape(len(chunk), -1).any(axis=1)
        clipped.append(int(outside.sum()))
        yield scale_pixels(chunk, scaling.pixel_range)
        done += len(chunk)
        progress("converting pixels", done, len(images))
