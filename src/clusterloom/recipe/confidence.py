"""Stage 6, confidence: how sure q(y|.) may be, found without labels."""

import math

import numpy as np
import torch

from clusterloom.metrics import clustering_accuracy_score
from clusterloom.networks.vae import ClusterVAE

_NATS = 0.1  # a mixture that is so much less likely counts by a factor of e less


def expected_accuracy(
    labels: np.ndarray, pseudo_labels: np.ndarray, partitions: np.ndarray, log_likelihoods: np.ndarray
) -> float:
    """How many images are placed rightly, as far as that can be told without labels.

    It is the share of images that the model places as its pseudo-labels do, which it does nearly without exception,
    times the share that the mixture taken for the first pseudo-labels places as others do that might have been taken:
    where the layout leaves open what belongs together, mixtures from different starts differ.

    Args:
        labels: The model's clusters, shape (N,).
        pseudo_labels: Those that it has learned, numbered alike, shape (N,).
        partitions: Those of each mixture, the one taken first, numbered in any way, shape (M, N).
        log_likelihoods: Of the mixtures, nats per image, shape (M,). Likely mixtures count more.

    Returns:
        From 0 to 1, never certainty.

    Example:
        >>> labels, taken, other = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.array([0, 1, 0, 0])
        >>> expected_accuracy(labels, labels, np.stack([taken, other]), np.zeros(2))
        0.875
    """
    weights = np.exp((log_likelihoods - log_likelihoods.max()) / _NATS)
    alike = [clustering_accuracy_score(partition, partitions[0]) for partition in partitions]
    expected = (labels == pseudo_labels).mean() * np.average(alike, weights=weights)
    return min(float(expected), 1 - 0.5 / (len(labels) + 1))


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
