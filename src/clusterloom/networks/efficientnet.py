"""EfficientNet-Lite0 without its classifier, for inference: batch norm is folded into the convs."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom.errors import SettingsError

# Kernel size, stride of the first, expansion, output channels and number of the blocks of each stage, from
# tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py (Apache-2.0).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM_CHANNELS = 32
_EPSILON = 1e-3  # of its batch norm


class EfficientNetLite0(nn.Module):
    """The conv layers of EfficientNet-Lite0 (Tan and Le, 2019; the variant without squeeze-excitation, with ReLU6).

    Attributes:
        feature_dim: Numbers per image that it gives, 1280.

    Example:
        >>> import torch
        >>> EfficientNetLite0()(torch.zeros(2, 3, 64, 48)).shape
        torch.Size([2, 1280])
    """

    feature_dim = 1280

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv(3, _STEM_CHANNELS, 3, stride=2)
        channels, blocks = _STEM_CHANNELS, []
        for kernel_size, first_stride, expansion, out_channels, number in _STAGES:
            for stride in [first_stride, *[1] * (number - 1)]:
                blocks.append(_InvertedResidual(channels, out_channels, kernel_size, stride, expansion))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _SameConv(channels, self.feature_dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 1280), means over all places, of normalised images (B, 3, H, W) of any size."""
        return F.relu6(self.head(self.blocks(F.relu6(self.stem(x))))).mean((2, 3))

    def load_checkpoint(self, checkpoint: Mapping[str, Tensor]) -> None:
        """Take the weights of `efficientnet_lite_pytorch.EfficientNet`, whose classifier is left out.

        Raises:
            SettingsError: they are those of another network.
        """
        state: dict[str, Tensor] = {}
        try:
            for ours, conv, norm in _checkpoint_names(self.blocks):
                weight, bias = _folded(checkpoint[f"{conv}.weight"], *(checkpoint[f"{norm}.{p}"] for p in _NORM))
                state |= {f"{ours}.weight": weight, f"{ours}.bias": bias}
            self.load_state_dict(state, assign=True)
        except (KeyError, RuntimeError) as error:
            why = str(error).splitlines()[0]
            raise SettingsError(f"the weights are not those of EfficientNet-Lite0 ({why})") from error


class _SameConv(nn.Conv2d):
    """A conv with TensorFlow's padding: ceil(size / stride) outputs, the end gets the odd zero."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        (kernel_size, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:
            return super().forward(x)
        pads = []
        for size in (x.shape[3], x.shape[2]):
            whole = max(0, (-(-size // stride) - 1) * stride + kernel_size - size)
            pads += [whole // 2, whole - whole // 2]
        return F.conv2d(F.pad(x, pads), self.weight, self.bias, stride, groups=self.groups)


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise conv, 1x1 projection (MobileNetV2), and the input added where the shape stays."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = _SameConv(in_channels, hidden, 1) if expansion > 1 else None
        self.depthwise = _SameConv(hidden, hidden, kernel_size, stride, groups=hidden)
        self.project = _SameConv(hidden, out_channels, 1)
        self.adds_input = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.adds_input else y


_NORM = ("weight", "bias", "running_mean", "running_var")


def _checkpoint_names(blocks: nn.Sequential) -> list[tuple[str, str, str]]:
    """Of every conv: its name here, and in the checkpoint its own and its batch norm's."""
    names = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
    for i, block in enumerate(blocks):
        layers = [("depthwise", "_depthwise_conv", "_bn1"), ("project", "_project_conv", "_bn2")]
        if block.expand is not None:
            layers.append(("expand", "_expand_conv", "_bn0"))
        names += [(f"blocks.{i}.{ours}", f"_blocks.{i}.{conv}", f"_blocks.{i}.{norm}") for ours, conv, norm in layers]
    return names


def _folded(weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of a conv that does what a conv without bias and its batch norm do."""
    factor = scale.double() / (variance.double() + _EPSILON).sqrt()
    folded = weight.double() * factor[:, None, None, None]
    return folded.float(), (shift.double() - mean.double() * factor).float()
