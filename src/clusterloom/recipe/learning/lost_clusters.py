"""Clusters that the fits have lost come back: whoever asks for twenty of ten digits is to get twenty.

Views wipe out much of what tells two parts of one kind apart, so the network learns to put both into the larger one.
Its hidden layer still tells them apart.
"""

import numpy as np
from scipy.special import softmax

from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.learning.last_layer import learn_last_layer, logits_of
from clusterloom.recipe.pseudo_labels.modularity import LEAST_SHARE

_STAY = 3e-4  # what it costs to move for their images; see `learn_last_layer`


def bring_back(network: ClusterVAE, hidden: np.ndarray, first: np.ndarray) -> list[int]:
    """Let the last layer learn the first images of clusters that have (almost) none left.

    Args:
        network: The model; changed in place.
        hidden: The category encoder's hidden layer, of the images that have pseudo-labels, shape (N, H).
        first: Where these images were put at first, shape (N,).

    Returns:
        The clusters that were lost: they had images at first, and have less than a tenth of the mean now.
    """
    logits = logits_of(network, hidden)
    n, n_clusters = logits.shape
    sizes = np.bincount(logits.argmax(1), minlength=n_clusters)
    lost = np.intersect1d(np.flatnonzero(sizes < LEAST_SHARE * n / n_clusters), first)
    theirs = np.isin(first, lost)
    if theirs.any():
        targets = softmax(logits, axis=1)
        targets[theirs] = np.eye(n_clusters)[first[theirs]]
        learn_last_layer(network, hidden, targets, _STAY)
    found: list[int] = lost.tolist()
    return found
