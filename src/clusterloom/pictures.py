"""Images as pictures: one of them, grids of many, and PNG files."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from clusterloom.marks import PNG_SOFTWARE

_LABEL_PIXELS = 72
_GAP_PIXELS = 2
_HEAD_PIXELS = 18
_MARGIN_PIXELS = 4
_LINE = (224, 224, 224)  # around each image: a white one would not be seen on white paper


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, rounded; uint8 as it is.

    Example:
        >>> to_uint8(np.array([[0.0, 0.5, 1.0]], np.float32))
        array([[  0, 128, 255]], dtype=uint8)
    """
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint(images * 255), 0, 255).astype(np.uint8)


def to_picture(image: np.ndarray) -> Image.Image:
    """One image (H, W, C) for Pillow: RGB of its first three channels, or grey of its first where it has fewer."""
    pixels = to_uint8(image)
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]))


def image_grid(
    rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, title: str = "", smallest: int = 28
) -> Image.Image:
    """A picture with one row of images per entry, each labelled on the left; rows may have different lengths.

    Small images are enlarged by a whole factor without smoothing, so that every pixel can be seen.

    Args:
        rows: Images of each row, shape (n, H, W, C), uint8 or float in [0, 1]; n may be 0.
        labels: Text of each row; None leaves no room for it.
        title: Above them all.
        smallest: Pixels that the shorter side of an image takes up at least.

    Returns:
        An RGB picture.
    """
    height, width = rows[0].shape[1:3]
    factor = max(1, -(-smallest // min(height, width)))
    tile_height, tile_width = height * factor + _GAP_PIXELS, width * factor + _GAP_PIXELS
    left, head = _LABEL_PIXELS if labels else 0, _HEAD_PIXELS if title else 0
    title_font, font = ImageFont.load_default(12), ImageFont.load_default(11)
    full_width = left + max(1, *map(len, rows)) * tile_width + _GAP_PIXELS
    full_width = max(full_width, int(title_font.getlength(title)) + 2 * _MARGIN_PIXELS)
    canvas = Image.new("RGB", (full_width, head + len(rows) * tile_height + _GAP_PIXELS), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN_PIXELS, 1), title, fill="black", font=title_font)
    for y, row in enumerate(rows):
        top = head + y * tile_height + _GAP_PIXELS
        if labels:
            draw.multiline_text((_MARGIN_PIXELS, top + 2), labels[y], fill="black", font=font, spacing=1)
        for x, image in enumerate(row):
            tile = to_picture(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
            at = left + x * tile_width + _GAP_PIXELS
            draw.rectangle((at - 1, top - 1, at + tile.width, top + tile.height), outline=_LINE)
            canvas.paste(tile, (at, top))
    return canvas


def png_bytes(picture: Image.Image, made: bool = True) -> bytes:
    """A picture as the contents of a PNG file.

    Args:
        picture: The picture.
        made: Whether it is clusterloom's own work; it is marked as such then, so that no reader takes it for data.
    """
    mark = PngInfo()
    if made:
        mark.add_text("Software", PNG_SOFTWARE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=mark)
    return buffer.getvalue()
