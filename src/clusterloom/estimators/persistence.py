"""An estimator as the contents of a model directory, and back."""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from clusterloom.bundle import FORMAT_VERSION, Bundle
from clusterloom.errors import ModelError

# Where and how a model was made has no place in the model: another machine may load it.
_NOT_SAVED = {"run_dir": None, "resume": False, "tracker": None, "verbose": 0, "device": "auto"}

Estimator = TypeVar("Estimator", bound=Any)


def to_bundle(estimator: Any) -> Bundle:
    """What a model directory holds of a fitted estimator."""
    settings = {
        "estimator": type(estimator).__name__,
        "parameters": {**estimator.get_params(), **_NOT_SAVED, "random_state": estimator.about_["seed"]},
        "network": asdict(estimator.network_.settings),
        "pixel_range": list(estimator.pixel_range_),
        "n_features_in": int(estimator.n_features_in_),
    }
    tensors = {f"network.{k}": v.detach().cpu().numpy() for k, v in estimator.network_.state_dict().items()}
    tensors |= {
        "labels": estimator.labels_.astype(np.int32),
        "outlier_threshold": np.array(estimator.outlier_threshold_, np.float32),
    }
    return Bundle(_as_json(settings), estimator.about_, tensors, estimator.history_)


def from_bundle(cls: type[Estimator], bundle: Bundle, path: Path) -> Estimator:
    """The estimator that `to_bundle` was given; only the tensors that its settings call for are accepted.

    Args:
        cls: The estimator's class.
        bundle: What was read.
        path: Where from, for messages.

    Raises:
        ModelError: parts are missing, unknown, or do not fit together.
    """
    try:
        bundle = _upgraded(bundle)
        settings = bundle.settings
        if set(settings["parameters"]) != set(cls._get_param_names()):
            raise ValueError("unknown or missing parameters")
        estimator = cls(**settings["parameters"])
        estimator.pixel_range_ = tuple(float(v) for v in settings["pixel_range"])
        estimator.n_features_in_ = int(settings["n_features_in"])
        estimator.image_shape_ = tuple(settings["network"]["image_shape"])
        fewest, most = estimator._cluster_range()
        n_clusters = settings["network"]["n_clusters"]
        if not isinstance(n_clusters, int) or not fewest <= n_clusters <= most:
            raise ValueError("parameters and network do not agree")
        network_settings = replace(estimator._network_settings(estimator.image_shape_), n_clusters=n_clusters)
        if _as_json(asdict(network_settings)) != settings["network"]:
            raise ValueError("parameters and network do not agree")
        estimator.network_ = _restored_network(estimator, network_settings, bundle.tensors)
        estimator.labels_ = bundle.tensors["labels"].astype(np.int64)
        estimator.cluster_sizes_ = np.bincount(estimator.labels_, minlength=estimator.n_clusters_)
        estimator.outlier_threshold_ = float(bundle.tensors["outlier_threshold"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ModelError(f"{path}: the model's settings cannot be used ({why})") from error
    estimator.history_, estimator.about_ = bundle.history, bundle.about
    estimator.network_.to(estimator._compute().device)
    return estimator


def _upgraded(bundle: Bundle) -> Bundle:
    """A model of an earlier format with what has been added since, at the values that it was trained with."""
    if bundle.format_version == FORMAT_VERSION:
        return bundle
    settings, tensors = copy.deepcopy(bundle.settings), dict(bundle.tensors)
    network, parameters = settings["network"], settings["parameters"]
    is_conv = settings["estimator"] == "ConvVAEClusterer"
    if bundle.format_version == 1:
        network |= {"batch_norm": False, "kl_weight": 1.0}
        for conv in network["conv_networks"]:
            conv |= {"downsample": "pool", "batch_norm": False}
        if is_conv:
            parameters |= {"start": "random", "conv_downsample": "pool", "batch_norm": False, "kl_weight": 1.0}
        identity = np.eye(network["latent_dim"], dtype=np.float32)
        tensors["network.scale_tril"] = np.repeat(identity[None], network["n_clusters"], 0)
    if bundle.format_version <= 2:
        if is_conv:
            parameters["colour_views"] = False
        height, width, channels = network["image_shape"]
        variance = 1 / max(network["reconstruction_weight"], 1e-12)
        tensors["network.pixel_variances"] = np.full((channels, height, width), variance, np.float32)
    if settings["estimator"] in ("ConvVAEClusterer", "VAEClusterer"):
        for values in (network, parameters):
            values |= {"encoder_activation": "relu", "initial_weights": "torch"}
    return replace(bundle, settings=settings, tensors=tensors)


def _restored_network(estimator: Any, settings: Any, tensors: Mapping[str, np.ndarray]) -> nn.Module:
    """The network with saved weights. It is laid out without memory first, so that no setting can make it allocate."""
    with torch.device("meta"):
        network: nn.Module = estimator._new_network(settings)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    state = {
        name.removeprefix("network."): torch.from_numpy(array)
        for name, array in tensors.items()
        if name.startswith("network.")
    }
    network.load_state_dict(state, assign=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _as_json(values: Any) -> Any:
    """The values as they will be when read back: tuples are lists, and NumPy's numbers are Python's."""
    return json.loads(json.dumps(values, default=lambda value: value.tolist()))
