"""How sure the model may be, and that it is as sure afterwards."""

import numpy as np
import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.confidence import calibrate, expected_accuracy, temperature_for

LABELS = np.repeat(np.arange(4), 100)
MOVED = np.where(np.arange(400) % 10 == 0, (LABELS + 1) % 4, LABELS)  # a tenth of the images in another cluster


def test_expected_accuracy_counts_likely_mixtures_that_place_images_otherwise():
    renamed = np.array([2, 0, 3, 1])
    partitions = np.stack([renamed[LABELS], renamed[::-1][MOVED]])
    assert expected_accuracy(LABELS, LABELS, partitions, np.zeros(2)) == pytest.approx(0.95)
    less_likely = expected_accuracy(LABELS, LABELS, partitions, np.array([0.0, -0.1]))
    assert less_likely == pytest.approx((1 + 0.9 / np.e) / (1 + 1 / np.e))
    never_certain = expected_accuracy(LABELS, LABELS, partitions, np.array([0.0, -50.0]))
    assert never_certain == pytest.approx(1 - 0.5 / 401)


def test_expected_accuracy_counts_images_that_the_model_has_not_learned():
    alone = LABELS[None]
    assert expected_accuracy(MOVED, LABELS, alone, np.zeros(1)) == pytest.approx(0.9)
    both = np.stack([LABELS, MOVED])
    assert expected_accuracy(MOVED, LABELS, both, np.zeros(2)) == pytest.approx(0.9 * 0.95)


def test_clusters_that_another_mixture_merges_and_cuts_lower_it():
    merged = np.where(LABELS == 3, 2, LABELS)
    merged[:50] = 3
    assert expected_accuracy(LABELS, LABELS, np.stack([LABELS, merged]), np.zeros(2)) == pytest.approx(
        (1 + 250 / 400) / 2
    )


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
