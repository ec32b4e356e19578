"""The objective of Yan (2020): Algorithm 1, with what the paper leaves open as settings."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE, Posterior
from clusterloom.settings import Settings, Weight


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(Settings):
    """Knobs of the paper's objective; the weights of its other two terms are the network's."""

    prior: Literal["class", "standard"] = "class"
    """class for a learned prior mean per cluster; standard for N(0, 1) as formula (3) prints it, under which nothing
    tells one cluster from another."""
    kl: Literal["sampled", "analytic"] = "sampled"
    """Formula (3) from one sample, `losses.sampled_gaussian_kl`, or in closed form, `losses.gaussian_kl`."""
    category_formula: Literal["entropy", "printed"] = "entropy"
    """`losses.category_loss`, or formula (7) letter by letter, `losses.printed_category_loss`."""
    category_weight: Weight = 1.0
    """Weight of formula (7)."""


class Algorithm1(nn.Module):
    """What the paper trains on: from images and noise to loss terms, for `clusterloom.training.loop`.

    Args:
        vae: The model; under the standard prior its class means stay zero.
        settings: What the paper leaves open.
    """

    def __init__(self, vae: ClusterVAE, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.vae, self.settings = vae, settings
        vae.class_means.requires_grad_(settings.prior == "class")

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers for `n` posterior samples, shape (n, D), on the generator's device."""
        return torch.randn(n, self.vae.latent_dim, generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W), with posterior samples from `noise` (B, D): the paper's Algorithm 1.

        The numbers are its steps, for one batch; the loop around them is `clusterloom.training.loop`.
        """
        vae = self.vae
        features = vae.features(x)  # 1: conv networks, concatenated
        posterior = vae.encode(features)  # 3: mean and log-variance
        z = posterior.sample(noise)
        log_q = vae.category_logits(features, z).log_softmax(1)
        category = self._category_loss(log_q)  # 2: formula (7)
        kl = losses.expected_over_clusters(log_q.exp(), self._kl(z, posterior))  # 4: formula (3)
        reconstruction = losses.reconstruction_loss(x, vae.decode(z))  # 5: formula (2)
        terms = {
            "reconstruction": vae.reconstruction_weight * reconstruction,
            "kl": vae.settings.kl_weight * kl,
            "category": self.settings.category_weight * category,
        }
        return StepOutput(terms, log_q.detach().exp())  # 6: the caller sums the terms and descends

    def _kl(self, z: Tensor, posterior: Posterior) -> Tensor:
        prior_mean = self.vae.class_means if self.settings.prior == "class" else self.vae.class_means[0]
        if self.settings.kl == "sampled":
            return losses.sampled_gaussian_kl(z, posterior.log_var, prior_mean)
        return losses.gaussian_kl(posterior.mu, posterior.log_var, prior_mean)

    def _category_loss(self, log_q: Tensor) -> Tensor:
        if self.settings.category_formula == "entropy":
            return losses.category_loss(log_q)
        return losses.printed_category_loss(log_q)
