"""Which small patches images are made of, wherever these are: bags of words, after Csurka and others (2004)."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.inference import BATCH_SIZE
from clusterloom.recipe.spaces.blocks import of_all
from clusterloom.recipe.views.brightness import unit
from clusterloom.training.randomness import numpy_generator, seed_for

_DIMENSIONS = 15
_KINDS = 200  # for each size
_SIDE = 64  # pixels of images; of larger ones not every place has a patch
_PATCHES = 60_000  # that their kinds are found in
_IMAGES = 1000  # at most, that these are taken from


def patch_counts(
    images: ImageArray,
    sides: tuple[int, ...],
    shown: Callable[[Tensor], Tensor],
    seed: int,
    name: str,
    centred: bool = False,
    blur: float = 0.0,
) -> np.ndarray:
    """How often each of 200 kinds of patches occurs, for each size of patches, as square roots, shape (N, D).

    Args:
        images: Shape (N, H, W, C).
        sides: Of patches, in pixels.
        shown: What they are taken from, shape (B, C, H, W), of images (B, C, H, W).
        seed: Of the kinds, which are found in a sample.
        name: Of the random numbers.
        centred: Patches are seen less their mean.
        blur: How far from a patch the kinds are that it belongs to, as the deviation of a pixel; 0 for the nearest one.
    """
    generator, of_kinds = numpy_generator(seed, "sample", name), seed_for(seed, "sample", name)
    fitting = [side for side in sides if side <= min(images.shape[1:3])]
    return np.hstack([_counts_of(images, side, shown, of_kinds, generator, centred, blur) for side in fitting])


def _counts_of(
    images: ImageArray,
    side: int,
    shown: Callable[[Tensor], Tensor],
    seed: int,
    generator: np.random.Generator,
    centred: bool,
    blur: float,
) -> np.ndarray:
    """`patch_counts` of patches with so many pixels along each side, shape (N, 200)."""
    height, width = images.shape[1:3]
    stride = math.ceil(max(height, width) / _SIDE)
    places = math.prod((length - side) // stride + 1 for length in (height, width))  # of patches in an image

    def patches(x: Tensor) -> Tensor:
        found = F.unfold(shown(x), side, stride=stride).mT  # (B, places, C * side * side)
        return found - found.mean(2, keepdim=True) if centred else found

    n_images = min(_IMAGES, len(images))
    of_each = min(places, math.ceil(_PATCHES / n_images))
    some = np.sort(generator.permutation(len(images))[:n_images])
    blocks = (images[some[start : start + BATCH_SIZE]] for start in range(0, n_images, BATCH_SIZE))  # as quick as one
    sample = torch.cat(
        [
            patches(unit(image[None]))[0, torch.from_numpy(generator.permutation(places)[:of_each])]
            for block in blocks
            for image in block
        ]
    )
    dimensions = min(_DIMENSIONS, sample.shape[1] - centred)  # less their mean, patches have one fewer
    directions = torch.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:dimensions].T
    n_kinds = min(_KINDS, len(sample))
    kinds = MiniBatchKMeans(n_kinds, random_state=seed % 2**32, n_init=3, batch_size=4096)
    kinds.fit((sample @ directions).numpy())
    centres = torch.from_numpy(kinds.cluster_centers_).float()
    half_lengths = centres.square().sum(1) / 2

    def histogram(x: Tensor) -> Tensor:
        # Minus half the squared distance to each kind, but for what is the same for all of them.
        closeness = patches(x) @ (directions @ centres.T) - half_lengths
        if blur:
            return (closeness / (blur * side) ** 2).softmax(2).mean(1).sqrt()
        nearest = closeness.argmax(2)  # (B, places)
        counts = torch.zeros(len(x), len(centres)).scatter_add_(1, nearest, torch.ones(nearest.shape))
        return (counts / places).sqrt()

    return of_all(images, histogram, places * len(centres))
