"""The variational autoencoder with a category encoder: what each part computes."""

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.errors import SettingsError
from clusterloom.networks.backbone import FROZEN_DIM, Backbone
from clusterloom.networks.cluster_network import ClusterNetwork
from clusterloom.networks.conv import (
    ConvFeatures,
    ConvSettings,
    TransposedNetwork,
    flatten_channels_last,
    rectifier,
    unflatten_channels_last,
)
from clusterloom.networks.precision import as_float32, in_float32
from clusterloom.networks.refiner import Refiner
from clusterloom.settings import Count, Settings, Weight

_BLOCK = 1 << 14  # latents of which moments are taken at once


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Knobs of the network: encoder, category encoder and decoder on flattened pixels, the plain VAE."""

    latent_dim: Count = 16
    """Dimensions of the latent variable z, the paper's s."""
    hidden_dim: Count = 256
    """Width of the dense layers of encoder, category encoder and decoder, the paper's m."""
    batch_norm: bool = False
    """Normalise conv and hidden layers over the batch; the paper does not."""
    encoder_activation: Literal["relu", "none"] = "relu"
    """relu, or none for a hidden layer of the encoder that is linear."""
    negative_slope: Weight = 0.0
    """Slope of the ReLUs of conv networks, encoders and decoder below zero; 0.2 keeps units from falling silent."""
    initial_weights: Literal["torch", "glorot"] = "torch"
    """torch for PyTorch's own, glorot for those of Glorot and Bengio (2010), with zero biases."""
    category_input: Literal["features", "latent"] = "latent"
    """What the category encoder reads: latent for q(y|z), features for q(y|x)."""
    reconstruction_weight: Weight | Literal["auto"] = "auto"
    """Weight lambda of the reconstruction, in nats per half squared pixel difference. auto is 2.5 on 28 x 28 pixels,
    and on other sizes so much more or less that an image as a whole weighs the same."""
    kl_weight: Weight = 1.0
    """Weight of the divergence from the prior, the beta of a beta-VAE; 1 in the paper."""

    def pixel_weight(self, image_shape: tuple[int, int, int]) -> float:
        """The reconstruction's weight on images of that shape."""
        if self.reconstruction_weight == "auto":
            return 2.5 * 28 * 28 / math.prod(image_shape)
        return float(self.reconstruction_weight)


@dataclass(frozen=True, kw_only=True)
class ConvNetworkSettings(NetworkSettings):
    """Knobs of the network whose input goes through conv networks first, the paper's figure 1."""

    conv_depth: Count = 1
    """Conv layers in each conv network, the paper's n."""
    conv_filters: tuple[Count, ...] | Literal["auto"] = "auto"
    """Filters of each conv network; as many numbers as networks. auto takes as many networks as bring the images down
    to 4 pixels or fewer, at least two, with filters from 16 doubling up to 128."""
    conv_kernels: tuple[Count, ...] | Literal["auto"] = "auto"
    """Kernel size in pixels of each conv network; auto is 5 for the first two and 3 for the others."""
    conv_downsample: Literal["stride", "pool"] = "stride"
    """How conv networks halve images: stride or pool, see `clusterloom.networks.conv.ConvSettings`; the paper pools."""
    concatenate: bool = False
    """Give the encoder the outputs of all conv networks (the paper), or of the last one alone."""

    def conv_networks(self, image_shape: tuple[int, int, int]) -> tuple[ConvSettings, ...]:
        """Settings of the conv networks for images of that shape (height, width, channels).

        Raises:
            SettingsError: filters and kernels do not fit each other.
        """
        filters, kernels = self.conv_filters, self.conv_kernels
        if isinstance(filters, str):
            halvings = max(2, math.ceil(math.log2(min(image_shape[:2]) / 4)))
            count = halvings if isinstance(kernels, str) else len(kernels)
            filters = tuple(min(128, 16 * 2**i) for i in range(count))
        if isinstance(kernels, str):
            kernels = tuple(5 if i < 2 else 3 for i in range(len(filters)))
        if len(filters) != len(kernels) or not filters:
            raise SettingsError(
                f"conv_filters and conv_kernels need one number per conv network; got {filters} and {kernels}"
            )
        return tuple(
            ConvSettings(f, k, self.conv_depth, self.conv_downsample, self.batch_norm, self.negative_slope)
            for f, k in zip(filters, kernels, strict=True)
        )


@dataclass(frozen=True)
class Posterior:
    """q(z|x) = N(mu, exp(log_var)), both of shape (B, D)."""

    mu: Tensor
    log_var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparametrised sample for standard normal `noise` of shape (B, D)."""
        return self.mu + (0.5 * self.log_var).exp() * noise


class ClusterVAE(ClusterNetwork):
    """The paper's figure 1: conv networks, encoder, category encoder, decoder, transposed network, class means.

    What it is trained on is elsewhere: `clusterloom.networks.objective` for the paper's objective,
    `clusterloom.recipe` for the guided recipe.

    Args:
        settings: Architecture.
        image_shape: Height, width, channels.
        n_clusters: Number of clusters, K.
        backbone: A frozen conv network whose output is concatenated with that of the others.
        refines: There is a second decoder, `Refiner`.

    Attributes:
        refiner: The second decoder, which is trained last; None where there is none, or not yet.

    Raises:
        SettingsError: the settings do not fit the images.

    Example:
        >>> vae = ClusterVAE(ConvNetworkSettings(latent_dim=20, hidden_dim=64), (28, 28, 1), n_clusters=10)
        >>> x = torch.rand(3, 1, 28, 28)
        >>> vae.assign(x).shape, vae.decode(vae.latents(x)).shape
        (torch.Size([3, 10]), torch.Size([3, 1, 28, 28]))
    """

    scale_tril: Tensor

    def __init__(
        self,
        settings: NetworkSettings,
        image_shape: tuple[int, int, int],
        n_clusters: int,
        backbone: Backbone | None = None,
        refines: bool = False,
    ) -> None:
        super().__init__()
        self.settings, self.image_shape, self.n_clusters = settings, image_shape, n_clusters
        self.reconstruction_weight = settings.pixel_weight(image_shape)
        height, width, channels = image_shape
        latent_dim, hidden_dim = settings.latent_dim, settings.hidden_dim

        self.conv: ConvFeatures | None = None
        self.transposed: TransposedNetwork | None = None
        if isinstance(settings, ConvNetworkSettings):
            conv_networks = settings.conv_networks(image_shape)
            self.conv = ConvFeatures(image_shape, list(conv_networks), settings.concatenate)
            feature_dim = self.conv.feature_dim
            # Only the first network's share of the decoder's output is ever used (the paper cuts the rest off, and
            # it would get no gradient), so only that share is computed.
            self._decoded_shape = self.conv.output_shapes[0]
            self.transposed = TransposedNetwork(channels, conv_networks[0], (height, width))
        else:
            feature_dim = height * width * channels
            self._decoded_shape = (channels, height, width)
        decoded_dim = math.prod(self._decoded_shape)
        self.backbone = backbone
        # Frozen features have a variance of 1 in all. So they weigh as much as normalised features after a ReLU.
        self._frozen_scale = math.sqrt(feature_dim / 2)
        if backbone is not None:
            feature_dim += FROZEN_DIM

        self.encoder = nn.Linear(feature_dim, hidden_dim, bias=not settings.batch_norm)
        self.encoder_norm = nn.BatchNorm1d(hidden_dim) if settings.batch_norm else nn.Identity()
        self.encoder_activation = (
            rectifier(settings.negative_slope) if settings.encoder_activation == "relu" else nn.Identity()
        )
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)
        category_dim = feature_dim if settings.category_input == "features" else latent_dim
        norms = [nn.BatchNorm1d(hidden_dim)] if settings.batch_norm else []
        self.category_encoder = nn.Sequential(
            nn.Linear(category_dim, hidden_dim, bias=not settings.batch_norm),
            *norms,
            rectifier(settings.negative_slope),
            nn.Linear(hidden_dim, n_clusters),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), rectifier(settings.negative_slope), nn.Linear(hidden_dim, decoded_dim)
        )
        if settings.initial_weights == "glorot":
            self.apply(_glorot)
        self.class_means = nn.Parameter(torch.zeros(n_clusters, latent_dim))
        # Lower triangular; sampling alone uses them. The prior of formula (3) has the identity.
        # Not `torch.eye`: for a network that is laid out without memory first it imports a compiler, which takes 1.5 s.
        factors = torch.zeros(n_clusters, latent_dim, latent_dim)
        factors.diagonal(dim1=1, dim2=2).fill_(1)
        self.register_buffer("scale_tril", factors)

        # Of each pixel around its reconstruction; the score alone uses them. To begin with those of the training loss.
        weight = max(self.reconstruction_weight, 1e-12)
        self.register_buffer("pixel_variances", torch.full((channels, height, width), 1 / weight))
        self.refiner = Refiner(image_shape, latent_dim, n_clusters) if refines else None

    @property
    def latent_dim(self) -> int:
        """Dimensions of z, D."""
        return self.settings.latent_dim

    @property
    def category_output(self) -> nn.Linear:
        """The category encoder's last layer: logits, shape (B, K), from its hidden layer (B, hidden_dim)."""
        return cast(nn.Linear, self.category_encoder[-1])

    def set_clusters(self, n_clusters: int) -> None:
        """Give the network another number of clusters: a fresh output of the category encoder and fresh class means.

        Random weights come from torch's global generator, as for a new network.
        """
        self.n_clusters = n_clusters
        means = self.class_means
        self.category_encoder[-1] = nn.Linear(self.settings.hidden_dim, n_clusters, device=means.device)
        if self.settings.initial_weights == "glorot":
            _glorot(self.category_output)
        self.class_means = nn.Parameter(means.new_zeros(n_clusters, means.shape[1]))
        self.scale_tril = self.scale_tril[:1].repeat(n_clusters, 1, 1)

    def features(self, x: Tensor, frozen: Tensor | None = None) -> Tensor:
        """Input of the encoder, shape (B, F): conv features of images (B, C, H, W), or their flattened pixels.

        Args:
            x: Images.
            frozen: In place of what the backbone gives for them, shape (B, FROZEN_DIM); zeros hide it. Ignored where
                there is no backbone.
        """
        learned = self.conv(x) if self.conv is not None else flatten_channels_last(x)
        if self.backbone is None:
            return learned
        return torch.cat([learned, self._frozen_scale * (self.backbone(x) if frozen is None else frozen)], 1)

    def learned_features(self, x: Tensor) -> Tensor:
        """`features` without what a backbone says: it is hidden by zeros."""
        return self.features(x, x.new_zeros(len(x), FROZEN_DIM))

    def hidden(self, features: Tensor) -> Tensor:
        """The encoder's hidden layer, shape (B, hidden_dim), from features (B, F)."""
        hidden: Tensor = self.encoder_activation(self.encoder_norm(self.encoder(features)))
        return hidden

    def encode(self, features: Tensor) -> Posterior:
        """q(z|x) from features (B, F)."""
        return self.posterior_of(self.hidden(features))

    def posterior_of(self, hidden: Tensor) -> Posterior:
        """q(z|x) from the hidden layer (B, hidden_dim). No activation: log-variances may be negative."""
        mu, log_var = in_float32(self.posterior, hidden).chunk(2, 1)
        return Posterior(mu, log_var)

    def latents(self, x: Tensor) -> Tensor:
        """Posterior means (B, D) of images (B, C, H, W)."""
        return self.encode(self.features(x)).mu

    def category_logits(self, features: Tensor, z: Tensor) -> Tensor:
        """Logits of q(y|x) or q(y|z), shape (B, K), from features (B, F) and latents (B, D)."""
        return in_float32(self.category_output, self.category_hidden_of(features, z))

    def category_hidden_of(self, features: Tensor, z: Tensor) -> Tensor:
        """The category encoder's hidden layer, shape (B, hidden_dim), from features (B, F) and latents (B, D)."""
        hidden: Tensor = self.category_encoder[:-1](features if self.settings.category_input == "features" else z)
        return hidden

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] from latents (B, D)."""
        decoded = unflatten_channels_last(self.decoder(z), self._decoded_shape)
        if self.transposed is not None:
            decoded = self.transposed(decoded)
        return torch.sigmoid(as_float32(decoded))

    @property
    def refines(self) -> bool:
        """Whether there is a second decoder that helps."""
        return self.refiner is not None and bool(self.refiner.helps)

    def refined(self, z: Tensor, noise: Tensor) -> Tensor:
        """Sharp images (B, C, H, W) in [0, 1] of latents (B, D), for normal noise (B, C, H, W).

        Without a refiner that helps they are those of `decode`.
        """
        decoded = self.decode(z)
        return decoded if self.refiner is None or not self.refines else self.refiner.refine(decoded, z, noise)

    def assign(self, x: Tensor) -> Tensor:
        """Soft assignments (B, K) of images (B, C, H, W), at the posterior mean; nothing else is computed."""
        return self.logits(x).softmax(1)

    def logits(self, x: Tensor) -> Tensor:
        """What `assign` puts through softmax, shape (B, K)."""
        return in_float32(self.category_output, self.category_hidden(x))

    def category_hidden(self, x: Tensor) -> Tensor:
        """`category_hidden_of` images (B, C, H, W); where it reads features no latents are computed."""
        features = self.features(x)
        reads_latent = self.settings.category_input == "latent"
        return self.category_hidden_of(features, self.encode(features).mu if reads_latent else features)

    def fit_classes(self, q: Tensor, mu: Tensor, log_var: Tensor) -> None:
        """Set class means and covariances to those of the latents of all images, for sampling.

        A cluster's covariance is that of its posterior means and samples, drawn towards the clusters' common one as far
        as its images are too few to know it.

        Args:
            q: Soft assignments of all images, shape (N, K). All three in main memory: not every device has float64.
            mu: Their posterior means, shape (N, D).
            log_var: Logarithms of their posterior variances, shape (N, D).
        """
        n_clusters, dim = q.shape[1], mu.shape[1]
        # In blocks, since all latents in 64 bits would be much of a large fit's memory.
        blocks = list(zip(*(torch.split(part, _BLOCK) for part in (q, mu, log_var)), strict=True))
        sizes = q.sum(0, dtype=torch.float64).clamp(min=1e-6)
        means = torch.zeros(n_clusters, dim, dtype=torch.float64)
        for some_q, some_mu, _ in blocks:
            means += some_q.double().T @ some_mu.double() / sizes[:, None]
        scatter = torch.zeros(n_clusters, dim, dim, dtype=torch.float64)
        for some_q, some_mu, some_log_var in blocks:
            shares, variances = some_q.double(), some_log_var.double().exp()
            for k in range(n_clusters):
                offsets = some_mu - means[k]
                scatter[k] += (offsets * shares[:, k, None]).T @ offsets + torch.diag(shares[:, k] @ variances)
        common = scatter.sum(0) / sizes.sum()
        few = 2.0 * dim
        covariances = (scatter + few * common) / (sizes + few)[:, None, None]
        covariances += 1e-6 * torch.eye(dim, dtype=torch.float64)
        with torch.no_grad():
            self.class_means.copy_(torch.where(sizes[:, None] > 0.5, means, self.class_means.cpu()))
            self.scale_tril.copy_(torch.linalg.cholesky(covariances))

    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Everything that the model says of images (B, C, H, W), with one pass through encoder and decoder.

        Returns:
            Soft assignments (B, K), as `assign` gives them; posterior means (B, D); and how well the model explains
            each image, in nats (B,): minus the terms of training with nothing sampled, that is z at the mean, analytic
            divergences, and the category term as KL(q(y|.) || uniform), the entropy form at weight 1 plus ln K. Squared
            errors count by the variance of their pixel, `pixel_variances`: an error where the images hardly differ from
            their reconstructions says more than one where they often do.
        """
        features = self.features(x)
        posterior = self.encode(features)
        logits = self.category_logits(features, posterior.mu)
        q, log_q = logits.softmax(1), logits.log_softmax(1)
        kl = losses.expected_over_clusters(q, losses.gaussian_kl(posterior.mu, posterior.log_var, self.class_means))
        error = (x - self.decode(posterior.mu)) ** 2
        reconstruction = (error / (2 * self.pixel_variances)).flatten(1).sum(1)
        category = losses.category_loss(log_q) + math.log(self.n_clusters)
        loss = reconstruction + self.settings.kl_weight * kl + category
        return q, posterior.mu, -loss


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
