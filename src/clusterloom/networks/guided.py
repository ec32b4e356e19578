"""What the guided recipe trains a `ClusterVAE` on: first without clusters, then with a guide's assignments.

Both are models for `clusterloom.training.loop`: from images and noise to loss terms. Their noise holds the numbers of
two views of each image, then those of the posterior sample.
"""

import torch
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.networks.precision import in_float32
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE
from clusterloom.views import ViewSettings, random_views

# A reconstruction costs tens of nats per image, a choice among clusters a few: so much of the former balances them.
GENERATIVE_WEIGHT = 0.04
_PROJECTION_DIM = 64
_TEMPERATURE = 0.3
_AGREEMENT_WEIGHT = 0.2


class Representation(nn.Module):
    """Stage 1: two views of an image point the same way, and the first is reconstructed from its latent.

    The projection that the contrastive loss looks at is this stage's own and is not part of the finished model.

    Args:
        vae: The model; its conv networks, encoder and, where `reconstruct`, decoder are trained.
        views: How far views may stray.
        reconstruct: Train on reconstruction and divergence as well as on the contrastive loss.
    """

    def __init__(self, vae: ClusterVAE, views: ViewSettings, reconstruct: bool) -> None:
        super().__init__()
        width = vae.settings.hidden_dim
        self.vae, self.views, self.reconstruct = vae, views, reconstruct
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _PROJECTION_DIM))

    def left_alone(self) -> list[nn.Parameter]:
        """Parameters of the model that this stage does not train."""
        trained: list[nn.Module | None] = [self.vae.encoder, self.vae.encoder_norm, self.vae.conv]
        if self.reconstruct:
            trained += [self.vae.posterior, self.vae.decoder, self.vae.transposed]
        used = {id(p) for module in trained if module is not None for p in module.parameters()}
        return [p for p in self.vae.parameters() if id(p) not in used]

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """See the module; shape (n, 2 * views.numbers + latent_dim)."""
        return _draw(n, 2 * self.views.numbers + self.vae.settings.latent_dim, generator)

    def project(self, x: Tensor) -> Tensor:
        """Points whose directions the contrastive loss compares, of unit length, shape (B, 64)."""
        return nn.functional.normalize(self._projected(self.vae.hidden(self.vae.features(x))), dim=1)

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W)."""
        first, second, eps = _split(noise, self.views.numbers)
        view = random_views(x, first, self.views)
        n = len(x)
        hidden = self.vae.hidden(self.vae.features(torch.cat([view, random_views(x, second, self.views)])))
        points = self._projected(hidden)
        terms = {"contrast": losses.contrastive_loss(points[:n], points[n:], _TEMPERATURE)}
        if self.reconstruct:
            posterior = self.vae.posterior_of(hidden[:n])
            kl = losses.gaussian_kl(posterior.mu, posterior.log_var, torch.zeros_like(posterior.mu[0]))
            terms |= _generative_terms(self.vae, view, posterior.sample(eps), kl)
        return StepOutput(terms)

    def _projected(self, hidden: Tensor) -> Tensor:
        return in_float32(self.projection[-1], self.projection[:-1](hidden))


class GuidedObjective(nn.Module):
    """Stage 3: the whole model, with q(y|.) of two views held to the guide and to each other.

    Args:
        vae: The model.
        views: How far views may stray.
        shares: Expected share of every cluster, shape (K,).
        label_smoothing: Share of the guide's assignments that is spread over all clusters: how much it is doubted.
    """

    shares: Tensor

    def __init__(self, vae: ClusterVAE, views: ViewSettings, shares: Tensor, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.vae, self.views, self.label_smoothing = vae, views, label_smoothing
        self.register_buffer("shares", shares)

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """See the module; shape (n, 2 * views.numbers + latent_dim)."""
        return _draw(n, 2 * self.views.numbers + self.vae.settings.latent_dim, generator)

    def forward(self, x: Tensor, noise: Tensor, guide: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W) whose assignments the guide (B, K) proposes."""
        first, second, eps = _split(noise, self.views.numbers)
        view = random_views(x, first, self.views)
        n = len(x)
        features = self.vae.features(torch.cat([view, random_views(x, second, self.views)]))
        posterior = self.vae.encode(features)
        z = posterior.sample(torch.cat([eps, torch.zeros_like(eps)]))
        log_q = self.vae.category_logits(features, z).log_softmax(1)
        here, there = log_q[:n], log_q[n:]
        q = here.exp()
        kl = losses.gaussian_kl(posterior.mu[:n], posterior.log_var[:n], self.vae.class_means)
        # Images that the guide is sure of lead: they pull more than those that it is not sure of.
        confidence = guide.max(1).values
        target = (1 - self.label_smoothing) * guide + self.label_smoothing / guide.shape[1]
        guidance = (losses.cross_entropy(here, target) + losses.cross_entropy(there, target)) / 2
        agreement = (
            losses.cross_entropy(here, there.detach().exp()) + losses.cross_entropy(there, here.detach().exp())
        ) / 2
        return StepOutput(
            {
                **_generative_terms(self.vae, view, z[:n], losses.expected_over_clusters(q, kl)),
                "guidance": confidence * guidance,
                "agreement": _AGREEMENT_WEIGHT * agreement,
                "balance": losses.balance_loss(log_q.exp().view(2, n, -1).mean(0), self.shares),
            },
            q.detach(),
        )


def _generative_terms(vae: ClusterVAE, x: Tensor, z: Tensor, kl: Tensor) -> dict[str, Tensor]:
    """Reconstruction of images (B, C, H, W) from latents (B, D), and divergences (B,), at the weights of all stages."""
    settings = vae.settings
    reconstruction = losses.reconstruction_loss(x, vae.decode(z))
    return {
        "reconstruction": GENERATIVE_WEIGHT * settings.reconstruction_weight * reconstruction,
        "kl": GENERATIVE_WEIGHT * settings.kl_weight * kl,
    }


def _draw(n: int, numbers: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, numbers, generator=generator, device=generator.device)


def _split(noise: Tensor, of_view: int) -> tuple[Tensor, Tensor, Tensor]:
    return noise[:, :of_view], noise[:, of_view : 2 * of_view], noise[:, 2 * of_view :]
