"""Stage 6, confidence: how sure q(y|.) may be, found without labels."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.networks.vae import ClusterVAE


def expected_accuracy(labels: np.ndarray, guides: Mapping[str, np.ndarray]) -> float:
    """How many images are placed rightly, as far as that can be told without labels.

    Where a space shows the clusters well, mixtures from all starts find them again, and where it leaves open what
    belongs together they differ. So it is the share of images that the guides of one space place as the model does, on
    average, in the space where that is highest.

    Args:
        labels: The model's clusters, shape (N,).
        guides: Clusters that guides have found, as many as the model has, by space, numbered in any way, (M, N) each.

    Returns:
        From 0 to 1, never certainty.

    Example:
        >>> labels, same, other = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.array([0, 1, 0, 0])
        >>> expected_accuracy(labels, {"one": np.stack([same, other]), "another": np.stack([other])})
        0.875
    """
    alike = [np.mean([clustering_accuracy_score(g, labels) for g in of_space]) for of_space in guides.values()]
    return min(float(max(alike, default=1.0)), 1 - 0.5 / (len(labels) + 1))


def calibrate(network: ClusterVAE, logits: np.ndarray, mean_confidence: float) -> None:
    """Give the largest q(y|.) a mean over the images: one temperature on the logits, folded into the weights.

    After Guo, Pleiss, Sun and Weinberger (2017), who ask labels how sure a model may be.

    Args:
        network: The model; changed in place.
        logits: Of images, shape (N, K).
        mean_confidence: What the mean is to be.
    """
    temperature = temperature_for(logits, mean_confidence)
    with torch.no_grad():
        for parameter in network.category_encoder[-1].parameters():
            parameter.div_(temperature)


def temperature_for(logits: np.ndarray, mean_confidence: float) -> float:
    """What logits (N, K) are divided by so that the largest probability is `mean_confidence` on average."""
    precise = torch.from_numpy(logits).double()
    low, high = 0.05, 20.0
    for _ in range(40):
        temperature = math.sqrt(low * high)
        too_sure = float((precise / temperature).softmax(1).amax(1).mean()) > mean_confidence
        low, high = (temperature, high) if too_sure else (low, temperature)
    return temperature
