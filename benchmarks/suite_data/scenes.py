"""Things at any place, angle and size on a noisy background in uneven light: cut-out shapes, and small metal parts."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from suite_data.drawn import in_random_order, to_bytes

SIDE = 48
FINER = 4  # along each side; smooth edges
SHAPES = {"star": 250, "triangle": 220, "heart": 190, "cross": 160, "moon": 120, "bar": 90}
PARTS = {"nut": 240, "washer": 210, "screw": 180, "bracket": 150, "clip": 120, "nail": 90}


def shapes_anywhere():
    """Six shapes, grey, each darker or brighter than what lies behind it."""
    rng = np.random.default_rng(0)
    labels = in_random_order(SHAPES, rng)
    return np.stack([scene(list(SHAPES)[kind], rng, (8, 17)) for kind in labels]), labels


def parts_anywhere():
    """Six kinds of metal parts on paper of any colour, each of one colour."""
    rng = np.random.default_rng(1)
    labels = in_random_order(PARTS, rng)
    return np.stack([scene(list(PARTS)[kind], rng, (9, 16), n_channels=3) for kind in labels]), labels


def scene(kind, rng, radii, n_channels=1):
    """One picture (SIDE, SIDE, C), uint8: a thing that reaches so many pixels from its middle."""
    radius, angle = rng.uniform(*radii), rng.uniform(0, 2 * math.pi)
    row, column = rng.uniform(radius, SIDE - radius, 2)
    fine = (np.arange(SIDE * FINER) + 0.5) / FINER
    v, u = (fine[:, np.newaxis] - row) / radius, (fine - column) / radius
    u, v = math.cos(angle) * u + math.sin(angle) * v, math.cos(angle) * v - math.sin(angle) * u
    shape = INSIDE[kind](u, v).astype(float).reshape(SIDE, FINER, SIDE, FINER).mean((1, 3))[..., np.newaxis]
    y, x = (np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2)[..., np.newaxis]
    slopes = rng.normal(0, 0.004, 2)
    behind = rng.uniform(0.25, 0.75, n_channels) + slopes[0] * x + slopes[1] * y
    thing = behind + rng.choice([-1, 1]) * rng.uniform(0.2, 0.35) + rng.normal(0, 0.05, n_channels)
    picture = gaussian_filter(behind + (thing - behind) * shape, (0.7, 0.7, 0))
    return to_bytes(picture + rng.normal(0, rng.uniform(0.01, 0.04), picture.shape))


# Which places, across and down from -1 to 1, belong to a thing.


def polygon(u, v, corners):
    """Places within a polygon: a line to the right of them meets its edge an odd number of times."""
    inside = np.zeros(u.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > v) != (y1 > v)) & (u < x0 + (v - y0) * (x1 - x0) / (y1 - y0))
    return inside


def around(n, radii=(1.0,)):
    """So many corners around the middle, at these distances in turn, shape (n, 2)."""
    angles = 2 * math.pi * np.arange(n) / n
    return np.resize(radii, n)[:, np.newaxis] * np.stack([np.cos(angles), np.sin(angles)], 1)


def star(u, v):
    return polygon(u, v, around(10, (1.0, 0.45)))


def triangle(u, v):
    return polygon(u, v, around(3))


def heart(u, v):
    u, v = 1.15 * u, 0.15 - 1.15 * v
    return (u**2 + v**2 - 0.6) ** 3 < 2 * u**2 * v**3


def cross(u, v):
    return (np.minimum(np.abs(u), np.abs(v)) < 0.32) & (np.maximum(np.abs(u), np.abs(v)) < 0.95)


def moon(u, v):
    return (np.hypot(u, v) < 1) & (np.hypot(u - 0.45, v) > 0.75)


def bar(u, v):
    return (np.abs(u) < 0.97) & (np.abs(v) < 0.22)


def nut(u, v):
    return polygon(u, v, around(6)) & (np.hypot(u, v) > 0.45)


def washer(u, v):
    return (np.hypot(u, v) < 0.85) & (np.hypot(u, v) > 0.55)


def screw(u, v):
    head = (np.abs(u + 0.8) < 0.18) & (np.abs(v) < 0.5)
    thread = 0.2 + 0.06 * np.sign(np.sin(22 * u))
    return head | (np.abs(u - 0.1) < 0.8) & (np.abs(v) < thread)


def bracket(u, v):
    arms = (np.abs(u + 0.45) < 0.2) & (np.abs(v) < 0.75) | (np.abs(v - 0.55) < 0.2) & (np.abs(u - 0.05) < 0.7)
    return arms & (np.hypot(u + 0.45, v + 0.5) > 0.1)


def clip(u, v):
    bend = (np.abs(np.hypot(u + 0.3, v) - 0.45) < 0.13) & (u < -0.3)
    return bend | (np.abs(np.abs(v) - 0.45) < 0.13) & (u >= -0.3) & (u < 0.85)


def nail(u, v):
    head = (np.abs(u + 0.9) < 0.07) & (np.abs(v) < 0.22)
    return head | (np.abs(u) < 0.95) & (np.abs(v) < 0.09 * np.clip((0.95 - u) * 4, 0, 1))


INSIDE = {f.__name__: f for f in (star, triangle, heart, cross, moon, bar, nut, washer, screw, bracket, clip, nail)}
