"""The map of all images as a picture: a transparent raster for the points, and places for the clusters' numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clusterloom.report.palette import COLOURS, Style
from clusterloom.survey import Survey

_LONGER_SIDE = 1400  # pixels
_MARGIN = 24
_LARGEST_MARKER = 7  # radius, pixels; many images get small ones, whose shape cannot be seen
_OPACITIES = (150, 205, 255)  # of a pixel that one, two, or more markers cover
_CELLS = 48  # of the grid on which the dense parts of a cluster are looked for
_LEAST_SHARE = 0.2  # a part with fewer of its cluster's images gets no number
_LABEL_DISTANCE = 34  # the least between two numbers, pixels


@dataclass(frozen=True)
class Label:
    """A cluster's number on the map: `x` and `y` in pixels from the upper left corner."""

    cluster: int
    x: float
    y: float


@dataclass(frozen=True)
class MapPicture:
    """The map, drawn.

    Attributes:
        points: Transparent where there is no image.
        labels: Where to write the clusters' numbers; a cluster in several parts has several.
    """

    points: Image.Image
    labels: list[Label]


def draw(survey: Survey, styles: Sequence[Style]) -> MapPicture:
    """Draw all images of a survey.

    Markers are drawn in a random, seeded order: where clusters mix, no one of them covers the others.

    Args:
        survey: Of N images.
        styles: One for each cluster.
    """
    low, high = survey.position.min(0), survey.position.max(0)
    pixels = np.rint((survey.position - low) * (_LONGER_SIDE - 2 * _MARGIN) + _MARGIN).astype(int)
    width, height = (np.rint((high - low) * (_LONGER_SIDE - 2 * _MARGIN)) + 2 * _MARGIN).astype(int)
    pixels[:, 1] = height - 1 - pixels[:, 1]  # pictures count rows downwards
    order = np.random.default_rng(0).permutation(len(survey))
    points = _raster(pixels[order], survey.labels[order], styles, (int(height), int(width)))
    return MapPicture(points, _apart(_label_places(pixels, survey.labels), (int(width), int(height))))


def _raster(pixels: np.ndarray, labels: np.ndarray, styles: Sequence[Style], size: tuple[int, int]) -> Image.Image:
    """Points as a palette image: a colour's index times the number of opacities, plus the opacity's; last is empty."""
    height, width = size
    radius = int(np.clip(400 / np.sqrt(len(pixels)), 1, _LARGEST_MARKER))
    stamps = {shape: _stamp(shape, radius) for shape in {style.shape for style in styles}}
    colours = np.array([style.colour for style in styles])
    rows, at, colour = [], [], []
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        stamp = stamps[styles[k].shape]
        spots = pixels[members, None] + stamp
        rows.append(np.repeat(members, len(stamp)))
        at.append((spots[..., 1] * width + spots[..., 0]).ravel())
        colour.append(np.full(members.size * len(stamp), colours[k]))
    order = np.argsort(np.concatenate(rows), kind="stable")
    where = np.concatenate(at)[order]
    cover = np.bincount(where, minlength=height * width)
    empty = len(COLOURS) * len(_OPACITIES)
    canvas = np.full(height * width, empty, np.uint8)
    canvas[where] = np.concatenate(colour)[order] * len(_OPACITIES)  # of equal places the last one counts
    canvas += np.where(canvas < empty, np.clip(cover, 1, len(_OPACITIES)) - 1, 0).astype(np.uint8)
    picture = Image.fromarray(canvas.reshape(height, width), "P")
    picture.putpalette([v for colour in COLOURS for v in ImageColor.getrgb(colour) * len(_OPACITIES)] + [0, 0, 0])
    picture.info["transparency"] = bytes([*_OPACITIES * len(COLOURS), 0])
    return picture


def _stamp(shape: str, radius: int) -> np.ndarray:
    """Offsets (x, y) of the pixels of a marker, shape (P, 2)."""
    if radius == 1:
        return np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
    x, y = np.meshgrid(np.arange(-radius, radius + 1), np.arange(-radius, radius + 1))
    distance = np.hypot(x, y)
    inside = {
        "circle": distance <= radius,
        "square": np.maximum(abs(x), abs(y)) <= 0.8 * radius,
        "triangle": abs(x) <= (y + radius) / 2,
        "diamond": abs(x) + abs(y) <= radius,
        "cross": np.minimum(abs(x), abs(y)) <= radius / 3,
        "ring": (distance <= radius) & (distance >= 0.55 * radius),
        "wedge": abs(x) <= (radius - y) / 2,
    }[shape]
    return np.stack([x[inside], y[inside]], 1)


def _label_places(pixels: np.ndarray, labels: np.ndarray) -> list[Label]:
    """The densest place of each part of a cluster that has a good share of its images."""
    from scipy.ndimage import gaussian_filter, label

    cell = _LONGER_SIDE / _CELLS
    places = []
    for k in np.unique(labels):
        members = pixels[labels == k]
        counts = np.zeros((_CELLS + 1, _CELLS + 1))
        np.add.at(counts, tuple((members // cell).astype(int).T), 1)
        density = gaussian_filter(counts, 1.0)
        parts, n_parts = label(density > 0.1 * density.max())
        centre = gaussian_filter(counts, 3.0)  # smoother, so that a number stands in the middle of an even part
        shares = [counts[parts == part].sum() / len(members) for part in range(1, n_parts + 1)]
        for part, share in enumerate(shares, 1):
            if share >= min(_LEAST_SHARE, max(shares)):
                x, y = np.unravel_index(np.argmax(np.where(parts == part, centre, 0)), density.shape)
                places.append(Label(int(k), (x + 0.5) * cell, (y + 0.5) * cell))
    return places


def _apart(labels: list[Label], size: tuple[int, int]) -> list[Label]:
    """Push numbers that would cover each other apart, and keep them inside the picture."""
    places = np.array([(label.x, label.y) for label in labels])
    for _ in range(50):
        offsets = places[:, None] - places[None]
        distance = np.hypot(*np.moveaxis(offsets, -1, 0))
        np.fill_diagonal(distance, np.inf)
        close = distance < _LABEL_DISTANCE
        if not close.any():
            break
        same = distance < 1e-6
        offsets[same] = np.array([1.0, 0.0]) * np.sign(
            np.subtract.outer(range(len(labels)), range(len(labels)))[same, None]
        )
        step = np.where(close, (_LABEL_DISTANCE - distance) / 2 / np.maximum(distance, 1), 0)
        places += (offsets * step[..., None]).sum(1)
    places = np.clip(places, _MARGIN, np.array(size) - _MARGIN)
    return [Label(label.cluster, *place) for label, place in zip(labels, places.tolist(), strict=True)]


def with_labels(drawn: MapPicture) -> Image.Image:
    """The map on white, with the clusters' numbers: a picture that stands alone."""
    canvas = Image.new("RGB", drawn.points.size, "white")
    points = drawn.points.convert("RGBA")
    canvas.paste(points, mask=points)
    pen = ImageDraw.Draw(canvas)
    for label in drawn.labels:
        pen.text(
            (label.x, label.y),
            str(label.cluster),
            fill="black",
            font=ImageFont.load_default(36),
            anchor="mm",
            stroke_width=4,
            stroke_fill="white",
        )
    return canvas
