"""What images show before anything is learned, from brightness to texture: in each space other kinds may lie apart."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from clusterloom.recipe.angles import waves_around
from clusterloom.recipe.augment import SIGNS, ViewSettings
from clusterloom.recipe.brightness import unit
from clusterloom.recipe.components import principal_components
from clusterloom.recipe.contours import DIRECTIONS, oriented_gradients
from clusterloom.training.randomness import numpy_generator, seed_for

APPEARANCE, CONTOURS, PALETTE, TEXTURE, WAVES = "appearance", "contours", "palette", "texture", "waves"
_COMPONENTS = 50
_OF_CONTOURS = 30  # components, and of waves
_CONTOURS_SHARE = 2 / 3  # of the variance of appearance
_SIDE = 32  # pixels of larger images are averaged
_CONTOURED_SIDE = 64  # the same for contours, which have to be sharp
_BLOCK_NUMBERS = 2**22  # pixels and channels, or places and kinds of patches, in memory at once
_PATCH_DIMENSIONS = 15
_KINDS_OF_PATCHES = 200  # for each size
_BLUR = 0.02  # of the palette, for channels from 0 to 1
_SAMPLED_PATCHES = 60_000  # that their kinds are found in
_DARK = 0.05  # beside the mean of brightness, which light multiplies
_PATCHED_IMAGES = 1000  # at most, that these are taken from
_SHORTEST = 1e-6  # distance from the mean; less is rounding


def plain_spaces(images: np.ndarray, seed: int, views: ViewSettings = SIGNS) -> dict[str, np.ndarray]:
    """The spaces that a set of images has, by name.

    Args:
        images: uint8 or floats from 0 to 1, shape (N, H, W, C).
        seed: Of the kinds of patches.
        views: What is fair for them, of which follows what is looked at; see `choose_views`.

    Returns:
        Points of shape (N, D), float32: "brightness", for images of several channels "colours", "palette" and "pixels",
        "texture" where all places show the same, and elsewhere "contours", and "waves" where angles do not count.
    """
    spaces = {"brightness": _components(_of_all(images, lambda x: _small(views.shown(x)[:, :1])))}
    if images.shape[3] > 1:
        spaces["colours"] = _of_all(images, lambda x: torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1))
        spaces[PALETTE] = palette_space(images, seed)
        spaces["pixels"] = _components(_of_all(images, lambda x: F.adaptive_avg_pool2d(x, 8).flatten(1)))
    if views.any_place:
        spaces[TEXTURE] = texture_space(images, seed)
    else:
        spaces[CONTOURS] = contour_space(images, views.shown)
        if views.any_angle:
            waves = _of_all(images, lambda x: waves_around(_reduced(views.shown(x)[:, :1], _CONTOURED_SIDE)))
            spaces[WAVES] = _components(waves, _OF_CONTOURS)
    return spaces


def contour_space(images: np.ndarray, brightness: Callable[[Tensor], Tensor]) -> np.ndarray:
    """The first 30 principal components of `oriented_gradients` of the brightness, shape (N, D)."""
    numbers = 2 * DIRECTIONS * math.prod(min(side, _CONTOURED_SIDE) for side in images.shape[1:3])
    points = _of_all(images, lambda x: oriented_gradients(_reduced(brightness(x)[:, :1], _CONTOURED_SIDE)), numbers)
    return _components(points, _OF_CONTOURS)


def appearance_space(spaces: Mapping[str, np.ndarray]) -> np.ndarray:
    """Contours, and what is where: what none of them tells alone they may tell together.

    Args:
        spaces: Points of shape (N, D) each: "contours", "brightness" and, of images of several channels, "pixels".

    Returns:
        The first 30 principal components of all of them side by side, contours with two thirds of the variance, shape
        (N, D).
    """
    places = [spaces[name] for name in ("brightness", "pixels") if name in spaces]
    shares = [_CONTOURS_SHARE, *(len(places) * [(1 - _CONTOURS_SHARE) / len(places)])]
    parts = [points - points.mean(0) for points in (spaces[CONTOURS], *places)]
    lengths = [max(float(np.sqrt(np.square(part).sum(1).mean())), _SHORTEST) for part in parts]
    scaled = [part * (np.sqrt(share) / length) for part, share, length in zip(parts, shares, lengths, strict=True)]
    return _components(np.hstack(scaled).astype(np.float32), _OF_CONTOURS)


def palette_space(images: np.ndarray, seed: int) -> np.ndarray:
    """How often each of 200 colours, and of 200 patches of 3 x 3 pixels in colour, occurs in an image, wherever.

    So frames of one figure are alike, whatever it does in them. Shape (N, 400), square roots; a bag of words after
    Csurka and others (2004). A patch belongs to all kinds near it (van Gemert and others, 2008): else images of any
    colour would fall into as many islands as there are kinds.
    """
    return _bags(images, (1, 3), lambda x: x, seed, PALETTE, blur=_BLUR)


def texture_space(images: np.ndarray, seed: int) -> np.ndarray:
    """How often each of 200 kinds of small patches of two sizes occurs in an image, as square roots, shape (N, 400).

    Textons after Varma and Zisserman (2003): all patches of 3 x 3 and of 5 x 5 pixels, less their mean, on their
    principal components. Light multiplies: images are divided by their mean first.
    """

    def lit_alike(x: Tensor) -> Tensor:
        grey = x.mean(1, keepdim=True)
        return grey / (grey.mean((2, 3), keepdim=True) + _DARK)

    return _bags(images, (3, 5), lit_alike, seed, "textons", centred=True)


def _bags(
    images: np.ndarray,
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
    return np.hstack([_bag(images, side, shown, of_kinds, generator, centred, blur) for side in sides])


def _bag(
    images: np.ndarray,
    side: int,
    shown: Callable[[Tensor], Tensor],
    seed: int,
    generator: np.random.Generator,
    centred: bool,
    blur: float,
) -> np.ndarray:
    """`_bags` of patches with so many pixels along each side, shape (N, 200)."""
    height, width = images.shape[1:3]
    stride = math.ceil(max(height, width) / _CONTOURED_SIDE)
    places = math.prod((length - side) // stride + 1 for length in (height, width))  # of patches in an image

    def patches(x: Tensor) -> Tensor:
        found = F.unfold(shown(x), side, stride=stride).mT  # (B, places, C * side * side)
        return found - found.mean(2, keepdim=True) if centred else found

    n_images = min(_PATCHED_IMAGES, len(images))
    of_each = min(places, math.ceil(_SAMPLED_PATCHES / n_images))
    some = np.sort(generator.permutation(len(images))[:n_images])
    sample = torch.cat(
        [patches(unit(images[[row]]))[0, torch.from_numpy(generator.permutation(places)[:of_each])] for row in some]
    )
    dimensions = min(_PATCH_DIMENSIONS, sample.shape[1] - centred)  # less their mean, patches have one fewer
    directions = torch.linalg.svd(sample - sample.mean(0), full_matrices=False)[2][:dimensions].T
    n_kinds = min(_KINDS_OF_PATCHES, len(sample))
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

    return _of_all(images, histogram, places * len(centres))


def _small(x: Tensor) -> Tensor:
    """Pixels of images (B, C, H, W), of large ones the means of some, shape (B, D)."""
    return _reduced(x, _SIDE).flatten(1)


def _reduced(x: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) with at most so many pixels along each side, which are means of theirs."""
    height, width = x.shape[2:]
    return F.adaptive_avg_pool2d(x, (min(height, side), min(width, side))) if max(height, width) > side else x


def _components(points: np.ndarray, most: int = _COMPONENTS) -> np.ndarray:
    """The first principal components of points (N, D) that have more dimensions."""
    return principal_components(points, most) if points.shape[1] > most else points


def _of_all(images: np.ndarray, function: Callable[[Tensor], Tensor], numbers: int = 0) -> np.ndarray:
    """What a function makes of all images, shape (N, D), float32.

    Args:
        images: Shape (N, H, W, C).
        function: From images (B, C, H, W) to points (B, D).
        numbers: How many it has in memory for each image, beyond the image itself.
    """
    block = max(1, _BLOCK_NUMBERS // max(numbers, math.prod(images.shape[1:])))
    points = np.empty((len(images), 0), np.float32)
    for start in range(0, len(images), block):
        part = function(unit(images[start : start + block])).numpy()
        if start == 0:
            points = np.empty((len(images), part.shape[1]), np.float32)  # filled as it goes: a list would be a copy
        points[start : start + len(part)] = part
    return points
