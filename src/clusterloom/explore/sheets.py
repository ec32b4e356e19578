"""Images side by side on one sheet, which saves a browser hundreds of requests."""

import io

import numpy as np
from PIL import Image
from starlette.responses import Response

from clusterloom.pictures import to_picture

SHEET_COLUMNS = 16
THUMBNAIL_PIXELS = 64  # of the longer side at most


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """Images side by side without gaps, `columns` in a row, what is left over black.

    Args:
        images: Shape (N, H, W, C), N at least 1.
        columns: At least 1.
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, height, width, channels), images.dtype)
    canvas[:n] = images
    lined = canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return to_picture(lined.reshape(rows * height, columns * width, channels))


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Images, scaled down where a side is longer than `THUMBNAIL_PIXELS`.

    Args:
        images: Shape (n, H, W, C), uint8.

    Returns:
        Shape (n, h, w, C), uint8.
    """
    height, width = images.shape[1:3]
    scale = THUMBNAIL_PIXELS / max(height, width)
    if scale >= 1:
        return images
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(to_picture(image).resize(size, Image.Resampling.BOX)) for image in images]
    return np.stack(small).reshape(len(small), size[1], size[0], -1)


def quick_png(picture: Image.Image) -> bytes:
    """A picture as PNG; packed quickly rather than tightly, for it travels within one machine."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def png_response(picture: Image.Image) -> Response:
    """A picture as a response."""
    return Response(quick_png(picture), media_type="image/png")
