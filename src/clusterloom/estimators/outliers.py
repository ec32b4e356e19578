"""Which images are unlike the training images: a score's threshold, and what a score counts an error by."""

import numpy as np
import torch
from torch import Tensor

from clusterloom.device import Compute
from clusterloom.inference import apply_in_batches
from clusterloom.networks.cluster_network import ClusterNetwork

_CHUNK = 1_000  # images whose errors are in memory at once
_LEAST_VARIANCE = 1e-4  # a hundredth of the pixels' range, squared: a pixel that never changed may change a little


def fit_pixel_variances(network: ClusterNetwork, sample: np.ndarray, compute: Compute) -> None:
    """Set the variance of every pixel around its reconstruction to what it is over a sample of images.

    Args:
        network: Its `pixel_variances` (C, H, W) are set.
        sample: Images, shape (N, H, W, C).
        compute: Device and precision.
    """

    def squared_error(x: Tensor) -> tuple[Tensor, ...]:
        return ((x - network.decode(network.latents(x))) ** 2,)

    total = np.zeros(network.pixel_variances.shape)
    for start in range(0, len(sample), _CHUNK):
        (errors,) = apply_in_batches(squared_error, sample[start : start + _CHUNK], compute)
        total += errors.sum(0, dtype=np.float64)
    variances = np.maximum(total / len(sample), _LEAST_VARIANCE)
    network.pixel_variances.copy_(torch.from_numpy(variances))


def outlier_threshold(scores: np.ndarray) -> float:
    """The score below which an image is unlike the training images, in nats.

    There the square root of the loss is beyond Tukey's outer fence: the third quartile plus three times the
    interquartile range. Square roots, for losses are sums of squares: as distances they have no long tail of ordinary
    images.

    Args:
        scores: Of training images, nats, shape (N,).

    Example:
        >>> outlier_threshold(-(np.array([1.0, 2.0, 3.0, 4.0, 5.0]) ** 2)).__round__(2)
        -100.0
    """
    first, third = np.percentile(np.sqrt(np.maximum(-scores.astype(np.float64), 0)), [25, 75])
    # A little further off: where all scores are equal, rounding must not put the fence among them.
    return -float(np.float32((third + 3 * (third - first)) ** 2 * (1 + 1e-6)))
