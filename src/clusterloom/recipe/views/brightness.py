"""What images show whatever their light and colour, and how it is read from them."""

import numpy as np
import torch
from torch import Tensor

_DARK = 0.02  # of the pixels are black, and as many white, when brightness is stretched
SMALL = 0.002  # of the pixels may be all that a small thing has
LEAST_RANGE = 0.03  # of brightness; less is noise
_SHADES = (0.2, 0.8)  # of brightness, between dark and bright
SHADED = 0.12  # mean share of shaded pixels from which on images have shades
_UNLIT = 0.05  # beside the light of an image that light is divided out of


def unit(images: np.ndarray) -> Tensor:
    """Images (N, H, W, C), uint8 or floats from 0 to 1, as (N, C, H, W) in [0, 1], float32; a copy."""
    x = torch.from_numpy(np.array(images, np.float32)).permute(0, 3, 1, 2)  # files may be for reading alone
    return x / 255 if images.dtype == np.uint8 else x


def stretched(x: Tensor) -> Tensor:
    """The mean of the channels, from its darkest to its brightest pixels.

    The largest one would make red and yellow as white as paper.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the second percentile of an image, 1 the 98th. What is small may be
        beyond them: where .2 % of the pixels are twice as far from the other one, half as far as those.
    """
    brightness = x.mean(1, keepdim=True)
    least, low, high, most = percentiles(brightness, SMALL, _DARK, 1 - _DARK, 1 - SMALL)
    low, high = torch.minimum(low, (least + high) / 2), torch.maximum(high, (low + most) / 2)
    return ((brightness - low) / (high - low).clamp(min=LEAST_RANGE)).clamp(0, 1).expand_as(x)


def evenly_lit(x: Tensor) -> Tensor:
    """Images without the light that falls on them, which multiplies what they show and changes slowly across them.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        Each channel divided by the quadratic surface that fits it best, so that it is about 1. The same shape.
    """
    height, width = x.shape[2:]
    down, across = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    terms = [torch.ones_like(down), down, across, down * down, down * across, across * across]
    surfaces = torch.linalg.qr(torch.stack(terms, 2).flatten(0, 1))[0]  # orthonormal, (H * W, 6)
    light = (x.flatten(2) @ surfaces @ surfaces.mT).view_as(x)
    return x / (light.clamp(min=0) + _UNLIT)


def shaded_shares(x: Tensor) -> Tensor:
    """How many pixels are neither dark nor bright, of which few are where ink is on paper.

    Args:
        x: Brightness from 0 to 1, shape (B, H, W).

    Returns:
        Shares of the pixels of each image, shape (B,). Images of a mean from `SHADED` on have shades, as lit things do.
    """
    darkest, brightest = _SHADES
    return ((x > darkest) & (x < brightest)).float().mean((1, 2))


def have_shades(x: Tensor) -> bool:
    """Whether images have shades, as lit things do: the mean of `shaded_shares` of brightness (N, H, W)."""
    return shaded_shares(x).mean().item() >= SHADED


def share_on_a_line(x: Tensor) -> Tensor:
    """How much of the variance of an image's colours lies along one line: all of it where one ink is on one paper.

    Args:
        x: Shape (B, C, H, W).

    Returns:
        Shape (B, 1), from 1 / C to 1; 1 for an image of one colour.
    """
    colours = x.flatten(2)
    colours = colours - colours.mean(2, keepdim=True)
    along_axes = torch.linalg.eigvalsh(colours @ colours.mT)
    total = along_axes.sum(1, keepdim=True)
    return torch.where(total > 0, along_axes[:, -1:] / total, 1.0)


def medians(x: Tensor, dim: int) -> Tensor:
    """The lower medians along a dimension, which stays with a length of 1; by a sort, which ONNX knows."""
    return x.sort(dim).values.narrow(dim, (x.shape[dim] - 1) // 2, 1)


def percentiles(x: Tensor, *shares: float) -> list[Tensor]:
    """What so many of the pixels of images (B, 1, H, W) are not above, shape (B, 1, 1, 1) for each share.

    Those that are asked for lie near one end or the other, so the ends alone are put in order.
    """
    pixels = x.flatten(1)
    last = pixels.shape[1] - 1
    places = [round(share * last) for share in shares]
    middle = last // 2
    darkest = pixels.topk(max((at for at in places if at <= middle), default=0) + 1, largest=False).values
    brightest = pixels.topk(last - min((at for at in places if at > middle), default=last) + 1).values
    return [(darkest[:, at] if at <= middle else brightest[:, last - at])[:, None, None, None] for at in places]
