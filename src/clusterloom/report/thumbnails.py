"""Images inside the page: as data URIs, each in the format that makes it smallest."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image, features

from clusterloom.pictures import to_picture

_LONGER_SIDE = 96  # pixels; larger images are scaled down
_LARGE_BYTES = 3000  # beyond this a lossless file makes way for one that only looks the same


def thumbnail(image: np.ndarray) -> str:
    """A data URI of one image (H, W, C), uint8 or float in [0, 1].

    Small images are kept to the last bit, photographs are not.
    """
    picture = to_picture(image)
    if max(picture.size) > _LONGER_SIDE:
        picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
    kind, data = _lossless(picture)
    if len(data) > _LARGE_BYTES and features.check("webp"):
        kind, data = min((kind, data), _encoded(picture, "webp", quality=85, method=4), key=_size)
    return _uri(kind, data)


def raster(picture: Image.Image) -> str:
    """A data URI of a picture, to the last bit."""
    return _uri(*_lossless(picture))


def photograph(picture: Image.Image) -> str:
    """A data URI of a large picture that need not keep every pixel."""
    if not features.check("webp"):
        return raster(picture)
    return _uri(*_encoded(picture, "webp", quality=85, method=4))


def _lossless(picture: Image.Image) -> tuple[str, bytes]:
    """Format and contents of the smallest file that keeps every pixel."""
    png = _encoded(picture, "png", optimize=True)
    if not features.check("webp"):  # Pillow may have been built without it
        return png
    full = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    return min(png, _encoded(full, "webp", lossless=True, quality=60, method=4), key=_size)


def _size(file: tuple[str, bytes]) -> int:
    return len(file[1])


def _encoded(picture: Image.Image, kind: str, **options: Any) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return kind, buffer.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
