"""What images show whatever their light and colour, and how it is read from them."""

import numpy as np
import torch
from torch import Tensor

_DARK, _BRIGHT = 0.02, 0.98  # shares of the pixels that become black and white when brightness is stretched
_LEAST_RANGE = 0.03  # of brightness; less is noise
_MOST = 0.8  # of the pixels at an image's edge that show its background alone, and of the images of which so many do
_NEAR = 0.1  # of the range of an image's colours: such pixels are no farther from the background
_SOME = 0.1  # of the images have a dark background, and as many a bright one
_SHADES = (0.2, 0.8)  # of brightness, between dark and bright


def unit(images: np.ndarray) -> Tensor:
    """Images (N, H, W, C), uint8 or floats from 0 to 1, as (N, C, H, W) in [0, 1], float32; a copy."""
    x = torch.from_numpy(np.array(images, np.float32)).permute(0, 3, 1, 2)  # files may be for reading alone
    return x / 255 if images.dtype == np.uint8 else x


def stretched(x: Tensor) -> Tensor:
    """The largest channel, from its darkest to its brightest pixels.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the second percentile of an image, 1 the 98th.
    """
    brightness = x.amax(1, keepdim=True)
    low, high = _percentiles(brightness)
    return ((brightness - low) / (high - low).clamp(min=_LEAST_RANGE)).clamp(0, 1).expand_as(x)


def from_background(x: Tensor) -> Tensor:
    """How far colours are from that of the background, which is the median along the edge of an image.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the background, 1 the 98th percentile of the distances to it.
    """
    distance = _distances(x)
    return (distance / _percentiles(distance)[1].clamp(min=_LEAST_RANGE)).clamp(0, 1).expand_as(x)


def any_background(x: Tensor) -> bool:
    """Whether images show something on backgrounds of one colour each, some of them dark and others bright.

    What is shown is then darker than the background or brighter, or differs in colour alone.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1].
    """
    even = (_edge(from_background(x)[:, :1]) <= _NEAR).float().mean((1, 2)) > _MOST
    of_background = _edge(stretched(x)[:, :1]).median(2).values
    darkest, brightest = _SHADES
    dark, bright = (float(of.float().mean()) for of in (of_background < darkest, of_background > brightest))
    return float(even.float().mean()) > _MOST and min(dark, bright) >= _SOME


def shaded_share(x: Tensor) -> float:
    """How many pixels are neither dark nor bright, of which few are where ink is on paper.

    Args:
        x: Brightness from 0 to 1, any shape.

    Returns:
        Share of the pixels, from 0 to 1.
    """
    darkest, brightest = _SHADES
    return float(((x > darkest) & (x < brightest)).float().mean())


def _edge(x: Tensor) -> Tensor:
    """The pixels along the edge of images (B, C, H, W), shape (B, C, n)."""
    return torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)


def _distances(x: Tensor) -> Tensor:
    """Of the colours of images (B, C, H, W) from those of their backgrounds, shape (B, 1, H, W)."""
    background = _edge(x).median(2).values[:, :, None, None]
    return (x - background).square().sum(1, keepdim=True).sqrt()


def _percentiles(x: Tensor) -> tuple[Tensor, Tensor]:
    """The second percentile of images (B, 1, H, W) and the 98th, shape (B, 1, 1, 1) each."""
    ordered = x.flatten(1).sort(1).values
    low, high = (ordered[:, round(share * (ordered.shape[1] - 1)), None, None, None] for share in (_DARK, _BRIGHT))
    return low, high
