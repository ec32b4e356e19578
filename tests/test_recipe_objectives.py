"""What the two training stages of the recipe minimise."""

import math

import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.learning.fit import PseudoLabelObjective
from clusterloom.recipe.learning.represent import Representation
from clusterloom.recipe.views.augment import SIGNS
from clusterloom.training.randomness import fresh_weights


def small_vae(n_clusters=3):
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3), "batch_norm": True}
    settings = ConvNetworkSettings(latent_dim=2, hidden_dim=16, category_input="features", **conv)
    torch.manual_seed(0)
    return ClusterVAE(settings, (8, 8, 1), n_clusters)


def test_objectives_train_what_they_are_for():
    x, generator = torch.rand(6, 1, 8, 8), torch.Generator().manual_seed(0)
    vae = small_vae()
    representation = Representation(vae, SIGNS, reconstruct=False)
    sum(t.sum() for t in representation(x, representation.draw_noise(6, generator)).terms.values()).backward()
    assert vae.encoder.weight.grad is not None
    assert vae.decoder[0].weight.grad is None
    assert vae.category_encoder[0].weight.grad is None
    assert {id(p) for p in vae.parameters() if p.grad is None} == {id(p) for p in representation.untrained()}
    objective = PseudoLabelObjective(vae, SIGNS, torch.full((3,), 1 / 3))
    output = objective(x, objective.draw_noise(6, generator), torch.eye(3)[[0, 1, 2, 0, 1, 2]])
    assert set(output.terms) == {"reconstruction", "kl", "pseudo_labels", "agreement", "balance"}
    assert all(term.shape == (6,) for term in output.terms.values())
    sum(t.sum() for t in output.terms.values()).backward()
    assert all(p.grad is not None for p in vae.parameters())


def test_the_pseudo_label_loss_is_cross_entropy_by_confidence():
    objective = PseudoLabelObjective(small_vae(), SIGNS, torch.full((3,), 1 / 3), label_smoothing=0.1)
    here = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]).log()
    there = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]]).log()
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.4, 0.3], [0.0, 0.0, 0.0]])
    loss = objective._pseudo_label_loss(here, there, targets)
    first = (1 - 0.1 + 0.1 / 3) * math.log(0.7 * 0.5) + 0.1 / 3 * math.log(0.2 * 0.1 * 0.25 * 0.25)
    assert float(loss[0]) == pytest.approx(-first / 2, rel=1e-5)
    smooth = [0.9 * p + 0.1 / 3 for p in (0.3, 0.4, 0.3)]
    second = sum(p * math.log(float(a.exp() * b.exp())) for p, a, b in zip(smooth, here[1], there[1], strict=True))
    assert float(loss[1]) == pytest.approx(-0.4 * second / 2, rel=1e-5)
    assert float(loss[2]) == 0


def test_initial_weights_depend_on_seed_and_stage_alone():
    def weights(seed, stage):
        with fresh_weights(seed, stage):
            return torch.nn.Linear(4, 4).weight.detach()

    before = torch.random.get_rng_state()
    first = weights(0, "represent")
    assert torch.equal(first, weights(0, "represent"))
    assert not torch.equal(first, weights(1, "represent"))
    assert not torch.equal(first, weights(0, "count"))
    assert torch.equal(torch.random.get_rng_state(), before)
