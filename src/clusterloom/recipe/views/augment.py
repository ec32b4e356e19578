"""Random views of images: the changes under which an image stays what it is.

A view is a function of an image and of some standard normal numbers (`ViewSettings.numbers`), and of nothing else:
whoever draws the numbers decides what is random.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from clusterloom.recipe.views.backgrounds import from_background
from clusterloom.recipe.views.brightness import stretched
from clusterloom.recipe.views.places import Framing

_LEAST_GROWTH = 0.25  # of a pixel; in smaller images strokes are no wider than the pixels themselves
_BENDS = 4  # places along each side of an image that are moved, each on its own, where images are bent


@dataclass(frozen=True)
class ViewSettings:
    """How far views stray from the image; everything is drawn uniformly, for each image on its own.

    Attributes:
        kind: What images are taken for, on which more depends than views: signs, of which every stroke counts; things,
            which can be known by a part; textures, which are the same at every place.
        rotation_degrees: Largest rotation to either side.
        shear: Largest horizontal shift of a row per unit of height, both in pixels.
        aspect: Largest ratio of width to height, as the logarithm; the area stays.
        window_area: Smallest and largest area of the window that fills the view, in areas of the image. Below 1 zooms
            in, above 1 zooms out.
        shift: Largest shift of the window, as a share of the image's side, beyond what keeps a small window inside.
        bend: Largest shift of each of 4 x 4 places on its own, as a share of the image's side; what lies between them
            moves smoothly along (after Simard, Steinkraus and Platt, 2003).
        growth: Largest distance by which what is bright grows, or what is dark, as a share of the image's side: strokes
            become thicker or thinner.
        mirror_horizontally: Swap left and right in half of the views.
        mirror_vertically: Swap top and bottom in half of the views.
        quarter_turns: Turn by a multiple of 90 degrees.
        reflected: Beyond its edge an image goes on as its mirror image, and not as its edge.
        brightness: Largest relative change of the pixels' scale.
        gamma: Largest logarithm of the exponent on pixels.
        hue_degrees: Largest turn of the colours around the grey axis (of YIQ), for images of three channels.
        saturation: Largest relative change of the colours' distance from grey.
        colourless: Views show the brightness alone.
        any_channels: Brightness is a mean of the channels in which some count more, in each view others: what is bright
            in one channel may be dark in another. For images of three channels.
        any_background: Brightness is how far colours are from the background's (`from_background`), not how bright they
            are (`stretched`).
        framing: How images are `clusterloom.recipe.views.places.framed`, of which these are views: None where they are
            as they are, "middle" where it does not count where what they show lies, and how large it is.
    """

    kind: Literal["signs", "things", "textures"] = "things"
    rotation_degrees: float = 0.0
    shear: float = 0.0
    aspect: float = 0.0
    window_area: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    bend: float = 0.0
    growth: float = 0.0
    mirror_horizontally: bool = False
    mirror_vertically: bool = False
    quarter_turns: bool = False
    reflected: bool = False
    brightness: float = 0.0
    gamma: float = 0.0
    hue_degrees: float = 0.0
    saturation: float = 0.0
    colourless: bool = False
    any_channels: bool = False
    any_background: bool = False
    framing: Framing | None = None

    def shown(self, x: Tensor) -> Tensor:
        """What images (B, C, H, W) show whatever their light and colour, the same shape."""
        with torch.autocast(x.device.type, enabled=False):
            return from_background(x) if self.any_background else stretched(x)

    @property
    def numbers(self) -> int:
        """How many normal numbers one view uses up, in the order of `random_views`."""
        return sum(self.parts)

    @property
    def parts(self) -> list[int]:
        """How many of them are for places and light, for bends, for growth, for colours and for channels."""
        return [
            11,
            2 * _BENDS**2 if self.bend else 0,
            int(self.growth > 0),
            2 if self.changes_colour else 0,
            3 if self.any_channels else 0,
        ]

    @property
    def any_angle(self) -> bool:
        """Whether the angle at which images show something does not count."""
        return self.rotation_degrees >= _ANY_DEGREES

    @property
    def learned_slowly(self) -> bool:
        """Whether what images show looks so different from one to the next that it takes long to learn."""
        return self.kind == "textures" or self.any_angle or self.any_background or self.framing == "middle"

    @property
    def changes_colour(self) -> bool:
        """Whether hue or saturation may change."""
        return self.hue_degrees > 0 or self.saturation > 0


# Signs (letters, digits, symbols) are made of strokes in a fixed place; half of one is another one. So no crops.
SIGNS = ViewSettings(
    kind="signs",
    rotation_degrees=15,
    shear=0.15,
    aspect=0.18,
    window_area=(0.72, 1.32),
    shift=0.05,
    bend=0.02,
    growth=0.018,
)
# Things can be known by a part, and light falls on them differently from picture to picture.
THINGS = ViewSettings(kind="things", aspect=math.log(4 / 3), window_area=(0.4, 1.0), brightness=0.4, gamma=0.4)
# A texture is the same at every place, but its grain is another one where it is zoomed or bent.
TEXTURES = ViewSettings(kind="textures", shift=0.3, reflected=True, brightness=0.4, gamma=0.4)
_ANY_DEGREES = 180.0
_WIDER = 1.6  # how much farther views of the first fit stray
# Where colours do not tell the kinds apart, a model that has learned the kinds is shown them in all colours.
_HUE_DEGREES, _SATURATION = 180.0, 1.0
_CHANNELS_COUNT = 2  # standard deviation of the logarithms of how much channels count


def turned_by_any_angle(views: ViewSettings) -> ViewSettings:
    """The same views, turned by any angle and in changing light.

    Such pictures are of cells or of the sky: how bright and noisy one is would tell its two views from all others.
    """
    return replace(views, rotation_degrees=_ANY_DEGREES, brightness=THINGS.brightness, gamma=THINGS.gamma)


def without_colour(views: ViewSettings, n_channels: int) -> ViewSettings:
    """The same views, of the brightness alone."""
    return replace(views, colourless=True, any_channels=n_channels == 3 and not views.any_background)


def recolouring(views: ViewSettings) -> ViewSettings:
    """The same views, in any colour."""
    return replace(views, hue_degrees=_HUE_DEGREES, saturation=_SATURATION)


def views_from(record: Mapping[str, Any]) -> ViewSettings | None:
    """Views as a model directory has them; None where it has others than these."""
    if record.keys() != vars(SIGNS).keys():
        return None
    return ViewSettings(**{**record, "window_area": tuple(record["window_area"])})


def widened(settings: ViewSettings) -> ViewSettings:
    """The same kinds of views, straying farther, for a model that knows its clusters already. Light and crops stay."""
    smallest, largest = settings.window_area
    area = (smallest, largest) if largest <= 1 else (smallest**_WIDER, largest**_WIDER)
    return replace(
        settings,
        rotation_degrees=min(settings.rotation_degrees * _WIDER, _ANY_DEGREES),
        shear=settings.shear * _WIDER,
        aspect=settings.aspect if largest <= 1 else settings.aspect * _WIDER,
        window_area=area,
        shift=settings.shift * _WIDER,
        bend=settings.bend * _WIDER,
        growth=settings.growth * _WIDER,
    )


def two_views(x: Tensor, numbers: Tensor, settings: ViewSettings) -> tuple[Tensor, Tensor]:
    """Two views of each image, from twice as many numbers as `random_views` takes for one."""
    both = torch.cat(numbers[:, : 2 * settings.numbers].chunk(2, 1))
    first, second = random_views(torch.cat([x, x]), both, settings).chunk(2)
    return first, second


def random_views(x: Tensor, numbers: Tensor, settings: ViewSettings) -> Tensor:
    """One view of each image. Beyond its edge an image goes on as its edge, or as its mirror image.

    Args:
        x: Images, shape (B, C, H, W), values in [0, 1].
        numbers: Independent standard normal numbers, shape (B, `settings.numbers`).
        settings: How far views may stray.

    Returns:
        The same shape, channels_last; float32 under autocast too, which would round places to parts of a pixel.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _views(x, numbers, settings)


def _views(x: Tensor, numbers: Tensor, settings: ViewSettings) -> Tensor:
    *choices, channels = torch.split(numbers, settings.parts, 1)
    if settings.any_channels:
        shares = (_CHANNELS_COUNT * channels).softmax(1)
        x = (x * shares[:, :, None, None]).sum(1, keepdim=True).expand_as(x)
    if settings.colourless:
        x = settings.shown(x)
    # Uniform on (-1, 1), one column per choice.
    always, bends, growth, colours = (torch.erf(part / math.sqrt(2)) for part in choices)
    turn, shear, aspect, area, across, down, left_right, up_down, quarter, light, curve = always.unbind(1)
    smallest, largest = (math.log(a) / 2 for a in settings.window_area)
    side = torch.exp((smallest + largest) / 2 + area * (largest - smallest) / 2)
    stretch = torch.exp(aspect * settings.aspect / 2)
    width, height = side * stretch, side / stretch
    if settings.window_area[1] <= 1:
        width, height = width.clamp(max=1), height.clamp(max=1)
    angle = turn * math.radians(settings.rotation_degrees)
    if settings.quarter_turns:
        angle = angle + torch.floor((quarter + 1) * 2).clamp(max=3) * (math.pi / 2)
    cos, sin, slant = angle.cos(), angle.sin(), shear * settings.shear
    flip_x = torch.where(left_right > 0, -1.0, 1.0) if settings.mirror_horizontally else 1.0
    flip_y = torch.where(up_down > 0, -1.0, 1.0) if settings.mirror_vertically else 1.0
    # grid_sample's coordinates run from -1 to 1 on either axis: a shift by a share of the side is twice that, and in
    # images that are not square a length that is turned from one axis to the other has another number there.
    offset_x = across * ((1 - width).clamp(min=0) + 2 * settings.shift)
    offset_y = down * ((1 - height).clamp(min=0) + 2 * settings.shift)
    tall = x.shape[2] / x.shape[3]
    rows = [
        torch.stack([cos * width * flip_x, (slant * cos - sin) * height * flip_y * tall, offset_x], 1),
        torch.stack([sin * width * flip_x / tall, (slant * sin + cos) * height * flip_y, offset_y], 1),
    ]
    shifts = 2 * settings.bend * bends.view(-1, 2, _BENDS**2) if settings.bend else None
    grid = _places(torch.stack(rows, 1), shifts, x.shape[2], x.shape[3])
    if settings.reflected:
        grid = 1 - (torch.remainder(grid + 1, 4) - 2).abs()
    if x.device.type == "mps":  # it has had no border padding before PyTorch 2.13
        grid = _onto_pixels(grid, x.shape[2], x.shape[3])
        view = F.grid_sample(x, grid, align_corners=False)
    else:
        view = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    if settings.growth * min(x.shape[2:]) >= _LEAST_GROWTH:
        view = _grown(view, growth, settings.growth * min(x.shape[2:]))
    if settings.gamma:
        view = view.clamp_(min=1e-4) ** torch.exp(curve * settings.gamma).view(-1, 1, 1, 1)
    if settings.brightness:
        view *= (1 + light * settings.brightness).view(-1, 1, 1, 1)
    if settings.changes_colour:
        hue, saturation = colours.unbind(1)
        view = _recoloured(view, hue * math.radians(settings.hue_degrees), 1 + saturation * settings.saturation)
    return view.clamp_(0, 1).contiguous(memory_format=torch.channels_last)


def _places(transforms: Tensor, bends: Tensor | None, height: int, width: int) -> Tensor:
    """Where every pixel's value is read, shape (B, H, W, 2), by affine transforms (B, 2, 3) as in `F.affine_grid`.

    All images in one product, and both axes apart in memory: a third of the time, and sampling reads it as fast.

    Args:
        transforms: Of each image.
        bends: Shifts of 4 x 4 places on top, the corners among them, shape (B, 2, 16).
        height: Of the images.
        width: The same.
    """
    device = transforms.device
    across, down = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (width, height))
    ones = transforms.new_ones(height, width)
    pixels = torch.stack([across.expand(height, width), down[:, None].expand(height, width), ones])
    if bends is not None:
        each = torch.eye(_BENDS**2, device=device).view(1, -1, _BENDS, _BENDS)
        moved = F.interpolate(each, (height, width), mode="bicubic", align_corners=True)[0]  # by each place
        transforms, pixels = torch.cat([transforms, bends], 2), torch.cat([pixels, moved])
    return (transforms.flatten(0, 1) @ pixels.flatten(1)).view(-1, 2, height, width).permute(0, 2, 3, 1)


def _grown(x: Tensor, shares: Tensor, most: float) -> Tensor:
    """Images of which what is bright has grown to all sides, or what is dark.

    That is a dilation or an erosion by whole pixels, and as much of it as the share asks for.

    Args:
        x: Shape (B, C, H, W).
        shares: Of the largest distance, from 1 to -1, by which what is bright grows, shape (B, 1).
        most: The largest distance, in pixels.
    """
    radius = max(1, math.ceil(most))
    shares = (most / radius) * shares[:, :, None, None]
    sides = torch.where(shares < 0, -1.0, 1.0)  # what is dark is what is bright of the negative
    x = sides * x
    return sides * torch.lerp(x, F.max_pool2d(x, 2 * radius + 1, 1, radius), shares.abs())


def _onto_pixels(grid: Tensor, height: int, width: int) -> Tensor:
    """Places (B, H, W, 2) beyond the middles of the outermost pixels moved there."""
    edge = 1 - 1 / grid.new_tensor([width, height])
    return torch.minimum(torch.maximum(grid, -edge), edge)


def _recoloured(x: Tensor, angles: Tensor, saturations: Tensor) -> Tensor:
    """Colour images (B, 3, H, W) with hues turned by angles (B,) and scaled around grey by saturations (B,)."""
    to_yiq = x.new_tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    cos, sin = saturations * angles.cos(), saturations * angles.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(-1, 3, 3)
    return torch.einsum("bij,bjhw->bihw", torch.linalg.inv(to_yiq) @ turn @ to_yiq, x)
