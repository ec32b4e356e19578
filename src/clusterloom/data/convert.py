"""One picture of any size and mode to 8-bit pixels of a given shape: the rule for folders and parquet alike.

`ImageOps.exif_transpose` does not serve: it also writes the EXIF data anew, and fails where these are damaged, though
their orientation can be read. `ImageOps.contain` and `pad` neither: they leave no pixel of a long thin picture, and
filter a large one without reducing it first.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# The plugins are imported by name: registering every decoder of Pillow is slow, and not safe from several threads.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from clusterloom.data.images import scale_pixels
from clusterloom.errors import DataError
from clusterloom.files import PNG_SOFTWARE

Source = str | bytes
"""A path, or the encoded picture itself."""

_PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "WEBP")
# Pillow warns above this and refuses only twice as much; here it is the limit.
MAX_PIXELS = 89_478_485
SIXTEEN_BITS = (0.0, 65_535.0)

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B"})
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Header(NamedTuple):
    """What a picture tells before it is decoded.

    Args:
        width: Pixels, after the rotation that its EXIF data ask for.
        height: Pixels, likewise.
        grey: Whether its mode has one channel, transparency aside; a palette counts as colour.
        deep_range: Smallest and largest number of a 16-bit grey picture, for which it does have to be decoded.
        is_ours: Whether it is marked as made by clusterloom.
    """

    width: int
    height: int
    grey: bool
    deep_range: tuple[float, float] | None = None
    is_ours: bool = False


@contextmanager
def open_picture(source: Source) -> Iterator[Image.Image]:
    """Open a picture with one of the allowed decoders, chosen by content and not by name.

    Args:
        source: The picture.

    Yields:
        The picture, not decoded yet.

    Raises:
        DataError: it is of no allowed format, or claims more than `MAX_PIXELS` pixels.
        Exception: whatever else Pillow raises on damaged bytes.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")  # noqa: SIM115, PTH123 (a Path costs a tenth of a small picture)
    with file:
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise DataError(f"not one of the formats {', '.join(FORMATS)}") from None
        except Image.DecompressionBombError as error:
            raise DataError(f"claims more than the {MAX_PIXELS:,} pixels that are allowed") from error
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"claims more than the {MAX_PIXELS:,} pixels that are allowed")
            yield image


def read_header(source: Source) -> Header:
    """What a picture tells from its header alone; a 16-bit grey one is decoded for its range.

    Raises:
        DataError: as `open_picture`.
    """
    with open_picture(source) as image:
        return _header_of(image)


def _header_of(image: Image.Image) -> Header:
    width, height = image.size
    # Pillow decodes a whole PNG to look for EXIF data behind the pixels: too slow for a header.
    if (image.format != "PNG" or "exif" in image.info) and _orientation(image) >= 5:
        width, height = height, width
    deep_range = None
    if image.mode.startswith("I"):
        values = np.asarray(image)
        deep_range = float(values.min()), float(values.max())
    is_ours = image.info.get("Software") == PNG_SOFTWARE
    return Header(width, height, image.mode in GREY_MODES, deep_range, is_ours)


def read_pixels(
    source: Source, height: int, width: int, channels: int, deep_range: tuple[float, float] = SIXTEEN_BITS
) -> tuple[NDArray[np.uint8], list[str]]:
    """`convert` applied to a path or to encoded bytes.

    Raises:
        DataError: as `open_picture` and `convert`.
    """
    with open_picture(source) as image:
        return convert(image, height, width, channels, deep_range)


def convert(
    image: Image.Image, height: int, width: int, channels: int, deep_range: tuple[float, float] = SIXTEEN_BITS
) -> tuple[NDArray[np.uint8], list[str]]:
    """The one rule by which a picture becomes pixels.

    1. Of an animation the first frame is taken. A JPEG much larger than needed is decoded at reduced size.
    2. The picture is rotated and mirrored as its EXIF orientation says.
    3. 16-bit grey is scaled to 8 bits, so that `deep_range` becomes 0 to 255. Floating-point pixels are refused.
    4. Transparency, from a channel or a palette, is composited on white.
    5. Palettes, CMYK and the like become RGB; `channels` decides between grey (ITU-R 601 weights) and RGB.
    6. The picture is scaled, up or down and with its aspect kept, to the largest size that fits (Lanczos filter).
    7. What remains at two sides is filled with the median colour of the scaled picture's own border, the picture
       in the middle.

    Args:
        image: An opened picture.
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        channels: 1 for grey or 3 for RGB.
        deep_range: The numbers of a 16-bit grey picture that become 0 and 255; those outside are clipped.

    Returns:
        Pixels of shape (height, width, channels), and a phrase for each thing that was done to the picture.

    Raises:
        DataError: the pixels are floating-point numbers.

    Example:
        >>> clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
        >>> pixels, steps = convert(clear, 2, 2, 3)
        >>> pixels[0, 0].tolist(), steps
        ([255, 255, 255], ['transparency composited on white', 'scaled to fit'])
    """
    steps = ["first frame of an animation taken"] if getattr(image, "is_animated", False) else []
    image.draft(None, (2 * max(height, width), 2 * max(height, width)))
    image.load()
    image = _upright(image, steps)
    image = _eight_bits(image, deep_range, steps)
    image = _recolour(image, channels, steps)
    image = _fit(image, height, width, steps)
    image = _pad(image, height, width, steps)
    return np.asarray(image).reshape(height, width, channels), steps


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF data are common in pictures that are otherwise sound
        return 1


def _upright(image: Image.Image, steps: list[str]) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    if turn is None:
        return image
    steps.append("rotated or mirrored as the EXIF data say")
    return image.transpose(turn)


def _eight_bits(image: Image.Image, deep_range: tuple[float, float], steps: list[str]) -> Image.Image:
    if image.mode == "F":
        raise DataError("floating-point pixels; save it with 8 or 16 bits a channel")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    low, high = deep_range
    steps.append(f"16-bit grey scaled to 8 bits, {low:g} became 0 and {high:g} became 255")
    if values.min() < low or values.max() > high:
        steps.append(f"numbers outside {low:g} to {high:g} clipped")
    return Image.fromarray(scale_pixels(values, deep_range))


def _recolour(image: Image.Image, channels: int, steps: list[str]) -> Image.Image:
    mode = "L" if channels == 1 else "RGB"
    if image.mode == "P":
        steps.append("palette replaced by its colours")
    elif (image.mode in GREY_MODES) != (channels == 1):
        steps.append("colour turned grey" if channels == 1 else "grey repeated in three channels")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        steps.append(f"{image.mode} turned to RGB")
    if image.has_transparency_data:
        steps.append("transparency composited on white")
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(mode)
    if image.mode in (mode, "1", "L"):
        return image.convert(mode)
    return image.convert("RGB").convert(mode)


def _fit(image: Image.Image, height: int, width: int, steps: list[str]) -> Image.Image:
    scale = min(height / image.height, width / image.width)
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    if size == image.size:
        return image
    steps.append("scaled to fit")
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _pad(image: Image.Image, height: int, width: int, steps: list[str]) -> Image.Image:
    if image.size == (width, height):
        return image
    steps.append("padded with the median colour of the border")
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    colour = tuple(np.rint(np.median(border, axis=0)).astype(int).tolist())
    left, top = (width - image.width) // 2, (height - image.height) // 2
    right, bottom = width - image.width - left, height - image.height - top
    return ImageOps.expand(image, (left, top, right, bottom), colour if len(colour) == 3 else colour[0])
