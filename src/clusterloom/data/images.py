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
from clusterloom.data.pixels import PixelRange, chunks
from clusterloom.errors import DataError, SettingsError, printable


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
    pixel_range: PixelRange | None = None
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
