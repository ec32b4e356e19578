"""Every formula against torch.distributions or a number worked out by hand, in float64."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence

from clusterloom import losses
from clusterloom.errors import SettingsError


@pytest.fixture
def posterior():
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    log_var = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    return mu, log_var, means


def test_reconstruction_is_the_gaussian_log_likelihood_without_its_constant():
    x, x_hat = torch.rand(2, 4, 3, 5, 6, dtype=torch.float64)
    log_prob = Normal(x_hat, 1.0).log_prob(x).flatten(1).sum(1)
    constant = 0.5 * math.log(2 * math.pi) * 3 * 5 * 6
    torch.testing.assert_close(losses.reconstruction_loss(x, x_hat), -log_prob - constant)


def test_reconstruction_rejects_different_shapes():
    with pytest.raises(SettingsError, match=r"\(1, 1, 2, 2\).*\(1, 1, 2, 3\)"):
        losses.reconstruction_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 3))


def test_gaussian_kl_around_every_class_mean(posterior):
    mu, log_var, means = posterior
    got = losses.gaussian_kl(mu, log_var, means)
    for k, mean in enumerate(means):
        expected = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(mean.expand_as(mu), 1.0)).sum(1)
        torch.testing.assert_close(got[:, k], expected)
        torch.testing.assert_close(losses.gaussian_kl(mu, log_var, mean), expected)


def test_gaussian_kl_as_printed_by_hand():
    # 1/2 (-ln 4 + 3^2 + 4 - 1) = 1/2 (12 - 1.386294) = 5.306853
    got = losses.gaussian_kl(torch.tensor([[3.0]]), torch.log(torch.tensor([[4.0]])), torch.zeros(1))
    assert got.item() == pytest.approx(5.306853, abs=1e-6)


def test_sampled_kl_is_the_one_sample_estimate_plus_half_eps_squared(posterior):
    mu, log_var, means = posterior
    eps = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = (0.5 * log_var).exp()
    z = mu + sigma * eps
    got = losses.sampled_gaussian_kl(z, log_var, means)
    for k, mean in enumerate(means):
        estimate = (Normal(mu, sigma).log_prob(z) - Normal(mean, 1.0).log_prob(z)).sum(1)
        torch.testing.assert_close(got[:, k], estimate + 0.5 * eps.square().sum(1))
        torch.testing.assert_close(losses.sampled_gaussian_kl(z, log_var, mean), got[:, k])


def test_sampled_kl_lies_half_a_nat_per_dimension_above_the_analytic_one(posterior):
    mu, log_var, means = posterior
    generator = torch.Generator().manual_seed(2)
    draws = [
        losses.sampled_gaussian_kl(
            mu + (0.5 * log_var).exp() * torch.randn(7, 5, generator=generator, dtype=torch.float64), log_var, means
        )
        for _ in range(20_000)
    ]
    expected = losses.gaussian_kl(mu, log_var, means) + 5 / 2
    torch.testing.assert_close(torch.stack(draws).mean(0), expected, rtol=0.02, atol=0.05)


def test_kl_rejects_another_latent_dimension(posterior):
    mu, log_var, _ = posterior
    for loss in (losses.gaussian_kl, losses.sampled_gaussian_kl):
        with pytest.raises(SettingsError, match="5 and 4"):
            loss(mu, log_var, torch.zeros(3, 4, dtype=torch.float64))


def test_balance_has_a_gradient_where_a_cluster_should_be_empty():
    q = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2]], requires_grad=True)
    shares = torch.tensor([0.6, 0.4, 0.0])
    loss = losses.balance_loss(q, shares)[0]
    loss.backward()
    torch.testing.assert_close(q.grad, (-shares / q.detach().mean(0) / 2).expand(2, 3))


def test_contrastive_loss_is_a_choice_among_all_other_views():
    a, b = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    points = [p / p.norm() for p in (*a, *b)]
    expected = []
    for i in range(6):
        partner = (i + 3) % 6
        others = sum(math.exp(float(points[i] @ points[j]) / 0.5) for j in range(6) if j != i)
        expected.append(-math.log(math.exp(float(points[i] @ points[partner]) / 0.5) / others))
    per_image = torch.tensor([(expected[i] + expected[i + 3]) / 2 for i in range(3)], dtype=torch.float64)
    torch.testing.assert_close(losses.contrastive_loss(a, b, 0.5), per_image)
    with pytest.raises(SettingsError, match="shapes"):
        losses.contrastive_loss(a, b[:2], 0.5)
    with pytest.raises(SettingsError, match="temperature"):
        losses.contrastive_loss(a, b, 0.0)


def test_balance_equals_torch_distributions():
    q = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], dtype=torch.float64)
    shares = torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(shares), torch.distributions.Categorical(q.mean(0))
    )
    torch.testing.assert_close(losses.balance_loss(q, shares), expected.expand(2))
    dead = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert losses.balance_loss(dead, torch.full((3,), 1 / 3, dtype=torch.float64)) > 5


def test_category_loss_is_negative_entropy():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    got = losses.category_loss(logits.log_softmax(1))
    torch.testing.assert_close(got, -Categorical(logits=logits).entropy())


def test_category_loss_bounds():
    certain = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64).log_softmax(1)
    undecided = torch.zeros(1, 3, dtype=torch.float64).log_softmax(1)
    assert losses.category_loss(certain).item() == pytest.approx(0, abs=1e-12)
    assert losses.category_loss(undecided).item() == pytest.approx(-math.log(3))


def test_printed_category_loss_by_hand_and_unbounded():
    q = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    # (ln 0.2 + ln 0.3 + ln 0.5) / 3 = ln(0.03) / 3
    assert losses.printed_category_loss(q.log()).item() == pytest.approx(math.log(0.03) / 3)
    vanishing = torch.tensor([[1 - 1e-12, 1e-12]], dtype=torch.float64)
    assert losses.printed_category_loss(vanishing.log()).item() < -13


def test_expected_over_clusters():
    q = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=torch.float64)
    nats = torch.tensor([[4.0, 8.0], [3.0, 9.0]], dtype=torch.float64)
    assert losses.expected_over_clusters(q, nats).tolist() == [7.0, 3.0]
    assert losses.expected_over_clusters(q, nats[:, 0]).tolist() == [4.0, 3.0]
