"""Small drawings of five kinds of charts, in any two colours, as thumbnails of a report show them."""

import math
from itertools import pairwise

import numpy as np
from suite_data.drawn import in_random_order, to_bytes

CHARTS = {"bars": 300, "line": 250, "scatter": 200, "pie": 150, "grid": 100}
SIDE = 48
MARGIN = 0.12  # of the side
FINER = 2  # pixels drawn for each one along a side, for smooth edges


def charts():
    rng = np.random.default_rng(0)
    labels = in_random_order(CHARTS, rng)
    return np.stack([chart(list(CHARTS)[kind], rng) for kind in labels]), labels


def chart(kind, rng):
    """One picture (SIDE, SIDE, 3), uint8: how much of each colour, then the colours."""
    at = (np.arange(FINER * SIDE) + 0.5) / (FINER * SIDE)
    x, y = np.meshgrid((at - MARGIN) / (1 - 2 * MARGIN), ((1 - at) - MARGIN) / (1 - 2 * MARGIN))
    ink = np.clip(DRAWN[kind](x, y, rng), 0, 1) * ((x > 0) & (x < 1) & (y > 0) & (y < 1))
    if kind in WITH_AXES:
        ink = np.maximum(ink, 0.8 * line_to(x, y, (0, 0), (1, 0)))
        ink = np.maximum(ink, 0.8 * line_to(x, y, (0, 0), (0, 1)))
    ink = ink.reshape(SIDE, FINER, SIDE, FINER).mean((1, 3))[..., np.newaxis]
    paper, colour = rng.uniform(0.75, 1, 3), rng.uniform(0, 0.55, 3)
    return to_bytes(paper + (colour - paper) * ink + rng.normal(0, 0.01, (SIDE, SIDE, 3)))


# How much ink there is at places (x, y), from (0, 0) at the lower left to (1, 1).


def line_to(x, y, start, end, width=0.02):
    (a, b), (c, d) = start, end
    along = np.clip(((x - a) * (c - a) + (y - b) * (d - b)) / ((c - a) ** 2 + (d - b) ** 2), 0, 1)
    return np.hypot(x - a - along * (c - a), y - b - along * (d - b)) < width


def bars(x, y, rng):
    heights = rng.uniform(0.15, 1, rng.integers(4, 8))
    place = x * len(heights)
    bar = np.clip(place.astype(int), 0, len(heights) - 1)
    return (np.abs(place - bar - 0.5) < 0.36) & (y < heights[bar]) & (y > 0)


def line(x, y, rng):
    values = np.clip(0.5 + np.cumsum(rng.normal(0, 0.16, 9)), 0.05, 0.95)
    at = np.linspace(0, 1, len(values))
    points = zip(at, values, strict=True)
    return np.max([line_to(x, y, *ends) for ends in pairwise(points)], 0)


def scatter(x, y, rng):
    n, slope = rng.integers(25, 50), rng.uniform(-0.8, 0.8)
    a = rng.uniform(0.05, 0.95, n)
    b = np.clip(0.5 + slope * (a - 0.5) + rng.normal(0, 0.13, n), 0.05, 0.95)
    return np.min([np.hypot(x - c, y - d) for c, d in zip(a, b, strict=True)], 0) < 0.03


def pie(x, y, rng):
    shares = rng.dirichlet(np.full(rng.integers(3, 6), 2.0))
    turn = np.mod(np.arctan2(y - 0.5, x - 0.5) / (2 * math.pi) + rng.uniform(), 1)
    part = np.searchsorted(np.cumsum(shares)[:-1], turn)
    shade = rng.permutation(np.linspace(0.25, 1, len(shares)))
    return shade[part] * (np.hypot(x - 0.5, y - 0.5) < 0.46)


def grid(x, y, rng):
    """A heat map."""
    n = rng.integers(4, 8)
    values = rng.uniform(0, 1, (n, n))
    row, column = (np.clip((of * n).astype(int), 0, n - 1) for of in (y, x))
    return values[row, column]


DRAWN = {"bars": bars, "line": line, "scatter": scatter, "pie": pie, "grid": grid}
WITH_AXES = ("bars", "line", "scatter")
