"""A cluster in two: a mixture of two normal distributions on its latents."""

import numpy as np

from clusterloom.device import threads_kept
from clusterloom.errors import DataError

_SAMPLE = 2000  # so many images show where the two parts lie; all are then assigned
_FEWEST = 4


def split_in_two(latents: np.ndarray) -> np.ndarray:
    """Which of two parts each image belongs to.

    Args:
        latents: Of one cluster's images, shape (n, D).

    Returns:
        True for the smaller part, shape (n,), bool; both parts have images. The same latents give the same parts.

    Raises:
        DataError: the cluster has too few images, or they are all alike.
    """
    if len(latents) < _FEWEST:
        raise DataError(f"a split needs at least {_FEWEST} images; the cluster has {len(latents)}")
    from sklearn.mixture import GaussianMixture  # takes a moment to import
    from threadpoolctl import threadpool_limits

    spread = latents.std(0)
    if spread.max() == 0:
        raise DataError("the images of this cluster are all alike")
    scaled = (latents - latents.mean(0)) / spread.max()
    sample = scaled[:: -(-len(scaled) // _SAMPLE)]
    # With fewer images than a full covariance has numbers, variances alone have to do.
    kind = "full" if len(sample) > 10 * latents.shape[1] else "diag"
    mixture = GaussianMixture(2, covariance_type=kind, reg_covar=1e-4, max_iter=50, tol=1e-2, random_state=0)
    with threads_kept(), threadpool_limits(1):
        second = mixture.fit(sample).predict(scaled).astype(bool)
    if second.all() or not second.any():
        raise DataError("the images of this cluster do not fall into two parts")
    return second if second.sum() * 2 <= len(second) else ~second
