"""How sure the model may be, and that it is as sure afterwards."""

import numpy as np
import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.confidence import calibrate, expected_accuracy, temperature_for

LABELS = np.repeat(np.arange(4), 100)
MOVED = np.where(np.arange(400) % 10 == 0, (LABELS + 1) % 4, LABELS)  # a tenth of the images in another cluster


def test_expected_accuracy_is_the_mean_agreement_of_a_space_whatever_its_numbers():
    renamed = np.array([2, 0, 3, 1])
    guides = {"one": np.stack([renamed[LABELS], renamed[::-1][MOVED]])}
    assert expected_accuracy(LABELS, guides) == pytest.approx(0.95)
    assert expected_accuracy(MOVED, guides) == pytest.approx(0.95)


def test_the_space_that_shows_the_clusters_best_is_believed():
    guides = {"bad": np.zeros((3, 400), int), "good": np.stack([LABELS, MOVED]), "worse": LABELS[None] // 2}
    assert expected_accuracy(LABELS, guides) == pytest.approx(0.95)
    assert expected_accuracy(LABELS, {"bad": guides["bad"]}) == pytest.approx(0.25)


def test_it_is_never_certain_and_needs_no_guide_for_one_cluster():
    assert expected_accuracy(LABELS, {"one": LABELS[None]}) == pytest.approx(1 - 0.5 / 401)
    assert expected_accuracy(np.zeros(9, int), {}) == pytest.approx(0.95)


def test_clusters_that_a_guide_merges_and_cuts_lower_it():
    merged = np.where(LABELS == 3, 2, LABELS)
    merged[:50] = 3
    assert expected_accuracy(LABELS, {"one": np.stack([LABELS, merged])}) == pytest.approx((1 + 250 / 400) / 2)


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
