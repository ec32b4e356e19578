"""A set of images of one shape, 8 bits a channel: the form in which every reader hands over data."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError, SettingsError, printable

_CHUNK_BYTES = 1 << 24
_SAMPLE_IMAGES = 200
_LEAST_CONTRAST = 64  # of 255


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet:
    """Images of one shape with their identifiers, and labels if the source has any.

    Labels are for evaluation alone: no training function takes them.

    Args:
        images: Pixels from 0 to 255, shape (N, H, W, C), uint8; may be memory-mapped and read-only.
        ids: One unique identifier per image: the path inside the folder, or the row number as text. A file name
            that is not UTF-8 holds surrogate escapes; use `printable` before showing it, and
            `clusterloom.data.ids.encode_id` in tables.
        labels: Index into `class_names` per image, shape (N,), int64, or None.
        class_names: One name per class; empty without labels.
        name: What the user named, for messages.
        notes: Sentences on what was converted, left out or guessed, each one printable line.
        pixel_range: The numbers in the source that became 0 and 255, where these were chosen by what the source
            holds; None if its pixels were 8 bit already, or scaled by a rule that is the same for every source, as
            real numbers in [0, 1] are. Two tuples where every channel has its own.
        reading: What later images have to be read with as well, JSON values: "channels", the numbers of the channels
            that were picked, "tile", the side of the tiles that pictures were cut into, and "shown", the channels
            that pictures show, 1 or 3 of them. Empty where none of it was asked for.

    Raises:
        DataError: there is no image, or the parts do not fit together.

    Example:
        >>> images = np.zeros((2, 8, 8, 1), np.uint8)
        >>> ImageSet(images, ["a.png", "b.png"], None, (), "folder shapes", ())
        ImageSet('folder shapes': 2 images of 8 x 8 x 1)
    """

    images: NDArray[np.uint8]
    ids: Sequence[str]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    name: str
    notes: tuple[str, ...]
    pixel_range: "PixelRange | None" = None
    reading: Mapping[str, Any] = field(default_factory=dict)
    _fingerprint: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        _check_images(self.images, self.name)
        _check_ids(self.ids, len(self.images), self.name)
        _check_labels(self.labels, self.class_names, len(self.images), self.name)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width, channels = self.image_shape
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"ImageSet({self.name!r}: {len(self)} images of {height} x {width} x {channels}{classes})"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def head(self, limit: int | None) -> "ImageSet":
        """At most `limit` images, chosen at random without a look at the labels, in their original order.

        The choice depends on N and `limit` alone, and a larger limit adds images to those of a smaller one. A random
        choice instead of the first images keeps all classes of a set that is sorted by class.

        Args:
            limit: Number of images wanted; None for all.

        Returns:
            This set when it is small enough, otherwise a new one that holds a copy of the chosen images.

        Raises:
            SettingsError: `limit` is below 1.

        Example:
            >>> full = ImageSet(np.zeros((9, 8, 8, 1), np.uint8), RowIds(range(9)), None, (), "nine", ())
            >>> len(full.head(4)), full.head(100) is full
            (4, True)
        """
        rows = limited_rows(len(self), limit)
        if len(rows) == len(self):
            return self
        ids = RowIds(np.asarray(self.ids.rows)[rows]) if isinstance(self.ids, RowIds) else [self.ids[i] for i in rows]
        labels = None if self.labels is None else self.labels[rows]
        notes = (*self.notes, limit_note(len(rows), len(self)))
        return replace(self, images=np.asarray(self.images[rows]), ids=ids, labels=labels, notes=notes)

    def shown(self, rows: Any) -> NDArray[np.uint8]:
        """Pixels of some images as pictures show them: the channels that `reading` names for that, or all.

        Args:
            rows: A row number, a slice, or several row numbers.
        """
        pixels, channels = self.images[rows], self.reading.get("shown")
        return pixels[..., list(channels)] if channels else pixels

    def blocks(self, size: int) -> "Iterator[ImageSet]":
        """The images in blocks of a size, the last one with what is left over; without labels.

        Example:
            >>> nine = ImageSet(np.zeros((9, 8, 8, 1), np.uint8), RowIds(range(9)), None, (), "nine", ())
            >>> [list(block.ids) for block in nine.blocks(4)]
            [['0', '1', '2', '3'], ['4', '5', '6', '7'], ['8']]
        """
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield replace(self, images=self.images[rows], ids=self.ids[rows], labels=None, class_names=())

    def fingerprint(self, progress: ProgressReport = no_progress) -> str:
        """SHA-256 over the shape and all pixels, read in chunks so that memory stays flat.

        It is computed once where the pixels cannot be written to, as those of the cache.

        Args:
            progress: Told how far it has come.

        Returns:
            64 hexadecimal digits; equal for equal pixels, whatever file they came from.

        Example:
            >>> ImageSet(np.zeros((1, 8, 8, 1), np.uint8), ["0"], None, (), "one", ()).fingerprint()[:12]
            '230918acc12a'
        """
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256(repr(tuple(int(side) for side in self.images.shape)).encode("ascii"))
        done = 0
        for chunk in chunks(self.images):
            digest.update(np.ascontiguousarray(chunk).data)
            done += len(chunk)
            progress("hashing images", done, len(self))
        if not self.images.flags.writeable:
            object.__setattr__(self, "_fingerprint", digest.hexdigest())
        return digest.hexdigest()


class ImageArray(Protocol):
    """Images of shape (N, H, W, C): an array, or what makes them when several rows are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Four numbers."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""

    def __len__(self) -> int: ...

    def __getitem__(self, at: slice | NDArray[Any], /) -> NDArray[Any]: ...


class ImageRows:
    """Some rows of an image array, which may be memory-mapped, read when they are asked for.

    Args:
        images: Shape (N, ...).
        rows: Row numbers.
    """

    def __init__(self, images: ImageArray, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: slice | NDArray[Any]) -> NDArray[Any]:
        return self._images[self._rows[at]]


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


def limited_rows(n_images: int, limit: int | None) -> NDArray[np.int64]:
    """Ascending rows of a fixed random choice of at most `limit` of `n_images` images; None for all.

    Raises:
        SettingsError: `limit` is below 1.

    Example:
        >>> len(limited_rows(100, 10)), set(limited_rows(100, 10)) <= set(limited_rows(100, 20))
        (10, True)
    """
    if limit is None:
        return np.arange(n_images)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise SettingsError(f"limit is {limit!r}; expected a whole number of images, at least 1")
    if limit >= n_images:
        return np.arange(n_images)
    # Prefixes of one permutation: the images of a small limit are among those of a larger one.
    return np.sort(np.random.default_rng(0).permutation(n_images)[:limit])


def limit_note(n_kept: int, n_images: int) -> str:
    """The note that says that a limit left images out."""
    return f"{n_kept} of {n_images} images chosen at random (seeded, without a look at labels), in their original order"


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


def encode_labels(values: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class indices and class names from any labels.

    Args:
        values: Integers or text, shape (N,).

    Returns:
        Indices from 0, shape (N,), and the class names in ascending order of the values.

    Example:
        >>> encode_labels(np.array([7, 3, 7]))
        (array([1, 0, 1]), ('3', '7'))
    """
    classes, indices = np.unique(values, return_inverse=True)
    return indices.reshape(-1).astype(np.int64), tuple(printable(str(value)) for value in classes.tolist())


def _check_images(images: NDArray[np.uint8], name: str) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        received = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
        raise DataError(f"{name}: images are {received}; expected uint8 of shape (N, H, W, C)")
    if 0 in images.shape:
        raise DataError(f"{name} holds no images: its shape is {images.shape}")


def _check_ids(ids: Sequence[str], n_images: int, name: str) -> None:
    if len(ids) != n_images:
        raise DataError(f"{name}: {len(ids)} identifiers for {n_images} images")
    if isinstance(ids, RowIds):
        return
    if len(set(ids)) != n_images:
        twice = Counter(ids).most_common(1)[0][0]
        raise DataError(f"{name}: identifiers must be unique, but {printable(twice)!r} occurs more than once")


def _check_labels(labels: NDArray[np.int64] | None, class_names: tuple[str, ...], n_images: int, name: str) -> None:
    if labels is None:
        if class_names:
            raise DataError(f"{name}: {len(class_names)} class names without labels")
        return
    if labels.dtype != np.int64 or labels.shape != (n_images,):
        raise DataError(f"{name}: labels are {labels.dtype} {labels.shape}; expected int64 of shape ({n_images},)")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(
            f"{name}: labels run from {labels.min()} to {labels.max()}; expected 0 to {len(class_names) - 1}, "
            f"one for each of the {len(class_names)} class names"
        )
