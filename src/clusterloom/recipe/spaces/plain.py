"""What images show before anything is learned, from brightness to texture: in each space other kinds may lie apart."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.networks.strokes import SIDE, as_drawn, pretrained_strokes
from clusterloom.recipe.points.components import principal_components
from clusterloom.recipe.spaces.blocks import of_all
from clusterloom.recipe.spaces.contours import DIRECTIONS, oriented_gradients
from clusterloom.recipe.spaces.patches import patch_counts
from clusterloom.recipe.views.angles import seen_around, waves_around
from clusterloom.recipe.views.augment import SIGNS, ViewSettings
from clusterloom.recipe.views.brightness import SHADED, evenly_lit, shaded_shares, share_on_a_line

APPEARANCE, CONTOURS, PALETTE, STROKES = "appearance", "contours", "palette", "strokes"
TEXTURE, WAVES = "texture", "waves"
# In the order in which guides draw.
PLAIN_SPACES = ("brightness", "colours", CONTOURS, PALETTE, "pixels", STROKES, TEXTURE, WAVES, APPEARANCE)
_COMPONENTS = 50
_OF_CONTOURS = 30  # components, and of waves
_CONTOURS_SHARE = 2 / 3  # of the variance of appearance
_SIDE = 32  # pixels of larger images are averaged
_CONTOURED_SIDE = 64  # the same for contours and waves, which have to be sharp
_APPEARANCE_OF = 4000  # images at most
_STROKES_BELOW = 10_000  # images; of so many a network learns strokes by itself
_ONE_INK = 0.99  # of the variance of an image's colours lies along one line; less is several colours
_OF_STROKES = 16 * SIDE**2  # numbers in memory for each image, of which the first conv network makes half
_BLUR = 0.02  # of the palette, for channels from 0 to 1
_SHORTEST = 1e-6  # distance from the mean; less is rounding


def plain_spaces(
    images: ImageArray, seed: int, views: ViewSettings = SIGNS, colours: bool = True, strokes: bool = True
) -> dict[str, np.ndarray]:
    """The spaces that a set of images has, by name.

    Args:
        images: uint8 or floats from 0 to 1, shape (N, H, W, C).
        seed: Of the kinds of patches.
        views: What is fair for them, of which follows what is looked at; see `choose_views`.
        colours: Whether colours may tell kinds apart.
        strokes: Whether strokes may.

    Returns:
        Points of shape (N, D), float32: "brightness", where colours may tell "colours", "palette" and "pixels",
        "texture" where all places show the same, elsewhere "contours", of at most 4,000 images "appearance", "waves"
        where angles do not count, and "strokes" of fewer than 10,000 signs of one ink each. In any order: that of
        `PLAIN_SPACES` is the one in which guides draw.
    """
    spaces = {"brightness": _components(of_all(images, lambda x: _small(views.shown(x)[:, :1])))}
    if images.shape[3] > 1 and colours:
        spaces["colours"] = of_all(images, lambda x: torch.cat([x.mean((2, 3)), x.std((2, 3), correction=0)], 1))
        spaces[PALETTE] = palette_space(images, seed)
        spaces["pixels"] = _components(of_all(images, lambda x: F.adaptive_avg_pool2d(x, 8).flatten(1)))
    if views.kind == "textures":
        spaces[TEXTURE] = texture_space(images, seed, colours)
    else:
        spaces[CONTOURS] = contour_space(images, views)
        if views.any_angle:
            waves = of_all(images, lambda x: waves_around(_reduced(views.shown(x)[:, :1], _CONTOURED_SIDE)))
            spaces[WAVES] = _components(waves, _OF_CONTOURS)
        if strokes and views.kind == "signs" and len(images) < _STROKES_BELOW and _in_one_ink(images, views):
            spaces[STROKES] = stroke_space(images, views)
        if len(images) <= _APPEARANCE_OF:
            spaces[APPEARANCE] = appearance_space(spaces)
    return spaces


def contour_space(images: ImageArray, views: ViewSettings) -> np.ndarray:
    """The first 30 principal components of `oriented_gradients` of the brightness, shape (N, D).

    Where angles do not count, they are `seen_around`.
    """
    most = _SIDE if views.any_angle else _CONTOURED_SIDE
    numbers = 2 * DIRECTIONS * math.prod(min(side, most) for side in images.shape[1:3])

    def seen(x: Tensor) -> Tensor:
        return _from_sides(oriented_gradients, _reduced(views.shown(x)[:, :1], most), views)

    return _components(of_all(images, seen, numbers), _OF_CONTOURS)


def stroke_space(images: ImageArray, views: ViewSettings) -> np.ndarray:
    """What a small network says of the brightness that has learned what drawings of one sign share, shape (N, 50).

    Of its features, which a ReLU gives, the square roots, so that few strong ones do not decide alone. Where angles do
    not count, they are `seen_around`.
    """
    network = pretrained_strokes()

    def seen(x: Tensor) -> Tensor:
        return _from_sides(lambda drawn: network(drawn).sqrt(), as_drawn(views.shown(x)[:, :1]), views)

    with torch.inference_mode():
        return _components(of_all(images, seen, _OF_STROKES))


def _from_sides(look: Callable[[Tensor], Tensor], x: Tensor, views: ViewSettings) -> Tensor:
    """Features (B, F) of images (B, 1, H, W), or where angles do not count what they say all around (B, D)."""
    return seen_around(look, x) if views.any_angle else look(x)


def appearance_space(spaces: Mapping[str, np.ndarray]) -> np.ndarray:
    """Contours, and what is where: what none of them tells alone they may tell together.

    Args:
        spaces: Points of shape (N, D) each: "contours" and what is where, which is "waves" if they are given, and
            otherwise "brightness" and, of images of several channels, "pixels".

    Returns:
        The first 30 principal components of all of them side by side, contours with two thirds of the variance, shape
        (N, D).
    """
    places = [spaces[name] for name in ((WAVES,) if WAVES in spaces else ("brightness", "pixels")) if name in spaces]
    shares = [_CONTOURS_SHARE, *(len(places) * [(1 - _CONTOURS_SHARE) / len(places)])]
    parts = [points - points.mean(0) for points in (spaces[CONTOURS], *places)]
    lengths = [max(float(np.sqrt(np.square(part).sum(1).mean())), _SHORTEST) for part in parts]
    scaled = [part * (np.sqrt(share) / length) for part, share, length in zip(parts, shares, lengths, strict=True)]
    return _components(np.hstack(scaled).astype(np.float32), _OF_CONTOURS)


def palette_space(images: ImageArray, seed: int) -> np.ndarray:
    """How often each of 200 colours, and of 200 patches of 3 x 3 pixels in colour, occurs in an image, wherever.

    So frames of one figure are alike, whatever it does in them. Shape (N, 400), square roots; a bag of words after
    Csurka and others (2004). A patch belongs to all kinds near it (van Gemert and others, 2008): else images of any
    colour would fall into as many islands as there are kinds.
    """
    return patch_counts(images, (1, 3), lambda x: x, seed, PALETTE, blur=_BLUR)


def texture_space(images: ImageArray, seed: int, colours: bool = True) -> np.ndarray:
    """How often each of 200 kinds of small patches occurs in an image, for three sorts of patches, shape (N, 600).

    Square roots. Textons after Varma and Zisserman (2003): all patches of 3 x 3 and of 5 x 5 pixels of brightness, less
    their mean, on their principal components; and of 3 x 3 pixels in colour, or of brightness where colours may not
    tell, with their mean: how far and how often what is dark is darker. Whatever the light, which is divided out first.
    """

    def grey(x: Tensor) -> Tensor:
        return evenly_lit(x.mean(1, keepdim=True))

    grain = patch_counts(images, (3, 5), grey, seed, "textons", centred=True)
    return np.hstack([grain, patch_counts(images, (3,), evenly_lit if colours else grey, seed, "tints")])


def _in_one_ink(images: ImageArray, views: ViewSettings) -> bool:
    """Whether most images (N, H, W, C) have one ink on one paper, of whatever colours.

    Where angles do not count, there may be no shades between the two: cells and galaxies pass for signs there, and
    strokes are believed without another space.
    """
    if views.any_angle and of_all(images, lambda x: shaded_shares(views.shown(x)[:, 0])[:, None]).mean() >= SHADED:
        return False
    return images.shape[3] == 1 or bool(np.median(of_all(images, share_on_a_line)) >= _ONE_INK)


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
