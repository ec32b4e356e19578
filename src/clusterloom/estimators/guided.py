"""The guided recipe: represent, guide, fit. It trains a `ClusterVAE` so that it finds the same clusters every time.

1. Represent: conv networks and encoder learn from two views of each image (`networks.guided.Representation`).
2. Guide: a neighbour graph, its layout and a mixture give first clusters (`clusterloom.guide`), and where it is asked
   for their number (`clusterloom.cluster_count`).
3. Fit: the whole model learns from them (`networks.guided.GuidedObjective`), then the graph of what the encoder has
   learned gives a second, better guide, which it goes on with. At the end class means and covariances are refitted.

What each part is worth is written down in docs/guided.md.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clusterloom.cluster_count import Evidence, best_count, cluster_count_evidence
from clusterloom.guide import MAX_POINTS, Guide, layout, make_guide, refined_guide
from clusterloom.inference import apply_in_batches
from clusterloom.networks.guided import GuidedObjective, Representation
from clusterloom.networks.vae import ClusterVAE
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run
from clusterloom.views import ViewSettings, are_signs, choose_views, random_views, widened

_VIEWED = 20_000  # images whose views judge the first guide


@dataclass(frozen=True)
class Epochs:
    """Passes over the images in each training stage."""

    represent: int
    first_fit: int
    second_fit: int

    @classmethod
    def split(cls, total: int) -> "Epochs":
        """Divide a run's epochs, at least 3: half to represent, a quarter to each fit."""
        fit = max(1, round(total / 4))
        return cls(max(1, total - 2 * fit), fit, fit)


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
        plan: Batch size, learning rate and seed; its epochs are divided over the stages.
        fewest_clusters: The number of clusters is found between this one and the network's own.
        colour_views: Views of colour images change in colour too.

    Returns:
        What was decided and how long it took, for the record: views, likelihoods, seconds by stage.
    """
    epochs = Epochs.split(plan.epochs)
    plan = replace(plan, schedule="one-cycle", weight_decay=1e-4)
    views = choose_views(images, plan.seed, colour_views)

    where = represent(network, run, images, replace(plan, epochs=epochs.represent), views)
    rows = _guided_rows(len(images), plan.seed)
    some: Any = images if len(rows) == len(images) else ImageRows(images, rows)
    points = _of_all(where, some, run)
    run.note(f"guide: neighbour graph of {len(points):,} images")
    places = run.cached("layout", lambda: {"places": layout(points, plan.seed)})["places"]
    evidence = _choose_count(network, run, points, places, plan.seed, fewest_clusters)
    n_clusters = network.settings.n_clusters
    run.note(f"guide: mixtures of {n_clusters} clusters")
    viewed = _points_of_views(where, some, run, views, plan.seed)
    first = run.cached("guide-1", lambda: _arrays(make_guide(points, places, n_clusters, plan.seed, viewed)))
    # The first guide is doubted, and the model is to find what its clusters have in common under changes of all sorts.
    first_plan, second_plan = replace(plan, epochs=epochs.first_fit), replace(plan, epochs=epochs.second_fit)
    fit(network, run, some, first_plan, widened(views), "fit-1", first["q"], label_smoothing=0.1)

    hidden, own_q = _of_all(network.category_hidden, some, run), _of_all(network.assign, some, run)
    run.note(f"second guide: neighbour graph of {len(points):,} images")
    second = run.cached("guide-2", lambda: _arrays(refined_guide(layout(hidden, plan.seed), own_q, plan.seed)))
    q = second["q"]
    if some is not images:  # the guide knows the sample alone; of the other images the model must judge
        q = _of_all(network.assign, images, run)
        q[rows] = second["q"]
    fit(network, run, images, second_plan, views, "fit-2", q)
    _calibrate(network, some, second["q"], run)
    _refit_classes(network, images, run)
    return {
        "views": vars(views),
        # Log-likelihood in the layout and nats that two views share, the one that was taken first.
        "candidates": np.round(first["finalists"], 4).tolist(),
        **({"count_evidence": [vars(e) for e in evidence]} if evidence else {}),
        "stage_seconds": {stage: round(seconds, 1) for stage, seconds in run.stage_seconds.items()},
    }


def represent(
    network: ClusterVAE, run: Run, images: np.ndarray, plan: TrainingPlan, views: ViewSettings
) -> Callable[[Tensor], Tensor]:
    """Stage 1, in place.

    Returns:
        From images (B, C, H, W) to the points (B, D) that a guide should look at: posterior means where a
        reconstruction was asked for, which is for signs, and contrastive projections elsewhere.
    """
    reconstruct = are_signs(views)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(plan.seed)
        representation = Representation(network, views, reconstruct).to(run.compute.device)
    with _frozen(representation.left_alone()):
        run.train(representation, plan, images, "represent", gives_clusters=False)
    return network.latents if reconstruct else representation.project


def fit(
    network: ClusterVAE,
    run: Run,
    images: Any,
    plan: TrainingPlan,
    views: ViewSettings,
    stage: str,
    q: np.ndarray,
    label_smoothing: float = 0.0,
) -> None:
    """Stage 3, or a part of it, in place.

    Args:
        network: The model.
        run: Keeps what is needed to resume.
        images: Shape (N, H, W, C); may be some of the run's.
        plan: How long and how.
        views: How far views may stray.
        stage: Name in records and files.
        q: The guide's assignments, shape (N, K).
        label_smoothing: How much they are doubted.
    """
    objective = GuidedObjective(network, views, torch.from_numpy(q.mean(0)), label_smoothing)
    run.train(objective.to(run.compute.device), plan, images, stage, q)


class ImageRows:
    """Some rows of an image array, which may be memory-mapped, read when they are asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> np.ndarray:
        return self._images[self._rows[at]]


@contextlib.contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Without gradients for some parameters: processes that train together wait for those of all others."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _guided_rows(n: int, seed: int) -> np.ndarray:
    if n <= MAX_POINTS:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:MAX_POINTS])


def _of_all(function: Callable[[Tensor], Tensor], images: Any, run: Run) -> np.ndarray:
    """What a function makes of all images, shape (N, D). Every process calls it and gets all of it."""
    (result,) = apply_in_batches(lambda x: (function(x),), images, run.compute)
    return result


def _choose_count(
    network: ClusterVAE, run: Run, points: np.ndarray, places: np.ndarray, seed: int, fewest: int
) -> list[Evidence]:
    """Give the network the number of clusters that the points speak for, at most its own; returns what was compared."""
    most = network.settings.n_clusters
    if fewest == most:
        return []

    def compute() -> dict[str, np.ndarray]:
        evidence = cluster_count_evidence(points, places, fewest, most, seed, run.note)
        return {"evidence": np.array([list(vars(e).values()) for e in evidence])}

    rows = run.cached("count", compute)["evidence"].tolist()
    evidence = [Evidence(int(k), *(round(value, 4) for value in values)) for k, *values in rows]
    count = best_count(evidence) if evidence else fewest
    run.note(f"number of clusters: {count}, chosen among {fewest} to {most}")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network.set_clusters(count)
    return evidence


def _points_of_views(
    where: Callable[[Tensor], Tensor], images: Any, run: Run, views: ViewSettings, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points of two random views of each of at most 20,000 images, shape (M, D) each; every process calls it."""
    some: Any = ImageRows(images, np.random.default_rng(seed).permutation(len(images))[:_VIEWED])
    generator = torch.Generator().manual_seed(seed)

    def points(x: Tensor) -> tuple[Tensor, ...]:
        numbers = torch.randn(2, len(x), views.numbers, generator=generator).to(x.device)
        return tuple(where(random_views(x, of_view, views)) for of_view in numbers)

    first, second = apply_in_batches(points, some, run.compute)
    return first, second


def _arrays(guide: Guide) -> dict[str, np.ndarray]:
    return {"q": guide.q, "finalists": np.array(guide.finalists)}


def _calibrate(network: ClusterVAE, images: Any, guide_q: np.ndarray, run: Run) -> None:
    """Make q(y|.) as sure on average as it agrees with the guide: one temperature on the logits, folded into weights.

    The graph of neighbours and the network err in different ways, so how often they agree tells, without labels, how
    sure the network may be. After Guo, Pleiss, Sun and Weinberger (2017), who ask labels instead.
    """
    logits = torch.from_numpy(_of_all(network.logits, images, run)).double()
    agree = (logits.argmax(1).numpy() == guide_q.argmax(1)).sum()
    agreement = (float(agree) + 0.5) / (len(logits) + 1)  # never certainty
    low, high = 0.05, 20.0
    for _ in range(40):
        temperature = math.sqrt(low * high)
        too_sure = float((logits / temperature).softmax(1).amax(1).mean()) > agreement
        low, high = (temperature, high) if too_sure else (low, temperature)
    with torch.no_grad():
        for parameter in network.category_encoder[-1].parameters():
            parameter.div_(temperature)


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
