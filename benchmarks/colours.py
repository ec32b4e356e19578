"""Two sets of drawings in colour.

`shapes`: six shapes, each in a random colour, so that colour says nothing of the kind. `hues`: discs in six hues, so
that nothing but colour does. Size, place, slant, brightness and the grey behind are random in both.
"""

import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

KINDS = 6
IMAGES = 1500
SIDE = 32
ENLARGED = 4  # drawn so many times as large, then scaled down, for smooth edges


def regular(corners, inner=1.0):
    """Corners of a polygon around 0; with `inner` below 1 every second one is so far from the middle."""
    turns = np.arange(corners) / corners
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([radii * np.sin(2 * math.pi * turns), -radii * np.cos(2 * math.pi * turns)], 1)


CROSS = np.array(
    [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
)
BAR = np.array([(-4, -1), (4, -1), (4, 1), (-4, 1)])
SHAPES = (regular(60), regular(4), regular(3), regular(10, 0.42), CROSS / math.hypot(3, 1), BAR / math.hypot(4, 1))


def drawing(outline, hue, rng):
    """One image (SIDE, SIDE, 3), uint8: a filled outline of that hue."""
    size = rng.uniform(0.28, 0.42) * SIDE
    angle = math.radians(rng.uniform(-15, 15))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = SIDE / 2 + rng.uniform(-2.5, 2.5, 2)
    colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.0))
    grey = int(rng.uniform(0, 60))
    picture = Image.new("RGB", (SIDE * ENLARGED, SIDE * ENLARGED), (grey, grey, grey))
    corners = (outline @ turn.T * size + middle) * ENLARGED
    ImageDraw.Draw(picture).polygon([tuple(c) for c in corners], fill=tuple(round(255 * c) for c in colour))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def drawings(name, n=IMAGES):
    """Images (n, SIDE, SIDE, 3), uint8, and the kind of each."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % KINDS)
    if name == "shapes":
        return np.stack([drawing(SHAPES[k], rng.uniform(), rng) for k in labels]), labels
    return np.stack([drawing(SHAPES[0], k / KINDS + rng.normal(0, 0.015), rng) for k in labels]), labels
