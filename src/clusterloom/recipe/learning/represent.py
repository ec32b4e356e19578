"""Stage 1, represent: conv networks and encoder learn, without clusters, from two views of each image."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.data.images import ImageArray
from clusterloom.networks.precision import in_float32
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.views.augment import ViewSettings, two_views
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights
from clusterloom.training.run import Run

# A reconstruction costs tens of nats per image, a choice among clusters a few: so much of the former balances them.
GENERATIVE_WEIGHT = 0.04
_PROJECTION_DIM = 64
_TEMPERATURE = 0.3
CONTRASTIVE = ("projection", "hidden")  # spaces in which the views of an image are to be near each other


def represent(
    network: ClusterVAE, run: Run, images: ImageArray, plan: TrainingPlan, views: ViewSettings
) -> "Representation":
    """Train the stage, in place.

    Args:
        network: The model.
        run: Keeps what is needed to resume.
        images: Shape (N, H, W, C).
        plan: How long and how.
        views: How far views may stray.

    Returns:
        What has been learned.
    """
    with fresh_weights(plan.seed, "represent"):
        representation = Representation(network, views, reconstruct=views.kind == "signs")
        representation.to(run.compute.device)
    with _frozen(representation.untrained()):
        run.train(representation, plan, images, "represent", gives_clusters=False)
    return representation


class Representation(nn.Module):
    """What the stage minimises: two views of an image point the same way, and the first is reconstructed.

    A model for `clusterloom.training.loop`. The projection that the contrastive loss looks at is this stage's own and
    is not part of the finished model. Of textures, which show the same at every place, the means of the conv networks'
    output over all places are compared, and the encoder is left to the next stage.

    Args:
        vae: The model; its conv networks, encoder and, where `reconstruct`, decoder are trained.
        views: How far views may stray.
        reconstruct: Train on reconstruction and divergence as well as on the contrastive loss.
    """

    def __init__(self, vae: ClusterVAE, views: ViewSettings, reconstruct: bool) -> None:
        super().__init__()
        width = vae.settings.hidden_dim
        self.vae, self.views, self.reconstruct = vae, views, reconstruct
        self.pooled: nn.Sequential | None = None
        if views.kind == "textures" and vae.conv is not None:
            channels = vae.conv.output_shapes[-1][0]
            self.pooled = nn.Sequential(nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
            self.projection = nn.Sequential(nn.Linear(width, _PROJECTION_DIM))
        else:
            self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _PROJECTION_DIM))

    def untrained(self) -> list[nn.Parameter]:
        """Parameters of the model that this stage does not train."""
        trained: list[nn.Module | None] = [self.vae.conv]
        if self.pooled is None:
            trained += [self.vae.encoder, self.vae.encoder_norm]
        if self.reconstruct:
            trained += [self.vae.posterior, self.vae.decoder, self.vae.transposed]
        used = {id(p) for module in trained if module is not None for p in module.parameters()}
        return [p for p in self.vae.parameters() if p.requires_grad and id(p) not in used]

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """See `view_noise`."""
        return view_noise(n, self.vae, self.views, generator)

    def hidden(self, x: Tensor) -> Tensor:
        """The layer below the projection, of images (B, C, H, W), shape (B, hidden_dim)."""
        if self.pooled is None:
            return self.vae.hidden(self.vae.learned_features(x))
        assert self.vae.conv is not None
        channels = self.vae.conv.output_shapes[-1][0]
        last = self.vae.conv(x)[:, -math.prod(self.vae.conv.output_shapes[-1]) :]
        hidden: Tensor = self.pooled(last.view(len(x), -1, channels).mean(1))
        return hidden

    def spaces(self, x: Tensor) -> dict[str, Tensor]:
        """The spaces in which clusters are looked for, of images (B, C, H, W), (B, D) each.

        The contrastive "projection", of unit length since the loss compares directions, the "hidden" layer below it
        and, where a reconstruction was asked for, which is for signs, the "latent" means.
        """
        hidden = self.hidden(self.views.shown(x) if self.views.colourless else x)
        spaces = {"projection": nn.functional.normalize(self._projected(hidden), dim=1), "hidden": hidden.float()}
        return spaces | ({"latent": self.vae.posterior_of(hidden).mu} if self.reconstruct else {})

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W)."""
        first, second = two_views(x, noise, self.views)
        hidden = self.hidden(torch.cat([first, second]))  # (2 B, hidden_dim)
        here, there = self._projected(hidden).chunk(2)
        terms = {"contrast": losses.contrastive_loss(here, there, _TEMPERATURE)}
        if self.reconstruct:
            posterior = self.vae.posterior_of(hidden[: len(x)])
            kl = losses.gaussian_kl(posterior.mu, posterior.log_var, torch.zeros_like(posterior.mu[0]))
            eps = noise[:, -self.vae.latent_dim :]
            terms |= generative_terms(self.vae, first, posterior.sample(eps), kl)
        return StepOutput(terms)

    def _projected(self, hidden: Tensor) -> Tensor:
        return in_float32(self.projection[-1], self.projection[:-1](hidden))


def view_noise(n: int, vae: ClusterVAE, views: ViewSettings, generator: torch.Generator) -> Tensor:
    """Normal numbers for two views of each image, then for its posterior sample: (n, 2 * numbers + latent_dim)."""
    return torch.randn(n, 2 * views.numbers + vae.latent_dim, generator=generator, device=generator.device)


def generative_terms(vae: ClusterVAE, x: Tensor, z: Tensor, kl: Tensor) -> dict[str, Tensor]:
    """Reconstruction of images (B, C, H, W) from latents (B, D), and divergences (B,), at the weights of all stages."""
    reconstruction = losses.reconstruction_loss(x, vae.decode(z))
    return {
        "reconstruction": GENERATIVE_WEIGHT * vae.reconstruction_weight * reconstruction,
        "kl": GENERATIVE_WEIGHT * vae.settings.kl_weight * kl,
    }


@contextlib.contextmanager
def _frozen(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Without gradients for some parameters: processes that train together wait for those of all others."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
