"""Which views are fair for a set of images, decided from the images alone."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.recipe.views.angles import any_angle
from clusterloom.recipe.views.augment import SIGNS, TEXTURES, THINGS, ViewSettings, turned_by_any_angle
from clusterloom.recipe.views.backgrounds import any_background, have_backgrounds
from clusterloom.recipe.views.brightness import have_shades, unit
from clusterloom.recipe.views.places import any_place, framed, margin_of
from clusterloom.training.randomness import numpy_generator

# Share of images that stay among their like when mirrored (or turned) from which on that is a fair view: for so many
# images, and how much more of a tenth as many. Few are far from each other, and changed ones seem near. What stands on
# the ground is still mirrored left and right, but not turned over.
_SYMMETRIC_SHARE, _MANY, _MORE_OF_FEW = 1 / 3, 1000, 1 / 3
_NEIGHBOURS, _LIKE = 10, 10  # an image's like: itself and so many nearest images, at most one of so many
_NEAR = 1.1  # "among them" is no farther from one of them than so many times the distance to the nearest image
_SAMPLE, _SAMPLE_NUMBERS = 2000, 2**26  # images that are looked at, and pixels and channels of them
_LEAST_SAMPLE = 200
_EVEN_SIDE = 32  # pixels of larger images are averaged before their brightness is compared
_LEAST_SIDE = 10  # pixels that a texture takes: a patch would be more than half of fewer
_PLACES = 8  # along each side, which are compared
_LEAST_VARIANCE = 1e-6  # of brightness from 0 to 1; less is rounding
_EVEN_BRIGHTNESS, _EVEN_EDGES = 0.5, 0.3  # of the least place over the most; above both, all places are alike
_EVEN_TOGETHER = 0.01  # variance of correlations; where they vary more, places differ in what they go together with


def symmetric_shares(x: Tensor) -> dict[str, float]:
    """How many images stay among their like when mirrored or turned.

    An image counts when the changed image is no more than a tenth farther (Euclidean) from the image itself, or from
    one of its ten nearest images, of fewer than 100 of the nearest tenth, than the nearest of those is. To be near any
    image would not do: a mirrored image may well look like another kind of image.

    Args:
        x: Brightness of all images, shape (N, H, W).

    Returns:
        Shares from 0 to 1 by name: "mirror_horizontally", "mirror_vertically", and for square images "quarter_turns".
    """
    changed = {"mirror_horizontally": x.flip(2), "mirror_vertically": x.flip(1)}
    if x.shape[1] == x.shape[2]:
        changed["quarter_turns"] = x.rot90(1, (1, 2))
    if len(x) < 3:
        return dict.fromkeys(changed, 0.0)
    distances = torch.cdist(x.flatten(1), x.flatten(1))
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(min(_NEIGHBOURS, max(len(x) // _LIKE, 1)), largest=False)
    limit = _NEAR * nearest.values[:, 0]
    shares = {}
    for name, y in changed.items():
        others = torch.cdist(y.flatten(1), x.flatten(1))
        closest = torch.minimum(others.diagonal(), others.gather(1, nearest.indices).min(1).values)
        shares[name] = float((closest <= limit).float().mean())
    return shares


def _fair_symmetries(x: Tensor) -> dict[str, Any]:
    """Which symmetries are fair, by name, for images whose brightness (N, H, W) is given."""
    least = _SYMMETRIC_SHARE + max(0.0, _MORE_OF_FEW * math.log10(_MANY / len(x)))
    return {
        name: share >= (_SYMMETRIC_SHARE if name == "mirror_horizontally" else least)
        for name, share in symmetric_shares(x).items()
    }


def filled_evenly(x: Tensor) -> bool:
    """Whether all places of the images are alike, as in textures and cut-outs of large pictures.

    At each of them brightness varies as much from image to image, and as much from pixel to pixel. The first alone is
    also true of signs on paper of any brightness. How far two places go together depends on how they lie to each
    other, and not on where: of signs that fill their frame it does, since a stroke has its place.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1], in random order.
    """
    if min(x.shape[2:]) < _LEAST_SIDE or len(x) < 4:
        return False
    grey = x.mean(1, keepdim=True)
    corner = grey[:, :, :-1, :-1]
    edges = (grey[:, :, 1:, :-1] - corner).square() + (grey[:, :, :-1, 1:] - corner).square()
    pixels = F.adaptive_avg_pool2d(grey, (min(x.shape[2], _EVEN_SIDE), min(x.shape[3], _EVEN_SIDE)))
    brightness, changes = (
        F.adaptive_avg_pool2d(found, _PLACES) for found in (pixels.var(0, correction=0), edges.mean(0))
    )
    return bool(
        brightness.max() > _LEAST_VARIANCE
        and brightness.min() >= _EVEN_BRIGHTNESS * brightness.max()
        and changes.min() >= _EVEN_EDGES * changes.max()
        and _by_place(grey) <= _EVEN_TOGETHER
    )


def _by_place(grey: Tensor) -> float:
    """How much correlations of two places vary among pairs that lie alike to each other; a variance.

    Of a stationary random field it is 0: the product of what two halves of the images say, each with chance of its own.
    Takes brightness (N, 1, H, W) in random order.
    """
    places = F.adaptive_avg_pool2d(grey, _PLACES).flatten(1).double()  # (N, P)
    down, across = (axis.flatten() for axis in torch.meshgrid(2 * [torch.arange(_PLACES)], indexing="ij"))
    below, right = down[:, None] - down, across[:, None] - across
    once = (below > 0) | (below == 0) & (right > 0)  # each pair is there from both of its ends
    lie = (2 * _PLACES * below + right)[once] + _PLACES  # how a pair lies to each other, from 1 on
    pairs = lie.bincount()  # by how they lie
    differences = []
    for half in places.chunk(2):
        together = torch.corrcoef(half.mT)[once]
        differences.append(together - (lie.bincount(together) / pairs)[lie])
    first, second = differences
    return float((first * second).sum() / (pairs - 1).clamp(min=0).sum())


def choose_views(images: ImageArray, seed: int = 0) -> ViewSettings:
    """Which views are fair for a set of images, decided from the images alone.

    Where mirroring left and right leaves at least a third of the images among their like (`symmetric_shares`), and they
    have shades (`have_shades`), they are pictures of things: `THINGS`, with every symmetry that passes the same test,
    which of fewer than 1,000 images asks more of mirroring up and down and of turning. Otherwise they are `SIGNS`,
    whose handedness and every stroke count; of an alphabet half may be symmetric.
    Images that are filled evenly (`filled_evenly`) are `TEXTURES`, with the same symmetries, but not where something is
    in front of a background (`have_backgrounds`). Where that may be anywhere (`any_place`), it is framed first, and
    its background does not count.
    Where the angle does not count (`any_angle`), as of cells, views are turned by any, in changing light. Other signs
    that reach the edge of their images get a margin (`margin_of`).

    Args:
        images: uint8 or float, shape (N, H, W, C). Beyond 2,000 images a sample is looked at, fewer of large ones.
        seed: Of the sample.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> choose_views(load_digits().images[..., None] / 16) == SIGNS
        True
    """
    several = min(_SAMPLE, max(_SAMPLE_NUMBERS // math.prod(images.shape[1:]), _LEAST_SAMPLE))
    rows = np.sort(numpy_generator(seed, "sample", "views").permutation(len(images))[:several])
    x = unit(images[rows])
    mixed = torch.from_numpy(numpy_generator(seed, "sample", "angles").permutation(len(x)))
    in_front = have_backgrounds(x)
    seen = ViewSettings(any_background=in_front and any_background(x))
    brightness = seen.shown(x)[:, 0]
    if in_front and any_place(brightness[mixed, None]):
        seen = replace(seen, framing="middle", any_background=True)  # light differs from place to place
        brightness = seen.shown(framed(x))[:, 0]
    fair = _fair_symmetries(brightness)
    if not in_front and filled_evenly(x[mixed]):
        return replace(TEXTURES, **fair)
    views = SIGNS
    if fair["mirror_horizontally"] and have_shades(brightness):
        views = replace(THINGS, **fair)
    views = replace(views, any_background=seen.any_background, framing=seen.framing)
    if any_angle(brightness[mixed, None]):
        views = turned_by_any_angle(views)
    elif views.kind == "signs" and not in_front:
        views = replace(views, framing=margin_of(x))
    return views
