"""Deep embedded clustering: Xie, Girshick and Farhadi, ICML 2016."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Lt

from clusterloom.data.images import ImageArray
from clusterloom.estimators.autoencoder import AutoencoderBase, AutoencoderSettings
from clusterloom.inference import apply_in_batches
from clusterloom.losses import target_distribution
from clusterloom.networks.autoencoder import ClusterAutoencoder, EmbeddedClustering
from clusterloom.settings import Count, parameters_of
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run


@dataclass(frozen=True)
class DECSettings(AutoencoderSettings):
    """The start has the knobs of `AutoencoderSettings`."""

    epochs: Count = 50
    """Passes over the images at most, after the start."""
    tolerance: Annotated[float, Ge(0), Lt(1)] = 1e-3
    """It ends when fewer than this share of the images change their cluster from one pass to the next."""


class DECClusterer(AutoencoderBase):
    """Deep embedded clustering.

    Layer-wise pre-training, fine-tuning and k-means as in `AutoencoderClusterer`; then encoder and centres are drawn to
    a target distribution over all the images, computed anew before every pass. The parameters are the fields of
    `DECSettings`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = load_digits().images[:200] / 16
        >>> DECClusterer(3, hidden_dims=(32,), epochs=3, random_state=0).fit(images).labels_.shape
        (200,)
    """

    method: ClassVar[str] = "dec"
    description: ClassVar[str] = "deep embedded clustering (DEC)"
    decodes: ClassVar[bool] = False  # its encoder moves away from its decoder
    Settings = DECSettings
    __init__ = parameters_of(DECSettings)

    def _plan(self, settings: DECSettings, shape: tuple[int, ...], seed: int) -> TrainingPlan:
        start = super()._plan(settings, shape, seed)
        return replace(start, epochs=start.epochs + settings.epochs)

    def _train_stages(
        self, settings: DECSettings, network: ClusterAutoencoder, run: Run, images: ImageArray, plan: TrainingPlan
    ) -> dict[str, Any]:
        super()._train_stages(settings, network, run, images, plan)
        clustering = replace(plan, epochs=settings.epochs)
        targets = _targets(network, images, run, settings.tolerance)
        run.train(EmbeddedClustering(network), clustering, images, "clustering", targets, may_grow=True)
        return {}


def _targets(
    network: ClusterAutoencoder, images: ImageArray, run: Run, tolerance: float
) -> Callable[[int], np.ndarray | None]:
    """What the assignments of all images are drawn to in each epoch; None once they have settled."""
    stored = run.stored("target")

    def target(epoch: int) -> np.ndarray | None:
        nonlocal stored
        # A run that goes on within an epoch needs the assignments that the epoch began with.
        if stored is None or stored["epoch"][0] != epoch:
            (q,) = apply_in_batches(lambda x: (network.assign(x),), images, run.compute)
            before = np.full(len(q), -1) if stored is None else stored["q"].argmax(1)
            stored = {"q": q, "before": before, "epoch": np.array([epoch])}
            run.store("target", stored)
        q = stored["q"]
        if (q.argmax(1) != stored["before"]).mean() < tolerance:
            return None
        return target_distribution(torch.from_numpy(q)).numpy()

    return target
