"""Places in latent space, and images made from them: what the page draws, decodes and asks the network."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clusterloom.device import threads_kept
from clusterloom.errors import DataError
from clusterloom.estimators.variational import VariationalClusterer, as_images, refining_noise
from clusterloom.explore.requests import OfImage, To
from clusterloom.explore.session import Session
from clusterloom.pictures import to_uint8

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_LEAST_SHARE = 1e-3  # of the mean variance, so that a cluster of two images has a normal distribution
# One request at a time asks the network: two would only share the processor, and memory stays flat.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Component:
    """A distribution of latents, N(mean, factor factor^T) or one of the model's own, and its share among several.

    Attributes:
        mean: Shape (D,).
        factor: Shape (D, D); None where it is one of the model's own distributions.
        share: Its weight.
        cluster: The model's cluster that its images belong to.
    """

    mean: np.ndarray
    factor: np.ndarray | None
    share: int
    cluster: int

    def draw(self, model: ImageClusterer, n: int, spread: float, generator: np.random.Generator) -> np.ndarray:
        """Latents of `n` new images, shape (n, D)."""
        if self.factor is None:
            return model.sample_latents(np.full(n, self.cluster), spread, generator, checked=False)
        noise = generator.standard_normal((n, len(self.mean)), dtype=np.float32)
        return self.mean + np.float32(spread) * noise @ self.factor.T


def components(session: Session, cluster: int) -> list[Component]:
    """What new images of a cluster are drawn from: one normal distribution for each of the model's clusters in it.

    A cluster as the model made it has the model's own distribution. Of one that was merged, split or corrected, the
    parts that are no longer whole clusters of the model have that of their own latents.

    Raises:
        DataError: there is no such cluster, or no image in it.
    """
    means = session.model.network_.class_means.detach().cpu().numpy()
    if not session.ready:
        if cluster >= len(means):
            raise DataError(f"there is no cluster {cluster}")
        return [Component(means[cluster], None, 1, cluster)]
    collection = session.collection
    members = collection.assignment.members(cluster)
    if len(members) == 0:
        raise DataError(f"{collection.assignment.title(cluster)} has no images to learn from")
    origins = collection.predictions.labels[members]
    parts = []
    for k in np.unique(origins).tolist():
        rows = members[origins == k]
        if len(rows) == collection.predictions.sizes[k]:
            parts.append(Component(means[k], None, len(rows), k))
        else:
            parts.append(_fitted(collection.predictions.latents[rows], k))
    return parts


def new_images(session: Session, cluster: int, n: int, spread: float, seed: int) -> np.ndarray:
    """New images of a cluster, the same as `model.sample` draws where nobody has edited the cluster.

    Args:
        session: Of a model that generates.
        cluster: Which cluster.
        n: How many images.
        spread: Factor on the deviations from the mean.
        seed: The same seed draws the same images.

    Returns:
        Shape (n, H, W, C), uint8.

    Raises:
        DataError: the model generates nothing, or there is no such cluster or no image in it.
    """
    if session.why_not_generating:
        raise DataError(session.why_not_generating)
    model, generator = session.model, np.random.default_rng(seed)
    assert isinstance(model, VariationalClusterer), "no other generates"
    parts = components(session, cluster)
    chosen = np.zeros(n, np.int64)  # the component of each image
    if len(parts) > 1:
        shares = np.array([part.share for part in parts])
        chosen = generator.choice(len(parts), n, p=shares / shares.sum())

    def draw(rows: np.ndarray) -> np.ndarray:
        latents = np.empty((len(rows), model.network_.latent_dim), np.float32)
        for i in np.unique(chosen[rows]):
            mine = chosen[rows] == i
            latents[mine] = parts[i].draw(model, int(mine.sum()), spread, generator)
        return latents

    of_model = np.array([part.cluster for part in parts])[chosen]  # the model's cluster of each image
    images = model.draw_images(of_model, draw, spread, generator, apply=partial(_apply, model))
    return model.shown(to_uint8(images))


def place(session: Session, where: To) -> np.ndarray:
    """Latents of an image, or of the middle of a cluster, shape (D,).

    The middle is that of the largest component: between two of them there may be nothing.

    Raises:
        DataError: there is no such image or cluster, or latents of the model cannot be shown as images.
    """
    if session.why_not_decoding:
        raise DataError(session.why_not_decoding)
    if isinstance(where, OfImage):
        (row,) = session.collection.assignment.rows([where.row])
        return session.collection.predictions.latents[row]
    return max(components(session, where.cluster), key=lambda part: part.share).mean


def deviations(session: Session) -> np.ndarray:
    """How far the latents reach along each dimension, as standard deviations, shape (D,)."""
    if session.ready:
        return session.collection.predictions.latents.std(0)
    model = session.model
    if session.why_not_generating:
        return np.ones(model.network_.latent_dim, np.float32)
    assert isinstance(model, VariationalClusterer), "no other generates"
    network = model.network_
    within = np.square(network.scale_tril.cpu().numpy()).sum(2).mean(0)
    return np.sqrt(within + network.class_means.detach().cpu().numpy().var(0))


def decode(session: Session, latents: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C), uint8, in the channels that pictures show, from latents (N, D)."""
    network = session.model.network_
    (images,) = _apply(session.model, lambda z: (network.decode(z.flatten(1)).permute(0, 2, 3, 1),), as_images(latents))
    return session.model.shown(to_uint8(images))


def walked(session: Session, latents: np.ndarray) -> np.ndarray:
    """Images of latents (N, D) on a way, as `decode` gives them; refined from one noise, if the model refines."""
    model = session.model
    if not model.refines:
        return decode(session, latents)
    assert isinstance(model, VariationalClusterer), "no other refines"
    noise = np.repeat(refining_noise(model.network_, 1, 1.0, np.random.default_rng(0)), len(latents), 0)
    return model.shown(to_uint8(model.refined(latents, noise, partial(_apply, model))))


def predictions(model: ImageClusterer, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Probabilities (K,), latents (D,), score and reconstruction (H, W, C) of one image (H, W, C), uint8."""

    def predicted(x: Tensor) -> tuple[Tensor, ...]:
        q, latents, score = model.network_.predictions(x)
        return q, latents, score, model.network_.decode(latents).permute(0, 2, 3, 1)

    q, latents, score, rebuilt = _apply(model, predicted, model.as_read(pixels[None])[:])
    return q[0], latents[0], float(score[0]), to_uint8(rebuilt[0])


def _apply(
    model: ImageClusterer,
    function: Callable[..., tuple[Tensor, ...]],
    images: np.ndarray,
    beside: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Apply a function to images, and to numbers beside them, in one batch of just their number.

    It answers while a slider moves. The estimators fill batches up, so that an image never depends on the others, in
    the last bit.
    """
    compute = model.compute()
    with _ONE_AT_A_TIME, threads_kept(), torch.inference_mode(), compute.autocast():
        torch.set_num_threads(1)  # so few images gain nothing from more, and lose much where other work keeps them busy
        more = [] if beside is None else [compute.on_device(beside)]
        return tuple(tensor.float().cpu().numpy() for tensor in function(compute.batch(images), *more))


def _fitted(latents: np.ndarray, cluster: int) -> Component:
    mean, dim = latents.mean(0), latents.shape[1]
    covariance = np.atleast_2d(np.cov(latents, rowvar=False)) if len(latents) > 1 else np.zeros((dim, dim))
    floor = _LEAST_SHARE * max(float(np.trace(covariance)) / dim, 1e-6)
    factor = np.linalg.cholesky(covariance + floor * np.eye(dim))
    return Component(mean, factor.astype(np.float32), len(latents), cluster)
