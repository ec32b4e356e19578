"""The guided recipe trains a `ClusterVAE` so that it finds the same clusters every time. Its stages, in order:

0. Frozen features (`spaces.frozen`), where a pretrained backbone was asked for: they are one more space in stage 2, and
   the encoders read them from stage 3 on.
1. Represent (`learning.represent`): conv networks and encoder learn from two views of each image (`views`).
2. First pseudo-labels (`pseudo_labels.first`): groups that `guides` keep together (`consensus`), partitions of layouts
   (`points.layouts`) of spaces that the network has learned and of plain ones (`spaces.plain`), divided into clusters
   (`division`) by what ties their images (`ties`). Where it is asked for, first their number (`cluster_count`).
3. First fit (`learning.fit`): the whole model learns from them, with doubt, and goes on where it has not learned them.
4. Second pseudo-labels (`pseudo_labels.second`): what lies together in the layer that the category encoder has learned,
   which is better.
5. Second fit: the model goes on with those.
6. Confidence and classes (`learning.confidence`): clusters that the fits have lost come back (`lost_clusters`), the
   last layer learns to doubt what guides, ties, other divisions and neighbours by strokes place elsewhere (`support`),
   probabilities become as sure as they may be, and class means and covariances those of the latents.
7. Refine (`learning.refine`): a second decoder learns to make sharp images of what the first one decodes, and how far
   these go beyond what it says (`guidance`).

What each part is worth is written down in docs/guided.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.inference import apply_in_batches
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.budget import Epochs, Visited
from clusterloom.recipe.cluster_count.advice import advice_on, explanation_of
from clusterloom.recipe.cluster_count.choice import cluster_count_evidence
from clusterloom.recipe.cluster_count.evidence import Evidence, ranked
from clusterloom.recipe.learning.classes import fit_classes
from clusterloom.recipe.learning.confidence import learn_confidence
from clusterloom.recipe.learning.fit import fit
from clusterloom.recipe.learning.lost_clusters import bring_back
from clusterloom.recipe.learning.refine import refine
from clusterloom.recipe.learning.represent import CONTRASTIVE, Representation, represent
from clusterloom.recipe.points.layouts import layout_of, layouts_of
from clusterloom.recipe.pseudo_labels.division import OF_EQUAL_KINDS
from clusterloom.recipe.pseudo_labels.first import FirstPseudoLabels, first_pseudo_labels
from clusterloom.recipe.pseudo_labels.second import second_pseudo_labels
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.recipe.spaces.frozen import BACKBONE, frozen_features
from clusterloom.recipe.spaces.plain import PALETTE, PLAIN_SPACES, STROKES, plain_spaces
from clusterloom.recipe.spaces.rules import rules_of
from clusterloom.recipe.views.augment import ViewSettings, recolouring, two_views, widened, without_colour
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights, numpy_generator, torch_generator
from clusterloom.training.run import Run

_LAYOUTS = 2  # of each space: one alone leaves more to chance
_COLOURS_COUNT = 0.5  # adjusted Rand index with clusters of colours from which on colours tell the kinds apart
_OF_COLOURS = ("colours", PALETTE)  # spaces that show next to nothing else
# The first fit goes on, where it may, as long as it has learned less than this share of its pseudo-labels: of what is
# learned slowly, stage by stage, and of all else.
_GOES_ON = {"fit-1-goes-on": 0.98, "fit-1-still": 0.9}
_ENOUGH = 3 / 4
_VIEWED = 5000  # images of which two views are looked at

Colours: TypeAlias = Literal["auto", "use", "ignore"]


@dataclass(frozen=True)
class Kinds:
    """What is known of the kinds beforehand.

    Attributes:
        fewest: The number of clusters is found between this one and the network's own.
        colours: Whether colours tell them apart.
        equal: They are about equally many.
        strokes: Whether strokes may tell them apart, where images look like signs.
    """

    fewest: int
    colours: Colours = "auto"
    equal: bool = False
    strokes: bool = True


def train_guided(
    network: ClusterVAE,
    run: Run,
    images: ImageArray,
    plan: TrainingPlan,
    epochs: Epochs,
    views: ViewSettings,
    kinds: Kinds,
) -> dict[str, Any]:
    """Train a network by the guided recipe, in place.

    Args:
        network: Fresh, on the device.
        run: Keeps what is needed to resume, and the history.
        images: Shape (N, H, W, C).
        plan: How to train in all stages.
        epochs: How long in each of them; without epochs for it, the last is left out.
        views: What is fair for these images; see `choose_views`.
        kinds: What is known of them beforehand.

    Returns:
        What was decided and how long it took, for the record: views, spaces, seconds by stage.
    """
    seed = plan.seed
    last_plan = replace(plan, epochs=epochs.second_fit)
    visited = Visited.of(images, last_plan)
    known, sample, sampled = visited.known, visited.sample, visited.sampled

    # 0. Frozen features.
    frozen = frozen_features(network.backbone, run, known, seed)  # (M, E), no columns without a backbone

    # 1. Represent.
    plain = run.cached("spaces", lambda: plain_spaces(sample, seed, views, kinds.colours != "ignore", kinds.strokes))
    of_light = views if kinds.colours == "use" and images.shape[3] > 1 else without_colour(views, images.shape[3])
    of_stage = replace(plan, epochs=epochs.represent)
    representation = represent(network, run, images, of_stage, of_light)

    # 2. First pseudo-labels.
    embeddings = _embeddings(representation, run, sample, frozen[sampled], plain, seed, of_signs=views.kind == "signs")
    evidence = _choose_count(network, run, embeddings, seed, kinds.fewest)
    first = _first_pseudo_labels(network, run, embeddings, seed, OF_EQUAL_KINDS if kinds.equal else None)
    of_colours = max(first.follows.get(space, 0.0) for space in _OF_COLOURS)
    if images.shape[3] == 3 and kinds.colours != "use" and of_colours < _COLOURS_COUNT:
        views = recolouring(views)

    # 3. First fit.
    own_q = _first_fit(network, run, sample, plan, epochs, widened(views), first.q, frozen[sampled])

    # 4. Second pseudo-labels.
    second_q = _second_pseudo_labels(network, run, sample, own_q, first.q, seed)

    # 5. Second fit.
    targets = second_q
    if sample is not known:  # the layout knows the sample alone; of the other images the model must judge
        targets = _of_all(network.assign, known, run)
        targets[sampled] = second_q
    fit(network, run, known, last_plan, views, "fit-2", targets, frozen, as_it_is=True)

    # 6. Confidence and classes.
    hidden = _of_all(network.category_hidden, sample, run)
    lost = bring_back(network, hidden, first.labels)
    if lost:
        run.note(f"clusters {', '.join(map(str, lost))} were lost by the fits; what they had at first is learned again")
    learn_confidence(network, hidden, first, embeddings.layouts, embeddings.points.get(STROKES))
    described = images if known is images else sample
    latents = fit_classes(network, described, run)

    # 7. Refine. A sample says enough of what decoded images lack.
    if epochs.refine:
        of_sample = latents if described is sample else tuple(part[sampled] for part in latents)
        refine(network, run, sample, replace(plan, epochs=epochs.refine), *of_sample)
    return {
        "views": vars(views),
        "spaces": {name: round(value, 3) for name, value in first.follows.items()},
        **_of_count(evidence),
        **({"lost_clusters": lost} if lost else {}),
        "stage_seconds": {stage: round(seconds, 1) for stage, seconds in run.stage_seconds.items()},
    }


def _embeddings(
    representation: Representation,
    run: Run,
    images: ImageArray,
    frozen: np.ndarray,
    plain: dict[str, np.ndarray],
    seed: int,
    of_signs: bool,
) -> Embeddings:
    """Where images (N, H, W, C) lie in all spaces in which guides look for clusters; every process calls it.

    Spaces are in the order in which guides draw: learned ones, frozen features (N, E), if there are any, plain ones.
    """
    learned = _learned_spaces(representation, images, run)
    of_backbone = {BACKBONE: frozen} if frozen.shape[1] else {}
    spaces = learned | of_backbone | {name: plain[name] for name in PLAIN_SPACES if name in plain}
    view_pairs = _learned_views(representation, images, run, seed)
    rules = rules_of(len(images), spaces, learned, of_signs=of_signs)
    return Embeddings(spaces, _layouts(spaces, run, seed), view_pairs, rules)


def _first_pseudo_labels(
    network: ClusterVAE, run: Run, embeddings: Embeddings, seed: int, resolution: float | None
) -> FirstPseudoLabels:
    """First pseudo-labels of as many clusters as the network has."""
    n_clusters = network.n_clusters
    run.note(f"pseudo-labels: {n_clusters} clusters of what guides in {len(embeddings.points)} spaces keep together")

    def compute() -> dict[str, np.ndarray]:
        first = first_pseudo_labels(embeddings, n_clusters, seed, progress=run.progress, resolution=resolution)
        return first.arrays()

    return FirstPseudoLabels.from_arrays(run.cached("pseudo-labels-1", compute))


def _second_pseudo_labels(
    network: ClusterVAE, run: Run, images: ImageArray, own_q: np.ndarray, first_q: np.ndarray, seed: int
) -> np.ndarray:
    """Soft assignments (N, K) of images, from a layout of the layer that the category encoder has learned."""
    hidden = _of_all(network.category_hidden, images, run)
    run.note(f"second pseudo-labels: layout of {len(hidden):,} images")

    def compute() -> dict[str, np.ndarray]:
        layout = layout_of(hidden, seed, run.progress)
        return {"q": second_pseudo_labels(layout, own_q, first_q, numpy_generator(seed, "mixtures", "second"))}

    return run.cached("pseudo-labels-2", compute)["q"]


def _first_fit(
    network: ClusterVAE,
    run: Run,
    images: ImageArray,
    plan: TrainingPlan,
    epochs: Epochs,
    views: ViewSettings,
    targets: np.ndarray,
    frozen: np.ndarray,
) -> np.ndarray:
    """Learn the first pseudo-labels (N, K), for longer where the model may and has not learned them.

    They are doubted, and the model is to find what its clusters have in common under changes of all sorts.

    Returns:
        The model's soft assignments, shape (N, K).
    """

    def learned(n_epochs: int, stage: str) -> np.ndarray:
        of_stage = replace(plan, epochs=n_epochs)
        fit(network, run, images, of_stage, views, stage, targets, frozen, label_smoothing=0.1)
        return _of_all(network.assign, images, run)

    q, expected = learned(epochs.first_fit, "fit-1"), epochs.total
    for stage, of_slow in _GOES_ON.items():
        enough = of_slow if views.learned_slowly else _ENOUGH
        if not epochs.first_fit_goes_on or np.mean(q.argmax(1) == targets.argmax(1)) >= enough:
            break
        expected += epochs.first_fit_goes_on
        run.expect(expected)
        q = learned(epochs.first_fit_goes_on, stage)
    return q


def _of_all(function: Callable[[Tensor], Tensor], images: ImageArray, run: Run) -> np.ndarray:
    """What a function makes of all images, shape (N, D). Every process calls it and gets all of it."""
    (result,) = apply_in_batches(lambda x: (function(x),), images, run.compute)
    return result


def _learned_spaces(representation: Representation, images: ImageArray, run: Run) -> dict[str, np.ndarray]:
    """The spaces of all images that the network has learned, (N, D) each; every process calls it."""
    names: list[str] = []

    def points(x: Tensor) -> tuple[Tensor, ...]:
        spaces = representation.spaces(x)
        names[:] = spaces
        return tuple(spaces.values())

    found = apply_in_batches(points, images, run.compute)
    return dict(zip(names, found, strict=True))


def _learned_views(representation: Representation, images: ImageArray, run: Run, seed: int) -> dict[str, np.ndarray]:
    """Where two views of some images are in the contrastive spaces, (2, M, D) each; every process calls it."""
    rows = np.sort(numpy_generator(seed, "sample", "views").permutation(len(images))[:_VIEWED])
    noise = representation.draw_noise(len(rows), torch_generator(seed, "noise", "views")).numpy()

    def points(x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        both = [representation.spaces(view) for view in two_views(x, noise, representation.views)]
        return tuple(torch.stack([spaces[name] for spaces in both], 1) for name in CONTRASTIVE)

    found = apply_in_batches(points, images[rows], run.compute, beside=noise)
    return {name: of_space.swapaxes(0, 1) for name, of_space in zip(CONTRASTIVE, found, strict=True)}


def _layouts(spaces: dict[str, np.ndarray], run: Run, seed: int) -> dict[str, np.ndarray]:
    """Layouts of each space, shape (2, N, d), of few images (1, N, d)."""
    n_images = len(next(iter(spaces.values())))
    run.note(f"layouts of {n_images:,} images in {len(spaces)} spaces")
    found = run.cached("layouts", lambda: layouts_of(spaces, seed, _LAYOUTS, run.progress))
    return {name: found[name] for name in spaces}  # guides draw their starts in this order; a file has its own


def _choose_count(network: ClusterVAE, run: Run, embeddings: Embeddings, seed: int, fewest: int) -> list[Evidence]:
    """Give the network the number of clusters that the images speak for, at most its own.

    Returns:
        What was compared.
    """
    most = network.n_clusters
    if fewest == most:
        return []

    def compute() -> dict[str, np.ndarray]:
        found = cluster_count_evidence(embeddings, fewest, most, seed, run.progress)
        return {field.name: np.array([getattr(e, field.name) for e in found]) for field in fields(Evidence)}

    found = run.cached("count", compute)
    rows = zip(*(of_field.tolist() for of_field in found.values()), strict=True)
    evidence = [Evidence(**{name: round(v, 4) for name, v in zip(found, row, strict=True)}) for row in rows]
    best = ranked(evidence)
    for e in best[:3]:
        run.note(f"{e.n_clusters} clusters: modularity {e.modularity:.4f}, stability {e.stability:.3f}")
    count = best[0].n_clusters if best else fewest
    run.note(f"number of clusters: {count}, chosen among {fewest} to {most}")
    with fresh_weights(seed, "count"):
        network.set_clusters(count)
    return evidence


def _of_count(evidence: list[Evidence]) -> dict[str, Any]:
    """What the record says of the number of clusters; nothing where it was given."""
    if not evidence:
        return {}
    return {
        "count_evidence": [e.record() for e in evidence],
        "count_advice": advice_on(evidence),
        "count_explained": explanation_of(evidence),
    }
