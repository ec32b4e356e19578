"""The rule by which new images are drawn that their own cluster's model agrees with."""

from collections.abc import Callable

import numpy as np

_REDRAWS = 9


def redrawn(
    clusters: np.ndarray,
    draw: Callable[[np.ndarray], np.ndarray],
    most_likely: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Latents of new images; those of images that the model would put elsewhere are drawn again, up to nine times.

    Args:
        clusters: Where each image belongs, shape (n,).
        draw: Latents (m, D) for the images with these numbers (m,); new ones at every call.
        most_likely: Clusters (m,) of the images that latents (m, D) decode to.

    Returns:
        Shape (n, D).
    """
    wrong = np.arange(len(clusters))
    latents = draw(wrong)
    for _ in range(_REDRAWS):
        wrong = wrong[most_likely(latents[wrong]) != clusters[wrong]]
        if len(wrong) == 0:
            break
        latents[wrong] = draw(wrong)
    return latents
