"""`clusterloom export`: checks where it may write, asks the model, and leaves the whole export or nothing."""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clusterloom.console import is_main_process
from clusterloom.data import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.load import load_model
from clusterloom.export import atlas, image_folder, onnx, projector
from clusterloom.files import new_directory, new_file, write_atomically
from clusterloom.survey import Survey, survey

FORMATS = ("atlas", "tensorboard", "huggingface-folder", "onnx")
FACTS = "export.json"  # what a folder is, for people, programs and `--overwrite`

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ExportOptions:
    """What to write, and where.

    Attributes:
        to: One of `FORMATS`.
        out: The file or folder to make.
        overwrite: Replace an earlier export that is there.
    """

    to: str
    out: Path
    overwrite: bool


def export(
    model_path: Path, options: ExportOptions, images_for: Callable[[ImageClusterer], ImageSet] | None, tell: Tell
) -> None:
    """Hand a model, or what it says of images, over to another tool.

    Args:
        model_path: The model directory.
        options: What to write, and where.
        images_for: Reads the images in the size that a model wants; None where no data were named.
        tell: Called with a line of text as the work goes on.

    Raises:
        SettingsError: the form is unknown, needs images and there are none, or a package that is not installed.
        DataError: there is something at `options.out` that may not be replaced.
        ModelError: an exported network does not agree with the model.
    """
    if not is_main_process():
        tell = _say_nothing
    _check_format(options.to, images_for is not None)
    out = options.out.resolve()
    _check_target(out, options)
    model = load_model(model_path)
    images = None if images_for is None else images_for(model)
    if options.to == "onnx":
        if is_main_process():
            with new_directory(out) as folder:
                _write_facts(folder, options.to, model, onnx.write_networks(folder, model, images, tell))
            tell(f"networks: {printable(str(options.out))}")
        return
    assert images is not None, "_check_format asks for them"
    surveyed = survey(model, images, tell)  # every process takes part
    if is_main_process():
        opened_by = _write(out, options.to, model, images, surveyed, tell)
        path = printable(str(options.out))
        tell(f"{len(images):,} images: {path}")
        tell(f"open with: {opened_by.format(path=path, quoted=shlex.quote(path))}")


def _say_nothing(line: str) -> None:
    """What processes other than the first one tell."""


def _write(out: Path, to: str, model: ImageClusterer, images: ImageSet, surveyed: Survey, tell: Tell) -> str:
    """Write one of the forms that hold images; what opens it, with braces for the path."""
    if to == "atlas":
        with new_file(out) as file:
            atlas.write_atlas(file, images, surveyed, tell)
        return atlas.OPENED_BY
    is_projector = to == "tensorboard"
    with new_directory(out) as folder:
        fill = projector.write_projector if is_projector else image_folder.write_image_folder
        fill(folder, images, surveyed, tell)
        _write_facts(folder, to, model, {"data": printable(images.name), "images": len(images)})
    return projector.OPENED_BY if is_projector else image_folder.OPENED_BY


def _write_facts(folder: Path, to: str, model: ImageClusterer, facts: dict[str, Any]) -> None:
    known = {
        "clusterloom_export": to,
        "clusterloom": version("clusterloom"),
        "estimator": type(model).__name__,
        "n_clusters": model.n_clusters_,
        "image_shape": dict(zip(("height", "width", "channels"), model.image_shape_, strict=True)),
    }
    write_atomically(folder / FACTS, json.dumps(known | facts, indent=2).encode())


def _check_format(to: str, has_images: bool) -> None:
    if to not in FORMATS:
        raise SettingsError(f"unknown form {printable(to)!r}; --to is one of {', '.join(FORMATS)}")
    if to != "onnx" and not has_images:
        raise SettingsError(f"--to {to} needs images: clusterloom export MODEL DATA --to {to} --out PATH")
    if to == "onnx":
        onnx.check_installed()
    elif to == "atlas":
        atlas.check_installed()
    elif to == "huggingface-folder":
        image_folder.check_installed()


def _check_target(out: Path, options: ExportOptions) -> None:
    shown = printable(str(options.out))
    if options.to == "atlas" and out.suffix.lower() != ".parquet":
        raise DataError(f"--out {shown}: expected a name that ends in .parquet")
    if not out.parent.is_dir():
        raise DataError(f"--out {shown}: the folder {printable(str(out.parent))} does not exist")
    if not out.exists() or (options.to != "atlas" and out.is_dir() and not any(out.iterdir())):
        return
    if not (atlas.is_atlas(out) if options.to == "atlas" else _is_export(out)):
        raise DataError(f"--out {shown} exists and is not an earlier export; choose another")
    if not options.overwrite:
        raise DataError(f"--out {shown} exists; choose another, or pass --overwrite")


def _is_export(folder: Path) -> bool:
    """Whether a folder is one that `export` made: nothing else is ever replaced."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and facts.get("clusterloom_export") in FORMATS
