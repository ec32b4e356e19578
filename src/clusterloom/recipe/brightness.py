"""What images show whatever their light and colour, and how it is read from them."""

import torch
from torch import Tensor

_DARK, _BRIGHT = 0.02, 0.98  # shares of the pixels that become black and white when brightness is stretched
_LEAST_RANGE = 0.03  # of brightness; less is noise
_MOST = 0.8  # of the pixels at an image's edge that show its background alone, and of the images of which so many do
_NEAR = 0.1  # of the range of an image's colours: such pixels are no farther from the background
_SOME = 0.1  # of the images have a dark background, and as many a bright one
_SHADES = (0.2, 0.8)  # of brightness, between dark and bright


def stretched(x: Tensor) -> Tensor:
    """The largest channel, from its darkest to its brightest pixels.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the second percentile of an image, 1 the 98th.
    """
    brightness = x.amax(1, keepdim=True)
    ordered = brightness.flatten(1).sort(1).values
    low, high = (ordered[:, round(share * (ordered.shape[1] - 1)), None, None, None] for share in (_DARK, _BRIGHT))
    return ((brightness - low) / (high - low).clamp(min=_LEAST_RANGE)).clamp(0, 1).expand_as(x)


def from_background(x: Tensor) -> Tensor:
    """How far colours are from that of the background, which is the median along the edge of an image.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the background, 1 the 98th percentile of the distances to it.
    """
    distance = _distance_to(_background(x), x)
    high = _high(distance)
    return (distance / high.clamp(min=_LEAST_RANGE)).clamp(0, 1).expand_as(x)


def any_background(x: Tensor) -> bool:
    """Whether images show something on backgrounds of one colour each, some of them dark and others bright.

    What is shown is then darker than the background or brighter, or differs in colour alone.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1].
    """
    background = _background(x)
    near = _NEAR * _high(_distance_to(background, x)).clamp(min=_LEAST_RANGE)
    even = (_edge(_distance_to(background, x)) <= near[..., 0]).float().mean((1, 2)) > _MOST
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


def _background(x: Tensor) -> Tensor:
    """The colour of the background of images (B, C, H, W), shape (B, C, 1, 1)."""
    return _edge(x).median(2).values[:, :, None, None]


def _distance_to(colour: Tensor, x: Tensor) -> Tensor:
    """Distances of the pixels of images (B, C, H, W), shape (B, 1, H, W)."""
    return (x - colour).square().sum(1, keepdim=True).sqrt()


def _high(x: Tensor) -> Tensor:
    """The 98th percentile of images (B, 1, H, W), shape (B, 1, 1, 1)."""
    ordered = x.flatten(1).sort(1).values
    return ordered[:, round(_BRIGHT * (ordered.shape[1] - 1)), None, None, None]
