"""The convolutional VAE as an estimator, trained by the guided recipe or as in the paper."""

import math
from numbers import Integral
from typing import Any, Literal

import numpy as np

from clusterloom.errors import SettingsError
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.networks.conv import ConvSettings
from clusterloom.networks.vae import ClusterVAE, VAESettings
from clusterloom.recipe.guided import automatic_batch_size, automatic_epochs, train_guided
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run


class ConvVAEClusterer(VariationalClusterer):
    """Clustering with a variational autoencoder whose input goes through conv networks first.

    The defaults are the guided recipe (`clusterloom.recipe.guided`). With `start="random"` and the parameters of
    the preset "paper" it is the method of Yan, "Clustering Method Based on VAE with Convolution Optimization", Computer
    Systems & Applications 29(10), 2020.

    Args:
        n_clusters: Number of clusters, k. The guided recipe can also find it from the images
            (`clusterloom.recipe.cluster_count`): "auto" considers 2 to 20, a pair of numbers from the first to the
            second.
        start: "guided", or "random" for training from random weights, as in the paper.
        latent_dim: Dimensions of the latent variable, the paper's s.
        colour_views: Let the guided recipe's views of colour images change in hue and saturation, so that clusters
            follow shapes more than colours. False where colours tell the kinds apart.
        conv_depth: Conv layers in each conv network, the paper's n.
        hidden_dim: Width of the dense layers, the paper's m.
        conv_filters: Filters of each conv network; its length is the number of networks. "auto" takes as many networks
            as bring the images down to 4 pixels or fewer, at least two, with filters from 16 doubling up to 128.
        conv_kernels: Kernel size in pixels of each conv network; "auto" is 5 for the first two and 3 for the others.
        conv_downsample: "stride" or "pool", see `clusterloom.networks.conv.ConvSettings`; the paper pools.
        batch_norm: Normalise conv and hidden layers over the batch; the paper does not.
        concatenate: Give the encoder the outputs of all conv networks (the paper), or of the last one alone.
        encoder_activation: "relu", or "none" for a hidden layer of the encoder that is linear.
        initial_weights: "torch" for PyTorch's own, "glorot" for those of Glorot and Bengio (2010), with zero biases.
        category_input: "latent" for q(y|z), "features" for q(y|x).
        prior: "class" for a learned prior mean per cluster; "standard" for N(0, 1) as formula (3) prints it, under
            which nothing tells one cluster from another.
        kl: Formula (3) from one sample, "sampled", or in closed form, "analytic".
        category_formula: "entropy", or "printed" for formula (7) letter by letter.
        reconstruction_weight: Weight lambda of the reconstruction loss; "auto" is 2.5 on 28 x 28 pixels, and on other
            sizes so much more or less that an image as a whole weighs the same against the other two losses.
        category_weight: Weight of the category loss; the guided recipe has no such loss.
        kl_weight: Weight of the divergence from the prior; 1 in the paper.
        epochs: Passes over the images, over all stages, of which the guided recipe needs 3; "auto" is 16 for 70,000
            images, 24 for 10,000, 34 for 1,800.
        batch_size: Images per step; "auto" is 512 from some 60,000 images on, and less for fewer.
        learning_rate: Of Adam; the guided recipe's highest.
        patience_epochs: Stop when the training loss has not improved by 0.1 % for so many epochs; None never does. The
            guided recipe's stages have a fixed length.
        image_shape: Height and width, or height, width, channels, of images given as rows of a table (N, D).
        random_state: Seed; None differs every time.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32" or "bf16"; "auto" takes bf16 where the hardware makes it faster.
        run_dir: Folder for metrics.jsonl and the checkpoint of the run; None keeps neither.
        resume: Go on from the checkpoint in `run_dir`, if there is one.
        tracker: "tensorboard" or "mlflow", which must be installed, to log every epoch to. TensorBoard's files go to
            `run_dir`, MLflow's where its own settings say.
        verbose: 1 shows progress on standard error.

    Attributes:
        n_clusters_: Number of clusters.
        labels_: Clusters of the training images, shape (N,): `predict` of them.
        cluster_sizes_: Training images per cluster, one number each.
        history_: One record per epoch: loss and its terms in nats per image, clusters in use, speed, time.
        about_: Seed, device, time and versions of the run, and what the guided recipe decided.
        outlier_threshold_: Scores below it are flagged by `predictions`, in nats.
        network_: The trained `clusterloom.networks.vae.ClusterVAE`.
        image_shape_: Height, width, channels.
        pixel_range_: Values that were scaled to 0 and 1; (0, 1) for uint8 and for numbers in that range.
        n_features_in_: Numbers per image.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = (load_digits().images[:200] * 15).astype("uint8")
        >>> model = ConvVAEClusterer(hidden_dim=32, epochs=4, random_state=0).fit(images)
        >>> model.labels_.shape, model.predict_proba(images[:3]).shape, model.sample(5, cluster=2).shape
        ((200,), (3, 10), (5, 8, 8, 1))
    """

    def __init__(
        self,
        n_clusters: int | tuple[int, int] | Literal["auto"] = 10,
        *,
        start: Literal["guided", "random"] = "guided",
        colour_views: bool = True,
        latent_dim: int = 16,
        conv_depth: int = 1,
        hidden_dim: int = 256,
        conv_filters: tuple[int, ...] | Literal["auto"] = "auto",
        conv_kernels: tuple[int, ...] | Literal["auto"] = "auto",
        conv_downsample: Literal["pool", "stride"] = "stride",
        batch_norm: bool = True,
        concatenate: bool = False,
        encoder_activation: Literal["relu", "none"] = "relu",
        initial_weights: Literal["torch", "glorot"] = "torch",
        category_input: Literal["features", "latent"] = "features",
        prior: Literal["class", "standard"] = "class",
        kl: Literal["sampled", "analytic"] = "sampled",
        category_formula: Literal["entropy", "printed"] = "entropy",
        reconstruction_weight: float | Literal["auto"] = "auto",
        category_weight: float = 1.0,
        kl_weight: float = 0.1,
        epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 3e-3,
        patience_epochs: int | None = None,
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
        self.start = start
        self.colour_views = colour_views
        self.latent_dim = latent_dim
        self.conv_depth = conv_depth
        self.hidden_dim = hidden_dim
        self.conv_filters = conv_filters
        self.conv_kernels = conv_kernels
        self.conv_downsample = conv_downsample
        self.batch_norm = batch_norm
        self.concatenate = concatenate
        self.encoder_activation = encoder_activation
        self.initial_weights = initial_weights
        self.category_input = category_input
        self.prior = prior
        self.kl = kl
        self.category_formula = category_formula
        self.reconstruction_weight = reconstruction_weight
        self.category_weight = category_weight
        self.kl_weight = kl_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience_epochs = patience_epochs
        self.image_shape = image_shape
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.run_dir = run_dir
        self.resume = resume
        self.tracker = tracker
        self.verbose = verbose

    def _network_settings(self, image_shape: tuple[int, int, int]) -> VAESettings:
        return VAESettings(
            image_shape=image_shape,
            n_clusters=self._cluster_range()[1],
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            conv_networks=self._conv_networks(min(image_shape[:2])),
            concatenate=self.concatenate,
            batch_norm=self.batch_norm,
            encoder_activation=self.encoder_activation,
            initial_weights=self.initial_weights,
            category_input=self.category_input,
            prior=self.prior,
            kl=self.kl,
            category_formula=self.category_formula,
            reconstruction_weight=self._reconstruction_weight(image_shape),
            category_weight=self.category_weight,
            kl_weight=self.kl_weight,
        )

    def _cluster_range(self) -> tuple[int, int]:
        if self.start != "guided" or not isinstance(self.n_clusters, str | tuple | list):
            return super()._cluster_range()
        ends = (2, 20) if self.n_clusters == "auto" else self.n_clusters
        if len(ends) != 2 or not all(isinstance(end, Integral) for end in ends) or not 2 <= ends[0] <= ends[1]:
            raise SettingsError(
                f'n_clusters must be a number, a pair of numbers from 2 on, or "auto"; got {self.n_clusters!r}'
            )
        return int(ends[0]), int(ends[1])

    def _conv_networks(self, side: int) -> tuple[ConvSettings, ...]:
        """Settings of the conv networks for images whose shorter side has so many pixels."""
        filters, kernels = self.conv_filters, self.conv_kernels
        if isinstance(filters, str):
            count = len(kernels) if not isinstance(kernels, str) else max(2, math.ceil(math.log2(side / 4)))
            filters = tuple(min(128, 16 * 2**i) for i in range(count))
        if isinstance(kernels, str):
            kernels = tuple(5 if i < 2 else 3 for i in range(len(filters)))
        if len(filters) != len(kernels) or not filters:
            raise SettingsError(
                f"conv_filters and conv_kernels need one number per conv network; got {filters} and {kernels}"
            )
        return tuple(
            ConvSettings(f, k, self.conv_depth, self.conv_downsample, self.batch_norm)
            for f, k in zip(filters, kernels, strict=True)
        )

    def _plan(self, n_images: int) -> TrainingPlan:
        epochs = automatic_epochs(n_images) if self.epochs == "auto" else self.epochs
        batch_size = automatic_batch_size(n_images) if self.batch_size == "auto" else self.batch_size
        if self.start == "guided" and epochs > 0:
            epochs = max(3, epochs)  # every stage has one
        return TrainingPlan(int(epochs), int(batch_size), self.learning_rate, self._seed(), self.patience_epochs)

    def _is_guided(self) -> bool:
        if self.start not in ("guided", "random"):
            raise SettingsError(f"start must be guided or random; got {self.start!r}")
        if self.start == "random":
            return False
        changed = [name for name, value in _OF_THE_PAPER.items() if getattr(self, name) != value]
        if changed:
            raise SettingsError(
                f"{changed[0]} does not apply to the guided recipe; leave it out, or train from a random start "
                "(start='random', --preset paper)"
            )
        return True

    def _train_stages(self, network: ClusterVAE, run: Run, images: np.ndarray, plan: TrainingPlan) -> dict[str, Any]:
        if not self._is_guided():
            if self.batch_norm and min(len(images), plan.batch_size) == 1:
                raise SettingsError("batch norm needs two images in a batch; pass batch_norm=False (--no-batch-norm)")
            return super()._train_stages(network, run, images, plan)
        return train_guided(network, run, images, plan, self._cluster_range()[0], self.colour_views)


# Knobs of the paper's objective and its loop; the guided recipe has its own.
_OF_THE_PAPER = {
    "prior": "class",
    "kl": "sampled",
    "category_formula": "entropy",
    "category_weight": 1.0,
    "patience_epochs": None,
}
