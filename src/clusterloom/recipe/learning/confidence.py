"""Stage 6, confidence: of which images q(y|.) may be sure, and how sure, found without labels."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy.special import softmax

from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.learning.last_layer import learn_last_layer, logits_of
from clusterloom.recipe.learning.support import sizes_to_mean, supported, trust_in_others, votes
from clusterloom.recipe.points.neighbours import nearest_neighbours, within_a_cluster
from clusterloom.recipe.pseudo_labels.density import found_again
from clusterloom.recipe.pseudo_labels.first import FirstPseudoLabels

# Odds of being placed rightly, from the odds of two shares. The scale and both powers were fitted to whole runs of the
# sets for developing, whose kinds are known; see docs/tried.md "The level, learned from other sets".
_SCALE, _BY_UNSURE, _BY_SIZES = 0.78, 0.75, 0.5
_UNSURE = 0.15  # share of the images of which the model is least sure
_NEVER, _CERTAIN = 0.005, 0.998  # shares are taken to be between these
_STAY = 0.003  # what it costs to be moved by doubt; see `learn_last_layer`


def expected_accuracy(q: np.ndarray, others: np.ndarray, of_any_size: np.ndarray) -> float:
    """How many images are placed rightly, as far as that can be told without labels.

    The model learns its pseudo-labels almost without exception, and is too sure. But how sure it is of those images of
    which it is least sure differs from set to set as the accuracy does. Kinds that all pseudo-labels take for one, and
    halves that they take for two, show in clusters of odd sizes.

    How often other divisions find the clusters again counts of few images.

    Args:
        q: What the model says after the fits, shape (N, K).
        others: Shares of other divisions, see `clusterloom.recipe.learning.support.votes`, shape (N, K); all 0 where
            there are none.
        of_any_size: Clusters whose size says nothing, see `clusterloom.recipe.learning.support.odds_by_size`, bool,
            shape (K,).

    Returns:
        From 1 / K to 1, never certainty.

    Example:
        >>> q, none, no, yes = np.full((40, 2), 0.1), np.zeros((40, 2)), np.zeros(2, bool), np.ones(2, bool)
        >>> q[np.arange(40), np.arange(40) // 30] = 0.9
        >>> round(expected_accuracy(q, none, no), 3), round(expected_accuracy(q, none, yes), 3)
        (0.84, 0.988)
        >>> round(expected_accuracy(q, np.full((40, 2), 0.5), no), 3)
        0.604
    """
    (n, n_clusters), labels = q.shape, q.argmax(1)
    sizes = np.where(of_any_size, 1, sizes_to_mean(labels, n_clusters))[labels]
    even = float(np.mean(np.minimum(sizes, 1 / sizes)))
    unsure = float(np.quantile(q.max(1), _UNSURE))
    odds = _SCALE * _odds(unsure) ** _BY_UNSURE * _odds(even) ** _BY_SIZES
    trust = trust_in_others(others) ** 2
    expected = (1 - trust) * odds / (1 + odds) + trust * float(np.mean(others[np.arange(n), labels]))
    return min(max(expected, 1 / n_clusters), 1 - 0.5 / (n + 1))


def _odds(share: float) -> float:
    within = min(max(share, _NEVER), _CERTAIN)
    return within / (1 - within)


def learn_confidence(
    network: ClusterVAE,
    hidden: np.ndarray,
    first: FirstPseudoLabels,
    layouts: Mapping[str, np.ndarray],
    strokes: np.ndarray | None = None,
) -> None:
    """Make q(y|.) as sure of each image as it may be.

    The hidden layer tells more apart than clusters: what is odd in a cluster lies beside the rest of it. So the last
    layer can learn to be less sure of it, of images that it has not seen too.

    Args:
        network: The model; changed in place.
        hidden: The category encoder's hidden layer, of the images that have pseudo-labels, shape (N, H).
        first: What guides, ties and other divisions say of these images.
        layouts: Of these images in each space, shape (n, N, d).
        strokes: Where the images are in the space of strokes, shape (N, D); None where they are no signs.
    """
    n_clusters = network.n_clusters
    if n_clusters == 1:
        return
    logits = logits_of(network, hidden)
    labels = logits.argmax(1)
    others = votes(labels, {"others": first.others[:, first.groups]}, n_clusters)
    of_any_size = found_again(layouts, labels, n_clusters)
    expected = expected_accuracy(softmax(logits, axis=1), others, of_any_size)
    q = softmax(logits / temperature_for(logits, expected), axis=1)
    heard = 1 + within_a_cluster(len(hidden), n_clusters)
    near = None if strokes is None else nearest_neighbours(strokes, heard)[0][:, 1:]
    targets = supported(q, first.guides, first.groups, first.ties, others, of_any_size, near)
    learn_last_layer(network, hidden, targets, _STAY)
    calibrate(network, logits_of(network, hidden), expected)


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
        for parameter in network.category_output.parameters():
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
