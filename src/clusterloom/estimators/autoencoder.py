"""Clustering in the latent space of a dense autoencoder: with k-means, and by deep embedded clustering."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans

from clusterloom.device import threads_kept
from clusterloom.errors import SettingsError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.inference import apply_in_batches
from clusterloom.losses import target_distribution
from clusterloom.networks.autoencoder import (
    AutoencoderSettings,
    ClusterAutoencoder,
    EmbeddedClustering,
    LayerPretraining,
    Reconstruction,
)
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run

_KMEANS_STARTS = 20
_SCALE_IMAGES = 1_000


class AutoencoderClusterer(ImageClusterer):
    """A stacked denoising autoencoder, and k-means on its latents: the start of `DECClusterer`, and a baseline.

    Every layer is pre-trained as a denoising autoencoder of the one before, then all are trained together. The paper
    of DEC has 50,000 steps for each layer and 100,000 for all; the defaults here are some 2 % of that on 60,000 images,
    since CPUs are slow, and Adam in place of its stepwise gradient descent.

    Args:
        n_clusters: Number of clusters.
        hidden_dims: Widths of the encoder's hidden layers.
        latent_dim: Dimensions of the latent space.
        pretrain_epochs: Passes over the images for each layer.
        finetune_epochs: Passes for all layers together.
        batch_size: Images per step.
        learning_rate: Of Adam.

    The other parameters, and the attributes, are those of `ConvVAEClusterer`. Probabilities are Student's t around the
    centres; there are no new images.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = load_digits().images[:200] / 16
        >>> AutoencoderClusterer(3, hidden_dims=(32,), random_state=0).fit(images).predict_proba(images[:4]).shape
        (4, 3)
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        hidden_dims: tuple[int, ...] = (500, 500, 2000),
        latent_dim: int = 10,
        pretrain_epochs: int = 5,
        finetune_epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "auto",
        run_dir: str | None = None,
        resume: bool = False,
        tracker: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.hidden_dims = hidden_dims
        self.latent_dim = latent_dim
        self.pretrain_epochs = pretrain_epochs
        self.finetune_epochs = finetune_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.image_shape = image_shape
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.run_dir = run_dir
        self.resume = resume
        self.tracker = tracker
        self.verbose = verbose

    def _network_settings(self, image_shape: tuple[int, int, int]) -> AutoencoderSettings:
        return AutoencoderSettings(image_shape, self._cluster_range()[1], tuple(self.hidden_dims), self.latent_dim)

    def _new_network(self, settings: AutoencoderSettings) -> ClusterAutoencoder:
        return ClusterAutoencoder(settings)

    def _plan(self, n_images: int) -> TrainingPlan:
        for name in ("pretrain_epochs", "finetune_epochs"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        epochs = (len(self.hidden_dims) + 1) * self.pretrain_epochs + self.finetune_epochs
        return TrainingPlan(epochs, self.batch_size, self.learning_rate, self._seed())

    def _train_stages(
        self, network: ClusterAutoencoder, run: Run, images: np.ndarray, plan: TrainingPlan
    ) -> dict[str, Any]:
        sample = images[:: -(-len(images) // _SCALE_IMAGES)]
        network.scale_to(float(np.square(sample / (255 if sample.dtype == np.uint8 else 1)).mean()))
        for index in range(len(network.encoder)):
            stage = replace(plan, epochs=self.pretrain_epochs)
            run.train(LayerPretraining(network, index), stage, images, f"layer-{index + 1}", gives_clusters=False)
        finetune = replace(plan, epochs=self.finetune_epochs)
        run.train(Reconstruction(network), finetune, images, "finetune", gives_clusters=False)
        run.note(f"k-means of {len(images):,} images")
        (latents,) = apply_in_batches(lambda x: (network.latents(x),), images, run.compute)
        centres = run.cached("k-means", lambda: {"centres": self._centres(latents, plan.seed)})["centres"]
        with torch.no_grad():
            network.class_means.copy_(torch.from_numpy(centres))
        run.found_clusters()
        return {}

    def _centres(self, latents: np.ndarray, seed: int) -> np.ndarray:
        with threads_kept():
            fitted = KMeans(self.n_clusters, n_init=_KMEANS_STARTS, random_state=seed % 2**32).fit(latents)
        return np.asarray(fitted.cluster_centers_, np.float32)


class DECClusterer(AutoencoderClusterer):
    """Deep embedded clustering: Xie, Girshick and Farhadi, ICML 2016.

    Layer-wise pre-training, fine-tuning and k-means as in `AutoencoderClusterer`; then encoder and centres are drawn to
    a target distribution over all the images, computed anew before every pass, until fewer than `tolerance` of the
    images change their cluster from one pass to the next.

    Args:
        epochs: Passes over the images at most, after the start.
        tolerance: Share of the images.

    The other parameters are those of `AutoencoderClusterer`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = load_digits().images[:200] / 16
        >>> DECClusterer(3, hidden_dims=(32,), epochs=3, random_state=0).fit(images).labels_.shape
        (200,)
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        hidden_dims: tuple[int, ...] = (500, 500, 2000),
        latent_dim: int = 10,
        pretrain_epochs: int = 5,
        finetune_epochs: int = 20,
        epochs: int = 50,
        tolerance: float = 1e-3,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "auto",
        run_dir: str | None = None,
        resume: bool = False,
        tracker: str | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_clusters,
            hidden_dims=hidden_dims,
            latent_dim=latent_dim,
            pretrain_epochs=pretrain_epochs,
            finetune_epochs=finetune_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            image_shape=image_shape,
            random_state=random_state,
            device=device,
            precision=precision,
            run_dir=run_dir,
            resume=resume,
            tracker=tracker,
            verbose=verbose,
        )
        self.epochs = epochs
        self.tolerance = tolerance

    def _plan(self, n_images: int) -> TrainingPlan:
        if self.epochs < 1 or not 0 <= self.tolerance < 1:
            raise SettingsError(
                f"epochs must be at least 1 and tolerance from 0 to 1; got {self.epochs} and {self.tolerance}"
            )
        start = super()._plan(n_images)
        return replace(start, epochs=start.epochs + self.epochs)

    def _train_stages(
        self, network: ClusterAutoencoder, run: Run, images: np.ndarray, plan: TrainingPlan
    ) -> dict[str, Any]:
        super()._train_stages(network, run, images, plan)
        run.train(
            EmbeddedClustering(network),
            replace(plan, epochs=self.epochs),
            images,
            "clustering",
            self._targets(network, images, run),
            may_grow=True,
        )
        return {}

    def _targets(self, network: ClusterAutoencoder, images: np.ndarray, run: Run) -> Callable[[int], np.ndarray | None]:
        """What the assignments of all images are drawn to in each epoch; None once they have settled."""

        kept = run.stored("target")

        def target(epoch: int) -> np.ndarray | None:
            nonlocal kept
            # A run that goes on within an epoch needs the assignments that the epoch began with.
            if kept is None or kept["epoch"][0] != epoch:
                (q,) = apply_in_batches(lambda x: (network.assign(x),), images, run.compute)
                before = np.full(len(q), -1) if kept is None else kept["q"].argmax(1)
                kept = {"q": q, "before": before, "epoch": np.array([epoch])}
                run.store("target", kept)
            q = kept["q"]
            if (q.argmax(1) != kept["before"]).mean() < self.tolerance:
                return None
            return target_distribution(torch.from_numpy(q)).numpy()

        return target
