"""Sets that programs draw: solids under a lamp in colour, and cells under a fluorescence microscope in 16 bit."""

import colorsys
import math

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

SOLIDS = {"ball": 300, "cube": 250, "cone": 200, "ring": 150, "pillar": 100}
SOLID_SIDE = 48
CELLS = {"round": 500, "rod": 400, "ring": 350, "cluster": 250, "filament": 200, "dividing": 100}
CELL_SIDE = 48
OFFSET, GAIN = 400, 4  # of the camera: what it shows in the dark, and for each photon
STEPS = 40  # of each ray
FAR = 8.0


def in_random_order(counts, rng):
    return rng.permutation(np.repeat(np.arange(len(counts)), list(counts.values())))


def solids():
    """Five solids that stand on nothing, seen from above at random turns, in random colours and lights."""
    rng = np.random.default_rng(0)
    labels = in_random_order(SOLIDS, rng)
    return np.stack([solid(list(SOLIDS)[kind], rng) for kind in labels]), labels


def solid(kind, rng):
    """One picture (SOLID_SIDE, SOLID_SIDE, 3), uint8: each ray goes on until it meets the surface."""
    distance = DISTANCES[kind]
    side = 2 * SOLID_SIDE  # smooth edges
    turn = rotation(rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.9), rng.normal(0, 0.15))
    zoom, middle = rng.uniform(1.6, 2.1), rng.normal(0, 0.12, 2)
    x, y = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1] * 2)
    origins = np.stack([x * zoom + middle[0], -y * zoom + middle[1], np.full_like(x, 4.0)], -1) @ turn
    ray = np.array([0.0, 0.0, -1.0]) @ turn
    way = np.zeros((side, side))
    for _ in range(STEPS):
        way = np.minimum(way + distance(origins + way[..., np.newaxis] * ray), FAR)
    points = origins + way[..., np.newaxis] * ray
    hit = (way < FAR) & (distance(points) < 0.02)
    normals = np.stack([distance(points + step) - distance(points - step) for step in 0.01 * np.eye(3)], -1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    lamp = np.array([rng.uniform(-1, 1), rng.uniform(0.2, 1), rng.uniform(0.5, 1)])
    lamp = lamp / np.linalg.norm(lamp) @ turn
    colour = np.array(colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.6, 1.0)))
    ambient = rng.uniform(0.2, 0.4)
    shine = np.clip(normals @ (lamp - ray) / np.linalg.norm(lamp - ray), 0, 1) ** 20 * rng.uniform(0, 0.5)
    lit = colour * (ambient + (1 - ambient) * np.clip(normals @ lamp, 0, 1))[..., np.newaxis] + shine[..., np.newaxis]
    above, below = (np.array(colorsys.hsv_to_rgb(rng.uniform(), 0.25, rng.uniform(0.1, 0.9))) for _ in range(2))
    behind = above + (below - above) * (y[..., np.newaxis] + 1) / 2
    picture = np.where(hit[..., np.newaxis], lit, behind).reshape(SOLID_SIDE, 2, SOLID_SIDE, 2, 3).mean((1, 3))
    return to_bytes(picture + rng.normal(0, 0.015, picture.shape))


def to_bytes(picture):
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def rotation(yaw, pitch, roll):
    """Rows of a matrix that turns the camera's axes into those of the solid, whose second axis points up."""
    turns = [rotation_of(2, 0, yaw), rotation_of(1, 2, pitch), rotation_of(0, 1, roll)]
    return turns[2] @ turns[1] @ turns[0]


def rotation_of(first, second, angle):
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = math.sin(angle), -math.sin(angle)
    return matrix


def ball(p):
    return np.linalg.norm(p, axis=-1) - 0.95


def cube(p):
    beyond = np.abs(p) - 0.75
    return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(-1), 0) - 0.03


def cone(p):
    """A bound of the distance: the tip is at height 1, the foot at -0.9 has radius 0.95."""
    radius, height = np.hypot(p[..., 0], p[..., 2]), p[..., 1]
    slope = 0.95 / 1.9
    return np.maximum((radius - slope * (1 - height)) / math.hypot(1, slope), -0.9 - height)


def ring(p):
    return np.hypot(np.hypot(p[..., 0], p[..., 2]) - 0.85, p[..., 1]) - 0.3


def pillar(p):
    return np.maximum(np.hypot(p[..., 0], p[..., 2]) - 0.5, np.abs(p[..., 1]) - 1.1)


DISTANCES = {"ball": ball, "cube": cube, "cone": cone, "ring": ring, "pillar": pillar}


def cells():
    """Six kinds of cells: blur, shot noise, uneven background, and many more of some kinds than of others."""
    rng = np.random.default_rng(0)
    labels = in_random_order(CELLS, rng)
    return np.stack([cell(list(CELLS)[kind], rng) for kind in labels]), labels


def cell(kind, rng):
    """One picture (CELL_SIDE, CELL_SIDE, 1), uint16, as a camera of 12 bit gives it."""
    angle = rng.uniform(0, 2 * math.pi)
    middle = (CELL_SIDE - 1) / 2 + rng.uniform(-4, 4, 2)
    rows, columns = np.indices((CELL_SIDE, CELL_SIDE)) - middle[:, np.newaxis, np.newaxis]
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    depth = OUTLINES[kind](u, v, rng)
    grain = gaussian_filter(rng.normal(0, 1, u.shape), 1.5)
    stain = expit(2 * depth) * np.exp(0.25 * grain / grain.std())
    seen = gaussian_filter(stain, rng.uniform(0.8, 1.8))  # out of focus, more or less
    tilt = (columns * rng.normal(0, 1) + rows * rng.normal(0, 1)) / CELL_SIDE
    photons = rng.uniform(60, 500) * seen + rng.uniform(15, 60) * np.exp(0.5 * tilt)
    counts = OFFSET + GAIN * rng.poisson(photons) + rng.normal(0, 8, photons.shape)
    return np.clip(np.rint(counts), 0, 4095).astype(np.uint16)[..., np.newaxis]


# Pixels inside the outline, negative outside, at places (u, v) in the cell's own axes.


def round_cell(u, v, rng):
    return rng.uniform(7, 10) - np.hypot(u * rng.uniform(0.87, 1), v)


def rod(u, v, rng):
    half = rng.uniform(6, 9)
    return rng.uniform(3, 4) - np.hypot(u - np.clip(u, -half, half), v)


def ring_cell(u, v, rng):
    return rng.uniform(1.2, 1.9) - np.abs(np.hypot(u * rng.uniform(0.9, 1), v) - rng.uniform(8, 11))


def cluster(u, v, rng):
    """Four to eight balls, each beside one of those before it."""
    radius = rng.uniform(2.4, 3.2)
    places = [np.zeros(2)]
    for _ in range(rng.integers(3, 8)):
        turn = rng.uniform(0, 2 * math.pi)
        beside = places[rng.integers(len(places))]
        places.append(beside + 2.1 * radius * np.array([math.cos(turn), math.sin(turn)]))
    centre = np.mean(places, 0)
    return np.max([radius - np.hypot(u - a, v - b) for a, b in places - centre], 0)


def filament(u, v, rng):
    """A thin arc, as long as three rods."""
    half, bend = rng.uniform(15, 19), rng.uniform(0.004, 0.02)
    at = np.linspace(-half, half, 60)
    bow = bend * (at**2 - np.mean(at**2))
    return rng.uniform(1.3, 1.9) - np.min(np.hypot(u[..., None] - at, v[..., None] - bow), -1)


def dividing(u, v, rng):
    radius = rng.uniform(5.5, 7)
    apart = radius * rng.uniform(0.75, 0.95)
    return np.maximum(radius - np.hypot(u - apart, v), radius - np.hypot(u + apart, v))


OUTLINES = {
    "round": round_cell,
    "rod": rod,
    "ring": ring_cell,
    "cluster": cluster,
    "filament": filament,
    "dividing": dividing,
}
