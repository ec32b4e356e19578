"""What a model directory holds, as an estimator's values and back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from clusterloom.data.options import ReadOptions, check_shown
from clusterloom.data.pixels import PixelRange, as_range
from clusterloom.errors import ClusterloomError, ModelError, printable
from clusterloom.networks.cluster_network import ClusterNetwork

# Where and in what company a model was made has no place in it: another machine may load it.
_NOT_SAVED = {"run_dir": None, "resume": False, "tracker": None, "verbose": 0, "device": "auto"}
_NOT_SAVED |= {"backbone_weights": None}  # the weights themselves are

Estimator = TypeVar("Estimator", bound=Any)


@dataclass(frozen=True)
class ModelContents:
    """The parts of a model directory that are read back.

    Attributes:
        settings: What rebuilds the estimator, JSON values: its method and parameters, image_shape, n_clusters,
            pixel_range, reading and n_features_in, framing if images are framed, and cluster_names if there are any.
        about: Versions, data, time and device of the run, for people and reports.
        tensors: Weights and fitted arrays.
        history: Records of metrics.jsonl.
    """

    settings: dict[str, Any]
    about: dict[str, Any]
    tensors: dict[str, np.ndarray]
    history: list[dict[str, Any]]


def contents_of(estimator: Any) -> ModelContents:
    """What a model directory holds of a fitted estimator."""
    parameters = {**vars(estimator.settings), "random_state": estimator.about_["seed"]}
    parameters |= {name: value for name, value in _NOT_SAVED.items() if name in parameters}
    settings = {
        "method": estimator.method,
        "parameters": parameters,
        "image_shape": estimator.image_shape_,
        "n_clusters": estimator.n_clusters_,
        "pixel_range": estimator.pixel_range_,
        "reading": estimator.reading_,
        "n_features_in": estimator.n_features_in_,
    }
    if estimator.framing_ is not None:
        settings["framing"] = estimator.framing_
    if any(estimator.cluster_names_):
        settings["cluster_names"] = estimator.cluster_names_
    tensors = {f"network.{k}": v.detach().cpu().numpy() for k, v in estimator.network_.state_dict().items()}
    tensors |= {
        "labels": estimator.labels_.astype(np.int32),
        "confidences": estimator.confidences_,
        "outlier_threshold": np.array(estimator.outlier_threshold_, np.float32),
    }
    if len(estimator.corrected_):
        tensors["corrected"] = estimator.corrected_.astype(np.int32)
    # As they will be when read back: tuples are lists.
    return ModelContents(json.loads(json.dumps(settings)), estimator.about_, tensors, estimator.history_)


def restored(cls: type[Estimator], contents: ModelContents, path: Path) -> Estimator:
    """The estimator that `contents_of` was given; only the tensors that its settings call for are accepted.

    Args:
        cls: The estimator's class.
        contents: What was read.
        path: Where from, for messages.

    Raises:
        ModelError: it is another method's, or parts are missing, unknown, or do not fit together.
    """
    settings = contents.settings
    if settings.get("method") != cls.method:
        raise ModelError(f"{path}: holds a model of method {settings.get('method')!r}, not of {cls.method}")
    try:
        if set(settings["parameters"]) != set(cls.Settings.names()):
            raise ValueError("unknown or missing parameters")
        estimator = cls(**vars(cls.Settings.of(settings["parameters"])))
        estimator.image_shape_ = height, width, channels = _whole_numbers(settings["image_shape"])
        estimator.n_features_in_ = int(settings["n_features_in"])
        estimator.pixel_range_ = _pixel_range(settings["pixel_range"], channels)
        estimator.reading_ = _reading(settings.get("reading", {}), channels)
        estimator.framing_ = settings.get("framing")
        if estimator.framing_ not in (None, *cls.framings):
            raise ValueError("unknown framing")
        fewest, most = estimator.cluster_range()
        (n_clusters,) = _whole_numbers([settings["n_clusters"]])
        if not fewest <= n_clusters <= most:
            raise ValueError("parameters and number of clusters do not agree")
        estimator.network_ = _restored_network(
            lambda: estimator.new_network((height, width, channels), n_clusters), contents.tensors
        )
        estimator.labels_ = contents.tensors["labels"].astype(np.int64)
        estimator.confidences_ = contents.tensors["confidences"]
        estimator.cluster_sizes_ = np.bincount(estimator.labels_, minlength=n_clusters)
        estimator.outlier_threshold_ = float(contents.tensors["outlier_threshold"])
        estimator.cluster_names_ = _names(settings.get("cluster_names", [""] * n_clusters), n_clusters)
        estimator.corrected_ = _rows(contents.tensors.get("corrected"), len(estimator.labels_))
        estimator.history_, estimator.about_ = contents.history, contents.about
        estimator.network_.to(estimator.compute().device)
    except (ClusterloomError, KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ModelError(f"{path}: the model's settings cannot be used ({why})") from error
    return estimator


def _pixel_range(known: Any, n_channels: int) -> PixelRange | None:
    if known is None:
        return None
    pixel_range = as_range(known)
    if np.size(pixel_range[0]) not in (1, n_channels):
        raise ValueError("pixel_range is for another number of channels")
    return pixel_range


def _reading(known: Any, n_channels: int) -> dict[str, Any]:
    """How images are read, if these are options that reading has."""
    unknown = set(known) - {"channels", "tile", "shown"}
    if unknown:
        raise ValueError(f"unknown ways of reading: {', '.join(sorted(unknown))}")
    channels, shown = (None if known.get(name) is None else tuple(known[name]) for name in ("channels", "shown"))
    check_shown(shown, n_channels)
    return ReadOptions(channels=channels, tile=known.get("tile"), show=shown).reading


def _names(names: Any, n_clusters: int) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != n_clusters or not all(isinstance(name, str) for name in names):
        raise ValueError("cluster_names does not hold a name for each cluster")
    return tuple(printable(name) for name in names)


def _rows(rows: np.ndarray | None, n: int) -> np.ndarray:
    """Row numbers of images, ascending."""
    found = np.empty(0, np.int64) if rows is None else rows.astype(np.int64)
    if found.ndim != 1 or (np.diff(found) <= 0).any() or (len(found) and not 0 <= found[0] <= found[-1] < n):
        raise ValueError("corrected does not hold rows of training images")
    return found


def _whole_numbers(values: Any) -> tuple[int, ...]:
    if not all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values):
        raise ValueError(f"expected positive whole numbers, got {values}")
    return tuple(values)


def _restored_network(new_network: Callable[[], ClusterNetwork], tensors: Mapping[str, np.ndarray]) -> ClusterNetwork:
    """The network with saved weights. It is laid out without memory first, so that no setting can make it allocate."""
    with torch.device("meta"):
        network = new_network()
    state = {
        name.removeprefix("network."): torch.from_numpy(array)
        for name, array in tensors.items()
        if name.startswith("network.")
    }
    # Training may have ended before the stage that makes the second decoder.
    if getattr(network, "refiner", None) is not None and not any(name.startswith("refiner.") for name in state):
        network.refiner = None  # type: ignore[assignment]
    network.load_state_dict(state, assign=True)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
