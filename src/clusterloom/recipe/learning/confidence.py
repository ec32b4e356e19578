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

_ERRORS_PER_DOUBT = 2  # some show as votes that differ, and as many do not show
_BY_SIZES = 0.5  # power of how even clusters are, by which doubt is divided
_STAY = 0.003  # what it costs to be moved by doubt; see `learn_last_layer`


def expected_accuracy(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, others: np.ndarray, of_any_size: np.ndarray
) -> float:
    """How many images are placed rightly, as far as that can be told without labels.

    The second pseudo-labels come of several votes, each of which is wrong elsewhere. Where votes differ some are wrong,
    and about as often all are wrong together. But they are cast in one layer, where images may lie together for another
    reason, as colours are; then they differ far more often than guides in all spaces do.

    Kinds that all these take for one, and halves that they take for two, show in clusters of odd sizes: what doubt
    there is grows with them.

    Of few images votes say little. How often other divisions find the clusters again counts there, the more the fewer
    images there are.

    Args:
        labels: The model's clusters, shape (N,).
        first: The first pseudo-labels, soft assignments, shape (N, K).
        second: The second ones, shape (N, K).
        others: Shares of other divisions, see `clusterloom.recipe.learning.support.votes`, shape (N, K); all 0 where
            there are none.
        of_any_size: Clusters whose size says nothing, see `clusterloom.recipe.learning.support.odds_by_size`, bool,
            shape (K,).

    Returns:
        From 1 / K to 1, never certainty.

    Example:
        >>> second = np.array([[1.0, 0], [0.8, 0.2], [0.2, 0.8], [0, 1]])
        >>> labels, undecided, none = np.array([0, 0, 1, 1]), np.full((4, 2), 0.5), np.zeros((4, 2))
        >>> guides, no, yes = np.eye(2)[labels], np.zeros(2, bool), np.ones(2, bool)
        >>> expected_accuracy(labels, undecided, second, none, no), expected_accuracy(labels, guides, second, none, no)
        (0.8, 0.9)
        >>> expected_accuracy(labels, undecided, second, undecided, no)
        0.505...
        >>> uneven = np.array([0, 0, 0, 1])
        >>> [expected_accuracy(uneven, undecided, 0.8 * np.eye(2)[uneven] + 0.1, none, of) for of in (no, yes)]
        [0.747..., 0.8]
    """
    n, n_clusters = second.shape
    of_guides, of_votes, of_others = (float(np.mean(said[np.arange(n), labels])) for said in (first, second, others))
    expected = max(1 - _ERRORS_PER_DOUBT * (1 - of_votes), of_guides)
    sizes = np.where(of_any_size, 1, sizes_to_mean(labels, n_clusters))[labels]
    expected = 1 - (1 - expected) / float(np.mean(np.minimum(sizes, 1 / sizes))) ** _BY_SIZES
    trust = trust_in_others(others)
    expected = (1 - trust) * expected + trust * of_others
    return min(max(expected, 1 / n_clusters), 1 - 0.5 / (n + 1))


def learn_confidence(
    network: ClusterVAE,
    hidden: np.ndarray,
    first: FirstPseudoLabels,
    second: np.ndarray,
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
        second: The second pseudo-labels, shape (N, K).
        layouts: Of these images in each space, shape (n, N, d).
        strokes: Where the images are in the space of strokes, shape (N, D); None where they are no signs.
    """
    if second.shape[1] == 1:
        return
    logits = logits_of(network, hidden)
    labels = logits.argmax(1)
    others = votes(labels, {"others": first.others[:, first.groups]}, second.shape[1])
    of_any_size = found_again(layouts, labels, second.shape[1])
    expected = expected_accuracy(labels, first.q, second, others, of_any_size)
    q = softmax(logits / temperature_for(logits, expected), axis=1)
    near = None if strokes is None else nearest_neighbours(strokes, 1 + within_a_cluster(*second.shape))[0][:, 1:]
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
