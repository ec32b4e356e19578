"""One picture, wherever it is and of whatever format: its header, its numbers, its pixels or the tiles of it."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The plugins are imported by name: registering every decoder of Pillow is slow, and not safe from several threads.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from clusterloom.data import fits, tiff
from clusterloom.data.addresses import Address, read_address
from clusterloom.data.convert import (
    FLOATING,
    GREY_MODES,
    LYING,
    SIXTEEN_BITS,
    convert,
    orientation,
    recolour,
    upright,
)
from clusterloom.data.pixels import PixelRange, range_text
from clusterloom.data.planes import MAX_PIXELS, Planes, picked, scale_planes
from clusterloom.errors import DataError
from clusterloom.marks import PNG_SOFTWARE

_PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin)

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")


class Stack:
    """A file that may hold many pictures; a context manager.

    It is opened once: that takes a look at each of its pictures.

    Args:
        path: The file.

    Attributes:
        picture: TIFF and FITS as planes, of which any frame can be read; of all other formats Pillow's picture.

    Raises:
        DataError: on entering, as `open_picture`.
    """

    picture: "Image.Image | Planes"

    def __init__(self, path: str) -> None:
        self._path, self._opened, self._lock = path, ExitStack(), Lock()

    def __enter__(self) -> "Stack":
        picture = self._opened.enter_context(_open_picture(self._path, is_stack=True))
        if isinstance(picture, Planes):
            picture = replace(picture, read=self._one_at_a_time(picture.read))
        self.picture = picture
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    @property
    def frames(self) -> int:
        """How many pictures the file holds."""
        return self.picture.frames if isinstance(self.picture, Planes) else 1

    def _one_at_a_time(self, read: Callable[..., NDArray[Any]]) -> Callable[..., NDArray[Any]]:
        """Threads share the place in the file."""

        def locked(*arguments: Any) -> NDArray[Any]:
            with self._lock:
                return read(*arguments)

        return locked


class Frame(NamedTuple):
    """One picture of a stack that has been entered: its number from 0."""

    stack: Stack
    number: int


Source = str | bytes | Frame | Address
"""A path, the encoded picture itself, a frame, or an address."""


class Header(NamedTuple):
    """What a picture tells before it is decoded.

    Args:
        width: Pixels, after the rotation that its EXIF data ask for.
        height: Pixels, likewise.
        channels: 1 for grey, 3 for colour, transparency aside; a palette counts as colour. Others as they are.
        is_deep: Whether its numbers are not 8-bit pixels, so that a range has to be chosen for them.
        is_ours: Whether it is marked as made by clusterloom.
    """

    width: int
    height: int
    channels: int
    is_deep: bool = False
    is_ours: bool = False


class Target(NamedTuple):
    """What a picture is to become.

    Args:
        height: In pixels.
        width: In pixels.
        channels: 1 for grey or 3 for RGB, to which pictures are converted, or any other number, which they must have.
        pixel_range: The numbers that become 0 and 255 in pictures that are not of 8 bits; those outside are clipped.
        picks: The channels that are taken as they are, so many as `channels`; None for all.
    """

    height: int
    width: int
    channels: int
    pixel_range: PixelRange = SIXTEEN_BITS
    picks: tuple[int, ...] | None = None


class Read(NamedTuple):
    """A picture that was opened once: what it is, its pixels, and what was done to it.

    Args:
        header: Of the picture.
        pixels: Of a grid of images, shape (rows, columns, height, width, channels): one image, or the tiles.
        steps: A phrase for each thing that was done.
    """

    header: Header
    pixels: NDArray[np.uint8]
    steps: list[str]


@contextmanager
def open_picture(source: Source) -> "Iterator[Image.Image | Planes]":
    """Open a picture with one of the allowed decoders, chosen by content and not by name.

    Args:
        source: The picture.

    Yields:
        The picture, not decoded yet: Pillow's, or of TIFF and FITS the planes.

    Raises:
        DataError: it is of no allowed format, claims more than `MAX_PIXELS` pixels, or its reader is not installed.
        Exception: whatever else the decoders raise on damaged bytes.
    """
    if isinstance(source, Frame):
        yield source.stack.picture
        return
    with _open_picture(source, is_stack=False) as picture:
        yield picture


@contextmanager
def _open_picture(source: str | bytes | Address, is_stack: bool) -> "Iterator[Image.Image | Planes]":
    if isinstance(source, Address):
        source = read_address(source)
    if isinstance(source, bytes):
        file: IO[bytes] = io.BytesIO(source)
    else:
        if not os.path.isfile(source) and os.path.exists(source):  # noqa: PTH110, PTH113 (as below)
            raise DataError("not a regular file")  # a pipe would be waited for, and /dev/zero has no end
        file = open(source, "rb")  # noqa: SIM115, PTH123 (a Path costs a tenth of a small picture)
    with file:
        start = file.read(6)
        file.seek(0)
        if start.startswith(tiff.MAGIC):
            with tiff.open_tiff(file, is_stack) as planes:
                yield planes
        elif start == fits.MAGIC or (start.startswith(fits.GZIP_MAGIC) and fits.is_packed(file)):
            with fits.open_fits(file if start == fits.MAGIC else fits.unpacked(file), is_stack) as planes:
                yield planes
        else:
            with _open_with_pillow(file) as image:
                yield image


@contextmanager
def _open_with_pillow(file: IO[bytes]) -> Iterator[Image.Image]:
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError(f"not one of the formats {', '.join(FORMATS)}, TIFF and FITS") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"claims more than the {MAX_PIXELS:,} pixels that are allowed") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"claims more than the {MAX_PIXELS:,} pixels that are allowed")
        yield image


def read_header(source: Source) -> Header:
    """What a picture tells from its header alone.

    Raises:
        DataError: as `open_picture`.
    """
    with open_picture(source) as picture:
        return _header(picture)


def read_values(source: Source, picks: tuple[int, ...] | None) -> NDArray[Any]:
    """The numbers of a picture, of those channels that are wanted, shape (H, W, C).

    Raises:
        DataError: as `open_picture`, or there are not so many channels.
    """
    with open_picture(source) as picture:
        return _values(picture, source, picks, [])


def _header(image: "Image.Image | Planes") -> Header:
    if isinstance(image, Planes):
        return Header(image.width, image.height, image.channels, not image.is_plain)
    width, height = image.size
    # Pillow decodes a whole PNG to look for EXIF data behind the pixels: too slow for a header.
    if (image.format != "PNG" or "exif" in image.info) and orientation(image) in LYING:
        width, height = height, width
    is_ours = image.info.get("Software") == PNG_SOFTWARE
    return Header(width, height, 1 if image.mode in GREY_MODES else 3, image.mode.startswith("I"), is_ours)


def read_picture(source: Source, target: Target, tile: int | None = None, skip_ours: bool = False) -> Read:
    """One picture, or the square tiles of it, opened once.

    Args:
        source: The picture.
        target: What it, or each tile, is to become.
        tile: Side of the tiles in pixels of the picture at its own size; what is left over at the right and at the
            bottom is not used. None takes the picture as a whole.
        skip_ours: Of a picture that clusterloom made read the header alone.

    Returns:
        What was read.

    Raises:
        DataError: as `open_picture` and `convert`, the picture has other channels than the target, or it is smaller
            than a tile.
    """
    with open_picture(source) as picture:
        header = _header(picture)
        if skip_ours and header.is_ours:
            return Read(header, np.empty((0, 0, 0, 0, 0), np.uint8), [])
        if tile is None:
            pixels, steps = _pixels(picture, source, target)
            return Read(header, pixels[np.newaxis, np.newaxis], steps)
        if not isinstance(picture, Planes):
            picture.load()
            header = _header(picture)  # the sides as they are upright, also by EXIF data behind the pixels of a PNG
        check_tile(header, tile)
        whole, steps = _pixels(picture, source, target._replace(height=header.height, width=header.width))
    rows, columns = header.height // tile, header.width // tile
    cut = whole[: rows * tile, : columns * tile].reshape(rows, tile, columns, tile, -1).swapaxes(1, 2)
    if (tile, tile) == (target.height, target.width):
        return Read(header, cut, steps)
    small = [[scale_planes(one, target.height, target.width, (0.0, 255.0)) for one in row] for row in cut]
    return Read(header, np.array(small), [*steps, "tiles scaled to fit"])


def check_tile(header: Header, tile: int) -> None:
    """Refuse a picture that is smaller than a tile.

    Raises:
        DataError: it is.
    """
    if tile > min(header.height, header.width):
        raise DataError(f"is {header.height} x {header.width} pixels, smaller than a tile of {tile}")


def _pixels(picture: "Image.Image | Planes", source: Source, target: Target) -> tuple[NDArray[np.uint8], list[str]]:
    """An opened picture as pixels: `convert` for 8-bit greys and colours, `scale_planes` for all else."""
    height, width, channels, pixel_range, picks = target
    steps: list[str] = []
    if picks is None and channels in (1, 3) and (not isinstance(picture, Planes) or picture.is_plain):
        if isinstance(picture, Planes):
            picture = Image.fromarray(_squeezed(picture.read(_number(source), steps, False)))
        pixels, more = convert(picture, height, width, channels, pixel_range)
        return pixels, steps + more
    values = _with_channels(_values(picture, source, picks, steps), channels, steps)
    if not _header(picture).is_deep:
        pixel_range = (0.0, 255.0)
    elif np.less(values, pixel_range[0]).any() or np.greater(values, pixel_range[1]).any():
        steps.append(f"numbers outside {range_text(pixel_range)} clipped")
    if values.shape[:2] != (height, width):
        steps.append("scaled to fit")
    return scale_planes(values, height, width, pixel_range), steps


def _number(source: Source) -> int:
    return source.number if isinstance(source, Frame) else 0


def _squeezed(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values)


def _values(
    picture: "Image.Image | Planes", source: Source, picks: tuple[int, ...] | None, steps: list[str]
) -> NDArray[Any]:
    """Numbers (H, W, C) of an opened picture, those of an 8-bit one without transparency."""
    if isinstance(picture, Planes):
        return picked(picture.read(_number(source), steps, picks is not None), picks)
    picture.load()
    image = upright(picture, steps)
    if image.mode == "F":
        raise DataError(FLOATING)
    if not image.mode.startswith("I"):
        image = recolour(image, 1 if image.mode in GREY_MODES else 3, steps)
    values = np.asarray(image)
    return picked(values.reshape(*values.shape[:2], -1), picks)


def _with_channels(values: NDArray[Any], channels: int, steps: list[str]) -> NDArray[Any]:
    """Numbers with the wanted channels: colours as grey and grey as colours, all others as they are."""
    own = values.shape[2]
    if own == channels:
        return values
    if (own, channels) == (1, 3):
        steps.append("grey repeated in three channels")
        return np.broadcast_to(values, (*values.shape[:2], 3))
    if (own, channels) == (3, 1):
        steps.append("colour turned grey")
        return values @ np.array([[0.299], [0.587], [0.114]])
    raise DataError(f"has {own} {'channel' if own == 1 else 'channels'} where {channels} are wanted")
