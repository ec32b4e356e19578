"""Writing a model directory in one step: nothing is lost, whatever happens."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from clusterloom.errors import ModelError, printable
from clusterloom.files import new_directory, write_atomically
from clusterloom.marks import LEFT_BY_VIEWERS, folder_kind, is_our_picture
from clusterloom.model_dir.card import model_card
from clusterloom.model_dir.contents import ModelContents
from clusterloom.model_dir.format import (
    CARD,
    CONFIG,
    FORMAT_VERSION,
    READ_BACK,
    settings_sha256,
    sha256,
)
from clusterloom.targets import in_the_way


def write_model(
    path: Path, contents: ModelContents, pictures: Mapping[str, bytes] | None = None, overwrite: bool = False
) -> None:
    """Write a model directory: `path` is at every moment absent, the old model, or the new one, whole.

    Args:
        path: The directory to make.
        contents: What to store.
        pictures: PNG files by name.
        overwrite: Replace a model directory that is there already.

    Raises:
        ModelError: there is something at `path` that may not be replaced.
        OSError: the disk is full or not writable; what was at `path` is intact.
    """
    check_target(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.asarray(array, order="C") for name, array in contents.tensors.items()}
    header = {"settings_sha256": settings_sha256(contents.settings)}
    files = {
        "model.safetensors": safetensors.numpy.save(tensors, header),
        "metrics.jsonl": "".join(json.dumps(record) + "\n" for record in contents.history).encode(),
    }
    config = {
        "format_version": FORMAT_VERSION,
        "settings": contents.settings,
        "about": contents.about,
        "sha256": {name: sha256(data) for name, data in files.items()},
    }
    # JSON's escape of a byte that is not UTF-8, which a path may hold, is Python's.
    files[CONFIG] = json.dumps(config, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace")
    files[CARD] = model_card(contents, sorted(pictures or ())).encode("utf-8", "backslashreplace")
    with new_directory(path) as scratch:
        for name, data in {**files, **(pictures or {})}.items():
            write_atomically(scratch / name, data)


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse to write a model where something else, or without leave another model, would be lost.

    Raises:
        ModelError: see above.
    """
    shown = printable(str(path))
    if path.resolve() == Path.cwd():
        raise ModelError(f"{shown} is the current folder, which cannot be replaced; choose another --out")
    if not path.exists():
        if file := in_the_way(path):
            raise ModelError(f"{shown}: {printable(str(file))} is not a folder; choose another --out")
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not is_model(path):
        raise ModelError(
            f"{shown} exists and is not a model directory, which has a {CONFIG} of its kind; choose another --out"
        )
    if not overwrite:
        raise ModelError(f"{shown} holds a model already; choose another --out, or pass --overwrite")
    if strange := sorted(file.name for file in path.iterdir() if not _is_ours(file)):
        raise ModelError(
            f"{shown} holds a model and {printable(strange[0])}, which is not part of it and would go with it; "
            "move it away, or choose another --out"
        )


def is_model(path: Path) -> bool:
    """Whether a folder is a model directory of any version, whole or damaged."""
    return folder_kind(path) == "model"


def _is_ours(file: Path) -> bool:
    return file.name in (*READ_BACK, CONFIG, CARD, *LEFT_BY_VIEWERS) or is_our_picture(file)
