"""Stage 3, fit: the whole model learns from pseudo-labels."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.data.images import ImageArray
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.learning.represent import generative_terms, view_noise
from clusterloom.recipe.views.augment import ViewSettings, two_views
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run

_AGREEMENT_WEIGHT = 0.2


def fit(
    network: ClusterVAE,
    run: Run,
    images: ImageArray,
    plan: TrainingPlan,
    views: ViewSettings,
    stage: str,
    targets: np.ndarray,
    frozen: np.ndarray,
    label_smoothing: float = 0.0,
    as_it_is: bool = False,
) -> None:
    """Train the stage, in place.

    Args:
        network: The model.
        run: Keeps what is needed to resume.
        images: Shape (N, H, W, C); may be some of the run's.
        plan: How long and how.
        views: How far views may stray.
        stage: Name in records and files.
        targets: The pseudo-labels, soft assignments, shape (N, K).
        frozen: What the model's backbone says of the images themselves, shape (N, E): of every view it would cost too
            much. No columns without one.
        label_smoothing: How much the pseudo-labels are doubted.
        as_it_is: One of the two views is the image itself.
    """
    objective = PseudoLabelObjective(network, views, torch.from_numpy(targets.mean(0)), label_smoothing, as_it_is)
    beside = np.hstack([targets, frozen]) if frozen.shape[1] else targets  # which may be of millions of images
    run.train(objective.to(run.compute.device), plan, images, stage, beside)


class PseudoLabelObjective(nn.Module):
    """What the stage minimises: q(y|.) of two views is held to the pseudo-labels and to each other.

    Reconstruction and divergence go on as before, now from the class means: the whole model is trained, as a model for
    `clusterloom.training.loop`.

    Args:
        vae: The model.
        views: How far views may stray.
        shares: Expected share of every cluster, shape (K,).
        label_smoothing: Share of the pseudo-labels that is spread over all clusters: how much they are doubted.
        as_it_is: The first view is the image itself.
    """

    shares: Tensor

    def __init__(
        self, vae: ClusterVAE, views: ViewSettings, shares: Tensor, label_smoothing: float = 0.0, as_it_is: bool = False
    ) -> None:
        super().__init__()
        self.vae, self.views, self.label_smoothing, self.as_it_is = vae, views, label_smoothing, as_it_is
        self.register_buffer("shares", shares)

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """See `view_noise`."""
        return view_noise(n, self.vae, self.views, generator)

    def forward(self, x: Tensor, noise: Tensor, targets: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W) whose pseudo-labels are soft assignments (B, K), then frozen features."""
        first, second = two_views(x, noise, self.views)
        targets, frozen = targets[:, : self.vae.n_clusters], targets[:, self.vae.n_clusters :]
        if self.as_it_is:
            first = x
        # No view bends or recolours what a backbone says, which so would undo what views teach: one view is without it.
        features = self.vae.features(torch.cat([first, second]), torch.cat([frozen, torch.zeros_like(frozen)]))
        posterior = self.vae.encode(features)
        eps = noise[:, -self.vae.latent_dim :]
        z = posterior.sample(torch.cat([eps, torch.zeros_like(eps)]))
        log_q = self.vae.category_logits(features, z).log_softmax(1)
        here, there = log_q.chunk(2)  # (B, K) each
        q = here.exp()
        n = len(x)
        kl = losses.gaussian_kl(posterior.mu[:n], posterior.log_var[:n], self.vae.class_means)
        return StepOutput(
            {
                **generative_terms(self.vae, first, z[:n], losses.expected_over_clusters(q, kl)),
                "pseudo_labels": self._pseudo_label_loss(here, there, targets),
                "agreement": _AGREEMENT_WEIGHT * _agreement_loss(here, there),
                "balance": losses.balance_loss(log_q.exp().view(2, n, -1).mean(0), self.shares),
            },
            q.detach(),
        )

    def _pseudo_label_loss(self, here: Tensor, there: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy to the pseudo-labels, the mean of both views, nats per image (B,)."""
        # Images whose pseudo-labels are sure lead: they pull more than those that are not.
        confidence = targets.amax(1)
        both = [_cross_entropy(log_q, targets, self.label_smoothing) for log_q in (here, there)]
        return confidence * (both[0] + both[1]) / 2


def _agreement_loss(here: Tensor, there: Tensor) -> Tensor:
    """How badly each view tells what the other one's assignment is, nats per image (B,)."""
    return (_cross_entropy(here, there.detach().exp()) + _cross_entropy(there, here.detach().exp())) / 2


def _cross_entropy(log_q: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(log_q, targets, reduction="none", label_smoothing=label_smoothing)
