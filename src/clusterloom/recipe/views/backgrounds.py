"""Things in front of backgrounds: how far each pixel is from its background, and whether images have one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.recipe.views.brightness import LEAST_RANGE, SMALL, medians, percentiles

_ROUNDS = 4  # of the fit, each without more of what is no background
_NEAR_ENOUGH = 0.01  # of brightness; residuals that are smaller on average are rounding
_RIDGE = 1e-4
_MOST = 0.8  # of the pixels at an image's edge that show its background alone, and of the images of which so many do
_NEAR = 0.1  # of the range of an image's colours: such pixels are no farther from the background
_CLEARLY = 0.35  # of that range, from which on a pixel is no background
_ONE_SIDE = 0.8  # of what an image shows is darker than its background, or brighter
_SOME = 0.1  # of the images show what is darker, and as many what is brighter


def from_background(x: Tensor) -> Tensor:
    """How far colours are from that of the background, which lies along the edge of an image.

    Light may fall off to one side: the background's colours lie on a plane over the image. It is fitted by reweighted
    least squares (Geman and McClure's weights), so that what reaches the edge does not count.

    Args:
        x: Shape (B, C, H, W), values in [0, 1].

    Returns:
        The same shape, all channels alike: 0 is the background, 1 a distance that .2 % of the pixels exceed.
    """
    return _length(x - background(x)).expand_as(x)


def have_backgrounds(x: Tensor) -> bool:
    """Whether images show something in front of a background, which is all that there is along most of their edges.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1].
    """
    x = _smoothed(x)
    far = edge_pixels(_length(x - background(x)))
    return float(((far <= _NEAR).float().mean((1, 2)) > _MOST).float().mean()) > _MOST


def any_background(x: Tensor) -> bool:
    """Whether images that have backgrounds show what is darker than them in some and brighter in others.

    What is shown may then differ from its background in colour alone.

    Args:
        x: All of them, shape (N, C, H, W), values in [0, 1].
    """
    x = _smoothed(x)
    difference = x - background(x)
    clearly = _length(difference)[:, 0] > _CLEARLY
    brighter = clearly & difference.mean(1).gt(0)
    share = brighter.sum((1, 2)) / clearly.sum((1, 2)).clamp(min=1)
    seen = clearly.any(2).any(1)
    sides = (seen & (share > _ONE_SIDE), seen & (share < 1 - _ONE_SIDE))
    return min(float(side.float().mean()) for side in sides) >= _SOME


def background(x: Tensor) -> Tensor:
    """The colours of the background of images (B, C, H, W), the same shape: a plane through most of their edges."""
    height, width = x.shape[2:]
    down, across = (torch.linspace(-1, 1, length, device=x.device) for length in (height, width))
    one = torch.ones(height, width, device=x.device)
    plane = torch.stack([one, across.expand_as(one), down[:, None].expand_as(one)])  # (3, H, W)
    along, edge = edge_pixels(plane[None])[0].mT, edge_pixels(x).mT  # (n, 3) and (B, n, C)
    middle = medians(edge, 1)
    edge = edge - middle
    weights = edge.new_ones(edge.shape[:2])
    for _ in range(_ROUNDS):
        weighted = weights[:, :, None] * along
        products = weighted.mT @ along + _RIDGE * torch.eye(3, device=x.device)  # (B, 3, 3)
        slopes = _inverse(products) @ (weighted.mT @ edge)
        residuals = (edge - along @ slopes).square().sum(2).sqrt()
        typical = 2 * medians(residuals, 1).clamp(min=_NEAR_ENOUGH)
        weights = (1 + (residuals / typical).square()) ** -2
    return (middle.mT + slopes.mT @ plane.flatten(1)).view(x.shape)


def _inverse(products: Tensor) -> Tensor:
    """The inverse of 3 x 3 symmetric matrices (B, 3, 3), by products that every runtime knows."""
    a, b, c = products.unbind(1)
    crossed = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 2)
    return crossed / (a * crossed[:, :, 0]).sum(1)[:, None, None]


def _length(difference: Tensor) -> Tensor:
    """Of differences of colours (B, C, H, W), from 0 to 1, which .2 % of an image exceed; shape (B, 1, H, W)."""
    distance = difference.square().sum(1, keepdim=True).sqrt()
    return (distance / percentiles(distance, 1 - SMALL)[0].clamp(min=LEAST_RANGE)).clamp(0, 1)


def edge_pixels(x: Tensor) -> Tensor:
    """The pixels along the edge of images (B, C, H, W), shape (B, C, n)."""
    return torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], 2)


def _smoothed(x: Tensor) -> Tensor:
    """Means of 3 x 3 pixels, in which noise does not count."""
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
