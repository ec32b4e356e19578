"""The paper's models as estimators, what the paper leaves open about them, and what is asked of them once trained."""

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from clusterloom.device import Compute
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.inference import apply_in_batches
from clusterloom.networks.objective import Algorithm1
from clusterloom.networks.vae import ClusterVAE

VAE: TypeAlias = VariationalClusterer

# As the paper prints them: prior N(0, 1), formula (3) in closed form, formula (7) letter by letter on q(y|x).
LITERAL = {"prior": "standard", "kl": "analytic", "category_formula": "printed", "category_input": "features"}


@dataclass(frozen=True)
class Reading:
    """What the paper leaves open.

    Attributes:
        category_input: "latent" for q(y|z), "features" for q(y|x).
        kl: Formula (3) "sampled" or "analytic".
        encoder_activation: Of the encoder's hidden layer, "relu" or "none".
        negative_slope: Of all ReLUs, below zero.
        initial_weights: "torch" or "glorot".
        batch_size: Images per step.
        reconstruction_weight: Weight lambda of formula (2); None takes 2.5 for MNIST and 28 for Fashion-MNIST, with
            which losses come out near the printed ones (docs/paper.md, "What measurement says").
        kl_weight: Weight of formula (3); the paper has none.
    """

    category_input: str = "latent"
    kl: str = "sampled"
    encoder_activation: str = "relu"
    negative_slope: float = 0.0
    initial_weights: str = "torch"
    batch_size: int = 100
    reconstruction_weight: float | None = None
    kl_weight: float = 1.0

    def of(self, dataset: str) -> dict[str, Any]:
        """As parameters of the estimator."""
        usual = {"mnist": 2.5, "fashion-mnist": 28.0}[dataset]
        weight = usual if self.reconstruction_weight is None else self.reconstruction_weight
        return {**asdict(self), "reconstruction_weight": weight}


def mean_loss(objective: Algorithm1, images: np.ndarray, compute: Compute) -> float:
    """The training objective over all images (N, H, W, C), nats per image, with one posterior sample each."""
    generator = torch.Generator(compute.device).manual_seed(0)

    def loss(x: Tensor) -> tuple[Tensor, ...]:
        terms = objective(x, objective.draw_noise(len(x), generator)).terms
        return (torch.stack(list(terms.values())).sum(0),)

    (losses,) = apply_in_batches(loss, images, compute)
    return float(losses.mean(dtype=np.float64))


def posterior(network: ClusterVAE, images: np.ndarray, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances (N, D) of q(z|x) for images (N, H, W, C)."""

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        found = network.encode(network.features(x))
        return found.mu, found.log_var.exp()

    means, variances = apply_in_batches(moments, images, compute)
    return means, variances


def active_dims(means: np.ndarray) -> int:
    """How many latent dimensions are in use: those whose posterior means (N, D) change with the image.

    Burda, Grosse and Salakhutdinov, "Importance Weighted Autoencoders", 2016, with their threshold.
    """
    return int((means.var(0) > 0.01).sum())
