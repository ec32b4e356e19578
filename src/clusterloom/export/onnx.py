"""A model's networks as ONNX files, each compared with what it was made from."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.boundary import reason
from clusterloom.data.ids import RowIds
from clusterloom.data.images import ImageSet
from clusterloom.device import Compute
from clusterloom.errors import ModelError, SettingsError
from clusterloom.estimators.validation import images_from
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.views.places import Framing, framed

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

TOLERANCE = 1e-4
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHECKED_IMAGES = 256


class Part(NamedTuple):
    """One network to export: the name of its file, of its input and of its outputs, and how they are worked out."""

    name: str
    input: str  # "image" (N, C, H, W) or "latent" (N, D)
    outputs: tuple[str, ...]
    function: Callable[[Any, Tensor], tuple[Tensor, ...]]


def parts_of(network: nn.Module) -> tuple[Part, ...]:
    """Encoder, category encoder and decoder of a model."""
    encoder = Part("encoder", "image", ("latent",), lambda net, x: (net.latents(x),))
    if isinstance(network, ClusterVAE):
        encoder = Part("encoder", "image", ("mean", "log_variance"), _posterior)
    return (
        encoder,
        Part("category_encoder", "image", ("probabilities",), lambda net, x: (net.assign(x),)),
        Part("decoder", "latent", ("image",), lambda net, z: (net.decode(z),)),
    )


def _framing(part: Part, framing: Framing) -> Part:
    """The same, of images that it frames first, for a model that reads framed ones."""
    return part._replace(function=lambda net, x: part.function(net, framed(x, framing)))


def check_installed() -> None:
    """Refuse early where networks cannot be exported and compared.

    Raises:
        SettingsError: a package of the extra `onnx` is not installed.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise SettingsError(f"--to onnx needs {', '.join(missing)}: pip install 'clusterloom[onnx]'")


def write_networks(
    folder: Path, model: ImageClusterer, images: ImageSet | None, progress: ProgressReport = no_progress
) -> dict[str, Any]:
    """Export the networks, each into a file of its own, and run each in onnxruntime beside the original.

    Args:
        folder: Empty.
        model: Any fitted estimator.
        images: What to compare on; without any, on images that the model makes and on noise.
        progress: Told how far it is.

    Returns:
        What a program needs to know to use the files, as JSON values.

    Raises:
        ModelError: an output differs by more than `TOLERANCE`, or PyTorch's exporter does not know how.
    """
    network = copy.deepcopy(model.network_).cpu().float().eval()
    x = _made_images(network, model.image_shape_) if images is None else _some_images(model, images)
    with torch.inference_mode():
        inputs = {"image": x, "latent": network.latents(x)}
    parts, networks = parts_of(network), []
    for done, part in enumerate(parts):
        if model.framing_ and part.input == "image":
            part = _framing(part, cast(Framing, model.framing_))
        progress(f"exporting the {part.name.replace('_', ' ')}", done, len(parts))
        networks.append(_written_part(folder, network, part, inputs[part.input]))
    return {
        "networks": networks,
        "image": {"layout": "NCHW", "type": "float32", "range": [0.0, 1.0], **_pixel_scaling(model)},
        "compared_on": "images made by the model, and noise" if images is None else f"{len(x)} of the images given",
    }


def largest_difference(path: Path, batch: Tensor, expected: tuple[Tensor, ...]) -> float:
    """How far onnxruntime's outputs are from the expected ones at most, for one image alone and for all others at once.

    Args:
        path: The ONNX file.
        batch: Its input, at least two rows.
        expected: What it should give for them.

    Returns:
        The largest absolute difference, divided by the largest absolute value of that output where this is above 1.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: rows.numpy()}) for rows in (batch[:1], batch[1:])]
    differences = []
    for output, wanted in zip(map(np.concatenate, zip(*parts, strict=True)), expected, strict=True):
        scale = max(1.0, float(wanted.abs().max()))
        differences.append(float(np.abs(output - wanted.numpy()).max()) / scale)
    return float(np.max(differences))  # NumPy's keeps NaN


def _written_part(folder: Path, network: nn.Module, part: Part, batch: Tensor) -> dict[str, Any]:
    """Export and compare one part; what there is to know of its file."""
    path = folder / f"{part.name}.onnx"
    outputs = _export(network, part, batch, path)
    difference = largest_difference(path, batch, outputs)
    if not difference <= TOLERANCE:  # not a number is no agreement either
        raise ModelError(
            f"{path.name} differs from the model by {difference:.3g}, more than {TOLERANCE:g}: nothing was written; "
            "try other versions of torch, onnxscript and onnxruntime"
        )
    named = zip(part.outputs, outputs, strict=True)
    return {
        "file": path.name,
        "input": {"name": part.input, "shape": ["batch", *batch.shape[1:]]},
        "outputs": [{"name": name, "shape": ["batch", *output.shape[1:]]} for name, output in named],
        "largest_difference": difference,
    }


class _Module(nn.Module):
    """One part of a network with a `forward` of its own, as the exporter wants it."""

    def __init__(self, network: nn.Module, part: Part) -> None:
        super().__init__()
        self.network, self.function = network, part.function

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        return self.function(self.network, batch)


def _export(network: nn.Module, part: Part, batch: Tensor, path: Path) -> tuple[Tensor, ...]:
    """Write one file, and return what the original gives for the batch."""
    module = _Module(network, part).eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (batch[:2],),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[part.input],
                output_names=list(part.outputs),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(
            f"{path.name} cannot be made with the installed versions: {reason(error)}; "
            "try pip install --upgrade onnx onnxscript torch"
        ) from error
    assert program is not None, "the exporter that `dynamo` chooses returns a program"
    graph = program.model.graph
    for value in (value for node in graph for value in node.outputs if value not in graph.outputs):
        if value.name in part.outputs:  # what is computed on the way is named after its operation, such as mean
            value.name = f"{value.name}_within"
    program.save(path, external_data=False)
    with torch.inference_mode():
        return module(batch)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes to its own developers, and to users of torchvision."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _posterior(network: ClusterVAE, x: Tensor) -> tuple[Tensor, ...]:
    posterior = network.encode(network.features(x))
    return posterior.mu, posterior.log_var


def _some_images(model: ImageClusterer, images: ImageSet) -> Tensor:
    """At least two images, evenly spaced, as the networks read them."""
    rows = np.linspace(0, len(images) - 1, max(2, min(len(images), _CHECKED_IMAGES))).astype(int)
    shown = replace(images, images=images.images[rows], ids=RowIds(range(len(rows))), labels=None, class_names=())
    return Compute(torch.device("cpu"), "fp32").batch(images_from(model, shown, reset=False)).contiguous()


def _made_images(network: Any, image_shape: tuple[int, int, int]) -> Tensor:
    """Images around every class mean, and noise."""
    generator = torch.Generator().manual_seed(0)
    means = network.class_means.detach()
    height, width, channels = image_shape
    each = -(-_CHECKED_IMAGES // (2 * len(means)))
    steps = torch.randn(len(means) * each, means.shape[1], generator=generator)
    with torch.inference_mode():
        made = network.decode(means.repeat(each, 1) + steps)
    noise = torch.rand(len(made), channels, height, width, generator=generator)
    return torch.cat([made, noise]).contiguous()


def _pixel_scaling(model: ImageClusterer) -> dict[str, Any]:
    """How the pixels of images become the numbers that the networks read: (pixel - subtract) / divide."""
    low, high = (np.asarray(bound) for bound in model.pixel_range_ or (0.0, 1.0))
    divide = np.where(high > low, high - low, 1)
    numbers = {"subtract": low.tolist(), "divide": divide.tolist()}  # lists where every channel has its own
    plain = {"subtract": 0.0, "divide": 255.0}
    return {"from_bytes": plain if model.pixel_range_ is None else numbers, "from_numbers": numbers}
