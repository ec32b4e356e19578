"""What the estimators around a `ClusterVAE` share besides: the paper's training, and new images from one sampler."""

import math
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.errors import SettingsError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.redraw import redrawn
from clusterloom.inference import apply_in_batches
from clusterloom.networks.objective import Algorithm1
from clusterloom.networks.vae import ClusterVAE
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run

_REFINED_REDRAWS = 2  # of images that take long
# Asks the network, as `apply_in_batches` does: of a function, images and, if need be, numbers beside them.
Apply: TypeAlias = Callable[..., tuple[np.ndarray, ...]]


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
        self, settings: Any, network: ClusterVAE, run: Run, images: ImageArray, plan: TrainingPlan
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
        draw = partial(self._drawn, clusters, spread, generator)
        return self._in_training_range(self.draw_images(clusters, draw, spread, generator, checked, plain))

    def draw_images(
        self,
        clusters: np.ndarray,
        draw: Callable[[np.ndarray], np.ndarray],
        spread: float,
        generator: np.random.Generator,
        checked: bool = True,
        plain: bool = False,
        apply: Apply | None = None,
    ) -> np.ndarray:
        """New images of latents that are drawn by any rule; `sample` says what all of it means.

        Args:
            clusters: Of which cluster each image is, shape (n,).
            draw: Latents (m, D) for the images with these numbers (m,); new ones at every call.
            spread: Below 1 a factor on the noise that images are refined from; 0 leaves the first draw as it is.
            generator: Of that noise.
            checked: See `sample`.
            plain: See `sample`.
            apply: Asks the network; None asks it batch by batch.

        Returns:
            Shape (n, H, W, C), float32, in [0, 1].
        """
        again, every, apply = checked and spread > 0, np.arange(len(clusters)), apply or self._in_batches

        def latents(rows: np.ndarray) -> np.ndarray:
            if not again:
                return draw(rows)
            return redrawn(clusters[rows], lambda wrong: draw(rows[wrong]), partial(self._most_likely, apply=apply))

        def images(rows: np.ndarray) -> np.ndarray:
            z = latents(rows)
            return self.refined(z, refining_noise(self.network_, len(rows), spread, generator), apply)

        if plain or not self.refines:
            z = as_images(latents(every))
            return apply(lambda z: (self.network_.decode(z.flatten(1)).permute(0, 2, 3, 1),), z)[0]
        if not again:
            return images(every)
        return redrawn(clusters, images, partial(self._clusters_of, apply=apply), _REFINED_REDRAWS)

    def refined(self, latents: np.ndarray, noise: np.ndarray, apply: Apply) -> np.ndarray:
        """Sharp images (N, H, W, C) in [0, 1] of latents (N, D), for noise (N, C, H, W); `apply` asks the network."""
        shape = noise.shape[1:]
        (images,) = apply(
            lambda z, noise: (self.network_.refined(z.flatten(1), noise.view(-1, *shape)).permute(0, 2, 3, 1),),
            as_images(latents),
            noise.reshape(len(noise), -1),
        )
        return images

    def _in_batches(
        self, function: Callable[..., tuple[Tensor, ...]], images: np.ndarray, beside: np.ndarray | None = None
    ) -> tuple[np.ndarray, ...]:
        # Noise stands beside what is refined, which costs too much to fill up batches.
        return apply_in_batches(function, images, self.compute(), beside=beside, fill=beside is None)

    def _clusters_of(self, images: np.ndarray, apply: Apply) -> np.ndarray:
        """Clusters (n,) of images (n, H, W, C) in [0, 1]."""
        (q,) = apply(lambda x: (self.network_.assign(x),), images)
        return q.argmax(1)

    def sample_latents(
        self, clusters: np.ndarray, spread: float, generator: np.random.Generator, checked: bool = True
    ) -> np.ndarray:
        """Latents of new images, one of each of `clusters`, shape (n, latent_dim); see `sample`."""
        draw = partial(self._drawn, clusters, spread, generator)
        if not checked or spread == 0:
            return draw(np.arange(len(clusters)))
        return redrawn(clusters, draw, partial(self._most_likely, apply=self._in_batches))

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

    def _most_likely(self, latents: np.ndarray, apply: Apply) -> np.ndarray:
        """Clusters of the images that latents (n, D) decode to, shape (n,)."""
        (q,) = apply(lambda z: (self.network_.assign(self.network_.decode(z.flatten(1))),), as_images(latents))
        return q.argmax(1)


def as_images(latents: np.ndarray) -> np.ndarray:
    """Latents (N, D) as images of 1 x 1 pixel and D channels, in which form they travel through batches."""
    return latents.astype(np.float32)[:, None, None]
