"""Which images are framed before anything is learned, and how: brought into the middle, or given a margin."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.device import products_by_onednn
from clusterloom.inference import BATCH_SIZE, filled_up
from clusterloom.recipe.points.two_sample import distributed_alike
from clusterloom.recipe.views.backgrounds import background, edge_pixels
from clusterloom.recipe.views.brightness import have_shades, medians, stretched, unit

Framing = Literal["middle", "dark margin", "bright margin"]  # around dark paper, around bright paper

_SHIFT, _WAYS = 0.12, 8  # of an image's side, and in so many ways
_ENOUGH_OF_DRAWINGS = 0.25  # of the nearest images, moved ones
_SIDE = 16  # pixels of images that are compared
_NEARBY = 5  # pixels along each side of which means are taken before one asks where a thing is
_FRAME = 0.8  # of an image's side
_LEAST_SPREAD = 0.05  # of half an image; less is a pixel
_MARGIN = 1 / 7  # of an image's side, on each side
_LEAST_SIDE = 16  # pixels of which some can be spared for a margin
_PAPER = 0.1  # of the range of an image's brightness: such pixels are paper
_SOME = 0.3  # of the pixels along an image's edge; it reaches the edge on paper where so many are paper
_MOST = 0.8  # of the images; paper is what so many have at their edge
_CLEARLY = 0.1  # of the images
_KEPT = 2**28  # pixels and channels of framed images in memory at most
_LEAST = 1e-6  # of what there is; less is rounding


def any_place(x: Tensor) -> bool:
    """Whether a set of images is distributed as before where all of them are moved.

    See `distributed_alike`; of letters, digits or garments next to none of the nearest images are moved ones. Of
    drawings, which have no shades, a quarter is enough: a hand begins not anywhere but near the middle.

    Args:
        x: Brightness, shape (N, 1, H, W), in random order.
    """
    ways = 2 * math.pi * torch.arange(len(x)) / _WAYS
    moves = 2 * _SHIFT * torch.stack([ways.cos(), ways.sin()], 1)
    moved = _window(x, moves, torch.ones(len(x)))
    as_they_are, changed = (F.adaptive_avg_pool2d(images, _SIDE).flatten(1) for images in (x, moved))
    if have_shades(x[:, 0]):
        return distributed_alike(as_they_are, changed)
    return distributed_alike(as_they_are, changed, _ENOUGH_OF_DRAWINGS)


def margin_of(x: Tensor) -> Framing | None:
    """What margin a set of signs has that reach the edge of their images: around the paper, which is dark or bright.

    In four images of five three tenths of the pixels along the edge are paper; of what is not, in clearly fewer.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1].

    Returns:
        None where neither is paper, or both are, and of images of less than 16 pixels.
    """
    if min(x.shape[2:]) < _LEAST_SIDE:
        return None
    edge = edge_pixels(stretched(x))[:, 0]  # (N, n)
    dark, bright = (
        float((paper.float().mean(1) >= _SOME).float().mean()) for paper in (edge <= _PAPER, edge >= 1 - _PAPER)
    )
    if max(dark, bright) < _MOST or abs(dark - bright) < _CLEARLY:
        return None
    return "dark margin" if dark > bright else "bright margin"


class FramedImages:
    """Images that are `framed` when they are asked for, for more than memory should hold.

    Args:
        images: uint8 or floats from 0 to 1, shape (N, H, W, C); may be memory-mapped.
        framing: How.
    """

    def __init__(self, images: ImageArray, framing: Framing = "middle") -> None:
        self._images, self._framing = images, framing
        self.shape, self.dtype = images.shape, np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        images = self._images[at]
        found = np.empty(images.shape, self.dtype)  # filled as it goes: a list of blocks would be a copy
        with products_by_onednn():  # as in training, to the last bit, whoever asks
            for start in range(0, len(images), BATCH_SIZE):
                block = images[start : start + BATCH_SIZE]
                of_block = framed(unit(filled_up(block)), self._framing)[: len(block)]
                found[start : start + len(block)] = of_block.permute(0, 2, 3, 1).numpy()
        return found


def frame_images(images: ImageArray, framing: Framing = "middle") -> ImageArray:
    """Images (N, H, W, C) `framed`, float32: all at once, or when they are asked for where they are many."""
    found = FramedImages(images, framing)
    return found if math.prod(images.shape) > _KEPT else found[:]


def framed(x: Tensor, framing: Framing = "middle") -> Tensor:
    """Images that go on beyond their edge as their background, and are seen from elsewhere.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].
        framing: With what they show in the middle, and half as far from one size as it was (see `frames`), or from
            farther away, with a margin of one seventh of their side on each side.

    Returns:
        The same shape.
    """
    if framing == "middle":
        behind = background(x)
        above = x - behind
        window = frames(above.square().sum(1, keepdim=True).sqrt())
    else:
        behind = _paper(x, bright=framing == "bright margin").expand_as(x)
        above = x - behind
        window = x.new_zeros(x.shape[0], 2), x.new_full((x.shape[0],), 1 + 2 * _MARGIN)
    return (_window(behind, *window) + _window(above, *window, beyond="zeros")).clamp(0, 1)


def _paper(x: Tensor, bright: bool) -> Tensor:
    """The colour of the paper of images (B, C, H, W), the mean of their brightest or darkest pixels: (B, C, 1, 1)."""
    brightness = stretched(x)[:, :1]
    paper = (brightness >= 1 - _PAPER if bright else brightness <= _PAPER).to(x.dtype)
    return (paper * x).mean((2, 3), keepdim=True) / paper.mean((2, 3), keepdim=True).clamp(min=_LEAST)


def frames(thing: Tensor) -> tuple[Tensor, Tensor]:
    """Where the windows of images are that frame what they show.

    A window's side is the geometric mean of four times the thing's spread and of .8 of the image's: of a thing four
    times as large as another one it makes one twice as large, as how large things are may tell them apart.

    Args:
        thing: How much there is at each pixel, in any unit, shape (B, C, H, W), all channels alike.

    Returns:
        Their middles, across and down from -1 to 1, shape (B, 2), and their sides, in sides of the image, shape (B,).
    """
    height, width = thing.shape[2:]
    reach = (_NEARBY // 2, _NEARBY // 2)
    smooth = F.avg_pool2d(F.pad(thing[:, :1], reach + reach, mode="replicate"), _NEARBY, 1)[:, 0]
    above = (smooth - medians(smooth.flatten(1), 1)[:, :, None]).clamp(min=0)  # of noise, half is
    weights = (above / above.amax((1, 2), keepdim=True).clamp(min=_LEAST)).square()
    total = weights.sum((1, 2)).clamp(min=_LEAST)
    middles, variance = [], torch.zeros_like(total)
    for length, along in ((width, weights.sum(1)), (height, weights.sum(2))):
        places = (2 * torch.arange(length, device=thing.device) + 1) / length - 1
        middle = (along * places).sum(1) / total
        distances = (places - middle[:, None]) * (length / min(height, width))
        middles.append(middle)
        variance = variance + (along * distances.square()).sum(1) / total
    spread = variance.sqrt().clamp(min=_LEAST_SPREAD)
    return torch.stack(middles, 1), (2 * spread * _FRAME).sqrt()


def _window(x: Tensor, middles: Tensor, sides: Tensor, beyond: str = "border") -> Tensor:
    """Windows of images (B, C, H, W) in the same shape.

    Args:
        x: The images.
        middles: Across and down, from -1 to 1, shape (B, 2).
        sides: Of the windows, in sides of the image, shape (B,).
        beyond: How an image goes on beyond its edge: as its "border", or as "zeros".
    """
    zoom = torch.diag_embed(sides[:, None].expand(-1, 2))
    grid = F.affine_grid(torch.cat([zoom, middles[:, :, None]], 2), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode=beyond, align_corners=False)
