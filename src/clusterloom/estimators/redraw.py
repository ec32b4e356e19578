"""The rule by which new images are drawn that their own cluster's model agrees with."""

from collections.abc import Callable

import numpy as np

_REDRAWS = 9


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
