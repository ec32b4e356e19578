"""A cluster in parts: a mixture of normal distributions on its latents."""

import numpy as np

from clusterloom.device import threads_kept
from clusterloom.errors import DataError

_SAMPLE = 2000  # so many images show where the parts lie; all are then assigned
_FEWEST = 2  # images for each part


def split_in(latents: np.ndarray, parts: int) -> np.ndarray:
    """Which part each image belongs to.

    Args:
        latents: Of one cluster's images, shape (n, D).
        parts: How many parts are looked for, at least 2; fewer are found where some have no image.

    Returns:
        Number of the part of each image, shape (n,), int64; the largest part is 0. The same latents give the same
        parts.

    Raises:
        DataError: the cluster has too few images, or they are all alike.
    """
    if len(latents) < _FEWEST * parts:
        wanted = f"{_FEWEST * parts} images" if parts == 2 else f"{_FEWEST * parts} images for {parts} parts"
        raise DataError(f"a split needs at least {wanted}; the cluster has {len(latents)}")
    from sklearn.mixture import GaussianMixture  # takes a moment to import
    from threadpoolctl import threadpool_limits

    spread = latents.std(0)
    if spread.max() == 0:
        raise DataError("the images of this cluster are all alike")
    scaled = (latents - latents.mean(0)) / spread.max()
    sample = scaled[:: -(-len(scaled) // _SAMPLE)]
    # With fewer images than a full covariance has numbers, variances alone have to do.
    kind = "full" if len(sample) > 5 * parts * latents.shape[1] else "diag"
    mixture = GaussianMixture(parts, covariance_type=kind, reg_covar=1e-4, max_iter=50, tol=1e-2, random_state=0)
    with threads_kept(), threadpool_limits(1):
        found = mixture.fit(sample).predict(scaled)
    sizes = np.bincount(found, minlength=parts)
    if (sizes > 0).sum() < 2:
        raise DataError("the images of this cluster do not fall into two parts")
    place = np.empty(parts, np.int64)
    place[np.argsort(-sizes, kind="stable")] = np.arange(parts)
    return place[found]
