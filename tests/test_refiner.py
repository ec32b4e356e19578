"""The second decoder: its network, the flow that it is part of, and the mixtures that latents are drawn from."""

import numpy as np
import pytest
import torch

from clusterloom.networks.refiner import COMPONENTS, LatentMixtures, Refiner


def inputs(refiner, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(refiner.deviations.shape)
    decoded = torch.rand(n, *shape, generator=generator)
    z = torch.randn(n, len(refiner.latent_deviations), generator=generator)
    return decoded, z, torch.randn(n, *shape, generator=generator)


@pytest.mark.parametrize(
    ("shape", "square"),
    [((28, 28, 1), 2), ((8, 8, 1), 1), ((5, 13, 2), 1), ((64, 64, 3), 4), ((33, 20, 3), 4), ((16, 130, 1), 16)],
)
def test_any_size_and_number_of_channels(shape, square):
    refiner = Refiner(shape, latent_dim=5, n_clusters=2)
    decoded, z, noise = inputs(refiner)
    assert refiner.square == square
    assert refiner(decoded, decoded, z, torch.rand(3)).shape == decoded.shape
    images = refiner.refine(decoded, z, noise)
    assert images.shape == decoded.shape
    assert images.min() >= 0
    assert images.max() <= 1


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    refiner = Refiner((8, 8, 1), latent_dim=3, n_clusters=2)
    for parameter in refiner.parameters():  # layers that begin at zero stop the gradient of those before them
        torch.nn.init.normal_(parameter, std=0.1)
    decoded, z, noise = inputs(refiner)
    refiner(noise, decoded, z, torch.rand(3)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in refiner.parameters())


def test_without_training_the_velocity_is_that_of_equal_normal_distributions():
    """Beginning and end are drawn from N(m, s^2), one regardless of the other."""
    refiner = Refiner((4, 4, 1), latent_dim=2, n_clusters=1).double()
    refiner.deviations.fill_(0.3)
    generator = torch.Generator().manual_seed(0)
    time, n = 0.7, 200_000
    begin, end = 0.5 + 0.3 * torch.randn(2, n, generator=generator, dtype=torch.float64)
    at = (1 - time) * begin + time * end
    slope = ((end - begin) * (at - 0.5)).mean() / (at - 0.5).square().mean()
    noisy = torch.rand(1, 1, 4, 4, generator=generator, dtype=torch.float64)
    found = refiner(noisy, torch.full_like(noisy, 0.5), torch.zeros(1, 2).double(), torch.tensor([time]).double())
    torch.testing.assert_close(found, slope * (noisy - 0.5), rtol=0.02, atol=1e-9)


def test_steps_follow_a_straight_way_to_its_end():
    refiner = Refiner((4, 4, 1), latent_dim=2, n_clusters=1)
    decoded, z, noise = inputs(refiner)
    target = torch.rand(3, 1, 4, 4)
    refiner.forward = lambda noisy, decoded, z, time, guidance: (target - noisy) / (1 - time[:, None, None, None])
    for steps in (1, 6):
        torch.testing.assert_close(refiner.refine(decoded, z, noise, steps), target)


def test_with_half_as_long_steps_a_curved_way_ends_four_times_as_near():
    refiner = Refiner((4, 4, 1), latent_dim=2, n_clusters=1)
    decoded, z, _ = inputs(refiner)
    refiner.forward = lambda noisy, decoded, z, time, guidance: -noisy  # dx / dt = -x, so that x(1) = x(0) / e
    errors = [
        (refiner.refine(decoded, z, torch.zeros_like(decoded), steps) - decoded / torch.e).abs().max().item()
        for steps in (8, 16)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)


def test_guidance_multiplies_what_the_network_adds():
    torch.manual_seed(0)
    refiner = Refiner((4, 4, 1), latent_dim=2, n_clusters=1)
    torch.nn.init.normal_(refiner.last.weight)
    decoded, z, noise = inputs(refiner)
    none, once, twice = (refiner(noise, decoded, z, torch.full((3,), 0.4), guidance) for guidance in (0.0, 1.0, 2.0))
    torch.testing.assert_close(twice - once, once - none)
    assert not torch.allclose(once, none)
    torch.testing.assert_close(refiner(noise, decoded, z, torch.full((3,), 0.4)), once)  # what is trained


def test_refined_images_depend_on_latent_image_and_noise():
    torch.manual_seed(0)
    refiner = Refiner((8, 8, 1), latent_dim=3, n_clusters=2)
    for parameter in refiner.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    refiner.deviations.fill_(0.1)
    decoded, z, noise = inputs(refiner)
    first = refiner.refine(decoded, z, noise)
    assert torch.equal(first, refiner.refine(decoded, z, noise))
    for changed in ((decoded * 0.9, z, noise), (decoded, z + 1, noise), (decoded, z, -noise)):
        assert not torch.equal(first, refiner.refine(*changed))


def test_latents_have_the_moments_of_their_mixture():
    mixtures = LatentMixtures(2, 2)
    mixtures.weights[0, :2] = torch.tensor([0.25, 0.75])
    mixtures.weights[1, 3] = 1
    mixtures.means[0, 0], mixtures.means[0, 1], mixtures.means[1, 3] = (
        torch.tensor([4.0, 0.0]),
        torch.tensor([0.0, 8.0]),
        torch.tensor([-50.0, 1.0]),
    )
    mixtures.factors[:] = torch.tensor([[1.0, 0.0], [0.5, 0.2]])
    clusters = np.repeat([0, 1], [40_000, 1_000])
    drawn = mixtures.draw(clusters, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn[clusters == 1].mean(0), [-50, 1], atol=0.1)
    of_first = drawn[:40_000]
    np.testing.assert_allclose(of_first.mean(0), [1.0, 6.0], atol=0.06)
    assert (of_first[:, 1] > 4).mean() == pytest.approx(0.75, abs=0.01)
    far = of_first[of_first[:, 1] > 4]
    np.testing.assert_allclose(np.cov(far, rowvar=False), [[1, 0.5], [0.5, 0.29]], atol=0.03)
    assert np.array_equal(drawn, mixtures.draw(clusters, np.random.default_rng(0)))
    assert mixtures.weights.shape == (2, COMPONENTS)
