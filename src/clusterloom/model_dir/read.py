"""Reading a model directory: everything is checked before any of it is used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from clusterloom.errors import ModelError, printable
from clusterloom.model_dir.contents import ModelContents
from clusterloom.model_dir.format import CONFIG, FORMAT_VERSION, READ_BACK, settings_sha256, sha256

_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill"}


class _Backbone(BaseModel):
    """What others read of a pretrained network."""

    model_config = ConfigDict(strict=True)
    name: str
    weights_sha256: str
    input_size: list[int]
    feature_dim: int
    note: str


class _Evidence(BaseModel):
    """What others read of what speaks for a number of clusters."""

    model_config = ConfigDict(strict=True)
    n_clusters: int
    modularity: float
    stability: float
    agreement: float
    coverage: float
    cost: float
    many: float
    concentration: float
    score: float


class _Recipe(BaseModel):
    """What others read of what the recipe decided."""

    model_config = ConfigDict(strict=True)
    views: dict[str, Any] | None = None
    spaces: dict[str, float] | None = None
    stage_seconds: dict[str, float] | None = None
    count_evidence: list[_Evidence] | None = None
    count_advice: str | None = None
    count_explained: str | None = None
    backbone: _Backbone | None = None
    corrections: dict[str, int] | None = None


class _About(BaseModel):
    """What others read of how a model was made, which no hash covers."""

    model_config = ConfigDict(strict=True)
    seed: int
    processes: int
    threads: int
    images: int
    seconds: float
    training_seconds: float
    device: str
    precision: str
    versions: dict[str, str]
    data: str | None = None
    data_sha256: str | None = None
    command: str | None = None
    stopped: str | None = None
    recipe: _Recipe | None = None


class _Config(BaseModel):
    """config.json."""

    model_config = ConfigDict(strict=True, extra="forbid")
    format_version: int
    settings: dict[str, Any]
    about: dict[str, Any]
    sha256: dict[str, str]


def read_model(path: Path) -> ModelContents:
    """Read a model directory.

    Raises:
        ModelError: it is missing, damaged, tampered with, has a pickle in it, or is of an unknown version.
    """
    shown = printable(str(path))
    if not path.is_dir():
        raise ModelError(f"{shown}: no such model directory")
    pickles = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _PICKLES)
    if pickles:
        raise ModelError(
            f"{shown}: holds {printable(pickles[0])}, which can run code when loaded; clusterloom never reads pickles"
        )
    config = _read_config(path / CONFIG)
    if set(config.sha256) != set(READ_BACK):
        raise ModelError(f"{shown}/{CONFIG}: expected hashes of {' and '.join(READ_BACK)}")
    files = {name: _read_checked(path / name, config.sha256[name]) for name in READ_BACK}
    try:
        tensors, metadata = _parse_safetensors(files["model.safetensors"])
        history = [_object(json.loads(line)) for line in files["metrics.jsonl"].decode().splitlines()]
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{shown}: damaged ({error})") from error
    if metadata.get("settings_sha256") != settings_sha256(config.settings):
        raise ModelError(f"{shown}/{CONFIG}: the settings are not those that the model was saved with")
    return ModelContents(config.settings, config.about, tensors, history)


def model_sha256(path: Path) -> str:
    """What a model directory says is the SHA-256 of its weights, fitted arrays and settings; `read_model` checks it.

    Raises:
        ModelError: there is no model, or its configuration cannot be read.
    """
    return _read_config(path / CONFIG).sha256["model.safetensors"]


def _read_config(path: Path) -> _Config:
    shown = printable(str(path))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{printable(str(path.parent))}: not a model directory, {CONFIG} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{shown}: not readable ({error})") from error
    if not isinstance(values, dict) or "format_version" not in values:
        raise ModelError(f"{shown}: not a clusterloom configuration")
    if values["format_version"] != FORMAT_VERSION:
        raise ModelError(
            f"{shown}: format version {values['format_version']!r} is unknown; this release reads version "
            f"{FORMAT_VERSION}. Update clusterloom, or fit again"
        )
    try:
        config = _Config.model_validate(values)
        _About.model_validate(config.about)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelError(
            f"{shown}: {printable(where)} is not what it was when the model was made: {first['msg']}"
        ) from None
    return config


def _read_checked(path: Path, expected: str) -> bytes:
    shown = printable(str(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{shown}: not readable ({error.strerror})") from error
    if sha256(data) != expected:
        raise ModelError(f"{shown}: damaged or changed after it was saved (its SHA-256 does not match {CONFIG})")
    return data


def _parse_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    header_length = int.from_bytes(data[:8], "little")
    metadata = _object(json.loads(data[8 : 8 + header_length])).get("__metadata__", {})
    return safetensors.numpy.load(data), _object(metadata)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected a JSON object, got {type(value).__name__}")
    return value
