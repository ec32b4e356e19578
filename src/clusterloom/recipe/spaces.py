"""What images show before anything is learned: brightness, colours, texture; in each of these kinds may lie apart."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from clusterloom.recipe.augment import stretched
from clusterloom.recipe.neighbours import principal_components
from clusterloom.training.randomness import numpy_generator, seed_for

_COMPONENTS = 50
_SIDE = 32  # pixels of larger images are averaged
_BLOCK = 1000
_PATCH = 5
_PATCH_DIMENSIONS = 15
_TEXTONS = 100
_PATCHES = 60_000  # that textons are made of
_EVEN = 0.5  # smallest variance of a place over the largest: above, images look alike everywhere


def plain_spaces(images: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The spaces that a set of images has, by name.

    Args:
        images: uint8 or floats from 0 to 1, shape (N, H, W, C).
        seed: Of textons.

    Returns:
        Points of shape (N, D), float32: "brightness", for colour images "colours" and "pixels", and for images that
        are filled evenly by something "texture".
    """
    spaces = {"brightness": _components(_of_all(images, lambda x: _small(stretched(x)[:, :1])))}
    if images.shape[3] == 3:
        spaces["colours"] = _of_all(images, lambda x: torch.cat([x.mean((2, 3)), x.std((2, 3))], 1))
        spaces["pixels"] = _components(_of_all(images, lambda x: F.adaptive_avg_pool2d(x, 8).flatten(1)))
    if filled_evenly(images):
        spaces["texture"] = texture_space(images, seed)
    return spaces


def filled_evenly(images: np.ndarray) -> bool:
    """Whether brightness varies as much at every place of the images, as in textures and cut-outs of large pictures."""
    if min(images.shape[1:3]) < 2 * _PATCH:
        return False
    grey = _of_all(images, lambda x: _small(x.mean(1, keepdim=True)))
    variance = grey.var(0)
    return bool(variance.min() >= _EVEN * variance.max() > 0)


def texture_space(images: np.ndarray, seed: int) -> np.ndarray:
    """How often each of 100 kinds of small patches occurs in an image, as square roots, shape (N, 100).

    Textons after Varma and Zisserman (2003): patches of 5 x 5 pixels, less their mean, on their principal components.
    """
    generator = numpy_generator(seed, "sample", "textons")

    def patches(x: Tensor) -> Tensor:
        found = F.unfold(x.mean(1, keepdim=True), _PATCH, stride=2).mT  # (B, places, 25)
        return found - found.mean(2, keepdim=True)

    some = np.sort(generator.permutation(len(images))[:_BLOCK])
    sample = patches(_unit(images[some])).flatten(0, 1)
    sample = sample[torch.from_numpy(generator.permutation(len(sample))[:_PATCHES])]
    directions = torch.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:_PATCH_DIMENSIONS].T
    textons = MiniBatchKMeans(
        min(_TEXTONS, len(sample)), random_state=seed_for(seed, "sample", "textons") % 2**32, n_init=3, batch_size=4096
    ).fit((sample @ directions).numpy())
    centres = torch.from_numpy(textons.cluster_centers_).float()

    def histogram(x: Tensor) -> Tensor:
        nearest = torch.cdist(patches(x) @ directions, centres[None]).argmin(2)
        return F.one_hot(nearest, len(centres)).float().mean(1).sqrt()

    return _of_all(images, histogram, 100)


def _small(x: Tensor) -> Tensor:
    height, width = x.shape[2:]
    if max(height, width) > _SIDE:
        x = F.adaptive_avg_pool2d(x, (min(height, _SIDE), min(width, _SIDE)))
    return x.flatten(1)


def _components(points: np.ndarray) -> np.ndarray:
    return principal_components(points, _COMPONENTS) if points.shape[1] > _COMPONENTS else points


def _unit(images: np.ndarray) -> Tensor:
    """Images (B, C, H, W), values from 0 to 1."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return x / 255 if images.dtype == np.uint8 else x


def _of_all(images: np.ndarray, function: Callable[[Tensor], Tensor], block: int = _BLOCK) -> np.ndarray:
    parts = [function(_unit(images[start : start + block])).numpy() for start in range(0, len(images), block)]
    return np.concatenate(parts).astype(np.float32)
