"""Confidence: how sure q(y|.) may be, found without labels."""

import math

import numpy as np
import torch

from clusterloom.networks.vae import ClusterVAE


def calibrate(network: ClusterVAE, logits: np.ndarray, agreement: float) -> None:
    """Make q(y|.) as sure on average as `agreement` says: one temperature on the logits, folded into the weights.

    The temperature is that of Guo, Pleiss, Sun and Weinberger (2017), who ask labels how sure a model may be.

    Args:
        network: The model; changed in place.
        logits: Of images, shape (N, K).
        agreement: How sure the model may be on average.
    """
    with torch.no_grad():
        for parameter in network.category_encoder[-1].parameters():
            parameter.div_(temperature_for(logits, agreement))


def temperature_for(logits: np.ndarray, mean_confidence: float) -> float:
    """What logits (N, K) are divided by so that the largest probability is `mean_confidence` on average."""
    precise = torch.from_numpy(logits).double()
    low, high = 0.05, 20.0
    for _ in range(40):
        temperature = math.sqrt(low * high)
        too_sure = float((precise / temperature).softmax(1).amax(1).mean()) > mean_confidence
        low, high = (temperature, high) if too_sure else (low, temperature)
    return temperature


def agreement_of(labels: np.ndarray, others: np.ndarray) -> float:
    """Share of images with equal labels (N,), never certainty."""
    return (float((labels == others).sum()) + 0.5) / (len(labels) + 1)
