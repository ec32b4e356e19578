"""What a network consists of, read off the network itself: its parts, their layers, shapes and parameter counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from clusterloom.networks.backbone import FROZEN_DIM, Backbone
from clusterloom.networks.conv import ConvNetwork, TransposedNetwork
from clusterloom.networks.refiner import Refiner
from clusterloom.networks.vae import ClusterVAE


@dataclass(frozen=True)
class Part:
    """One network of the model, a dashed box in the paper's figure 1.

    Attributes:
        name: Its name there, or ours.
        reads: What it reads, by the name of another part or of data.
        layers: Its layers in order, as text.
        input_shape: Of one image, without the batch.
        output_shape: Likewise.
        parameters: Trained numbers; of a backbone the frozen ones.
    """

    name: str
    reads: str
    layers: tuple[str, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int


def describe(network: ClusterVAE) -> list[Part]:
    """The parts of a network in the order in which an image goes through them.

    Shapes are those of a forward pass of one image, not of a formula.

    Example:
        >>> from clusterloom.networks.vae import ConvNetworkSettings
        >>> parts = describe(ClusterVAE(ConvNetworkSettings(latent_dim=20, hidden_dim=512), (28, 28, 1), n_clusters=10))
        >>> [(p.name, p.output_shape) for p in parts][:2]
        [('Con_Layer1', (16, 14, 14)), ('Con_Layer2', (32, 7, 7))]
    """
    shapes = _observed_shapes(network)
    parts = []
    if network.conv is not None:
        reads = "image"
        for i, module in enumerate(network.conv.networks, 1):
            parts.append(_part(f"Con_Layer{i}", reads, [module], shapes))
            reads = parts[-1].name
    if network.backbone is not None:
        parts.append(_backbone_part(network.backbone, network.image_shape))
    encoder: list[nn.Module] = [network.encoder, network.encoder_norm, network.encoder_activation, network.posterior]
    features = "features" if network.conv is not None else "image"
    parts.append(_part("encoder", features, encoder, shapes))
    reads = features if network.settings.category_input == "features" else "z"
    parts.append(_part("category encoder", reads, [*network.category_encoder], shapes))
    parts.append(_part("decoder", "z", [network.decoder], shapes))
    if network.transposed is not None:
        parts.append(_part("TranCon_Layer1", "decoder", [network.transposed], shapes))
    if network.refiner is not None:
        parts.append(_refiner_part(network.refiner))
    return parts


def _refiner_part(refiner: Refiner) -> Part:
    side, blocks = refiner.square, len(refiner.middle)
    layers = (
        f"squares of {side}x{side} pixels as channels",
        _text(refiner.first),
        "residual block",
        _text(refiner.down),
        f"{blocks} residual blocks",
        f"{_text(refiner.up)}, upsample 2x, added",
        "residual block",
        f"ReLU, {_text(refiner.last)}, as pixels",
    )
    parameters = sum(p.numel() for p in refiner.parameters())
    shape = tuple(refiner.deviations.shape)
    return Part("refiner", "noise, decoded image and z", layers, (2 * shape[0], *shape[1:]), shape, parameters)


def _backbone_part(backbone: Backbone, image_shape: tuple[int, int, int]) -> Part:
    height, width, channels = image_shape
    layers = (
        f"resize to {backbone.input_size[0]} x {backbone.input_size[1]}",
        f"{backbone.name}, frozen: {backbone.feature_dim:,} features",
        f"{FROZEN_DIM} principal components",
    )
    parameters = sum(p.numel() for p in backbone.parameters())
    return Part("backbone", "image", layers, (channels, height, width), (FROZEN_DIM,), parameters)


def _part(
    name: str, reads: str, modules: Sequence[nn.Module], shapes: Mapping[nn.Module, tuple[tuple[int, ...], ...]]
) -> Part:
    return Part(
        name,
        reads,
        tuple(layer for module in modules for layer in _layers(module)),
        shapes[modules[0]][0],
        shapes[modules[-1]][1],
        sum(p.numel() for module in modules for p in module.parameters()),
    )


def _layers(module: nn.Module) -> list[str]:
    """Layers as text, with the functions that a network applies between its modules."""
    if isinstance(module, ConvNetwork):
        found = []
        for layer, norm in zip(module.layers, module.norms, strict=True):
            found += [_text(layer), *_layers(norm), _text(module.rectifier)]
        return [*found, "max-pool 2x2"] if module.pools else found
    if isinstance(module, TransposedNetwork):
        found = [_text(module.rectifier), "upsample 2x"]
        for layer in module.layers:
            found += [_text(layer), _text(module.rectifier)]
        return [*found[:-1], "sigmoid"]
    if isinstance(module, nn.Sequential):
        return [text for child in module for text in _layers(child)]
    return [] if isinstance(module, nn.Identity) else [_text(module)]


def _text(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kind = "transposed conv" if isinstance(layer, nn.ConvTranspose2d) else "conv"
        plural = "s" if layer.out_channels > 1 else ""
        stride = f", stride {layer.stride[0]}" if layer.stride[0] > 1 else ""
        return f"{kind} {layer.kernel_size[0]}x{layer.kernel_size[1]}, {layer.out_channels} filter{plural}{stride}"
    if isinstance(layer, nn.Linear):
        return f"dense {layer.in_features} -> {layer.out_features}"
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return "batch norm"
    return type(layer).__name__


def _observed_shapes(network: ClusterVAE) -> dict[nn.Module, tuple[tuple[int, ...], ...]]:
    """Input and output shape of every module, from a forward pass."""
    shapes: dict[nn.Module, tuple[tuple[int, ...], ...]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shapes[module] = (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

    hooks = [m.register_forward_hook(keep) for m in network.modules() if not isinstance(m, ClusterVAE)]
    was_training = network.training
    try:
        height, width, channels = network.image_shape
        with torch.inference_mode():
            x = torch.zeros(1, channels, height, width, device=network.class_means.device)
            network.eval().predictions(x)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return shapes


def size(shape: tuple[int, ...]) -> str:
    """A shape and how many numbers that is, as text.

    Example:
        >>> size((16, 14, 14)), size((20,))
        ('16 x 14 x 14 = 3,136', '20')
    """
    if len(shape) == 1:
        return f"{shape[0]:,}"
    return f"{' x '.join(map(str, shape))} = {prod(shape):,}"
