"""The variational autoencoder with a category encoder: what each part computes, and its loss per image."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.errors import SettingsError
from clusterloom.networks.conv import (
    ConvFeatures,
    ConvSettings,
    TransposedNetwork,
    flatten_channels_last,
    unflatten_channels_last,
)
from clusterloom.networks.precision import as_float32, in_float32
from clusterloom.networks.step import StepOutput


@dataclass(frozen=True)
class VAESettings:
    """Everything that fixes the network and its objective; with the image shape, enough to rebuild it.

    Attributes:
        image_shape: Height, width, channels.
        n_clusters: Number of clusters, the paper's k.
        latent_dim: Dimensions of z, the paper's s.
        hidden_dim: Width of the dense layers of encoder, category encoder and decoder, the paper's m.
        conv_networks: The conv networks; empty for the plain VAE on flattened pixels.
        concatenate: Features from all conv networks (the paper) or from the last alone.
        batch_norm: Normalise the hidden layers of encoder and category encoder over the batch; for conv layers see
            `ConvSettings`.
        category_input: Whether the category encoder reads the features, q(y|x), or the latent, q(y|z).
        prior: "class" puts a learned mean for every cluster into formula (3); "standard" is N(0, 1) as printed.
        kl: "sampled" or "analytic", see `losses.sampled_gaussian_kl` and `losses.gaussian_kl`.
        category_formula: "entropy" or "printed", see `losses.category_loss` and `losses.printed_category_loss`.
        reconstruction_weight: Weight lambda of the reconstruction, in nats per half squared pixel difference.
        category_weight: Weight of the category loss.
        kl_weight: Weight of the divergence from the prior, the beta of a beta-VAE; 1 in the paper.
        encoder_activation: "relu", or "none" for a hidden layer of the encoder that is linear.
        initial_weights: "torch", or "glorot" for uniform weights after Glorot and Bengio (2010) and biases of zero.
    """

    image_shape: tuple[int, int, int]
    n_clusters: int
    latent_dim: int
    hidden_dim: int
    conv_networks: tuple[ConvSettings, ...] = (ConvSettings(16, 3), ConvSettings(32, 5))
    concatenate: bool = True
    batch_norm: bool = False
    category_input: Literal["features", "latent"] = "latent"
    prior: Literal["class", "standard"] = "class"
    kl: Literal["sampled", "analytic"] = "sampled"
    category_formula: Literal["entropy", "printed"] = "entropy"
    reconstruction_weight: float = 2.5
    category_weight: float = 1.0
    kl_weight: float = 1.0
    encoder_activation: Literal["relu", "none"] = "relu"
    initial_weights: Literal["torch", "glorot"] = "torch"

    def __post_init__(self) -> None:
        for name in ("n_clusters", "latent_dim", "hidden_dim"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("reconstruction_weight", "category_weight", "kl_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be a number of at least 0, got {getattr(self, name)}")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")


_CHOICES = {
    "encoder_activation": ("relu", "none"),
    "initial_weights": ("torch", "glorot"),
    "category_input": ("features", "latent"),
    "prior": ("class", "standard"),
    "kl": ("sampled", "analytic"),
    "category_formula": ("entropy", "printed"),
}


@dataclass(frozen=True)
class Posterior:
    """q(z|x) = N(mu, exp(log_var)), both of shape (B, D)."""

    mu: Tensor
    log_var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparametrised sample for standard normal `noise` of shape (B, D)."""
        return self.mu + (0.5 * self.log_var).exp() * noise


class ClusterVAE(nn.Module):
    """The paper's figure 1: conv networks, encoder, category encoder, decoder, transposed network, class means.

    Args:
        settings: Architecture and objective.

    Raises:
        SettingsError: the settings do not fit the images.

    Example:
        >>> vae = ClusterVAE(VAESettings((28, 28, 1), n_clusters=10, latent_dim=20, hidden_dim=64))
        >>> x = torch.rand(3, 1, 28, 28)
        >>> vae.assign(x).shape, vae.decode(vae.encode(vae.features(x)).mu).shape
        (torch.Size([3, 10]), torch.Size([3, 1, 28, 28]))
    """

    scale_tril: Tensor
    pixel_variances: Tensor

    def __init__(self, settings: VAESettings) -> None:
        super().__init__()
        self.settings = settings
        height, width, channels = settings.image_shape
        latent_dim, hidden_dim = settings.latent_dim, settings.hidden_dim
        pixels = height * width * channels

        if settings.conv_networks:
            self.conv: ConvFeatures | None = ConvFeatures(
                settings.image_shape, list(settings.conv_networks), settings.concatenate
            )
            feature_dim = self.conv.feature_dim
            # Only the first network's share of the decoder's output is ever used (the paper cuts the rest off, and
            # it would get no gradient), so only that share is computed.
            self._decoded_shape = self.conv.output_shapes[0]
            self.transposed: TransposedNetwork | None = TransposedNetwork(
                channels, settings.conv_networks[0], (height, width)
            )
        else:
            self.conv = self.transposed = None
            feature_dim = pixels
            self._decoded_shape = (channels, height, width)
        decoded_dim = self._decoded_shape[0] * self._decoded_shape[1] * self._decoded_shape[2]

        self.encoder = nn.Linear(feature_dim, hidden_dim, bias=not settings.batch_norm)
        self.encoder_norm = nn.BatchNorm1d(hidden_dim) if settings.batch_norm else nn.Identity()
        self.encoder_activation = nn.ReLU() if settings.encoder_activation == "relu" else nn.Identity()
        self.posterior = nn.Linear(hidden_dim, 2 * latent_dim)
        category_dim = feature_dim if settings.category_input == "features" else latent_dim
        norms = [nn.BatchNorm1d(hidden_dim)] if settings.batch_norm else []
        self.category_encoder = nn.Sequential(
            nn.Linear(category_dim, hidden_dim, bias=not settings.batch_norm),
            *norms,
            nn.ReLU(),
            nn.Linear(hidden_dim, settings.n_clusters),
        )
        self.decoder = nn.Sequential(nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, decoded_dim))
        if settings.initial_weights == "glorot":
            self.apply(_glorot)
        learned = settings.prior == "class"
        self.class_means = nn.Parameter(torch.zeros(settings.n_clusters, latent_dim), requires_grad=learned)
        # Lower triangular; sampling alone uses them. The prior of formula (3) has the identity.
        # Not `torch.eye`: for a network that is laid out without memory first it imports a compiler, which takes 1.5 s.
        factors = torch.zeros(settings.n_clusters, latent_dim, latent_dim)
        factors.diagonal(dim1=1, dim2=2).fill_(1)
        self.register_buffer("scale_tril", factors)

        # Of each pixel around its reconstruction; the score alone uses them. To begin with those of the training loss.
        weight = max(settings.reconstruction_weight, 1e-12)
        self.register_buffer("pixel_variances", torch.full((channels, height, width), 1 / weight))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.settings.image_shape

    @property
    def n_clusters(self) -> int:
        """Number of clusters, K."""
        return self.settings.n_clusters

    @property
    def latent_dim(self) -> int:
        """Dimensions of z, D."""
        return self.settings.latent_dim

    def set_clusters(self, n_clusters: int) -> None:
        """Give the network another number of clusters: a fresh output of the category encoder and fresh class means.

        Random weights come from torch's global generator, as for a new network.
        """
        self.settings = replace(self.settings, n_clusters=n_clusters)
        means = self.class_means
        self.category_encoder[-1] = nn.Linear(self.settings.hidden_dim, n_clusters, device=means.device)
        if self.settings.initial_weights == "glorot":
            _glorot(self.category_encoder[-1])
        self.class_means = nn.Parameter(means.new_zeros(n_clusters, means.shape[1]), requires_grad=means.requires_grad)
        self.scale_tril = self.scale_tril[:1].repeat(n_clusters, 1, 1)

    def features(self, x: Tensor) -> Tensor:
        """Input of the encoder, shape (B, F): conv features of images (B, C, H, W), or their flattened pixels."""
        return self.conv(x) if self.conv is not None else flatten_channels_last(x)

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
        read = features if self.settings.category_input == "features" else z
        return in_float32(self.category_encoder[-1], self.category_encoder[:-1](read))

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] from latents (B, D)."""
        decoded = unflatten_channels_last(self.decoder(z), self._decoded_shape)
        return torch.sigmoid(as_float32(decoded if self.transposed is None else self.transposed(F.relu(decoded))))

    def assign(self, x: Tensor) -> Tensor:
        """Soft assignments (B, K) of images (B, C, H, W), at the posterior mean; nothing else is computed."""
        return self.logits(x).softmax(1)

    def logits(self, x: Tensor) -> Tensor:
        """What `assign` puts through softmax, shape (B, K)."""
        return in_float32(self.category_encoder[-1], self.category_hidden(x))

    def category_hidden(self, x: Tensor) -> Tensor:
        """The category encoder's hidden layer, shape (B, hidden_dim), of images (B, C, H, W)."""
        features = self.features(x)
        reads_latent = self.settings.category_input == "latent"
        return self.category_encoder[:-1](self.encode(features).mu if reads_latent else features)

    def refit_classes(self, q: Tensor, mu: Tensor, log_var: Tensor) -> None:
        """Set class means and covariances to those of the latents of all images, for sampling.

        A cluster's covariance is that of its posterior means and samples, drawn towards the clusters' common one as far
        as its images are too few to know it.

        Args:
            q: Soft assignments of all images, shape (N, K). All three in main memory: not every device has float64.
            mu: Their posterior means, shape (N, D).
            log_var: Logarithms of their posterior variances, shape (N, D).
        """
        q, mu, variances = q.double(), mu.double(), log_var.double().exp()
        n_clusters, dim = q.shape[1], mu.shape[1]
        sizes = q.sum(0).clamp(min=1e-6)
        means = (q.T @ mu) / sizes[:, None]
        scatter = torch.stack(
            [
                ((mu - means[k]) * q[:, k, None]).T @ (mu - means[k]) + torch.diag(q[:, k] @ variances)
                for k in range(n_clusters)
            ]
        )
        common = scatter.sum(0) / sizes.sum()
        few = 2.0 * dim
        covariances = (scatter + few * common) / (sizes + few)[:, None, None]
        covariances += 1e-6 * torch.eye(dim, dtype=torch.float64)
        with torch.no_grad():
            self.class_means.copy_(torch.where(sizes[:, None] > 0.5, means, self.class_means.cpu()))
            self.scale_tril.copy_(torch.linalg.cholesky(covariances))

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers for `n` posterior samples, shape (n, D), on the generator's device."""
        return torch.randn(n, self.settings.latent_dim, generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W), with posterior samples from `noise` (B, D): the paper's Algorithm 1.

        The numbers are its steps, for one batch; the loop around them is `clusterloom.training.loop`.
        """
        features = self.features(x)  # 1: conv networks, concatenated
        posterior = self.encode(features)  # 3: mean and log-variance
        z = posterior.sample(noise)
        log_q = self.category_logits(features, z).log_softmax(1)
        category = self._category_loss(log_q)  # 2: formula (7)
        kl = losses.expected_over_clusters(log_q.exp(), self._kl(z, posterior))  # 4: formula (3)
        reconstruction = losses.reconstruction_loss(x, self.decode(z))  # 5: formula (2)
        terms = {
            "reconstruction": self.settings.reconstruction_weight * reconstruction,
            "kl": self.settings.kl_weight * kl,
            "category": self.settings.category_weight * category,
        }
        return StepOutput(terms, log_q.detach().exp())  # 6: the caller sums the terms and descends

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
        kl = losses.expected_over_clusters(q, losses.gaussian_kl(posterior.mu, posterior.log_var, self._prior_mean()))
        error = (x - self.decode(posterior.mu)) ** 2
        reconstruction = (error / (2 * self.pixel_variances)).flatten(1).sum(1)
        category = losses.category_loss(log_q) + math.log(self.settings.n_clusters)
        loss = reconstruction + self.settings.kl_weight * kl + category
        return q, posterior.mu, -loss

    def _prior_mean(self) -> Tensor:
        return self.class_means if self.settings.prior == "class" else self.class_means[0]

    def _kl(self, z: Tensor, posterior: Posterior) -> Tensor:
        if self.settings.kl == "sampled":
            return losses.sampled_gaussian_kl(z, posterior.log_var, self._prior_mean())
        return losses.gaussian_kl(posterior.mu, posterior.log_var, self._prior_mean())

    def _category_loss(self, log_q: Tensor) -> Tensor:
        if self.settings.category_formula == "entropy":
            return losses.category_loss(log_q)
        return losses.printed_category_loss(log_q)


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
