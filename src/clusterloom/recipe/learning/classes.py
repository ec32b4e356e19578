"""Stage 6, classes: what the latents of each cluster are like, which is what new images are drawn from."""

import numpy as np
import torch
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.inference import apply_in_batches
from clusterloom.networks.vae import ClusterVAE
from clusterloom.training.run import Run


def fit_classes(
    network: ClusterVAE, images: ImageArray, run: Run, q: np.ndarray | None = None
) -> tuple[np.ndarray, ...]:
    """Set class means and covariances to those of the latents of images; every process calls it.

    Args:
        network: The model; changed in place.
        images: Shape (N, H, W, C).
        run: Knows the device.
        q: Soft assignments, shape (N, K); None for the model's own.

    Returns:
        The model's q (N, K), posterior means and log-variances (N, D) of the images.
    """

    def latents(x: Tensor) -> tuple[Tensor, ...]:
        features = network.features(x)
        posterior = network.encode(features)
        return network.category_logits(features, posterior.mu).softmax(1), posterior.mu, posterior.log_var

    found = apply_in_batches(latents, images, run.compute)
    own_q, *posteriors = map(torch.from_numpy, found)
    network.fit_classes(own_q if q is None else torch.from_numpy(q), *posteriors)
    return found
