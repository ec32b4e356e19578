"""Model directories: what lies in one, written so that nothing is lost, read so that nothing is trusted::

    model.safetensors   weights and fitted arrays; its header has a hash of the settings
    config.json         format and package versions, settings, hashes of the other files
    metrics.jsonl       one line per epoch
    README.md           model card, for people; not read back
    *.png               pictures, if asked for; not read back

No pickle is ever written or read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from clusterloom.errors import ModelError, printable
from clusterloom.files import json_keys, new_directory, write_atomically

FORMAT_VERSION = 4
_READABLE_VERSIONS = (1, 2, 3, 4)  # what older ones lack, clusterloom.estimators.persistence supplies
_READ_BACK = ("model.safetensors", "metrics.jsonl")
LEFT_BY_VIEWERS = (".DS_Store", "Thumbs.db", "desktop.ini")  # by whatever shows a folder on macOS and Windows
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".dill"}

# What others read of `Bundle.about`, which no hash covers.
_Kinds = dict[str, type | tuple[type, ...]]
_ABOUT: _Kinds = {
    **dict.fromkeys(("seed", "processes", "threads", "images"), int),
    **dict.fromkeys(("seconds", "training_seconds"), (int, float)),
    **dict.fromkeys(("device", "precision"), str),
    "versions": dict,
}
_ABOUT_IF_THERE: _Kinds = {**dict.fromkeys(("data", "data_sha256", "command", "stopped"), str), "recipe": dict}
_RECIPE_IF_THERE: _Kinds = {"views": dict, "stage_seconds": dict, "count_evidence": list}


@dataclass(frozen=True)
class Bundle:
    """The contents of a model directory that are read back.

    Attributes:
        settings: What rebuilds the estimator: JSON values by name.
        about: Versions, data, time and device of the run, for people and reports.
        tensors: Weights and fitted arrays.
        history: Records of metrics.jsonl.
        format_version: Of the directory that it was read from.
    """

    settings: dict[str, Any]
    about: dict[str, Any]
    tensors: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    format_version: int = FORMAT_VERSION


def write_bundle(
    path: Path, bundle: Bundle, card: str, pictures: Mapping[str, bytes] | None = None, overwrite: bool = False
) -> None:
    """Write a model directory in one step: `path` is at every moment absent, the old model, or the new one, whole.

    Args:
        path: The directory to make.
        bundle: What to store.
        card: Text of README.md.
        pictures: PNG files by name.
        overwrite: Replace a model directory that is there already.

    Raises:
        ModelError: there is something at `path` that may not be replaced.
        OSError: the disk is full or not writable; what was at `path` is intact.
    """
    check_target(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    settings_text = json.dumps(bundle.settings, sort_keys=True)
    tensors = {name: np.asarray(array, order="C") for name, array in bundle.tensors.items()}
    files = {
        "model.safetensors": safetensors.numpy.save(tensors, {"settings_sha256": _sha256(settings_text.encode())}),
        "metrics.jsonl": "".join(json.dumps(record) + "\n" for record in bundle.history).encode(),
    }
    config = {
        "format_version": FORMAT_VERSION,
        "settings": bundle.settings,
        "about": bundle.about,
        "sha256": {name: _sha256(data) for name, data in files.items()},
    }
    files["config.json"] = json.dumps(config, indent=2, ensure_ascii=False).encode()
    files["README.md"] = card.encode()
    with new_directory(path) as scratch:
        for name, data in {**files, **(pictures or {})}.items():
            write_atomically(scratch / name, data)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse to write a model where something else, or without leave another model, would be lost.

    Raises:
        ModelError: see above.
    """
    if path.resolve() == Path.cwd():
        raise ModelError(f"{path} is the current folder, which cannot be replaced; choose another --out")
    if not path.exists():
        above = next(parent for parent in path.resolve().parents if parent.exists())
        if not above.is_dir():
            raise ModelError(f"{path}: {above} is not a folder; choose another --out")
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not _is_bundle(path):
        raise ModelError(f"{path} exists and is not a model directory; choose another --out")
    if not overwrite:
        raise ModelError(f"{path} holds a model already; choose another --out, or pass --overwrite")
    if strange := sorted(file.name for file in path.iterdir() if not _is_ours(file.name)):
        raise ModelError(
            f"{path} holds a model and {printable(strange[0])}, which is not part of it and would go with it; "
            "move it away, or choose another --out"
        )


def _is_bundle(path: Path) -> bool:
    """Whether a folder is a model directory of any version, whole or damaged."""
    return {"format_version", "settings"} <= json_keys(path / "config.json")


def _is_ours(name: str) -> bool:
    return name in (*_READ_BACK, "config.json", "README.md", *LEFT_BY_VIEWERS) or name.endswith(".png")


def read_bundle(path: Path) -> Bundle:
    """Read a model directory, checking everything before any of it is used.

    Raises:
        ModelError: it is missing, damaged, tampered with, has a pickle in it, or is of an unknown version.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such model directory")
    pickles = sorted(file.name for file in path.iterdir() if file.suffix.lower() in _PICKLES)
    if pickles:
        raise ModelError(f"{path}: holds {pickles[0]}, which can run code when loaded; clusterloom never reads pickles")
    config = _read_config(path / "config.json")
    files = {name: _read_checked(path / name, config["sha256"][name]) for name in _READ_BACK}
    try:
        tensors, metadata = _parse_safetensors(files["model.safetensors"])
        history = [json.loads(line) for line in files["metrics.jsonl"].decode().splitlines()]
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: damaged ({error})") from error
    if metadata.get("settings_sha256") != _sha256(json.dumps(config["settings"], sort_keys=True).encode()):
        raise ModelError(f"{path / 'config.json'}: the settings are not those that the model was saved with")
    return Bundle(config["settings"], config["about"], tensors, history, config["format_version"])


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent}: not a model directory, config.json is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable ({error})") from error
    if not isinstance(config, dict) or "format_version" not in config:
        raise ModelError(f"{path}: not a clusterloom configuration")
    if config["format_version"] not in _READABLE_VERSIONS:
        raise ModelError(
            f"{path}: format version {config['format_version']!r} is unknown; this release reads versions up to "
            f"{FORMAT_VERSION}. Update clusterloom, or fit again"
        )
    expected = {"format_version", "settings", "about", "sha256"}
    if set(config) != expected or not all(isinstance(config[key], dict) for key in expected - {"format_version"}):
        raise ModelError(f"{path}: expected the keys {', '.join(sorted(expected))}; got {', '.join(sorted(config))}")
    if set(config["sha256"]) != set(_READ_BACK):
        raise ModelError(
            f"{path}: expected hashes of {', '.join(_READ_BACK)}; got {', '.join(sorted(config['sha256']))}"
        )
    about = config["about"]
    _check_kinds(about, _ABOUT | _there(_ABOUT_IF_THERE, about), path)
    _check_kinds(about.get("recipe", {}), _there(_RECIPE_IF_THERE, about.get("recipe", {})), path)
    return config


def _there(kinds: _Kinds, values: Mapping[str, Any]) -> _Kinds:
    return {name: kind for name, kind in kinds.items() if name in values}


def _check_kinds(values: Mapping[str, Any], kinds: _Kinds, path: Path) -> None:
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            raise ModelError(f"{path}: {name}, which says how the model was made, is missing or of another type")


def _read_checked(path: Path, expected: Any) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: not readable ({error.strerror})") from error
    if _sha256(data) != expected:
        raise ModelError(f"{path}: damaged or changed after it was saved (its SHA-256 does not match config.json)")
    return data


def _parse_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    header_length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + header_length]).get("__metadata__", {})
    return safetensors.numpy.load(data), metadata


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
