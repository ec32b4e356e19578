"""Small data for the tests of the recipe."""

import colorsys
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from clusterloom import GuidedClusterer
from clusterloom.recipe.pseudo_labels.guides import Guide

QUICK = {"hidden_dim": 32, "epochs": 8, "random_state": 0}


def digits(n=300):
    return np.rint(load_digits().images[:n] * 255 / 16).astype(np.uint8)


@cache
def fitted_digits():
    """The same model for all tests of a process, which leave it as it is."""
    return GuidedClusterer(10, **QUICK).fit(digits())


def quarters(n=200):
    """Four kinds of images that are each other's mirror images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    images = rng.integers(0, 60, (n, 12, 12, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 6 * (label // 2), 6 * (label % 2)
        image[top : top + 6, left : left + 6] += 180
    return images, labels


def blobs(n=400, k=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return (12 * np.eye(k, 16)[labels] + rng.standard_normal((n, 16))).astype(np.float32), labels


def textures(n=90, side=24):
    """Three kinds of images that are filled by something: fine noise, coarse noise and stripes, each shifted anyhow."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    images = np.zeros((n, side, side, 1), np.uint8)
    for image, label in zip(images, labels, strict=True):
        if label == 2:
            pattern = 0.5 + 0.5 * np.sin(np.arange(side) * 2 + rng.uniform(0, 2 * np.pi)) * np.ones((side, 1))
        else:
            grain = (1, 3)[label]
            pattern = rng.random((side // grain + 2, side // grain + 2)).repeat(grain, 0).repeat(grain, 1)
            top, left = rng.integers(0, grain, 2)
            pattern = pattern[top : top + side, left : left + side]
        image[..., 0] = 255 * pattern
    return images, labels


def hues(n=120, n_hues=3, side=12):
    """Discs of some hues, of any size and light; and which hue each has."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % n_hues
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    images = np.zeros((n, side, side, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        disc = rows**2 + columns**2 < rng.uniform(3, 5.5) ** 2
        image[disc] = np.multiply(colorsys.hsv_to_rgb(label / n_hues, 0.9, rng.uniform(0.6, 1)), 255)
    return images, labels


def corners(n, anywhere=True, sides=(6, 14), noise=0.0, seed=0):
    """Corners and crosses in turn, dark on a bright background that is lit from one side, uint8 (n, 32, 32, 1)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((32, 32))
    images = []
    for k in range(n):
        size = rng.uniform(*sides)
        row, column = rng.uniform(1, 32 - 1 - size, 2) if anywhere else [(32 - size) / 2] * 2
        v, u = (rows - row) / size, (columns - column) / size
        one, other = ((v < 0.3, u < 0.3), (abs(v - 0.5) < 0.15, abs(u - 0.5) < 0.15))[k % 2]
        inside = (v > 0) & (v < 1) & (u > 0) & (u < 1) & (one | other)
        light = 0.7 + 0.15 * (columns / 32 - 0.5) * rng.normal()
        images.append(light - 0.5 * inside + noise * rng.normal(size=inside.shape))
    return np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)[..., None]


def rng(seed=0):
    return np.random.default_rng(seed)


def guide(space, labels, coarse=True):
    return Guide(space, np.asarray(labels, np.int32), coarse)


def wrong_somewhere(labels, share, seed):
    """The same partition under other numbers, with a share of the images at random."""
    generator = rng(seed)
    n_clusters = labels.max() + 1
    moved = np.where(generator.random(len(labels)) < share, generator.integers(0, n_clusters, len(labels)), labels)
    return generator.permutation(n_clusters)[moved]


def random_guides(space, n, n_clusters, count, seed=0):
    return [guide(space, rng(seed + i).integers(0, n_clusters, n)) for i in range(count)]
