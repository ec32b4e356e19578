"""How sure the model may be, and that it is as sure afterwards."""

import numpy as np
import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.confidence import agreement, calibrate, temperature_for


def test_agreement_is_the_share_of_images_that_likely_mixtures_place_alike():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    moved = np.where(np.arange(400) % 10 == 0, (labels + 1) % 4, labels)  # a tenth of the images in another cluster
    renamed = np.array([2, 0, 3, 1])
    partitions = np.stack([renamed[labels], renamed[moved]])
    assert agreement(labels, partitions, np.zeros(2)) == pytest.approx(0.95)
    likelier = agreement(labels, partitions, np.array([0.0, 0.2]))
    assert likelier == pytest.approx((1 + 0.9 * np.e) / (1 + np.e))
    assert agreement(labels, partitions, np.array([0.0, -50.0])) == pytest.approx(1 - 0.5 / 401)  # never certainty
    assert agreement(labels, rng.integers(0, 4, (3, 400)), np.zeros(3)) < 0.4


def test_two_clusters_that_mixtures_merge_in_different_ways_lower_it():
    labels = np.repeat(np.arange(4), 100)
    merged = np.where(labels == 3, 2, labels)
    merged[:50] = 3  # and another one is cut in two
    assert agreement(labels, np.stack([labels, merged]), np.zeros(2)) == pytest.approx((1 + 250 / 400) / 2)


def test_calibration_gives_the_mean_confidence_and_keeps_the_clusters():
    torch.manual_seed(0)
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3)}
    settings = ConvNetworkSettings(latent_dim=2, hidden_dim=16, category_input="features", **conv)
    network = ClusterVAE(settings, (8, 8, 1), 3).eval()
    x = torch.rand(50, 1, 8, 8)
    with torch.no_grad():
        for parameter in network.category_encoder[-1].parameters():
            parameter.mul_(30)
        before = network.logits(x).numpy()
        calibrate(network, before, 0.7)
        after = network.assign(x)
    assert float(after.amax(1).mean()) == pytest.approx(0.7, abs=1e-3)
    assert np.array_equal(after.argmax(1).numpy(), before.argmax(1))


def test_temperature_of_hand_worked_logits():
    logits = np.array([[2 * np.log(3), 0.0]])  # nine to one; at temperature 2 three to one
    assert temperature_for(logits, 0.75) == pytest.approx(2, rel=1e-4)
    assert temperature_for(logits, 0.9) == pytest.approx(1, rel=1e-4)
