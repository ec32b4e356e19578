"""The forms of an export: what each needs and where it may go, and the whole of it written or nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clusterloom.console import ProgressReport, is_main_process, no_progress
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.read import read_assignment
from clusterloom.data.images import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.export import onnx, projector
from clusterloom.export.atlas import is_atlas, write_atlas
from clusterloom.export.image_folder import write_image_folder
from clusterloom.files import new_directory, new_file
from clusterloom.marks import stranger_in, write_facts
from clusterloom.predictions import Predictions, predict_images
from clusterloom.tables import require_pyarrow
from clusterloom.targets import check_file, check_folder

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_OPENED_BY = {
    "atlas": "embedding-atlas {quoted} --image image --x x --y y",
    "tensorboard": "tensorboard --logdir {quoted}",
    "huggingface-folder": "datasets.load_dataset('imagefolder', data_dir={path!r})",
}
FORMATS = (*_OPENED_BY, "onnx")


def write_export(
    model: ImageClusterer,
    to: str,
    out: Path,
    images: ImageSet | None,
    *,
    corrections_of: Path | None = None,
    tell: Callable[[str], None],
    progress: ProgressReport = no_progress,
) -> None:
    """Hand a model, or what it says of images, over to another tool.

    Args:
        model: Any fitted estimator.
        to: One of `FORMATS`.
        out: The file or folder to make; what `check_export` has let pass is replaced.
        images: Images in the size that the model wants; None where no data were named.
        corrections_of: The model directory whose corrections go along; None to leave them out.
        tell: Told in a line of text what has been written, and what opens it.
        progress: Told how far it is.

    Raises:
        ModelError: an exported network does not agree with the model.
    """
    shown = printable(str(out))
    if to == "onnx":
        if is_main_process():
            with new_directory(out) as folder:
                facts = onnx.write_networks(folder, model, images, progress)
                write_facts(folder, to, _about(model) | facts)
            for network in facts["networks"]:
                tell(f"{network['file']}: differs from the model by {network['largest_difference']:.1g} at most")
            tell(f"networks: {shown}")
        return
    assert images is not None, "check_export asks for them"
    predictions = predict_images(model, images, progress)  # every process takes part
    if is_main_process():
        corrections = None
        if corrections_of is not None:
            corrections = read_assignment(
                corrections_of, images, predictions.labels, model.n_clusters_, model.cluster_names_, progress
            )
        _write(to, out, model, images, predictions, corrections, progress)
        if to == "tensorboard" and len(images) > projector.MOST_ROWS:
            tell(f"{projector.MOST_ROWS:,} of the images, chosen at random: the projector shows no more")
        tell(f"{len(images):,} images: {shown}")
        tell(f"open with: {_OPENED_BY[to].format(path=shown, quoted=shlex.quote(shown))}")


def _write(
    to: str,
    out: Path,
    model: ImageClusterer,
    images: ImageSet,
    predictions: Predictions,
    corrections: Assignment | None,
    progress: ProgressReport,
) -> None:
    if to == "atlas":
        with new_file(out) as file:
            write_atlas(file, images, predictions, corrections, progress)
        return
    with new_directory(out) as folder:
        fill = projector.write_projector if to == "tensorboard" else write_image_folder
        fill(folder, images, predictions, corrections, progress)
        write_facts(folder, to, _about(model) | {"data": printable(images.name), "images": len(images)})


def _about(model: ImageClusterer) -> dict[str, object]:
    return {
        "estimator": type(model).__name__,
        "n_clusters": model.n_clusters_,
        "image_shape": dict(zip(("height", "width", "channels"), model.image_shape_, strict=True)),
    }


def check_export(to: str, out: Path, has_images: bool, overwrite: bool) -> None:
    """Refuse what `write_export` cannot write, or where something would be lost, before any work is done.

    Raises:
        SettingsError: the form is unknown, needs images and there are none, or a package that is not installed.
        DataError: there is something at `out` that may not be replaced.
    """
    if to not in FORMATS:
        raise SettingsError(f"unknown form {printable(to)!r}; --to is one of {', '.join(FORMATS)}")
    if to != "onnx" and not has_images:
        raise SettingsError(f"--to {to} needs images: clusterloom export MODEL DATA --to {to} --out PATH")
    if to == "onnx":
        onnx.check_installed()
    elif to != "tensorboard":
        require_pyarrow(f"--to {to} needs pyarrow: pip install 'clusterloom[parquet]'")
    if to != "atlas":
        check_folder(out, overwrite, lambda folder: stranger_in(folder, FORMATS))
        return
    check_file(out, [".parquet"], overwrite)
    if out.exists() and not is_atlas(out):
        raise DataError(f"--out {printable(str(out))} exists and is not an earlier export; choose another")
