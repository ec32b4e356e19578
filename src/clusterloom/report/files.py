"""The files of a report: the page and, if wanted, pictures beside it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clusterloom.console import ProgressReport, is_main_process, no_progress
from clusterloom.data import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.methods import load_model
from clusterloom.files import write_atomically
from clusterloom.pictures import image_grid, png_bytes
from clusterloom.predictions import predict_images
from clusterloom.report.clusters import Labels, Seen, new_images
from clusterloom.report.contents import Contents, Subject, contents, render
from clusterloom.report.map_picture import with_labels
from clusterloom.tables import read_labels

_SUFFIXES = (".html", ".htm")
_OURS = re.compile(r"(map|outliers|cluster-\d+-(typical|least-certain|new))\.png")


def write_report(
    model_path: Path,
    images_for: Callable[[ImageClusterer], ImageSet] | None,
    out: Path | None = None,
    *,
    pictures: bool = False,
    labels: Path | None = None,
    tell: Callable[[str], None],
    progress: ProgressReport = no_progress,
) -> None:
    """Write a report on a model, with what it says of images where there are some. What is there is replaced.

    Args:
        model_path: The model directory.
        images_for: Reads the images in the size that a model wants; None where no data were named.
        out: The page; None puts it beside the model, as `MODEL.report.html`.
        pictures: Also write PNG files, into a folder beside the page.
        labels: File of true labels, in place of the data's own; see `clusterloom.tables.read_labels`.
        tell: Told in a line of text where each result is.
        progress: Told how far it is.

    Raises:
        ModelError: the model cannot be used.
        DataError: the images or labels cannot be used, or the page cannot be put where it is to go.
        SettingsError: labels without images.
    """
    out = out or _beside(model_path)
    folder = out.with_name(out.stem + "-pictures") if pictures else None
    _check_target(out, folder)
    if labels is not None and images_for is None:
        raise SettingsError("--labels says what images show; name the images as DATA too")
    model = load_model(model_path)
    subject = Subject(model, None if images_for is None else _seen(model, images_for(model), labels, progress))
    if not is_main_process():
        return
    progress("writing the page", 0, 0)
    content = contents(subject)
    write_atomically(out, render(content).encode("utf-8", "backslashreplace"))
    tell(f"report: {printable(str(out))}")
    if folder is not None:
        _write_pictures(folder, subject, content)
        tell(f"pictures: {printable(str(folder))}")


def _beside(model_path: Path) -> Path:
    """MODEL.report.html, never in the model directory: `.` and `..` are followed to their names first."""
    named = model_path if model_path.name not in ("", "..") else model_path.resolve()
    return Path(f"{named}.report.html")


def _check_target(out: Path, pictures: Path | None) -> None:
    name = printable(str(out))
    if out.is_dir():
        raise DataError(f"--out {name} is a folder; name the file to write, such as {name}/report.html")
    if out.suffix.lower() not in _SUFFIXES:
        raise DataError(f"--out {name}: expected a name that ends in .html")
    if not out.parent.is_dir():
        raise DataError(f"--out {name}: the folder {printable(str(out.parent))} does not exist")
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise DataError(f"--pictures go into a folder {printable(str(pictures))}, but a file of that name is there")


def _seen(model: ImageClusterer, images: ImageSet, labels_file: Path | None, progress: ProgressReport) -> Seen:
    labels = None if images.labels is None else Labels(images.labels, images.class_names)
    if labels_file is not None:
        labels = Labels(*read_labels(labels_file, images.ids))
    return Seen(images, predict_images(model, images, progress), labels)


def _write_pictures(folder: Path, subject: Subject, content: Contents) -> None:
    """The page's pictures as PNG files; those of an earlier report are removed, anything else there is kept."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if _OURS.fullmatch(old.name):
            old.unlink()
    if content.map is not None:
        write_atomically(folder / "map.png", png_bytes(with_labels(content.map)))
    for name, (title, images) in _grids(subject, content).items():
        if len(images):
            write_atomically(folder / f"{name}.png", png_bytes(image_grid([images], title=title)))


def _grids(subject: Subject, content: Contents) -> dict[str, tuple[str, np.ndarray]]:
    """Title and images of every grid, by the name of its file."""
    grids = {
        f"cluster-{k}-new": (f"new images of cluster {k}, made by the model", new_images(subject.model, k))
        for k in range(len(content.clusters))
    }
    if subject.seen is None:
        return grids
    members = {"outliers": ("outliers, the furthest out first", content.outliers)}
    for cluster in content.clusters:
        name, of = f"cluster-{cluster.number}", f"of cluster {cluster.number}"
        members[f"{name}-typical"] = (f"the most typical images {of}", cluster.typical)
        members[f"{name}-least-certain"] = (f"the least certain images {of}", cluster.doubtful)
    images = subject.seen.images.images
    return grids | {name: (title, images[[one.row for one in some]]) for name, (title, some) in members.items()}
