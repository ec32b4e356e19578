"""Pictures put together again from their tiles, with the cluster of each tile in its place."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clusterloom.data.ids import parse_tile
from clusterloom.data.images import ImageSet
from clusterloom.palette import Style
from clusterloom.pictures import to_picture

_TINT = 0.5  # share of a cluster's colour over its tiles
_NUMBERED = 18  # pixels from which on a tile has room for the number of its cluster
_OUTLINE = 2


@dataclass(frozen=True, eq=False)
class Mosaic:
    """The tiles of one picture.

    Attributes:
        name: Id of the picture.
        rows: Row number of the image at each place, shape (rows of tiles, columns), int64; -1 where there is none.
    """

    name: str
    rows: np.ndarray


def mosaics(ids: Sequence[str]) -> list[Mosaic]:
    """The pictures that tiles were cut from, in the order in which they come.

    Args:
        ids: Of tiles, `name#row,col`.

    Example:
        >>> [one] = mosaics(["sky.tif#0,0", "sky.tif#1,1"])
        >>> one.name, one.rows.tolist()
        ('sky.tif', [[0, -1], [-1, 1]])
    """
    places: dict[str, list[tuple[int, int, int]]] = {}
    for number, identifier in enumerate(ids):
        tile = parse_tile(identifier)
        places.setdefault(tile.picture, []).append((tile.row, tile.column, number))
    found = []
    for name, listed in places.items():
        at = np.array(listed)
        rows = np.full((at[:, 0].max() + 1, at[:, 1].max() + 1), -1)
        rows[at[:, 0], at[:, 1]] = at[:, 2]
        found.append(Mosaic(name, rows))
    return found


def assembled(images: ImageSet, mosaic: Mosaic, longest: int) -> Image.Image:
    """The picture itself, without what was left over at its right and bottom.

    Args:
        images: All tiles.
        mosaic: Which of them make the picture.
        longest: Pixels of the result's longer side, at most, unless there are more tiles than that.

    Returns:
        RGB, grey where a tile is not there.
    """
    side = _side(images, mosaic, longest)
    height, width = mosaic.rows.shape
    picture = Image.new("RGB", (width * side, height * side), "grey")
    for row, column in np.argwhere(mosaic.rows >= 0).tolist():
        tile = to_picture(images.shown(mosaic.rows[row, column])).convert("RGB")
        picture.paste(tile.resize((side, side), Image.Resampling.BOX), (column * side, row * side))
    return picture


def tinted(picture: Image.Image, mosaic: Mosaic, labels: np.ndarray, styles: Sequence[Style]) -> Image.Image:
    """An assembled picture with the colour of its cluster over each tile, and its number where there is room for it.

    Args:
        picture: As `assembled` gives it.
        mosaic: The same.
        labels: Cluster of each image, shape (N,).
        styles: Of every cluster.
    """
    colours = np.array([ImageColor.getrgb(style.hex) for style in styles], np.uint8)
    there = mosaic.rows >= 0
    tints = np.full((*mosaic.rows.shape, 3), 128, np.uint8)
    tints[there] = colours[labels[mosaic.rows[there]]]
    over = Image.fromarray(tints).resize(picture.size, Image.Resampling.NEAREST)
    result = Image.blend(picture, over, _TINT)
    side = picture.width // mosaic.rows.shape[1]
    if side >= _NUMBERED:
        draw, font = ImageDraw.Draw(result), ImageFont.load_default(min(14, side // 2))
        for row, column in np.argwhere(there).tolist():
            number = str(labels[mosaic.rows[row, column]])
            middle = (column + 0.5) * side, (row + 0.5) * side
            draw.text(middle, number, "white", font, anchor="mm", stroke_width=1, stroke_fill="black")
    return result


def outlined(picture: Image.Image, mosaic: Mosaic, number: int) -> Image.Image:
    """An assembled picture with a frame around one tile, the image of that row number."""
    ((row, column),) = np.argwhere(mosaic.rows == number).tolist()
    side = picture.width // mosaic.rows.shape[1]
    box = (column * side, row * side, (column + 1) * side - 1, (row + 1) * side - 1)
    result = picture.copy()
    draw = ImageDraw.Draw(result)
    draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline="black", width=_OUTLINE + 2)
    draw.rectangle(box, outline="white", width=_OUTLINE)
    return result


def _side(images: ImageSet, mosaic: Mosaic, longest: int) -> int:
    """Pixels of a tile in the assembled picture."""
    return max(1, min(max(images.image_shape[:2]), longest // max(mosaic.rows.shape)))
