"""A picture that Pillow decodes to 8-bit pixels of a given shape: the rule for all sources alike.

`ImageOps.exif_transpose` does not serve: it also writes the EXIF data anew, and fails where these are damaged, though
their orientation can be read. `ImageOps.contain` and `pad` neither: they leave no pixel of a long thin picture, and
filter a large one without reducing it first.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.data.pixels import PixelRange, range_text, scale_pixels
from clusterloom.errors import DataError

SIXTEEN_BITS = (0.0, 65_535.0)

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B"})

FLOATING = "floating-point pixels, which are read of TIFF and FITS alone"

_ORIENTATION_TAG = 0x0112

LYING = (5, 6, 7, 8)  # orientations in which rows are columns

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def convert(
    image: Image.Image, height: int, width: int, channels: int, deep_range: PixelRange = SIXTEEN_BITS
) -> tuple[NDArray[np.uint8], list[str]]:
    """The one rule by which a picture that Pillow decodes becomes pixels.

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
    image = upright(image, steps)
    image = _eight_bits(image, deep_range, steps)
    image = recolour(image, channels, steps)
    inner_height, inner_width = largest_fit(image.height, image.width, height, width)
    if (inner_width, inner_height) != image.size:
        steps.append("scaled to fit")
        image = image.resize((inner_width, inner_height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(inner_height, inner_width, channels)
    if (inner_height, inner_width) == (height, width):
        return pixels, steps
    steps.append("padded with the median colour of the border")
    return padded(pixels, height, width), steps


def orientation(image: Image.Image) -> int:
    """The number that EXIF data give: 1 (upright) to 8, or any other, which says nothing."""
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # damaged EXIF data are common in pictures that are otherwise sound
        return 1


def upright(image: Image.Image, steps: list[str]) -> Image.Image:
    """Rotated and mirrored as the EXIF data say."""
    turn = _UPRIGHT.get(orientation(image))
    if turn is None:
        return image
    steps.append("rotated or mirrored as the EXIF data say")
    return image.transpose(turn)


def _eight_bits(image: Image.Image, deep_range: PixelRange, steps: list[str]) -> Image.Image:
    if image.mode == "F":
        raise DataError(FLOATING)
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    low, high = deep_range
    steps.append("16-bit grey scaled to 8 bits")
    if values.min() < np.min(low) or values.max() > np.max(high):
        steps.append(f"numbers outside {range_text(deep_range)} clipped")
    return Image.fromarray(scale_pixels(values, deep_range))


def recolour(image: Image.Image, channels: int, steps: list[str]) -> Image.Image:
    """Grey (1 channel) or RGB (3) without transparency; a step is written down for each thing that is done."""
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


def largest_fit(own_height: int, own_width: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of a picture, in pixels, when it is scaled to the largest size that fits, aspect kept.

    Example:
        >>> largest_fit(100, 50, 28, 28)
        (28, 14)
    """
    scale = min(height / own_height, width / own_width)
    return max(1, round(scale * own_height)), max(1, round(scale * own_width))


def padded(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture (H, W, C) in the middle of a larger one, the rest filled with the median colour of its border.

    Returns:
        Shape (height, width, C).
    """
    own_height, own_width, channels = pixels.shape
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    result = np.empty((height, width, channels), np.uint8)
    result[:] = np.rint(np.median(border, axis=0)).astype(np.uint8)
    top, left = (height - own_height) // 2, (width - own_width) // 2
    result[top : top + own_height, left : left + own_width] = pixels
    return result
