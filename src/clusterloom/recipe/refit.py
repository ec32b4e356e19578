"""Fit again from what a user has said: corrected, merged and split clusters become pseudo-labels of a second fit.

The model's probabilities are right for most images, and answers say where they are not. So what was wrong about them
where a user has answered is spread to the images that lie near, and added ("correct and smooth": Huang, He, Singh, Lim
and Benson, 2021). How many images a cluster has is left free. Then the model goes on from its weights as in stage 5 of
the guided recipe; images with an answer are shown several times in each epoch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from torch import Tensor

from clusterloom.data.images import ImageArray, ImageRows
from clusterloom.inference import apply_in_batches
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.budget import MAX_EMBEDDED, Epochs
from clusterloom.recipe.learning.classes import fit_classes
from clusterloom.recipe.learning.confidence import calibrate, temperature_for
from clusterloom.recipe.learning.fit import fit
from clusterloom.recipe.learning.refine import refine
from clusterloom.recipe.points.neighbours import nearest_neighbours
from clusterloom.recipe.spaces.frozen import remember
from clusterloom.recipe.views.augment import ViewSettings
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights, numpy_generator
from clusterloom.training.run import Run

NOBODY = -1  # in place of a cluster, where a user has not answered
_NEIGHBOURS = 15
_SCALE_NEIGHBOUR = 7  # whose distance is the unit around an image: Zelnik-Manor and Perona (2004)
_KEPT = 0.8  # of what arrives at an image along the graph, in each step; the rest is its own
_STEPS = 40
_DISTRUST = 0.003  # answers that reach an image as faintly as this count half
_SLOWER = 0.3  # than a fit from fresh weights
_REFINED_LESS = 4
_LEAST_TARGET = 0.01
_RIDGE = 0.01  # of the mean square of the hidden layer's units
_SHOWN_SHARE = 0.1  # of an epoch, for images with an answer
_CATEGORY_HIDDEN = 1  # its place among `_spaces`
_MOST_TIMES = 10  # that one of them is shown in an epoch
_FOLDS = 5
_SLIPS = 0.01  # of all answers: one alone that surprises says little
_TEMPERATURES = np.geomspace(0.05, 5, 81)
_TEMPERATURE_SPREAD = 0.5  # standard deviation of its logarithm before anything has been answered


@dataclass(frozen=True)
class Answers:
    """What a user has said of N images, which are in M clusters by now.

    Attributes:
        q: What the model says of these clusters, merged and split ones too, shape (N, M), float32; rows sum to 1.
        confirmed: The cluster in which a user wants each image, shape (N,), int64; `NOBODY` where none has said.
        outlier: Whether a user has said that it belongs to none, shape (N,), bool.
    """

    q: np.ndarray
    confirmed: np.ndarray
    outlier: np.ndarray

    def sha256(self) -> str:
        """Tells these answers, to this model, from others."""
        digest = hashlib.sha256()
        for array in (self.q, self.confirmed, self.outlier):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def refit_epochs(epochs: Epochs) -> Epochs:
    """How long to fit again, from the epochs of a whole fit: its second fit, and a quarter as long as it refines."""
    return Epochs(0, 0, epochs.second_fit, -(-epochs.refine // _REFINED_LESS))


def train_again(
    network: ClusterVAE,
    run: Run,
    images: ImageArray,
    plan: TrainingPlan,
    epochs: Epochs,
    views: ViewSettings,
    answers: Answers,
) -> dict[str, Any]:
    """Train a network that the guided recipe has trained, in place; it gets as many clusters as there are by now.

    Args:
        network: On the device.
        run: Keeps what is needed to resume, and the history.
        images: Shape (N, H, W, C).
        plan: How to train.
        epochs: How long; see `refit_epochs`.
        views: How far views may stray.
        answers: What a user has said of these images.

    Returns:
        What to keep of it: views, seconds by stage.
    """
    rows = _learned_from(answers, plan.seed)
    sample = ImageRows(images, rows)
    spaces, frozen = _spaces(network, sample, run)
    confirmed = answers.confirmed[rows]
    run.note(f"pseudo-labels: what {(confirmed != NOBODY).sum():,} answers say of {len(rows):,} images")
    heard = run.cached("answers", lambda: _heard(spaces, answers.q[rows], confirmed))
    targets = heard["q"]

    # The fit begins where the clusters are: random weights would cost it half of its epochs.
    _set_clusters(network, spaces[_CATEGORY_HIDDEN], targets, plan.seed)
    fit_classes(network, sample, run, targets)
    run.found_clusters()
    shown = _shown(confirmed)
    of_stage = replace(plan, epochs=epochs.second_fit, learning_rate=_SLOWER * plan.learning_rate)
    several = ImageRows(images, rows[shown])
    fit(network, run, several, of_stage, views, "refit", targets[shown], frozen[shown], as_it_is=True)

    (logits,) = apply_in_batches(lambda x: (network.logits(x),), sample, run.compute)
    others = confirmed == NOBODY
    if others.any():
        calibrate(network, logits[others], heard["confidence"].item())
    latents = fit_classes(network, sample, run)
    if epochs.refine:
        refine(network, run, sample, replace(plan, epochs=epochs.refine), *latents)
    else:
        network.refiner = None  # it knows the clusters that there were
    return {
        "views": vars(views),
        "stage_seconds": {stage: round(seconds, 1) for stage, seconds in run.stage_seconds.items()},
    }


def _heard(spaces: Sequence[np.ndarray], q: np.ndarray, confirmed: np.ndarray) -> dict[str, np.ndarray]:
    targets, confidence = pseudo_labels(spaces, q, confirmed)
    return {"q": targets, "confidence": np.array(confidence)}


def pseudo_labels(spaces: Sequence[np.ndarray], q: np.ndarray, confirmed: np.ndarray) -> tuple[np.ndarray, float]:
    """What answers make of probabilities.

    With the graph's matrix S of symmetric, normalised affinities, a = 0.8 and F(Y) = (1 - a) sum_t a^t S^t Y::

        t = F(q) + F(r) / (F(1[answered]) + 0.003)   r_i = 1[y_i] - q_i where the user says y_i, 0 elsewhere

    cut off at 0 and brought to a sum of 1. An image with an answer has what the user says.

    Args:
        spaces: Points of every space in which neighbours are looked for, shape (N, D) each.
        q: What the model says, shape (N, M).
        confirmed: As in `Answers`.

    Returns:
        Soft assignments t, shape (N, M), float32; and how sure one may be of an image without an answer, on average:
        the mean of its largest t, once t has the temperature with which it foretells answers best (`_temperature`).
    """
    graph = csr_array(sum(affinities(points) for points in spaces) / len(spaces) if len(q) > 2 else eye_array(len(q)))
    smooth = _spread(graph, q)
    found = _followed(graph, smooth, q, confirmed)
    said = confirmed != NOBODY
    confidence = 1.0
    if not said.all():
        # Spread, the model's probabilities are nearer to each other. Without answers they are as sure as before.
        before = temperature_for(np.log(found[~said]), float(q[~said].max(1).mean()))
        temperature = _temperature(graph, smooth, q, confirmed, min(before, 1.0))
        confidence = float(_at_temperature(found[~said], temperature).max(1).mean())
    found[said] = np.eye(q.shape[1])[confirmed[said]]
    return found.astype(np.float32), confidence


def _followed(graph: csr_array, smooth: np.ndarray, q: np.ndarray, confirmed: np.ndarray) -> np.ndarray:
    """t of `pseudo_labels`, from F(q) (N, M), before answered images have their answers."""
    answered = np.flatnonzero(confirmed != NOBODY)
    wrong = np.zeros((len(q), q.shape[1] + 1))
    wrong[answered, :-1] = np.eye(q.shape[1])[confirmed[answered]] - q[answered]
    wrong[answered, -1] = 1
    arrived = _spread(graph, wrong)
    found = np.maximum(smooth + arrived[:, :-1] / (arrived[:, -1:] + _DISTRUST), 0) + 1e-9
    return found / found.sum(1, keepdims=True)


def _temperature(graph: csr_array, smooth: np.ndarray, q: np.ndarray, confirmed: np.ndarray, usual: float) -> float:
    """The temperature of t that makes answers likeliest, each fifth of them foretold from the others.

    Which images a user is asked about hangs on where they lie, so what is found there holds for others. `usual` is what
    it would be without an answer: ln T is normally distributed around its logarithm.
    """
    answered = np.flatnonzero(confirmed != NOBODY)
    foretold = np.empty((len(answered), q.shape[1]))
    for fold in range(min(_FOLDS, len(answered))):
        others = confirmed.copy()
        others[answered[fold::_FOLDS]] = NOBODY
        foretold[fold::_FOLDS] = _followed(graph, smooth, q, others)[answered[fold::_FOLDS]]

    def plausible(temperature: float) -> float:
        of_answers = _at_temperature(foretold, temperature)[np.arange(len(answered)), confirmed[answered]]
        likelihood = np.log((1 - _SLIPS) * of_answers + _SLIPS / q.shape[1]).sum()
        return float(likelihood - (np.log(temperature / usual) / _TEMPERATURE_SPREAD) ** 2 / 2)

    return float(max([usual, *_TEMPERATURES], key=plausible))


def _at_temperature(q: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, M) to the power of 1 / temperature, with sums of 1."""
    raised = (q / q.max(1, keepdims=True)) ** (1 / temperature)
    return raised / raised.sum(1, keepdims=True)


def affinities(points: np.ndarray) -> csr_array:
    """A neighbour graph with weights, D^(-1/2) W D^(-1/2): symmetric, no eigenvalue above 1.

    Args:
        points: Shape (N, D), N at least 2.

    Returns:
        Shape (N, N). W is exp(-d^2 / (s_i s_j)) between an image and its 15 nearest neighbours, s the distance to the
        seventh.
    """
    k = min(_NEIGHBOURS, len(points) - 1)
    near, distances = (array[:, 1:] for array in nearest_neighbours(points, k + 1))
    scale = distances[:, min(_SCALE_NEIGHBOUR, k) - 1].astype(np.float64) + 1e-12
    weights = np.exp(-(distances**2) / (scale[:, None] * scale[near]))
    graph = csr_array((weights.ravel(), near.ravel(), k * np.arange(len(points) + 1)), shape=(len(points),) * 2)
    graph = csr_array(graph.maximum(graph.T))
    root = diags_array(1 / np.sqrt(np.maximum(graph.sum(1), 1e-12)))
    return csr_array(root @ graph @ root)


def _spread(graph: csr_array, numbers: np.ndarray) -> np.ndarray:
    """(1 - a) (1 - a S)^-1 Y, as far as 40 steps go: Zhou et al. (2004)."""
    found = numbers
    for _ in range(_STEPS):
        found = _KEPT * (graph @ found) + (1 - _KEPT) * numbers
    return found


def _learned_from(answers: Answers, seed: int) -> np.ndarray:
    """Rows of the images that are trained on, ascending: no outliers, and of very many a sample with all answers."""
    rows = np.flatnonzero(~answers.outlier)
    if len(rows) <= MAX_EMBEDDED:
        return rows
    said = answers.confirmed[rows] != NOBODY
    others = numpy_generator(seed, "sample", "refit").permutation(rows[~said])[: max(MAX_EMBEDDED - said.sum(), 0)]
    return np.sort(np.concatenate([rows[said], others]))


def _spaces(network: ClusterVAE, images: ImageArray, run: Run) -> tuple[list[np.ndarray], np.ndarray]:
    """The network's layers, (N, D) each, and what its backbone says, (N, E); every process calls it."""
    backbone = network.backbone

    def layers(x: Tensor) -> tuple[Tensor, ...]:
        frozen = x.new_zeros(len(x), 0) if backbone is None else backbone(x)
        features = network.features(x, frozen)
        hidden = network.hidden(features)
        mu = network.posterior_of(hidden).mu
        return hidden, network.category_hidden_of(features, mu), mu, frozen

    *spaces, frozen = apply_in_batches(layers, images, run.compute, run.progress)
    if backbone is not None:
        remember(backbone, images, frozen, run)
    return spaces, frozen


def _set_clusters(network: ClusterVAE, hidden: np.ndarray, targets: np.ndarray, seed: int) -> None:
    """Give the network the clusters of soft assignments (N, M), and the output that comes closest to them.

    That is by least squares on logarithms, from the category encoder's hidden layer (N, H).
    """
    with fresh_weights(seed, "refit"):
        network.set_clusters(targets.shape[1])
    wanted = np.log(np.maximum(targets, _LEAST_TARGET, dtype=np.float64))
    wanted -= wanted.mean(1, keepdims=True)  # softmax does not see it
    centre = hidden.mean(0, dtype=np.float64)
    points = hidden - centre
    products = points.T @ points
    products[np.diag_indices_from(products)] += _RIDGE * np.trace(products) / len(products) + 1e-9
    weight = np.linalg.solve(products, points.T @ (wanted - wanted.mean(0)))  # (H, M)
    output = network.category_output
    with torch.no_grad():
        output.weight.copy_(torch.from_numpy(weight.T))
        output.bias.copy_(torch.from_numpy(wanted.mean(0) - centre @ weight))


def _shown(confirmed: np.ndarray) -> np.ndarray:
    """Which images an epoch shows, those with an answer several times, shape (at least N,)."""
    said = np.flatnonzero(confirmed != NOBODY)
    times = int(np.clip(_SHOWN_SHARE * len(confirmed) / max(len(said), 1), 1, _MOST_TIMES))
    return np.concatenate([np.arange(len(confirmed)), np.repeat(said, times - 1)])
