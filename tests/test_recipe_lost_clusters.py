"""Clusters that the fits have lost."""

import numpy as np
import pytest
import torch

from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.learning.last_layer import logits_of
from clusterloom.recipe.learning.lost_clusters import bring_back

N_CLUSTERS = 4
HEAPS = np.arange(N_CLUSTERS).repeat(100)


def hidden(seed):
    """A blob for each cluster; the last one lies near the first."""
    middles = np.eye(16)[[0, 1, 2, 0]] + 0.3 * (np.arange(N_CLUSTERS)[:, None] == 3) * np.eye(16)[5]
    return (middles[HEAPS] + 0.05 * np.random.default_rng(seed).standard_normal((400, 16))).astype(np.float32)


@pytest.fixture
def network():
    """It knows three clusters, and takes the fourth for the first."""
    torch.manual_seed(0)
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3)}
    settings = ConvNetworkSettings(latent_dim=2, hidden_dim=16, category_input="features", **conv)
    network = ClusterVAE(settings, (8, 8, 1), N_CLUSTERS).eval()
    with torch.no_grad():
        network.category_output.weight.copy_(8 * torch.eye(16)[:N_CLUSTERS])
        network.category_output.weight[3] = -8
        network.category_output.bias.zero_()
    return network


def test_a_cluster_without_images_gets_its_own_back_and_unseen_ones_like_them(network):
    assert set(logits_of(network, hidden(0)).argmax(1)) == {0, 1, 2}
    assert bring_back(network, hidden(0), HEAPS) == [3]
    for seed in (0, 1):
        assert np.mean(logits_of(network, hidden(seed)).argmax(1) == HEAPS) > 0.98


def test_nothing_changes_where_every_cluster_has_images(network):
    before = network.category_output.weight.clone()
    found = np.array([0, 1, 2, 0])[HEAPS]
    with torch.no_grad():
        network.category_output.weight[3] = 8 * torch.eye(16)[0] + 40 * torch.eye(16)[5] - 5
        before.copy_(network.category_output.weight)
    assert bring_back(network, hidden(0), found) == []
    assert network.category_output.weight.equal(before)


def test_what_had_no_images_at_first_was_not_lost(network):
    before = network.category_output.weight.clone()
    found = np.array([0, 1, 2, 0])[HEAPS]
    assert bring_back(network, hidden(0), found) == []
    assert network.category_output.weight.equal(before)
