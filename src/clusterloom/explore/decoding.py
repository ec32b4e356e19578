"""New images and images on the way between others: latents chosen, decoded and put on one sheet."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clusterloom.device import Compute, threads_kept
from clusterloom.errors import DataError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.validation import images_from
from clusterloom.explore.session import Session
from clusterloom.pictures import to_picture, to_uint8

_CANDIDATES = 3  # drawn for each new image, to choose those that the model would put into its cluster
_LEAST_SHARE = 1e-3  # of the mean variance, so that a cluster of two images has a normal distribution
# One request at a time asks the network: two would only share the processor, and memory stays flat.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Component:
    """A normal distribution of latents, N(mean, factor factor^T), and its share among several.

    Attributes:
        mean: Shape (D,).
        factor: Shape (D, D).
        share: Its weight.
        cluster: The model's cluster that its images belong to.
    """

    mean: np.ndarray
    factor: np.ndarray
    share: float
    cluster: int


def decode(model: ImageClusterer, latents: np.ndarray) -> np.ndarray:
    """Images from latents, in one batch of just that size: an answer while a slider moves.

    `ImageClusterer.decode` fills batches up, so that an image never depends on the others, in the last bit.

    Args:
        model: The model.
        latents: Shape (N, D).

    Returns:
        Shape (N, H, W, C), uint8.
    """
    (images,) = _run(model, _as_images(latents), lambda z: (model.network_.decode(z.flatten(1)).permute(0, 2, 3, 1),))
    return to_uint8(images)


def components(session: Session, cluster: int) -> list[Component]:
    """What new images of a cluster are drawn from: one normal distribution for each of the model's clusters in it.

    A cluster as the model made it has the model's own distribution. Of one that was merged, split or corrected, the
    parts that are no longer whole clusters of the model have that of their own latents.

    Raises:
        DataError: there is no such cluster, or no image in it.
    """
    if not session.ready:
        if not 0 <= cluster < session.model.n_clusters_:
            raise DataError(f"there is no cluster {cluster}")
        return [_model_component(session.model, cluster, 1)]
    collection = session.collection
    members = collection.sorting.members(cluster)
    if len(members) == 0:
        raise DataError(f"{collection.sorting.title(cluster)} has no images to learn from")
    sizes = collection.predictions.sizes
    origins = collection.predictions.labels[members]
    parts = []
    for k in np.unique(origins):
        rows = members[origins == k]
        if len(rows) == sizes[k]:
            parts.append(_model_component(session.model, int(k), len(rows)))
        else:
            parts.append(_fitted_component(collection.predictions.latents[rows], int(k)))
    return parts


def sample(model: ImageClusterer, parts: list[Component], n: int, spread: float, seed: int) -> np.ndarray:
    """New images, those first of several candidates that the model would put where they belong.

    Args:
        model: A model that generates.
        parts: From `components`.
        n: How many images.
        spread: Standard deviation; 1 is the distribution itself.
        seed: The same seed draws the same images.

    Returns:
        Shape (n, H, W, C), uint8.
    """
    generator = np.random.default_rng(seed)
    count = n * _CANDIDATES if spread > 0 else n
    shares = np.array([part.share for part in parts])
    chosen = generator.choice(len(parts), count, p=shares / shares.sum())
    noise = generator.standard_normal((count, len(parts[0].mean))).astype(np.float32)
    means, factors = np.stack([p.mean for p in parts]), np.stack([p.factor for p in parts])
    latents = means[chosen] + np.float32(spread) * np.einsum("nij,nj->ni", factors[chosen], noise)

    def decoded(z: Tensor) -> tuple[Tensor, ...]:
        x = model.network_.decode(z.flatten(1))
        return x.permute(0, 2, 3, 1), model.network_.assign(x)

    images, q = _run(model, _as_images(latents), decoded)
    strays = q.argmax(1) != np.array([p.cluster for p in parts])[chosen]
    return to_uint8(images[np.argsort(strays, kind="stable")[:n]])


def centre(parts: list[Component]) -> np.ndarray:
    """The middle of the largest component, shape (D,): between two of them there may be nothing."""
    return max(parts, key=lambda part: part.share).mean


def deviations(session: Session) -> np.ndarray:
    """How far the latents reach along each dimension, as standard deviations, shape (D,)."""
    if session.ready:
        return session.collection.predictions.latents.std(0)
    if session.generates == "":
        parts = [_model_component(session.model, k, 1) for k in range(session.model.n_clusters_)]
        within = np.mean([np.einsum("ij,ij->i", p.factor, p.factor) for p in parts], 0)
        return np.sqrt(within + np.var([p.mean for p in parts], 0))
    return np.ones(int(session.model.network_.latent_dim), np.float32)


def latents_of(session: Session, row: int) -> np.ndarray:
    """The latents of an image, shape (D,)."""
    return session.collection.predictions.latents[row]


def predictions(model: ImageClusterer, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Probabilities (K,), latents (D,), score and reconstruction (H, W, C) of one image (H, W, C), uint8."""
    images = images_from(model, pixels[None], reset=False)

    def predicted(x: Tensor) -> tuple[Tensor, ...]:
        q, latents, score = model.network_.predictions(x)
        return q, latents, score, model.network_.decode(latents).permute(0, 2, 3, 1)

    q, latents, score, rebuilt = _run(model, images, predicted)
    return q[0], latents[0], float(score[0]), to_uint8(rebuilt[0])


def sheet(images: np.ndarray, columns: int) -> Image.Image:
    """Images side by side without gaps, `columns` in a row, what is left over black.

    Args:
        images: Shape (N, H, W, C), N at least 1.
        columns: At least 1.
    """
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, height, width, channels), images.dtype)
    canvas[:n] = images
    lined = canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return to_picture(lined.reshape(rows * height, columns * width, channels))


def _run(
    model: ImageClusterer, images: np.ndarray, function: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[np.ndarray, ...]:
    compute = Compute.choose(model.device, model.precision)
    with _ONE_AT_A_TIME, threads_kept(), torch.inference_mode(), compute.autocast():
        torch.set_num_threads(1)  # so few images gain nothing from more, and lose much where other work keeps them busy
        return tuple(tensor.float().cpu().numpy() for tensor in function(compute.batch(images)))


def _as_images(latents: np.ndarray) -> np.ndarray:
    """Latents (N, D) as images of 1 x 1 pixel and D channels, in which form they travel to the device."""
    return np.asarray(latents, np.float32)[:, None, None]


def _model_component(model: ImageClusterer, cluster: int, share: float) -> Component:
    network = model.network_
    mean = network.class_means[cluster].detach().cpu().numpy()
    factors = getattr(network, "scale_tril", None)
    factor = np.eye(len(mean), dtype=np.float32) if factors is None else factors[cluster].cpu().numpy()
    return Component(mean, factor, share, cluster)


def _fitted_component(latents: np.ndarray, cluster: int) -> Component:
    mean = latents.mean(0)
    covariance = np.atleast_2d(np.cov(latents, rowvar=False)) if len(latents) > 1 else np.zeros((len(mean), len(mean)))
    floor = _LEAST_SHARE * max(float(np.trace(covariance)) / len(mean), 1e-6)
    factor = np.linalg.cholesky(covariance + floor * np.eye(len(mean)))
    return Component(mean, factor.astype(np.float32), len(latents), cluster)
