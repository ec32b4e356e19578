"""The paper's conv networks (Con_Layer1, Con_Layer2, ...), their concatenation, and the mirrored transposed network."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom.errors import SettingsError


@dataclass(frozen=True)
class ConvSettings:
    """One conv network: every layer of it has the same filters and kernels, and its end halves the image.

    Attributes:
        filters: Output channels of every conv layer; 16 and 32 in the paper's two networks.
        kernel_size: Odd side of the square kernels in pixels; 3 and 5 in the paper's.
        depth: Number of conv layers, the paper's n.
        downsample: How the image is halved: "pool" for a 2x2 max-pool at the end (the paper), or "stride" for stride 2
            in the last layer, which then computes a quarter of the numbers.
        batch_norm: Normalise every layer's outputs over the batch before the ReLU.
        negative_slope: Of the ReLUs, below zero; 0 in the paper.
    """

    filters: int
    kernel_size: int
    depth: int = 1
    downsample: Literal["pool", "stride"] = "pool"
    batch_norm: bool = False
    negative_slope: float = 0.0

    def __post_init__(self) -> None:
        if self.filters < 1 or self.depth < 1:
            raise SettingsError(
                f"a conv network needs filters >= 1 and depth >= 1, got {self.filters} and {self.depth}"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise SettingsError(
                f"kernel sizes must be odd, so that zero padding keeps the size; got {self.kernel_size}"
            )
        if self.downsample not in ("pool", "stride"):
            raise SettingsError(f"downsample must be pool or stride; got {self.downsample!r}")


class ConvNetwork(nn.Module):
    """n x [conv, ReLU] and a halving: (B, C, H, W) -> (B, filters, ceil(H/2), ceil(W/2)).

    Zero padding keeps the size up to the halving, which rounds up, so that odd sizes lose no edge.

    Args:
        in_channels: Channels of the input.
        settings: Filters, kernel size, depth, and how to halve.
    """

    def __init__(self, in_channels: int, settings: ConvSettings) -> None:
        super().__init__()
        self.pools, self.rectifier = settings.downsample == "pool", rectifier(settings.negative_slope)
        channels = [in_channels, *[settings.filters] * settings.depth]
        strides = [1] * (settings.depth - 1) + [1 if self.pools else 2]
        padding = settings.kernel_size // 2
        # A normalised layer needs no bias: the normalisation takes it out again.
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, settings.kernel_size, stride, padding, bias=not settings.batch_norm)
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(settings.filters) if settings.batch_norm else nn.Identity() for _ in strides
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features of one network, shape (B, filters, ceil(H/2), ceil(W/2))."""
        layers = list(zip(self.layers, self.norms, strict=True))
        for layer, norm in layers[:-1]:
            x = self.rectifier(norm(layer(x)))
        layer, norm = layers[-1]
        x = norm(layer(x))
        # ReLU is monotonic: after the pool it gives the same values on a quarter of the numbers.
        features: Tensor = self.rectifier(F.max_pool2d(x, 2, ceil_mode=True) if self.pools else x)
        return features


class ConvFeatures(nn.Module):
    """Conv networks one after the other, each reading the one before; their outputs flattened and concatenated.

    Args:
        image_shape: Height, width and channels of the images.
        networks: Settings of each network; two in the paper, any number here.
        concatenate: Concatenate the outputs of all networks (the paper), or use the last one's alone.

    Raises:
        SettingsError: the images are too small for so many pools.

    Example:
        >>> paper = ConvFeatures((28, 28, 1), [ConvSettings(16, 3), ConvSettings(32, 5)])
        >>> paper.output_shapes, paper.feature_dim
        ([(16, 14, 14), (32, 7, 7)], 4704)
        >>> paper(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 4704])
    """

    def __init__(
        self, image_shape: tuple[int, int, int], networks: list[ConvSettings], concatenate: bool = True
    ) -> None:
        super().__init__()
        height, width, channels = image_shape
        smallest = 2 ** len(networks)
        if min(height, width) < smallest:
            raise SettingsError(
                f"images of {height} x {width} pixels are too small for {len(networks)} conv networks, each of which "
                f"halves them; the smallest size is {smallest} x {smallest} (or give fewer conv_filters)"
            )
        self.networks = nn.ModuleList()
        self.output_shapes: list[tuple[int, int, int]] = []
        for settings in networks:
            self.networks.append(ConvNetwork(channels, settings))
            channels, height, width = settings.filters, (height + 1) // 2, (width + 1) // 2
            self.output_shapes.append((channels, height, width))
        self.concatenate = concatenate
        used = self.output_shapes if concatenate else self.output_shapes[-1:]
        self.feature_dim = sum(c * h * w for c, h, w in used)

    def forward(self, x: Tensor) -> Tensor:
        """Features of images (B, C, H, W), shape (B, feature_dim), each network's in (H, W, C) order."""
        outputs = []
        for network in self.networks:
            x = network(x)
            outputs.append(flatten_channels_last(x))
        return torch.cat(outputs, 1) if self.concatenate and len(outputs) > 1 else outputs[-1]


class TransposedNetwork(nn.Module):
    """The mirror of a `ConvNetwork` (the paper's TranConv_Layer): ReLU, 2x upsampling, then n transposed convs.

    There is a ReLU between two of them as well; the last one gives the image's channels as logits.

    Args:
        out_channels: Channels of the image.
        settings: The settings of the network that it mirrors.
        image_size: Height and width to crop to, where the pool had rounded an odd size up.

    Example:
        >>> mirror = TransposedNetwork(1, ConvSettings(16, 3), (28, 28))
        >>> mirror(torch.zeros(2, 16, 14, 14)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, out_channels: int, settings: ConvSettings, image_size: tuple[int, int]) -> None:
        super().__init__()
        channels = [*[settings.filters] * settings.depth, out_channels]
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, settings.kernel_size, padding=settings.kernel_size // 2)
            for a, b in pairwise(channels)
        )
        self.image_size, self.rectifier = image_size, rectifier(settings.negative_slope)

    def forward(self, features: Tensor) -> Tensor:
        """Image logits (B, C, H, W) from what the decoder gives for features (B, filters, ceil(H/2), ceil(W/2))."""
        first, *rest = self.layers
        x = upsampled_conv_transpose(self.rectifier(features), first.weight, first.bias)  # type: ignore[arg-type]
        for layer in rest:
            x = layer(self.rectifier(x))
        height, width = self.image_size
        return x[:, :, :height, :width]


def rectifier(negative_slope: float) -> nn.Module:
    """ReLU, or a leaky one with that slope below zero."""
    return nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()


def flatten_channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H*W*C): a view where the memory format is channels_last, which is the fast one."""
    return x.permute(0, 2, 3, 1).flatten(1)


def unflatten_channels_last(flat: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(B, H*W*C) -> (B, C, H, W) for `shape` = (C, H, W), the inverse of `flatten_channels_last`, always a view."""
    channels, height, width = shape
    return flat.view(-1, height, width, channels).permute(0, 3, 1, 2)


def upsampled_conv_transpose(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """conv_transpose2d(upsample2x(x), weight, bias) without the upsampled tensor, four times the size of `x`.

    Under nearest-neighbour upsampling, the output pixel (2i + a, 2j + b) depends only on low-resolution pixels around
    (i, j). So each of the four phases (a, b) is a small convolution of `x` itself, whose kernel sums those taps of
    `weight` that fall on the same pixel; `pixel_shuffle` interleaves the phases.

    Args:
        x: Low-resolution features, shape (B, I, h, w).
        weight: Weight of the transposed convolution, shape (I, O, k, k), k odd, stride 1, padding k // 2.
        bias: Shape (O,).

    Returns:
        Shape (B, O, 2h, 2w).
    """
    taps = _phase_taps(weight.shape[-1], weight.dtype, weight.device)
    phases = torch.einsum("ioyx,aym,bxn->oabimn", weight, taps, taps)
    kernel = phases.flatten(0, 2).contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, kernel, bias.repeat_interleave(4, 0), padding=taps.shape[-1] // 2)
    return F.pixel_shuffle(y, 2)


def _phase_taps(kernel_size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Which low-resolution offset each kernel tap reads, as a 0/1 tensor (2 phases, taps, offsets).

    Output position 2i + a reads, through tap t, the upsampled position 2i + a + k//2 - t, a copy of low-resolution
    pixel i + floor((a + k//2 - t) / 2).
    """
    half = kernel_size // 2
    reach = (half + 1) // 2
    phase = torch.arange(2, device=device)[:, None, None]
    tap = torch.arange(kernel_size, device=device)[None, :, None]
    offset = torch.arange(-reach, reach + 1, device=device)[None, None, :]
    return (torch.div(phase + half - tap, 2, rounding_mode="floor") == offset).to(dtype)
