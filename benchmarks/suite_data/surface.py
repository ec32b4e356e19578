"""Defects on rolled metal as a program draws them, at any place of the picture, in uneven light."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.special import expit
from suite_data.drawn import in_random_order, to_bytes

KINDS = {"scratches": 400, "pits": 350, "patches": 300, "cracks": 250, "inclusion": 200, "scale": 150}
SIDE = 48


def surface():
    """Six kinds of defects, grey."""
    rng = np.random.default_rng(0)
    labels = in_random_order(KINDS, rng)
    return np.stack([picture(list(KINDS)[kind], rng) for kind in labels]), labels


def picture(kind, rng):
    """One picture (SIDE, SIDE, 1), uint8."""
    light, rolled = smooth(12, rng), smooth((0.5, 3), rng)
    image = rng.uniform(0.45, 0.65) + rng.uniform(0.015, 0.05) * light + 0.03 * rolled
    image = image + DEFECTS[kind](rng) + rng.normal(0, 0.02, image.shape)
    return to_bytes(image)[..., np.newaxis]


def smooth(sigma, rng):
    """Noise of this width, of variance 1."""
    noise = gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), sigma)
    return noise / noise.std()


# What a defect adds to the brightness, (SIDE, SIDE).


def scratches(rng):
    found = np.zeros((SIDE, SIDE))
    for _ in range(rng.integers(1, 4)):
        middle, angle, half = rng.uniform(8, 40, 2), rng.uniform(0, math.pi), rng.uniform(10, 22)
        y, x = np.indices((SIDE, SIDE)) - middle[:, np.newaxis, np.newaxis]
        along = x * math.cos(angle) + y * math.sin(angle)
        across = np.hypot(along - np.clip(along, -half, half), y * math.cos(angle) - x * math.sin(angle))
        found += rng.uniform(0.2, 0.4) * np.clip(rng.uniform(0.8, 1.4) - across, 0, 1)
    return found


def pits(rng):
    found = np.zeros((SIDE, SIDE))
    y, x = np.indices((SIDE, SIDE))
    for at in rng.uniform(2, 46, (rng.integers(6, 18), 2)):
        radius = rng.uniform(0.8, 2)
        found -= rng.uniform(0.2, 0.35) * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius**2))
    return found


def patches(rng):
    middle = rng.uniform(12, 36, 2)
    y, x = np.indices((SIDE, SIDE)) - middle[:, np.newaxis, np.newaxis]
    return -rng.uniform(0.2, 0.3) * expit(6 * (1.4 + 0.5 * smooth(5, rng) - np.hypot(x, y) / 9))


def cracks(rng):
    """The borders between the regions of random points."""
    points = rng.uniform(-8, 56, (rng.integers(40, 80), 2))
    nearest = cKDTree(points).query(np.moveaxis(np.indices((SIDE, SIDE)), 0, -1), 2)[0]
    return -rng.uniform(0.12, 0.25) * np.clip(1.2 - (nearest[..., 1] - nearest[..., 0]), 0, 1)


def inclusion(rng):
    middle, half, wide = rng.uniform(12, 36, 2), rng.uniform(10, 20), rng.uniform(1.5, 3.5)
    y, x = np.indices((SIDE, SIDE)) - middle[:, np.newaxis, np.newaxis]
    x = x - 0.3 * np.cumsum(rng.normal(0, 1, SIDE))[:, np.newaxis]
    return -rng.uniform(0.2, 0.35) * np.clip(2 * (1 - (x / wide) ** 2 - (y / half) ** 4), 0, 1)


def scale(rng):
    return rng.uniform(0.1, 0.18) * np.tanh(2 * smooth(1.8, rng))


DEFECTS = {
    "scratches": scratches,
    "pits": pits,
    "patches": patches,
    "cracks": cracks,
    "inclusion": inclusion,
    "scale": scale,
}
