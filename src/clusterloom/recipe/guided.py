"""The guided recipe trains a `ClusterVAE` so that it finds the same clusters every time. Its stages, in order:

0. Frozen features (`frozen`), where a pretrained backbone was asked for: they join the points of stage 2 and what the
   encoders read from stage 3 on.
1. Represent (`represent`): conv networks and encoder learn from two views of each image (`augment`).
2. First pseudo-labels (`pseudo_labels`): a mixture in the layout of the embedding's neighbours (`neighbours`) gives
   clusters, and where it is asked for their number (`cluster_count`).
3. First fit (`fit`): the whole model learns from them, with doubt.
4. Second pseudo-labels: the same from what the category encoder has learned, which is better.
5. Second fit: the model goes on with those.
6. Confidence and classes (`confidence`): probabilities become as sure as they may be, and class means and covariances
   those of the latents.

What each part is worth is written down in docs/guided.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clusterloom.inference import apply_in_batches
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.augment import ViewSettings, choose_views, random_views, widened
from clusterloom.recipe.cluster_count import Evidence, best_count, cluster_count_evidence
from clusterloom.recipe.confidence import calibrate, expected_accuracy
from clusterloom.recipe.fit import fit
from clusterloom.recipe.frozen import frozen_features, joined
from clusterloom.recipe.neighbours import layout_of
from clusterloom.recipe.pseudo_labels import PseudoLabels, first_pseudo_labels, second_pseudo_labels
from clusterloom.recipe.represent import represent
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights, numpy_generator, torch_generator
from clusterloom.training.run import Run

MAX_EMBEDDED = 100_000  # of more images a sample gets pseudo-labels: neighbours cost the square of their number
_VIEWED = 20_000  # images whose views judge the first pseudo-labels


@dataclass(frozen=True)
class Epochs:
    """Passes over the images in each training stage."""

    represent: int
    first_fit: int
    second_fit: int

    @classmethod
    def split(cls, total: int) -> "Epochs":
        """Divide a run's epochs, at least 3: half to represent, a quarter to each fit."""
        fit = round(total / 4)
        return cls(total - 2 * fit, fit, fit)


def train_guided(
    network: ClusterVAE,
    run: Run,
    images: np.ndarray,
    plan: TrainingPlan,
    fewest_clusters: int,
    colour_views: bool = True,
) -> dict[str, Any]:
    """Train a network by the guided recipe, in place.

    Args:
        network: Fresh, on the device.
        run: Keeps what is needed to resume, and the history.
        images: Shape (N, H, W, C).
        plan: Batch size, learning rate and seed; its epochs, at least 3, are divided over the stages.
        fewest_clusters: The number of clusters is found between this one and the network's own.
        colour_views: Views of colour images change in colour too.

    Returns:
        What was decided and how long it took, for the record: views, likelihoods, seconds by stage.
    """
    seed, epochs = plan.seed, Epochs.split(plan.epochs)
    plan = replace(plan, schedule="one-cycle", weight_decay=1e-4)
    views = choose_views(images, seed, colour_views)

    # 0. Frozen features.
    frozen = frozen_features(network.backbone, run, images, seed)  # (N, E), no columns without a backbone

    # 1. Represent.
    embed = represent(network, run, images, replace(plan, epochs=epochs.represent), views)

    # 2. First pseudo-labels.
    rows = _sampled_rows(len(images), seed)
    sample: Any = images if len(rows) == len(images) else ImageRows(images, rows)
    points = _of_all(embed, sample, run)
    embedding = joined(points, frozen[rows], points)
    run.note(f"layout of {len(embedding):,} images")
    layout = run.cached("layout", lambda: {"layout": layout_of(embedding, seed, run.progress)})["layout"]
    evidence = _choose_count(network, run, embedding, layout, seed, fewest_clusters)
    run.note(f"pseudo-labels: mixtures of {network.n_clusters} clusters")
    some = numpy_generator(seed, "sample", "views").permutation(len(sample))[:_VIEWED]
    here, there = _embedding_of_views(embed, ImageRows(sample, some), run, views, seed)
    viewed = joined(here, frozen[rows][some], points), joined(there, frozen[rows][some], points)
    first = run.cached(
        "pseudo-labels-1",
        lambda: _arrays(first_pseudo_labels(embedding, layout, network.n_clusters, seed, viewed, run.progress)),
    )

    # 3. First fit. The pseudo-labels are doubted, and the model is to find what its clusters have in common under
    # changes of all sorts.
    first_plan = replace(plan, epochs=epochs.first_fit)
    fit(network, run, sample, first_plan, widened(views), "fit-1", first["q"], frozen[rows], label_smoothing=0.1)

    # 4. Second pseudo-labels.
    hidden, own_q = _of_all(network.category_hidden, sample, run), _of_all(network.assign, sample, run)
    run.note(f"second pseudo-labels: layout of {len(hidden):,} images")
    second = run.cached(
        "pseudo-labels-2", lambda: {"q": second_pseudo_labels(layout_of(hidden, seed, run.progress), own_q)}
    )

    # 5. Second fit.
    targets = second["q"]
    if sample is not images:  # the layout knows the sample alone; of the other images the model must judge
        targets = _of_all(network.assign, images, run)
        targets[rows] = second["q"]
    fit(network, run, images, replace(plan, epochs=epochs.second_fit), views, "fit-2", targets, frozen)

    # 6. Confidence and classes.
    logits = _of_all(network.logits, sample, run)
    learned = logits.argmax(1), second["q"].argmax(1)
    calibrate(network, logits, expected_accuracy(*learned, first["partitions"], first["finalists"][:, 0]))
    _refit_classes(network, images, run)
    return {
        "views": vars(views),
        # Log-likelihood in the layout and nats that two views share, the one that was taken first.
        "candidates": np.round(first["finalists"], 4).tolist(),
        **({"count_evidence": [vars(e) for e in evidence]} if evidence else {}),
        "stage_seconds": {stage: round(seconds, 1) for stage, seconds in run.stage_seconds.items()},
    }


class ImageRows:
    """Some rows of an image array, which may be memory-mapped, read when they are asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> np.ndarray:
        return self._images[self._rows[at]]


def _sampled_rows(n: int, seed: int) -> np.ndarray:
    if n <= MAX_EMBEDDED:
        return np.arange(n)
    return np.sort(numpy_generator(seed, "sample", "embedding").permutation(n)[:MAX_EMBEDDED])


def _of_all(function: Callable[[Tensor], Tensor], images: Any, run: Run) -> np.ndarray:
    """What a function makes of all images, shape (N, D). Every process calls it and gets all of it."""
    (result,) = apply_in_batches(lambda x: (function(x),), images, run.compute)
    return result


def _choose_count(
    network: ClusterVAE, run: Run, embedding: np.ndarray, layout: np.ndarray, seed: int, fewest: int
) -> list[Evidence]:
    """Give the network the number of clusters that the embedding speaks for, at most its own.

    Returns:
        What was compared.
    """
    most = network.n_clusters
    if fewest == most:
        return []

    def compute() -> dict[str, np.ndarray]:
        evidence = cluster_count_evidence(embedding, layout, fewest, most, seed, run.note, run.progress)
        return {"evidence": np.array([list(vars(e).values()) for e in evidence])}

    rows = run.cached("count", compute)["evidence"].tolist()
    evidence = [Evidence(int(k), *(round(value, 4) for value in values)) for k, *values in rows]
    count = best_count(evidence) if evidence else fewest
    run.note(f"number of clusters: {count}, chosen among {fewest} to {most}")
    with fresh_weights(seed, "count"):
        network.set_clusters(count)
    return evidence


def _embedding_of_views(
    embed: Callable[[Tensor], Tensor], images: Any, run: Run, views: ViewSettings, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The embedding of two random views of each image, shape (M, D) each; every process calls it."""
    generator = torch_generator(seed, "views", "pseudo-labels-1")

    def embedded(x: Tensor) -> tuple[Tensor, ...]:
        numbers = torch.randn(2, len(x), views.numbers, generator=generator).to(x.device)
        return tuple(embed(random_views(x, of_view, views)) for of_view in numbers)

    first, second = apply_in_batches(embedded, images, run.compute)
    return first, second


def _arrays(labels: PseudoLabels) -> dict[str, np.ndarray]:
    return {"q": labels.q, "finalists": np.array(labels.finalists), "partitions": labels.partitions}


def _refit_classes(network: ClusterVAE, images: np.ndarray, run: Run) -> None:
    def latents(x: Tensor) -> tuple[Tensor, ...]:
        features = network.features(x)
        posterior = network.encode(features)
        return network.category_logits(features, posterior.mu).softmax(1), posterior.mu, posterior.log_var

    network.refit_classes(*map(torch.from_numpy, apply_in_batches(latents, images, run.compute)))


def automatic_epochs(n_images: int) -> int:
    """16 for 70,000 images, and more or fewer with the fifth root of how many there are; 8 to 120.

    Example:
        >>> [automatic_epochs(n) for n in (300, 10_000, 70_000, 1_000_000)]
        [48, 24, 16, 10]
    """
    return min(120, max(8, math.ceil(16 * (70_000 / n_images) ** 0.2)))


def automatic_batch_size(n_images: int) -> int:
    """The power of two from 32 to 512 that comes closest to 2,200 steps in all: small sets need steps, not big batches.

    Example:
        >>> [automatic_batch_size(n) for n in (300, 10_000, 70_000, 1_000_000)]
        [32, 128, 512, 512]
    """
    return min(512, max(32, 2 ** round(math.log2(n_images * automatic_epochs(n_images) / 2200))))
