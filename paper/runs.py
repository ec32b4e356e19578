"""One run of an experiment: fit on the training part, score both parts, keep a checkpoint meanwhile."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from clusterloom.data import ImageSet, load_images
from clusterloom.device import Compute
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.inference import apply_in_batches
from clusterloom.metrics import label_scores
from paper.records import Records

PARTS = ("train", "test")
Model = TypeVar("Model", bound=ImageClusterer)


@dataclass(frozen=True)
class Extent:
    """How much of an experiment to run.

    Attributes:
        seeds: One run each.
        epochs: Passes over the training images.
        limit: At most so many images of each part; None takes all.
        precision: As for the estimators.
    """

    seeds: tuple[int, ...] = (0,)
    epochs: int = 50
    limit: int | None = None
    precision: str = "auto"


SMOKE = Extent((0,), 1, 200)


def load_parts(dataset: str, limit: int | None) -> dict[str, ImageSet]:
    """The official training and test images, or at most so many of each."""
    return {part: load_images(f"{dataset}:{part}", limit=limit) for part in PARTS}


def fit_and_score(
    model: Model,
    dataset: str,
    settings: Mapping[str, Any],
    extent: Extent,
    records: Records,
    command: str,
    also: Callable[[Model], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Fit a model on the training part and score both; an interrupted run goes on.

    Args:
        model: Not fitted; where it keeps its run is set here.
        dataset: "mnist" or "fashion-mnist".
        settings: What tells the run from others.
        extent: How many images.
        records: Where the run will be recorded.
        command: What the user typed.
        also: What else to ask of the fitted model, or to do with it, before its checkpoint is removed.

    Returns:
        What a record has besides the settings: scores by part, time, device, versions, command.
    """
    parts = load_parts(dataset, extent.limit)
    # A record does not tell precisions apart, but what one has begun another cannot go on with.
    precision = Compute.choose(model.device, extent.precision).precision
    scratch = records.scratch("-".join(map(str, (*settings.values(), precision))))
    model.set_params(run_dir=str(scratch), resume=True, verbose=1, precision=precision).fit(parts["train"])
    result: dict[str, Any] = {"loss_last_epoch": round(model.history_[-1]["loss"], 3)}
    for part, images in parts.items():
        if isinstance(model, VariationalClusterer):
            result[f"loss_{part}"] = round(mean_loss(model, images), 4)
        result |= scores(images, model.predict(images), part)
    result |= also(model) if also else {}
    shutil.rmtree(scratch, ignore_errors=True)
    return result | {
        "clusters_in_use": int((model.cluster_sizes_ > 0).sum()),
        "seconds": model.about_["training_seconds"],
        **{key: model.about_[key] for key in ("device", "precision", "threads", "versions")},
        "date": time.strftime("%Y-%m-%d"),
        "command": command,
    }


def scores(images: ImageSet, labels_pred: np.ndarray, part: str) -> dict[str, float]:
    """Label scores of one part, under names that end in its own."""
    assert images.labels is not None, "the built-in sets have labels"
    return {f"{name}_{part}": round(value, 4) for name, value in label_scores(images.labels, labels_pred).items()}


def mean_loss(model: VariationalClusterer, images: ImageSet) -> float:
    """The training objective over all images, nats per image, with one posterior sample each."""
    network = model.network_
    generator = torch.Generator(next(network.parameters()).device).manual_seed(0)

    def loss(x: Tensor) -> tuple[Tensor, ...]:
        terms = network(x, network.draw_noise(len(x), generator)).terms
        return (torch.stack(list(terms.values())).sum(0),)

    (losses,) = apply_in_batches(loss, images.images, model._compute())
    return float(losses.mean(dtype=np.float64))
