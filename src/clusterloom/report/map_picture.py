"""The map of all images as a picture: a transparent raster for the points, and places for the clusters' numbers."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clusterloom.palette import COLOURS, Style
from clusterloom.predictions import Predictions

_LONGER_SIDE = 1400  # pixels
_MARGIN = 24
_LEAST_SIDE = 300  # of a map without extent in one direction, or in both
_LARGEST_MARKER = 7  # radius, pixels; many images get small ones, whose shape cannot be seen
_OPACITIES = (150, 205, 255)  # of a pixel that one, two, or more markers cover
_CELLS = 48  # of the grid on which the dense parts of a cluster are looked for
_LEAST_SHARE = 0.2  # a part with fewer of its cluster's images gets no number
_MOST_SPOTS = 2000  # points that name their image: each takes some hundred bytes of the page
_LABEL_DISTANCE = 50  # the least between two numbers, pixels


class Label(NamedTuple):
    """A cluster's number on the map: `x` and `y` in pixels from the upper left corner."""

    cluster: int
    x: float
    y: float


class Spot(NamedTuple):
    """A point that tells which image it is: `x` and `y` in pixels from the upper left corner."""

    row: int
    x: int
    y: int


class MapPicture(NamedTuple):
    """The map, drawn."""

    points: Image.Image  # transparent where there is no image
    labels: list[Label]  # a cluster in several parts has several
    spots: list[Spot]  # of all images, or of a random choice of many


def draw(predictions: Predictions, styles: Sequence[Style]) -> MapPicture:
    """Draw all images that a model was asked about.

    Markers are drawn in a random, seeded order: where clusters mix, no one of them covers the others.

    Args:
        predictions: What the model says of them.
        styles: One for each cluster.
    """
    low, high = predictions.position.min(0), predictions.position.max(0)
    scale = _LONGER_SIDE - 2 * _MARGIN
    size = np.maximum(np.rint((high - low) * scale) + 2 * _MARGIN, _LEAST_SIDE).astype(int)
    # Pictures count rows downwards.
    pixels = np.rint((predictions.position - (low + high) / 2) * scale * [1, -1] + (size - 1) / 2).astype(int)
    width, height = size.tolist()
    order = np.random.default_rng(0).permutation(len(predictions))
    points = _raster(pixels[order], predictions.labels[order], styles, (height, width))
    named = order[:_MOST_SPOTS].tolist()
    spots = [Spot(row, *pixels[row].tolist()) for row in named]
    return MapPicture(points, _apart(_label_places(pixels, predictions.labels), (width, height)), spots)


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
        parts, n_parts = label(density > 0.2 * density.max())
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
    angle = 2.4 * np.arange(len(places))  # the golden angle: numbers on one spot part in all directions
    places += np.stack([np.cos(angle), np.sin(angle)], 1)
    for _ in range(50):
        moved = False
        for i, j in combinations(range(len(places)), 2):
            offset = places[j] - places[i]
            distance = float(np.hypot(*offset))
            if distance < _LABEL_DISTANCE:
                step = (_LABEL_DISTANCE - distance + 1) / 2 * offset / max(distance, 1e-6)
                places[i] -= step
                places[j] += step
                moved = True
        places = np.clip(places, _MARGIN, np.array(size) - _MARGIN)
        if not moved:
            break
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
