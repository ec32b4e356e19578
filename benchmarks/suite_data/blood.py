"""Cells of stained blood as a program draws them, in colour and at any angle, with red cells around."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from suite_data.drawn import in_random_order, to_bytes

KINDS = {"lobes": 450, "red grains": 350, "round": 300, "specks": 300, "notched": 250, "dark grains": 150}
SIDE = 48
RADII = {"lobes": 13.0, "red grains": 13.0, "round": 9.5, "specks": 4.5, "notched": 15.0, "dark grains": 12.0}
BODIES = {  # colours of what is around the nucleus
    "lobes": (0.85, 0.74, 0.80),
    "red grains": (0.90, 0.70, 0.68),
    "round": (0.68, 0.70, 0.88),
    "specks": (0.66, 0.50, 0.70),
    "notched": (0.72, 0.74, 0.84),
    "dark grains": (0.75, 0.62, 0.78),
}
PAPER, RED, NUCLEUS = (0.94, 0.88, 0.86), (0.86, 0.62, 0.62), (0.36, 0.20, 0.50)


def blood():
    """Six kinds of white cells and platelets: other stains and light from picture to picture, noise, some blur."""
    rng = np.random.default_rng(0)
    labels = in_random_order(KINDS, rng)
    return np.stack([picture(list(KINDS)[kind], rng) for kind in labels]), labels


def picture(kind, rng):
    """One picture (SIDE, SIDE, 3), uint8."""
    stain = rng.normal(0, 0.03, 3)
    image = np.ones((SIDE, SIDE, 3)) * PAPER
    for _ in range(rng.integers(2, 6)):
        beside = off(SIDE / 2, rng.uniform(21, 32), rng.uniform(0, 2 * math.pi))
        image = laid(image, 0.9 * disc(beside, rng.uniform(7, 9), rng), RED + stain)
        image = laid(image, 0.5 * disc(beside, 3, rng), RED + stain + 0.08)  # they are thin in the middle
    middle = SIDE / 2 + rng.normal(0, 1.5, 2)
    radius, turn = RADII[kind] * rng.uniform(0.92, 1.08), rng.uniform(0, 2 * math.pi)
    body, nucleus = disc(middle, radius, rng), NUCLEUS + stain
    image = laid(image, body, BODIES[kind] + stain)
    if kind == "lobes":
        for lobe in range(rng.integers(3, 5)):
            image = laid(image, disc(off(middle, 5.5, turn + 1.3 * lobe), rng.uniform(3.4, 4.2), rng), nucleus)
    elif kind == "red grains":
        image = grains(image, body, 60, 0.9, (0.85, 0.40, 0.35), rng)
        for side in (-0.9, 0.9):
            image = laid(image, disc(off(middle, 5, turn + side), rng.uniform(4.4, 5.2), rng), nucleus)
    elif kind == "round":
        image = laid(image, disc(off(middle, 0.8, turn), 0.82 * radius, rng), nucleus)
    elif kind == "specks":
        image = grains(image, body, 10, 0.8, (0.50, 0.25, 0.60), rng)
    elif kind == "notched":
        whole = disc(off(middle, 1, turn), 0.72 * radius, rng)
        notch = disc(off(middle, 0.75 * radius, turn), 0.4 * radius, rng)
        image = laid(image, np.clip(whole - notch, 0, 1), nucleus + 0.08)
    else:
        image = laid(image, 0.8 * disc(middle, 0.7 * radius, rng), nucleus + 0.1)
        image = grains(image, body, 60, 1.1, (0.25, 0.10, 0.35), rng)
    image = gaussian_filter(image, (*[rng.uniform(0.4, 0.8)] * 2, 0))
    light = rng.uniform(0.9, 1.05) * (1 + rng.normal(0, 0.02, 3))
    return to_bytes(image * light + rng.normal(0, 0.015, image.shape))


def off(middle, distance, angle):
    return middle + distance * np.array([math.cos(angle), math.sin(angle)])


def disc(middle, radius, rng):
    """How much of each pixel is inside a round shape that is a little stretched and dented, (SIDE, SIDE)."""
    y, x = np.indices((SIDE, SIDE))
    turn, stretch = rng.uniform(0, 2 * math.pi), 1 + rng.uniform(-0.15, 0.15)
    u = math.cos(turn) * (x - middle[0]) + math.sin(turn) * (y - middle[1])
    v = math.cos(turn) * (y - middle[1]) - math.sin(turn) * (x - middle[0])
    around = np.arctan2(v, u)
    dents = sum(rng.normal(0, 0.06) / k * np.cos(k * around + rng.uniform(0, 2 * math.pi)) for k in (2, 3, 4))
    return expit(1.6 * (radius * (1 + dents) - np.hypot(u * stretch, v / stretch)))


def laid(image, share, colour):
    """An image with so much of a colour on each pixel."""
    return image + share[..., np.newaxis] * (np.asarray(colour) - image)


def grains(image, body, n, radius, colour, rng):
    y, x = np.indices((SIDE, SIDE))
    for at in SIDE / 2 + rng.normal(0, 7, (n, 2)):
        grain = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * radius**2))
        image = laid(image, 0.8 * grain * (body > 0.5), colour)
    return image
