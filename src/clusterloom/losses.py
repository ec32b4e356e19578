"""Losses as pure functions: tensors in, nats per image out.

Formula numbers without another source are those of Yan, "Clustering Method Based on VAE with Convolution Optimization"
(2020). Nothing here averages over the batch or applies a weight; that is done where losses are put together, in
`clusterloom.networks.objective` (the paper's Algorithm 1) and `clusterloom.recipe`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.errors import SettingsError


def reconstruction_loss(x: Tensor, x_hat: Tensor) -> Tensor:
    """Half the squared error, summed over pixels: formula (2) as a Gaussian log-likelihood of unit variance.

    The paper prints the mean of squared differences. The sum with its factor 1/2 is the negative logarithm of
    N(x; x_hat, 1) without the constant, so that it is in nats like the two other terms.

    Args:
        x: Images, shape (B, C, H, W), values in [0, 1].
        x_hat: Their reconstructions, the same shape.

    Returns:
        Nats per image, shape (B,).

    Raises:
        SettingsError: the shapes differ.

    Example:
        >>> import torch
        >>> reconstruction_loss(torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
        tensor([2., 2.])
    """
    if x.shape != x_hat.shape:
        raise SettingsError(
            f"images have shape {tuple(x.shape)}, reconstructions {tuple(x_hat.shape)}; expected the same"
        )
    return 0.5 * (x - x_hat).square().flatten(1).sum(1)


def gaussian_kl(mu: Tensor, log_var: Tensor, prior_mean: Tensor) -> Tensor:
    """KL(N(mu, exp(log_var)) || N(prior_mean, 1)): formula (3), around a class mean.

    With `prior_mean` zero it is the formula as printed.

    Args:
        mu: Posterior means, shape (B, D).
        log_var: Natural logarithms of the posterior variances, shape (B, D).
        prior_mean: Prior means, shape (D,) or (K, D).

    Returns:
        Nats per image, summed over D and not averaged over B: shape (B,) or (B, K).

    Raises:
        SettingsError: the latent dimensions differ.

    Example:
        >>> import torch
        >>> gaussian_kl(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(3, 2))
        tensor([[1., 1., 1.]])
    """
    own = 0.5 * (log_var.exp() - 1 - log_var).sum(1)
    return _half_squared_distance(mu, prior_mean) + (own if prior_mean.ndim == 1 else own[:, None])


def sampled_gaussian_kl(z: Tensor, log_var: Tensor, prior_mean: Tensor) -> Tensor:
    """The one-sample form of `gaussian_kl` whose loss values the paper's Table 1 follows.

    For z = mu + sigma * eps the Monte-Carlo estimate of the divergence is
    1/2 sum_d [(z - prior_mean)^2 - eps^2 - log_var]. This form leaves out eps^2, which no parameter can change:
    its expectation lies D/2 nats above `gaussian_kl`, and its gradients have the same expectation. Under q(y|z) that
    holds for each cluster, not for their average, because q then depends on the same z.

    Args:
        z: Samples of the posterior, shape (B, D).
        log_var: Natural logarithms of the posterior variances, shape (B, D).
        prior_mean: Prior means, shape (D,) or (K, D).

    Returns:
        Nats per image, summed over D: shape (B,) or (B, K).

    Raises:
        SettingsError: the latent dimensions differ.

    Example:
        >>> import torch
        >>> sampled_gaussian_kl(torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(2))
        tensor([1.])
    """
    own = -0.5 * log_var.sum(1)
    return _half_squared_distance(z, prior_mean) + (own if prior_mean.ndim == 1 else own[:, None])


def expected_over_clusters(q: Tensor, nats: Tensor) -> Tensor:
    """Expectation under q(y|.) of a quantity that each cluster has for each image.

    Args:
        q: Soft assignments, shape (B, K), rows sum to 1.
        nats: One value per image and cluster, shape (B, K), or per image, shape (B,), which is returned as it is.

    Returns:
        Shape (B,).

    Example:
        >>> import torch
        >>> expected_over_clusters(torch.tensor([[0.25, 0.75]]), torch.tensor([[4.0, 0.0]]))
        tensor([1.])
    """
    return nats if nats.ndim == 1 else (q * nats).sum(1)


def category_loss(log_q: Tensor) -> Tensor:
    """Negative entropy of q(y|.), image by image: formula (7) with the expectation that formula (5) estimates.

    Formula (5) draws y ~ q(y|x), so the average of ln q(y|x) over draws is sum_y q ln q. It lies between -ln K
    (undecided) and 0 (certain); minimising it alone keeps an image from being assigned too early.

    Args:
        log_q: Natural logarithms of the soft assignments, shape (B, K).

    Returns:
        Nats per image, shape (B,).

    Example:
        >>> import torch
        >>> category_loss(torch.log(torch.tensor([[0.5, 0.5]])))
        tensor([-0.6931])
    """
    return (log_q.exp() * log_q).sum(1)


def printed_category_loss(log_q: Tensor) -> Tensor:
    """Formula (7) letter by letter: the plain mean over all K categories of ln q(y|x).

    It has no lower bound: it is minimised by letting any category's probability vanish, whatever the image shows.
    Kept so that anyone can see what the printed formula does; `category_loss` is what formula (5) estimates.

    Args:
        log_q: Natural logarithms of the soft assignments, shape (B, K).

    Returns:
        Nats per image, shape (B,).

    Example:
        >>> import torch
        >>> printed_category_loss(torch.log(torch.tensor([[0.5, 0.5]])))
        tensor([-0.6931])
    """
    return log_q.mean(1)


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """How well the other view of an image can be told from all other images' views: NT-Xent.

    Source: Chen, Kornblith, Norouzi and Hinton, "A Simple Framework for Contrastive Learning of Visual
    Representations" (2020), its equation (1), averaged over the two directions.

    Args:
        first: A point for one view of each image, shape (B, P); only its direction counts.
        second: For another view of the same images, in the same order, shape (B, P).
        temperature: Divides the cosine similarities; lower looks at closer neighbours.

    Returns:
        Nats per image, shape (B,).

    Raises:
        SettingsError: the shapes differ, or the temperature is not positive.

    Example:
        >>> contrastive_loss(torch.eye(2), torch.eye(2), temperature=1.0)  # ln(1 + 2 / e)
        tensor([0.5514, 0.5514])
    """
    if first.shape != second.shape:
        raise SettingsError(f"views have shapes {tuple(first.shape)} and {tuple(second.shape)}; expected the same")
    if not temperature > 0:
        raise SettingsError(f"temperature must be positive, got {temperature}")
    n = len(first)
    points = F.normalize(torch.cat([first, second]), dim=1)
    with torch.autocast(points.device.type, enabled=False):  # near neighbours differ by less than bfloat16 can tell
        similarity = (points @ points.T) / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=points.device), -torch.inf)
    other = torch.arange(2 * n, device=points.device).roll(n)
    return F.cross_entropy(similarity, other, reduction="none").view(2, n).mean(0)


def balance_loss(q: Tensor, shares: Tensor) -> Tensor:
    """KL(expected cluster shares || the batch's mean assignment): large when a cluster dies.

    Args:
        q: Soft assignments, shape (B, K).
        shares: Expected share of every cluster, shape (K,), sums to 1.

    Returns:
        Nats per image, the same for all images of the batch, shape (B,).

    Example:
        >>> balance_loss(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.5]))
        tensor([0., 0.])
    """
    mean = q.mean(0).clamp(min=1e-9)
    # Two terms: of xlogy(0, 0 / mean) the gradient is not a number.
    return (torch.special.xlogy(shares, shares) - shares * mean.log()).sum().expand(len(q))


def _half_squared_distance(points: Tensor, means: Tensor) -> Tensor:
    """Half the squared distance from (B, D) points to a (D,) mean, shape (B,), or to (K, D) means, shape (B, K)."""
    if points.shape[-1] != means.shape[-1]:
        raise SettingsError(f"latent dimensions differ: {points.shape[-1]} and {means.shape[-1]}")
    if means.ndim == 1:
        return 0.5 * (points - means).square().sum(1)
    return 0.5 * (points[:, None, :] - means).square().sum(2)


def student_t_assignments(z: Tensor, class_means: Tensor) -> Tensor:
    """Soft assignments by Student's t-distribution with one degree of freedom around each centre.

    Xie, Girshick and Farhadi (2016), formula (1) with alpha = 1.

    Args:
        z: Latents, shape (B, D).
        class_means: Centres, shape (K, D).

    Returns:
        Shape (B, K), rows sum to 1.

    Example:
        >>> import torch
        >>> student_t_assignments(torch.zeros(1, 1), torch.tensor([[0.0], [1.0]]))
        tensor([[0.6667, 0.3333]])
    """
    kernel = 1 / (1 + ((z[:, None] - class_means) ** 2).sum(2))
    return kernel / kernel.sum(1, keepdim=True)


def target_distribution(q: Tensor) -> Tensor:
    """Assignments sharpened by their squares, and weighed so that large clusters do not draw more to themselves.

    Xie, Girshick and Farhadi (2016), formula (3).

    Args:
        q: Soft assignments of all images, shape (N, K).

    Returns:
        Shape (N, K), rows sum to 1.

    Example:
        >>> import torch
        >>> target_distribution(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
        tensor([[0.9000, 0.1000],
                [0.1000, 0.9000]])
    """
    weight = q**2 / q.sum(0)
    return weight / weight.sum(1, keepdim=True)
