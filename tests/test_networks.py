"""Networks: shapes, gradients, exactness of what is computed differently from how it is written in the paper."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clusterloom.errors import SettingsError
from clusterloom.networks.conv import (
    ConvFeatures,
    ConvNetwork,
    ConvSettings,
    TransposedNetwork,
    flatten_channels_last,
    unflatten_channels_last,
    upsampled_conv_transpose,
)
from clusterloom.networks.describe import describe
from clusterloom.networks.objective import Algorithm1, ObjectiveSettings
from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings, NetworkSettings


def small_network(image_shape=(9, 12, 3), n_clusters=4, plain=False, **changes):
    if plain:
        return ClusterVAE(NetworkSettings(latent_dim=5, hidden_dim=16, **changes), image_shape, n_clusters)
    settings = {"latent_dim": 5, "hidden_dim": 16, "conv_depth": 2, "conv_filters": (4, 6), "conv_kernels": (3, 5)}
    settings |= {"conv_downsample": "pool", "concatenate": True, "reconstruction_weight": 2.5}
    return ClusterVAE(ConvNetworkSettings(**settings | changes), image_shape, n_clusters)


def small_objective(**changes):
    own = {name: changes.pop(name) for name in ObjectiveSettings.names() if name in changes}
    return Algorithm1(small_network(**changes), ObjectiveSettings(**own))


def test_conv_network_is_conv_relu_pool():
    torch.manual_seed(0)
    network = ConvNetwork(2, ConvSettings(5, 3, depth=2)).double()
    x = torch.randn(3, 2, 7, 10, dtype=torch.float64)
    expected = x
    for layer in network.layers:
        expected = F.relu(F.conv2d(expected, layer.weight, layer.bias, padding=1))
    expected = F.max_pool2d(expected, 2, ceil_mode=True)
    torch.testing.assert_close(network(x), expected)
    assert expected.shape == (3, 5, 4, 5)


def test_paper_networks_have_the_papers_dimensions():
    features = ConvFeatures((28, 28, 1), [ConvSettings(16, 3), ConvSettings(32, 5)])
    assert features.output_shapes == [(16, 14, 14), (32, 7, 7)]
    assert features.feature_dim == 3136 + 1568 == 4704


@pytest.mark.parametrize("depth", [1, 6])
def test_features_concatenate_every_network_in_order(depth):
    torch.manual_seed(0)
    networks = [ConvSettings(3, 3, depth), ConvSettings(4, 5, depth), ConvSettings(2, 3, depth)]
    features = ConvFeatures((17, 20, 1), networks)
    x = torch.rand(2, 1, 17, 20)
    got = features(x)
    at = 0
    for network, (channels, height, width) in zip(features.networks, features.output_shapes, strict=True):
        x = network(x)
        part = got[:, at : at + channels * height * width].view(2, height, width, channels)
        torch.testing.assert_close(part.permute(0, 3, 1, 2), x)
        at += channels * height * width
    assert at == features.feature_dim == got.shape[1]


def test_last_network_alone():
    networks = [ConvSettings(3, 3), ConvSettings(4, 5)]
    alone = ConvFeatures((8, 8, 1), networks, concatenate=False)
    both = ConvFeatures((8, 8, 1), networks)
    both.load_state_dict(alone.state_dict())
    x = torch.rand(2, 1, 8, 8)
    assert alone.feature_dim == 4 * 2 * 2
    torch.testing.assert_close(alone(x), both(x)[:, -alone.feature_dim :])


def test_too_small_images_name_the_smallest_size():
    with pytest.raises(SettingsError, match="smallest size is 8 x 8"):
        ConvFeatures((7, 30, 1), [ConvSettings(2, 3)] * 3)


@pytest.mark.parametrize(("kernel_size", "size"), list(itertools.product([1, 3, 5, 7], [(4, 6), (5, 3), (1, 1)])))
def test_upsampling_folded_into_the_transposed_convolution(kernel_size, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 4, kernel_size, kernel_size, generator=generator, dtype=torch.float64)
    bias = torch.randn(4, generator=generator, dtype=torch.float64)
    upsampled = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.conv_transpose2d(upsampled, weight, bias, padding=kernel_size // 2)
    torch.testing.assert_close(upsampled_conv_transpose(x, weight, bias), expected)


@pytest.mark.parametrize("size", [(8, 8), (7, 11)])
def test_mirror_gives_back_the_image_size(size):
    settings = ConvSettings(4, 3, depth=3)
    pooled = ConvNetwork(2, settings)(torch.rand(2, 2, *size))
    assert TransposedNetwork(2, settings, size)(pooled).shape == (2, 2, *size)


def test_flattening_round_trip_is_a_view():
    x = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    flat = flatten_channels_last(x)
    assert flat.data_ptr() == x.data_ptr()
    torch.testing.assert_close(unflatten_channels_last(flat, (3, 4, 5)), x)


VARIANTS = [
    {},
    {"category_input": "features"},
    {"kl": "analytic", "category_formula": "printed"},
    {"plain": True},
    {"concatenate": False},
    {"encoder_activation": "none", "initial_weights": "glorot"},
    {"negative_slope": 0.2},
    {"conv_filters": (4,), "conv_kernels": (3,)},
    {"conv_filters": (4, 4, 5), "conv_kernels": (3, 3, 5)},
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_shapes_and_that_every_parameter_gets_a_gradient(changes):
    torch.manual_seed(0)
    objective = small_objective(**changes)
    vae = objective.vae
    with torch.no_grad():
        vae.class_means.normal_()
    x = torch.rand(6, 3, 9, 12)
    output = objective(x, objective.draw_noise(6, torch.Generator().manual_seed(0)))
    assert all(term.shape == (6,) for term in output.terms.values())
    torch.testing.assert_close(output.q.sum(1), torch.ones(6))
    sum(term.sum() for term in output.terms.values()).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert vae.decode(torch.zeros(2, 5)).shape == (2, 3, 9, 12)
    q, mu, score = vae.predictions(x)
    assert (q.shape, mu.shape, score.shape) == ((6, 4), (6, 5), (6,))


def test_a_linear_encoder_lets_negative_numbers_through():
    x = torch.rand(6, 3, 9, 12)
    relu, linear = (small_network(encoder_activation=kind) for kind in ("relu", "none"))
    linear.load_state_dict(relu.state_dict())
    hidden = linear.hidden(linear.features(x))
    assert (hidden < 0).any()
    torch.testing.assert_close(relu.hidden(relu.features(x)), hidden.clamp(min=0))


def test_leaky_units_pass_a_fifth_of_what_is_below_zero():
    x = torch.rand(6, 3, 9, 12)
    leaky, linear = (small_network(negative_slope=slope, conv_depth=1) for slope in (0.2, 1.0))
    linear.load_state_dict(leaky.state_dict())
    first, by_linear = (vae.conv.networks[0](x) for vae in (leaky, linear))
    assert (first < 0).any()
    torch.testing.assert_close(first, torch.where(by_linear < 0, 0.2 * by_linear, by_linear))
    for vae, name in ((leaky, "LeakyReLU"), (small_network(conv_depth=1), "ReLU")):
        units = [layer for part in describe(vae) for layer in part.layers if "ReLU" in layer]
        assert units == [name] * 6


def test_glorot_weights_have_its_bounds_and_no_biases():
    torch.manual_seed(0)
    vae = small_network(initial_weights="glorot", hidden_dim=64)
    vae.set_clusters(7)
    for layer in (vae.encoder, vae.posterior, vae.decoder[0], vae.category_output):
        bound = (6 / sum(layer.weight.shape)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_gradients_of_the_whole_network_are_right():
    torch.manual_seed(0)
    vae = small_objective(image_shape=(5, 6, 1), hidden_dim=4, latent_dim=2).double()
    noise = torch.randn(2, 2, dtype=torch.float64)
    x = torch.rand(2, 1, 5, 6, dtype=torch.float64)
    names = [name for name, _ in vae.named_parameters()]

    def loss(*values):
        output = torch.func.functional_call(vae, dict(zip(names, values, strict=True)), (x, noise))
        return sum(term.sum() for term in output.terms.values())

    values = tuple(p.detach().clone().requires_grad_() for p in vae.parameters())
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@pytest.mark.parametrize("category_input", ["latent", "features"])
def test_bf16_leaves_z_categories_pixels_and_losses_in_32_bits(category_input):
    """Rounded to bfloat16 they have at most 8 binary digits; with them in it, clusters died in training."""
    objective = small_objective(category_input=category_input).eval()
    vae = objective.vae
    x, noise = torch.rand(64, 3, 9, 12), torch.randn(64, vae.latent_dim)
    exact = objective(x, noise)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(vae.features(x))
        logits = vae.category_logits(vae.features(x), posterior.mu)
        parts = [posterior.mu, posterior.log_var, logits, vae.decode(posterior.mu), *objective(x, noise).terms.values()]
        rounded = objective(x, noise)
    for part in parts:
        assert part.dtype == torch.float32
        assert (part != part.bfloat16().float()).float().mean() > 0.5
    for name, term in exact.terms.items():
        torch.testing.assert_close(rounded.terms[name], term, rtol=0.02, atol=0.02)
        assert not torch.equal(rounded.terms[name], term)  # the rest is in bfloat16


def test_standard_prior_gives_the_category_encoder_no_signal_about_the_image():
    """Under N(0, 1) as printed, KL is the same for every cluster, so only the category loss reaches the encoder."""
    objective = small_objective(prior="standard", category_weight=0.0)
    vae = objective.vae
    x = torch.rand(4, 3, 9, 12)
    output = objective(x, objective.draw_noise(4, torch.Generator().manual_seed(0)))
    sum(term.sum() for term in output.terms.values()).backward()
    assert all(p.grad.abs().max() < 1e-6 for p in vae.category_encoder.parameters())
    assert not vae.class_means.requires_grad


def test_assign_is_the_category_encoder_at_the_posterior_mean():
    for category_input in ("features", "latent"):
        vae = small_network(category_input=category_input)
        x = torch.rand(4, 3, 9, 12)
        features = vae.features(x)
        expected = vae.category_logits(features, vae.encode(features).mu).softmax(1)
        torch.testing.assert_close(vae.assign(x), expected)
        assert torch.equal(vae.predictions(x)[0], vae.assign(x))


def test_score_is_the_training_loss_with_nothing_sampled():
    """At zero noise and with the analytic KL, but for the constant ln K, score and loss are the same number."""
    objective = small_objective(kl="analytic")
    x = torch.rand(4, 3, 9, 12)
    terms = objective(x, torch.zeros(4, 5)).terms
    torch.testing.assert_close(-objective.vae.predictions(x)[2], sum(terms.values()) + math.log(4))


def vae_of_two_classes():
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3), "batch_norm": True}
    return ClusterVAE(ConvNetworkSettings(latent_dim=2, hidden_dim=16, **conv), (8, 8, 1), 2)


def test_refitted_classes_are_the_latents_own_moments():
    vae, rng = vae_of_two_classes(), np.random.default_rng(0)
    q = torch.eye(2)[torch.arange(20_000) % 2]
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    mu = torch.from_numpy(rng.standard_normal((20_000, 2)).astype(np.float32)) @ factor.T + 5 * q
    vae.fit_classes(q, mu, torch.full((20_000, 2), math.log(0.25)))
    torch.testing.assert_close(vae.class_means.detach(), 5 * torch.eye(2), atol=0.05, rtol=0)
    covariance = vae.scale_tril[0] @ vae.scale_tril[0].T
    torch.testing.assert_close(covariance, factor @ factor.T + 0.25 * torch.eye(2), atol=0.05, rtol=0)


def test_a_cluster_without_images_keeps_its_mean_and_gets_the_common_covariance():
    vae = vae_of_two_classes()
    q = torch.tensor([[1.0, 0.0]]).repeat(500, 1)
    mu = torch.from_numpy(np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32))
    vae.fit_classes(q, mu, torch.full((500, 2), -9.0))
    assert vae.class_means[1].tolist() == [0, 0]
    assert torch.isfinite(vae.scale_tril).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_strides_give_the_shape_that_pools_give(size):
    pooled, strided = (ConvNetwork(1, ConvSettings(4, 5, 2, kind, True)) for kind in ("pool", "stride"))
    x = torch.rand(2, 1, *size)
    assert pooled(x).shape == strided(x).shape == (2, 4, math.ceil(size[0] / 2), math.ceil(size[1] / 2))


def test_the_score_counts_errors_by_their_pixels_variance():
    vae = small_network()
    x = torch.rand(4, 3, 9, 12)
    error = (x - vae.decode(vae.encode(vae.features(x)).mu)) ** 2
    before = vae.predictions(x)[2]
    vae.pixel_variances[1, 2, 3] /= 5
    expected = before - 4 * error[:, 1, 2, 3] / 2 * vae.reconstruction_weight
    torch.testing.assert_close(vae.predictions(x)[2], expected)


def test_terms_are_weighted_and_named():
    x, noise = torch.rand(3, 3, 9, 12), torch.randn(3, 5)
    torch.manual_seed(0)
    plain = small_objective(reconstruction_weight=1.0, category_weight=1.0)
    weighted = small_objective(reconstruction_weight=3.0, category_weight=0.5)
    weighted.load_state_dict(plain.state_dict())
    a, b = plain(x, noise).terms, weighted(x, noise).terms
    assert list(a) == ["reconstruction", "kl", "category"]
    torch.testing.assert_close(b["reconstruction"], 3 * a["reconstruction"])
    torch.testing.assert_close(b["kl"], a["kl"])
    torch.testing.assert_close(b["category"], 0.5 * a["category"])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"latent_dim": 0}, "latent_dim must be a whole number of at least 1; got 0"),
        ({"kl": "exact"}, "kl must be sampled or analytic; got 'exact'"),
        ({"category_weight": -1.0}, "category_weight must be a number of at least 0"),
        ({"reconstruction_weight": float("nan")}, "reconstruction_weight must be a number of at least 0"),
    ],
)
def test_settings_out_of_range(changes, text):
    with pytest.raises(SettingsError, match=text):
        small_objective(**changes)


def test_conv_settings_out_of_range():
    with pytest.raises(SettingsError, match="odd"):
        ConvSettings(4, 2)
    with pytest.raises(SettingsError, match="depth >= 1"):
        ConvSettings(4, 3, 0)
