"""The rule by which new images are drawn that their own cluster's model agrees with."""

from collections.abc import Callable

import numpy as np

_REDRAWS = 9
_REFINED_REDRAWS = 2  # of images that take long


def redrawn(
    clusters: np.ndarray,
    draw: Callable[[np.ndarray], np.ndarray],
    most_likely: Callable[[np.ndarray], np.ndarray],
    times: int = _REDRAWS,
) -> np.ndarray:
    """New images or their latents; those that the model would put elsewhere are drawn again.

    Args:
        clusters: Where each image belongs, shape (n,).
        draw: Images or latents (m, ...) with these numbers (m,); new ones at every call.
        most_likely: Clusters (m,) that the model finds for what was drawn (m, ...).
        times: At most so often again.

    Returns:
        Shape (n, ...).
    """
    wrong = np.arange(len(clusters))
    drawn = draw(wrong)
    for _ in range(times):
        wrong = wrong[most_likely(drawn[wrong]) != clusters[wrong]]
        if len(wrong) == 0:
            break
        drawn[wrong] = draw(wrong)
    return drawn


def redrawn_refined(
    clusters: np.ndarray,
    draw: Callable[[np.ndarray], np.ndarray],
    most_likely: Callable[[np.ndarray], np.ndarray],
    refine: Callable[[np.ndarray], np.ndarray],
    shown_in: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """New images that are refined: their latents are redrawn first, which costs little, and then they themselves.

    Args:
        clusters: Where each image belongs, shape (n,).
        draw: Latents (m, D) for the images with these numbers (m,); new ones at every call.
        most_likely: Clusters (m,) of the images that latents (m, D) decode to.
        refine: Images (m, H, W, C) of latents (m, D); other ones at every call.
        shown_in: Clusters (m,) of images (m, H, W, C).

    Returns:
        Images, shape (n, H, W, C).
    """

    def images(rows: np.ndarray) -> np.ndarray:
        return refine(redrawn(clusters[rows], lambda again: draw(rows[again]), most_likely))

    return redrawn(clusters, images, shown_in, _REFINED_REDRAWS)
