"""Images that show the same things at any angle, as cells and galaxies: how such a set is told, and what it shows."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.recipe.points.two_sample import distributed_alike
from clusterloom.recipe.views.backgrounds import from_background
from clusterloom.recipe.views.places import frames

_ANGLES = (30, 45)  # degrees, no symmetry of a pixel grid's; of kinds that are each other turned, neither is one
_SIDE = 16  # pixels of images that are compared: what turning smoothes, their means have lost anyway
_RADII, _AROUND = 16, 32  # places from the middle outwards, and around it
_REACH = 0.8  # of half of an image's side
_WAVES = 9  # around the middle, the mean among them
_TURNS, _WAVES_OF_TURNS = 12, 5  # of an image that is seen from all sides


def any_angle(x: Tensor) -> bool:
    """Whether a set of images is distributed as before where all of them are turned.

    See `distributed_alike`; of letters, digits or garments next to none of the nearest images are turned ones.

    Args:
        x: Brightness, shape (N, 1, H, W), in random order. The central square of images that are not square counts.
    """
    square = _central_square(x)
    within = (torch.arange(_SIDE) + 0.5) / _SIDE * 2 - 1
    disc = within[:, None] ** 2 + within**2 <= 1
    as_they_are = F.adaptive_avg_pool2d(square, _SIDE)[:, 0, disc]  # (N, D)
    turned = (F.adaptive_avg_pool2d(_turned(square, degrees), _SIDE)[:, 0, disc] for degrees in _ANGLES)
    return all(distributed_alike(as_they_are, x) for x in turned)


def waves_around(x: Tensor) -> Tensor:
    """What images show in rings around the middle of what stands out from the background, whatever its angle.

    Brightness is read in polar coordinates; turned by an angle it is shifted along them, which leaves the amplitudes of
    its waves as they are (after Reddy and Chatterji, 1996).

    Args:
        x: Brightness, shape (B, 1, H, W), values from 0 to 1.

    Returns:
        Logarithms of the amplitudes, shape (B, rings * waves).
    """
    height, width = x.shape[2:]
    radii = _REACH * (torch.arange(_RADII) + 0.5) / _RADII * min(height, width)  # in halves of a pixel
    angles = torch.arange(_AROUND) * (2 * math.pi / _AROUND)
    ring = torch.stack([radii[:, None] * angles.cos() / width, radii[:, None] * angles.sin() / height], 2)
    middles = frames(from_background(x))[0]  # and not their sides: how large cells are tells them apart
    places = middles[:, None, None] + ring
    read = F.grid_sample(x, places, padding_mode="border", align_corners=False)[:, 0]  # (B, rings, around)
    return torch.fft.rfft(read, dim=2).abs()[:, :, :_WAVES].log1p().flatten(1)


def seen_around(look: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What features say of images as they are turned once around their middle, whatever the angle they start from.

    Features turn with the image: another angle shifts what they say along the turn, and leaves the amplitudes of its
    waves as they are.

    Args:
        look: Features, shape (B, F), of images.
        x: Shape (B, 1, H, W). The central square of images that are not square counts.

    Returns:
        Amplitudes of the first waves of each feature, the mean among them, shape (B, F * waves).
    """
    square = _central_square(x)
    around = torch.stack([look(_turned(square, turn * 360 / _TURNS)) for turn in range(_TURNS)], 2)  # (B, F, turns)
    return torch.fft.rfft(around, dim=2).abs()[:, :, :_WAVES_OF_TURNS].flatten(1)


def _turned(x: Tensor, degrees: float) -> Tensor:
    """Images (B, 1, H, H) turned around their middle; beyond its edge an image goes on as its edge."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(x), 2, 3)
    places = F.affine_grid(turn, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, padding_mode="border", align_corners=False)


def _central_square(x: Tensor) -> Tensor:
    """The middle (B, 1, S, S) of images (B, 1, H, W) along their longer side."""
    side = min(x.shape[2:])
    top, left = ((length - side) // 2 for length in x.shape[2:])
    return x[:, :, top : top + side, left : left + side]
