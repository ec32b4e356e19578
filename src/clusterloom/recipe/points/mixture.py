"""Mixtures of Gaussians, fitted from many starts at once.

scikit-learn goes through the components of one start after the other. Here the log-densities of all components of all
starts are one matrix product: the exponent of a Gaussian is linear in the products of a point's coordinates,

    log N(x | m, C) = -1/2 <P, x x'> + <P m, x> + const,    P = C^-1,

so a point is turned once into its features [x_i x_j for i <= j, x_i, 1], a start into their coefficients, and the sums
that maximise the likelihood are the product of the same features with the assignments. All in double precision: the
terms of the exponent are far larger than their sum.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.cluster import KMeans, kmeans_plusplus
from torch import Tensor

_RIDGE = 1e-4  # added to every variance
_ITERATIONS = 200
_TOLERANCE = 1e-3  # nats per point; a start that gains less is done
_LEAST_LOG = -80.0  # smaller assignments count as e to this
_BLOCK_NUMBERS = 2**17  # assignments in memory at once: as many as stay in the cache
_BLOCK_POINTS = 2**14


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians with full covariances in d dimensions, float64.

    Attributes:
        weights: Shares of the components, shape (K,).
        means: Shape (K, d).
        covariances: Shape (K, d, d).
        log_likelihood: Mean over the points it was fitted to, nats per point; NaN where it was not fitted.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    log_likelihood: float = math.nan

    def predict_proba(self, points: np.ndarray) -> np.ndarray:
        """Probability of every component for points (N, d), shape (N, K), float64."""
        return np.concatenate([block.softmax(1).numpy() for block in self._log_joint(points)])

    def predict(self, points: np.ndarray) -> np.ndarray:
        """The most likely component of points (N, d), shape (N,), int64."""
        return np.concatenate([block.argmax(1).numpy() for block in self._log_joint(points)])

    def _log_joint(self, points: np.ndarray) -> Iterator[Tensor]:
        """log p(component, point) for block after block of points, each of shape (B, K)."""
        stack = _Stack.of([self])
        coefficients = stack.coefficients()[0]
        for start in range(0, len(points), _BLOCK_POINTS):
            block = torch.from_numpy(points[start : start + _BLOCK_POINTS].astype(np.float64))
            yield _features(block - stack.centre) @ coefficients


def fit_mixtures(points: np.ndarray, starts: Sequence[Mixture]) -> list[Mixture]:
    """Maximise the likelihood from every start, by expectation maximisation (Dempster, Laird and Rubin, 1977).

    As scikit-learn's `GaussianMixture` with full covariances: 1e-4 is added to every variance, and a start is done
    when it gains less than 0.001 nats per point, or after 200 rounds.

    Args:
        points: Shape (N, d).
        starts: Mixtures of equally many components each; see `mixtures_to_start_from` and `mixture_of`.

    Returns:
        What each start leads to, in the same order.

    Example:
        >>> points = np.array([[0.0], [0.2], [5.0], [5.2]])
        >>> (fitted,) = fit_mixtures(points, [mixture_of(points, np.array([[1, 0], [1, 0], [0, 1], [0, 1]]))])
        >>> fitted.predict(points).tolist(), fitted.means.round(3).tolist()
        ([0, 0, 1, 1], [[0.1], [5.1]])
    """
    fitted: list[Mixture | None] = [None] * len(starts)
    running = np.arange(len(starts))
    stack = _Stack.of(starts)
    features = _features(torch.from_numpy(points.astype(np.float64)) - stack.centre)
    before = torch.full((len(starts),), -torch.inf, dtype=torch.float64)
    for iteration in range(_ITERATIONS):
        if not len(running):
            break
        stack, likely = stack.after_one_round(features)
        done = ((likely - before).abs() < _TOLERANCE).numpy() | (iteration == _ITERATIONS - 1)
        for row in np.flatnonzero(done).tolist():
            fitted[running[row]] = stack.mixture(row, float(likely[row]))
        going = torch.from_numpy(np.flatnonzero(~done))
        running, stack, before = running[~done], stack.rows(going), likely[going]
    return [mixture for mixture in fitted if mixture is not None]


def mixture_of(points: np.ndarray, q: np.ndarray) -> Mixture:
    """The most likely mixture for points (N, d) whose components are known, as soft assignments (N, K)."""
    x, assigned = (torch.from_numpy(array.astype(np.float64)) for array in (points, q))
    centre = x.mean(0)
    return _Stack.from_sums((assigned.T @ _features(x - centre))[None], centre).mixture(0)


def mixtures_to_start_from(points: np.ndarray, n_clusters: int, seeds: Iterable[int]) -> list[Mixture]:
    """Mixtures around centres that k-means finds, and around its seeds, in turn.

    k-means finds the big groups, its seeding (Arthur and Vassilvitskii, 2007) alone the odd ones.

    Args:
        points: Shape (N, d).
        n_clusters: K, at most N.
        seeds: One for each mixture.
    """
    starts = []
    for start, seed in enumerate(seeds):
        if start % 2 == 0:
            starts.append(mixture_of(points, np.eye(n_clusters)[kmeans_labels(points, n_clusters, seed)]))
        else:
            centres = kmeans_plusplus(points, n_clusters, random_state=seed)[1]
            starts.append(mixture_of(points[centres], np.eye(n_clusters)))
    return starts


def kmeans_labels(points: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """Clusters of points (N, d) by k-means from one start, shape (N,); fewer where fewer points differ."""
    # k-means subtracts the mean, and warns of more clusters than there are different points then. Mostly one coordinate
    # tells that there are enough.
    centred = points - points.mean(0)
    if len(np.unique(centred[:, 0])) < n_clusters:
        n_clusters = min(n_clusters, len(np.unique(centred, axis=0)))
    labels: np.ndarray = KMeans(n_clusters, n_init=1, random_state=seed).fit(points).labels_
    return labels


@dataclass(frozen=True)
class _Stack:
    """S mixtures of K components each, around a common centre (d,) so that squares of coordinates stay small.

    Attributes:
        weights: Shape (S, K).
        means: Less the centre, shape (S, K, d).
        covariances: Shape (S, K, d, d).
        centre: Shape (d,).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    centre: Tensor

    @classmethod
    def of(cls, mixtures: Sequence[Mixture]) -> "_Stack":
        names = ("weights", "means", "covariances")
        weights, means, covariances = (torch.from_numpy(np.stack([getattr(m, n) for m in mixtures])) for n in names)
        centre = (weights[..., None] * means).sum((0, 1)) / weights.sum()
        return cls(weights, means - centre, covariances, centre)

    @classmethod
    def from_sums(cls, sums: Tensor, centre: Tensor) -> "_Stack":
        """The most likely mixtures for sums (S, K, F) of the features of the points that each component has."""
        size = sums[..., -1] + 10 * torch.finfo(torch.float64).eps
        dim = len(centre)
        means = sums[..., -1 - dim : -1] / size[..., None]
        row, column = torch.triu_indices(dim, dim)
        covariances = sums.new_empty(*size.shape, dim, dim)
        covariances[..., row, column] = covariances[..., column, row] = sums[..., : len(row)] / size[..., None]
        covariances -= means[..., :, None] * means[..., None, :]
        covariances.diagonal(dim1=-2, dim2=-1).add_(_RIDGE)
        return cls(size / size.sum(-1, keepdim=True), means, covariances, centre)

    def mixture(self, row: int, log_likelihood: float = math.nan) -> Mixture:
        means = self.means[row] + self.centre
        return Mixture(self.weights[row].numpy(), means.numpy(), self.covariances[row].numpy(), log_likelihood)

    def rows(self, rows: Tensor) -> "_Stack":
        return _Stack(self.weights[rows], self.means[rows], self.covariances[rows], self.centre)

    def coefficients(self) -> Tensor:
        """What the features are multiplied with for log p(component, point), shape (S, F, K)."""
        dim = len(self.centre)
        factors = torch.linalg.cholesky(self.covariances)
        precisions = torch.cholesky_inverse(factors)
        row, column = torch.triu_indices(dim, dim)
        quadratic = -precisions[..., row, column] * torch.where(row == column, 0.5, 1.0).double()
        linear = (precisions @ self.means[..., None])[..., 0]
        constant = (
            self.weights.log()
            - 0.5 * (linear * self.means).sum(-1)
            - factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            - 0.5 * dim * math.log(2 * math.pi)
        )
        return torch.cat([quadratic, linear, constant[..., None]], -1).mT

    def after_one_round(self, features: Tensor) -> tuple["_Stack", Tensor]:
        """One round of expectation maximisation on the features (N, F) of points less the centre.

        Returns:
            The mixtures after it, and the log-likelihoods before it, nats per point, shape (S,).
        """
        n_starts, n_clusters = self.weights.shape
        coefficients = self.coefficients().permute(1, 0, 2).flatten(1)  # (F, S K)
        sums = torch.zeros(n_starts * n_clusters, features.shape[1], dtype=torch.float64)
        likely = torch.zeros(n_starts, dtype=torch.float64)
        for block in torch.split(features, max(1, _BLOCK_NUMBERS // (n_starts * n_clusters))):
            log_joint = (block @ coefficients).view(len(block), n_starts, n_clusters)
            highest = log_joint.amax(2, keepdim=True)
            # 32 bits are enough for what is only exponentiated, and take a fraction of the time; so they do where the
            # result is not too small for them.
            q = (log_joint - highest).float().clamp_(min=_LEAST_LOG).exp_()
            total = q.sum(2, keepdim=True)
            likely += (highest + total.double().log()).sum((0, 2))
            sums += (q / total).view(len(block), -1).double().T @ block
        return self.from_sums(sums.view(n_starts, n_clusters, -1), self.centre), likely / len(features)


def _features(x: Tensor) -> Tensor:
    """[x_i x_j for i <= j, x_i, 1] of points (B, d), shape (B, F)."""
    row, column = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.cat([x[:, row] * x[:, column], x, x.new_ones(len(x), 1)], 1)
