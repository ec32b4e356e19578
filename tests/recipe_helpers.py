"""Small data for the tests of the recipe."""

import numpy as np
from sklearn.datasets import load_digits

QUICK = {"hidden_dim": 32, "epochs": 8, "random_state": 0}


def digits(n=300):
    return np.rint(load_digits().images[:n] * 255 / 16).astype(np.uint8)


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
