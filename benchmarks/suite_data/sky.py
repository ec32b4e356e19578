"""Drawn cut-outs of the sky in 16 bit: five kinds of objects for developing, and five others that are held out."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from suite_data.drawn import in_random_order

OBJECTS = {"elliptical": 400, "spiral": 300, "edge-on": 250, "pair": 150, "trail": 100}
OTHER_OBJECTS = {"star cluster": 350, "shell": 300, "comet": 250, "arc": 200, "bright star": 100}
SIDE = 48
SEEING = 0.9  # standard deviation of the blur, pixels


def sky(counts):
    """Objects hundreds of times as bright as each other, at any angle, with other stars, on an uneven level."""
    rng = np.random.default_rng(0)
    labels = in_random_order(counts, rng)
    return np.stack([cut_out(list(counts)[kind], rng) for kind in labels]), labels


def cut_out(kind, rng):
    """One picture (SIDE, SIDE, 1), uint16."""
    rows, columns = np.indices((SIDE, SIDE), float)
    middle, turn = (SIDE - 1) / 2 + rng.normal(0, 1.5, 2), rng.uniform(0, math.pi)
    across, down = columns - middle[1], rows - middle[0]
    u, v = across * math.cos(turn) + down * math.sin(turn), down * math.cos(turn) - across * math.sin(turn)
    light = 10 ** rng.uniform(2.6, 3.8) * LIGHT[kind](u, v, rng)
    for _ in range(rng.poisson(1.5)):
        light += 10 ** rng.uniform(1.8, 2.8) * star(columns - rng.uniform(0, SIDE), rows - rng.uniform(0, SIDE))
    level = rng.uniform(150, 400) + rng.normal(0, 1) * across + rng.normal(0, 1) * down
    counts = gaussian_filter(light, SEEING) + level + rng.normal(0, 25, light.shape)
    return np.rint(np.clip(counts, 0, 65535)).astype(np.uint16)[..., np.newaxis]


# Light at places (u, v) in the object's own axes; how bright it is as a whole is drawn elsewhere.


def star(u, v):
    return np.exp(-(u**2 + v**2) / 3)


def elliptical(u, v, rng):
    """After de Vaucouleurs's law, with an exponent of one half."""
    radius = np.hypot(u, v / rng.uniform(0.6, 1))
    return 8 * np.exp(-3.7 * np.sqrt(radius / rng.uniform(4, 8)))


def spiral(u, v, rng):
    """Two arms in an exponential disc, wound either way, around a bulge."""
    radius, angle = np.hypot(u, v / rng.uniform(0.7, 1)), np.arctan2(v, u)
    winding = rng.choice([-1, 1]) * rng.uniform(1.6, 2.4)
    arms = 1 + 0.9 * np.cos(2 * (angle - winding * np.log(radius + 1)))
    return 0.5 * np.exp(-radius / rng.uniform(5, 8)) * arms + np.exp(-((radius / 1.6) ** 2))


def edge_on(u, v, rng):
    return 0.9 * np.exp(-np.abs(u) / rng.uniform(5, 8)) * np.exp(-np.abs(v) / 1.1)


def pair(u, v, rng):
    half = rng.uniform(2.5, 5)
    return star(u - half, v) + rng.uniform(0.5, 1) * star(u + half, v)


def trail(u, v, rng):
    """Of a satellite, from edge to edge."""
    return 0.7 * np.exp(-((v - rng.normal(0, 3)) ** 2) / 2.5)


def star_cluster(u, v, rng):
    places = rng.normal(0, rng.uniform(4, 6), (rng.integers(20, 50), 2))
    return sum(rng.uniform(0.1, 0.6) * star(u - a, v - b) for a, b in places)


def shell(u, v, rng):
    """A nebula that is brightest along its rim."""
    radius = np.hypot(u, v / rng.uniform(0.75, 1)) / rng.uniform(6, 11)
    return 0.6 * np.exp(-(((radius - 1) / 0.2) ** 2)) + 0.15 * (radius < 1)


def comet(u, v, rng):
    """A head, and a tail that widens on one side."""
    along = np.maximum(u, 0)
    tail = np.exp(-along / rng.uniform(8, 14)) * np.exp(-((v / (1.5 + 0.2 * along)) ** 2)) * (u > 0)
    return np.exp(-(u**2 + v**2) / 6) + 0.5 * tail


def arc(u, v, rng):
    """A part of a ring around a galaxy, as a lens makes it."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    width = rng.uniform(0.5, 1.2)
    rim = np.exp(-(((radius - rng.uniform(8, 12)) / 1.3) ** 2)) * np.exp(-((angle / width) ** 4))
    return np.exp(-((radius / 2.5) ** 2)) + 0.6 * rim


def bright_star(u, v, rng):
    """With four spikes from the telescope."""
    spikes = np.exp(-np.abs(u) / 1.0 - np.abs(v) / 9) + np.exp(-np.abs(v) / 1.0 - np.abs(u) / 9)
    return 3 * np.exp(-(u**2 + v**2) / 8) + rng.uniform(0.4, 0.8) * spikes


LIGHT = {
    "elliptical": elliptical,
    "spiral": spiral,
    "edge-on": edge_on,
    "pair": pair,
    "trail": trail,
    "star cluster": star_cluster,
    "shell": shell,
    "comet": comet,
    "arc": arc,
    "bright star": bright_star,
}
