"""What the estimators around a `ClusterVAE` share besides: the paper's training, and new images from one sampler."""

import math
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from clusterloom.errors import SettingsError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.redraw import redrawn, redrawn_refined
from clusterloom.inference import apply_in_batches
from clusterloom.networks.objective import Algorithm1
from clusterloom.networks.vae import ClusterVAE
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run


def refining_noise(network: ClusterVAE, n: int, spread: float, generator: np.random.Generator) -> np.ndarray:
    """What `n` images are refined from, shape (n, C, H, W); less noise for a spread below 1, none for 0."""
    height, width, channels = network.image_shape
    noise = generator.standard_normal((n, channels, height, width), dtype=np.float32)
    return np.float32(min(spread, 1.0)) * noise


class VariationalClusterer(ImageClusterer):
    """Base of the estimators around one `ClusterVAE`, which can generate. They train it by Algorithm 1 of the paper."""

    network_: ClusterVAE
    generates: ClassVar[bool] = True

    @property
    def refines(self) -> bool:
        """Whether new images are refined by a second decoder."""
        return self.network_.refines

    def new_network(self, image_shape: tuple[int, int, int], n_clusters: int) -> ClusterVAE:
        """A fresh network of these settings."""
        return ClusterVAE(self.settings, image_shape, n_clusters)  # type: ignore[arg-type]

    def _plan(self, settings: Any, shape: tuple[int, ...], seed: int) -> TrainingPlan:
        return TrainingPlan.of(settings, seed)

    def _train_stages(
        self, settings: Any, network: ClusterVAE, run: Run, images: np.ndarray, plan: TrainingPlan
    ) -> dict[str, Any]:
        if settings.batch_norm and min(len(images), plan.batch_size) == 1:
            raise SettingsError("batch_norm needs two images in a batch; set batch_norm to false")
        run.train(Algorithm1(network, settings), plan, images, may_grow=True)
        return {}

    def sample(
        self,
        n_samples: int = 1,
        cluster: int | np.ndarray | None = None,
        spread: float = 1.0,
        random_state: int | None = None,
        checked: bool = True,
        plain: bool = False,
    ) -> np.ndarray:
        """Generate new images: z from its cluster's distribution, decoded, and refined where the model `refines`.

        The distribution is N(class mean, 1) for a model trained from a random start, as in the paper; after the guided
        recipe it is what the cluster's own latents are like: a mixture of Gaussians or, without refiner, one.

        Args:
            n_samples: How many.
            cluster: Of which cluster, or one for each image, shape (n_samples,); None draws clusters by their share of
                the training images.
            spread: Factor on the deviations from the class mean; 0 gives the cluster's mean image. Below 1 it is also
                one on the noise that images are refined from.
            random_state: Seed; None differs every time.
            checked: Draw an image again that the model itself would not put into its cluster: where clusters touch,
                their distributions overlap. The decoded image is asked up to nine times, the refined one twice. False
                takes the first draw, as the paper does.
            plain: What the decoder alone makes of the same latents.

        Returns:
            Shape (n_samples, H, W, C), float32, in `pixel_range_`.

        Raises:
            SettingsError: no such cluster, or an argument of the wrong kind or out of range.
        """
        check_is_fitted(self, "network_")
        if not isinstance(n_samples, Integral) or n_samples < 1:
            raise SettingsError(f"n_samples must be a whole number from 1 on, got {n_samples!r}")
        if not isinstance(spread, Real) or not 0 <= spread < math.inf:
            raise SettingsError(f"spread must be a number from 0 on, got {spread!r}")
        if random_state is not None and (not isinstance(random_state, Integral) or random_state < 0):
            raise SettingsError(f"random_state must be a whole number from 0 on or None, got {random_state!r}")
        generator = np.random.default_rng(random_state)
        if cluster is None:
            clusters = generator.choice(self.n_clusters_, n_samples, p=self.cluster_sizes_ / self.cluster_sizes_.sum())
        else:
            if np.asarray(cluster).dtype.kind not in "iu":
                raise SettingsError(f"clusters are whole numbers from 0 to {self.n_clusters_ - 1}, got {cluster!r}")
            if np.shape(cluster) not in ((), (n_samples,)):
                raise SettingsError(f"one cluster is wanted, or {n_samples}; got shape {np.shape(cluster)}")
            clusters = np.broadcast_to(np.asarray(cluster), (n_samples,))
            for wrong in clusters[(clusters < 0) | (clusters >= self.n_clusters_)][:1]:
                raise SettingsError(f"there is no cluster {wrong}; the clusters are 0 to {self.n_clusters_ - 1}")
        if plain or not self.refines:
            return self.decode(self.sample_latents(clusters, spread, generator, checked))

        def refine(latents: np.ndarray) -> np.ndarray:
            return self._refined(latents, refining_noise(self.network_, len(latents), spread, generator))

        if checked and spread > 0:
            draw = partial(self._drawn, clusters, spread, generator)
            images = redrawn_refined(clusters, draw, self._most_likely, refine, self._clusters_of)
        else:
            images = refine(self.sample_latents(clusters, spread, generator, checked=False))
        return self._in_training_range(images)

    def _refined(self, latents: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Sharp images (N, H, W, C) in [0, 1] of latents (N, D), for noise (N, C, H, W)."""
        shape = noise.shape[1:]
        (images,) = apply_in_batches(
            lambda z, noise: (self.network_.refined(z.flatten(1), noise.view(-1, *shape)).permute(0, 2, 3, 1),),
            latents[:, None, None],
            self.compute(),
            beside=noise.reshape(len(noise), -1),
            fill=False,
        )
        return images

    def _clusters_of(self, images: np.ndarray) -> np.ndarray:
        """Clusters (n,) of images (n, H, W, C) in [0, 1]."""
        (q,) = apply_in_batches(lambda x: (self.network_.assign(x),), images, self.compute())
        return q.argmax(1)

    def sample_latents(
        self, clusters: np.ndarray, spread: float, generator: np.random.Generator, checked: bool = True
    ) -> np.ndarray:
        """Latents of new images, one of each of `clusters`, shape (n, latent_dim); see `sample`."""
        draw = partial(self._drawn, clusters, spread, generator)
        return redrawn(clusters, draw, self._most_likely) if checked and spread > 0 else draw(np.arange(len(clusters)))

    def _drawn(
        self, clusters: np.ndarray, spread: float, generator: np.random.Generator, rows: np.ndarray
    ) -> np.ndarray:
        means = self.network_.class_means.detach().cpu().numpy()
        if self.network_.refiner is not None:
            latents = self.network_.refiner.latents.draw(clusters[rows], generator)
            return means[clusters[rows]] + np.float32(spread) * (latents - means[clusters[rows]])
        noise = generator.standard_normal((len(rows), self.network_.latent_dim), dtype=np.float32)
        factors = self.network_.scale_tril.cpu().numpy()
        steps = np.einsum("nij,nj->ni", factors[clusters[rows]], noise)
        drawn: np.ndarray = means[clusters[rows]] + np.float32(spread) * steps
        return drawn

    def _most_likely(self, latents: np.ndarray) -> np.ndarray:
        """Clusters of the images that latents (n, D) decode to, shape (n,)."""
        (q,) = apply_in_batches(
            lambda z: (self.network_.assign(self.network_.decode(z.flatten(1))),),
            latents[:, None, None],
            self.compute(),
        )
        return q.argmax(1)
