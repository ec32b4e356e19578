"""A baseline: a stacked denoising autoencoder, and k-means in its latent space."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans

from clusterloom.data.images import ImageArray, limited_rows
from clusterloom.device import threads_kept
from clusterloom.estimators.base import ImageClusterer
from clusterloom.inference import apply_in_batches
from clusterloom.networks.autoencoder import (
    AutoencoderNetworkSettings,
    ClusterAutoencoder,
    LayerPretraining,
    Reconstruction,
)
from clusterloom.settings import CommonSettings, Count, Rate, parameters_of
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import seed_for
from clusterloom.training.run import Run

_KMEANS_STARTS = 20
_SCALE_IMAGES = 1_000


@dataclass(frozen=True)
class AutoencoderSettings(AutoencoderNetworkSettings, CommonSettings):
    """The paper of DEC has 50,000 steps for each layer and 100,000 for all; the defaults here are some 2 % of that on
    60,000 images, since CPUs are slow, and Adam in place of its stepwise gradient descent.
    """

    pretrain_epochs: Count = 5
    """Passes over the images for each layer."""
    finetune_epochs: Count = 20
    """Passes for all layers together."""
    batch_size: Count = 256
    """Images per step."""
    learning_rate: Rate = 1e-3
    """Of Adam."""

    @property
    def start_epochs(self) -> int:
        """Passes over the images until k-means."""
        return (len(self.hidden_dims) + 1) * self.pretrain_epochs + self.finetune_epochs


class AutoencoderBase(ImageClusterer):
    """Base of the estimators around a `ClusterAutoencoder`. There are no new images."""

    network_: ClusterAutoencoder

    def new_network(self, image_shape: tuple[int, int, int], n_clusters: int) -> ClusterAutoencoder:
        """A fresh network of these settings."""
        return ClusterAutoencoder(self.settings, image_shape, n_clusters)  # type: ignore[arg-type]

    def _plan(self, settings: Any, shape: tuple[int, ...], seed: int) -> TrainingPlan:
        return TrainingPlan(settings.start_epochs, settings.batch_size, settings.learning_rate, seed)

    def _train_stages(
        self,
        settings: Any,
        network: ClusterAutoencoder,
        run: Run,
        images: ImageArray,
        plan: TrainingPlan,
    ) -> dict[str, Any]:
        sample = images[limited_rows(len(images), _SCALE_IMAGES)]
        network.scale_to(float(np.square(sample / (255 if sample.dtype == np.uint8 else 1)).mean()))
        pretraining = replace(plan, epochs=settings.pretrain_epochs)
        for index in range(len(network.encoder)):
            run.train(LayerPretraining(network, index), pretraining, images, f"layer-{index + 1}", gives_clusters=False)
        finetuning = replace(plan, epochs=settings.finetune_epochs)
        run.train(Reconstruction(network), finetuning, images, "finetune", gives_clusters=False)
        run.note(f"k-means of {len(images):,} images")
        (latents,) = apply_in_batches(lambda x: (network.latents(x),), images, run.compute, run.progress)
        centres = run.cached("k-means", lambda: {"centres": _centres(latents, network.n_clusters, plan.seed)})[
            "centres"
        ]
        with torch.no_grad():
            network.class_means.copy_(torch.from_numpy(centres))
        run.found_clusters()
        return {}


class AutoencoderClusterer(AutoencoderBase):
    """A stacked denoising autoencoder, and k-means on its latents: the start of `DECClusterer`, and a baseline.

    Every layer is pre-trained as a denoising autoencoder of the one before, then all are trained together. The
    parameters are the fields of `AutoencoderSettings`. Probabilities are Student's t around the centres.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = load_digits().images[:200] / 16
        >>> AutoencoderClusterer(3, hidden_dims=(32,), random_state=0).fit(images).predict_proba(images[:4]).shape
        (4, 3)
    """

    method: ClassVar[str] = "ae-kmeans"
    description: ClassVar[str] = "an autoencoder with k-means"
    Settings = AutoencoderSettings
    __init__ = parameters_of(AutoencoderSettings)


def _centres(latents: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    with threads_kept():
        fitted = KMeans(
            n_clusters, n_init=_KMEANS_STARTS, random_state=seed_for(seed, "mixtures", "k-means") % 2**32
        ).fit(latents)
    return np.asarray(fitted.cluster_centers_, np.float32)
