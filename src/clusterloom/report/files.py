"""The files of a report: the page and, if wanted, pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clusterloom.console import ProgressReport, is_main_process, no_progress
from clusterloom.corrections.apply import corrected_probabilities
from clusterloom.corrections.assignment import OUTLIER
from clusterloom.corrections.read import read_assignment
from clusterloom.data.images import ImageSet, limited_rows
from clusterloom.errors import DataError, printable
from clusterloom.files import write_atomically
from clusterloom.marks import is_our_picture
from clusterloom.pictures import image_grid, png_bytes
from clusterloom.predictions import MOST_SHOWN, predict_images, predict_totals
from clusterloom.report.clusters import Seen, new_images
from clusterloom.report.contents import Contents, Subject, contents, render
from clusterloom.report.map_picture import with_labels
from clusterloom.tables import Labels, labels_of
from clusterloom.targets import check_file

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_SUFFIXES = (".html", ".htm")
_MARK, _HEAD_BYTES = b'<meta name="generator" content="clusterloom">', 1000  # what tells a page of ours
_OURS = re.compile(r"(map|outliers|cluster-\d+-(typical|least-certain|new))\.png")


def write_report(
    model: ImageClusterer,
    images: ImageSet | None,
    out: Path,
    *,
    pictures: bool = False,
    labels: Path | None = None,
    corrections_of: Path | None = None,
    tell: Callable[[str], None],
    progress: ProgressReport = no_progress,
) -> None:
    """Write a report on a model, with what it says of images where there are some. What is there is replaced.

    Args:
        model: Any fitted estimator.
        images: Images in the size that it wants; None where no data were named.
        out: The page; see `report_target`.
        pictures: Also write PNG files, into a folder beside the page.
        labels: File of true labels, in place of the data's own; see `clusterloom.tables.read_labels`.
        corrections_of: The model directory whose corrections count; None to leave them out.
        tell: Told in a line of text where each result is.
        progress: Told how far it is.

    Raises:
        DataError: the images or labels cannot be used.
    """
    subject = Subject(model, None if images is None else _seen(model, images, labels, corrections_of, progress))
    if not is_main_process():
        return
    progress("writing the page", 0, 0)
    content = contents(subject)
    write_atomically(out, render(content).encode("utf-8", "backslashreplace"))
    tell(f"report: {printable(str(out))}")
    if pictures:
        folder = _pictures_of(out)
        _write_pictures(folder, subject, content)
        tell(f"pictures: {printable(str(folder))}")


def report_target(model_path: Path, out: Path | None, pictures: bool) -> Path:
    """Where a report goes, by default beside the model as MODEL.report.html, never in the model directory.

    Raises:
        DataError: the page or its pictures cannot be put where they are to go.
    """
    if out is None:  # `.` and `..` are followed to their names first
        out = Path(f"{model_path if model_path.name not in ('', '..') else model_path.resolve()}.report.html")
    name, folder = printable(str(out)), _pictures_of(out)
    check_file(out, _SUFFIXES, overwrite=True)
    if out.exists() and _MARK not in out.read_bytes()[:_HEAD_BYTES]:
        raise DataError(f"--out {name} exists and is no report of clusterloom; choose another")
    if pictures and folder.exists() and not folder.is_dir():
        raise DataError(f"--pictures go into a folder {printable(str(folder))}, but a file of that name is there")
    if pictures and (others := [path for path in _named_as_ours(folder) if not is_our_picture(path)]):
        raise DataError(f"--pictures: {printable(str(others[0]))} would be lost, and is none of ours; move it away")
    return out


def _named_as_ours(folder: Path) -> list[Path]:
    """What a report with pictures removes or replaces in their folder."""
    return [path for path in folder.iterdir() if _OURS.fullmatch(path.name)] if folder.is_dir() else []


def _pictures_of(out: Path) -> Path:
    return out.with_name(out.stem + "-pictures")


def _seen(
    model: ImageClusterer,
    images: ImageSet,
    labels_file: Path | None,
    corrections_of: Path | None,
    progress: ProgressReport,
) -> Seen:
    labels = labels_of(images, labels_file)
    if len(images) > MOST_SHOWN:
        return _sample_seen(model, images, labels, progress)
    own = predict_images(model, images, progress)
    assignment = None
    if corrections_of is not None:
        assignment = read_assignment(corrections_of, images, own.labels, own.n_clusters, model.cluster_names_, progress)
    if assignment is None:
        return Seen(images, own, labels)
    corrected = replace(
        own,
        proba=corrected_probabilities(own.proba, assignment),
        outlier=own.outlier | (assignment.marks == OUTLIER),
        assigned=assignment.labels,
    )
    return Seen(images, corrected, labels, assignment, own)


def _sample_seen(model: ImageClusterer, images: ImageSet, labels: Labels | None, progress: ProgressReport) -> Seen:
    """A sample of very many images, with the totals of all; corrections are those of whole sets, and left out."""
    shown, rows = images.head(MOST_SHOWN), limited_rows(len(images), MOST_SHOWN)
    note = "sizes, mean probabilities, outliers and scores against labels are of all images; all else is of these"
    shown = replace(shown, notes=(*shown.notes, note))
    totals = predict_totals(model, images, rows[:0], progress)
    of_shown = None if labels is None else Labels(labels.numbers[rows], labels.names)
    return Seen(shown, predict_images(model, shown, progress), of_shown, totals=totals, all_labels=labels)


def _write_pictures(folder: Path, subject: Subject, content: Contents) -> None:
    """The page's pictures as PNG files; those of an earlier report are removed, anything else there is kept."""
    folder.mkdir(exist_ok=True)
    for old in _named_as_ours(folder):
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
        for k in (cluster.number for cluster in content.clusters)
        if k < subject.model.n_clusters_  # of a cluster that a user has made the model knows nothing
    }
    if subject.seen is None:
        return grids
    members = {"outliers": ("outliers, the furthest out first", content.outliers)}
    for cluster in content.clusters:
        name, of = f"cluster-{cluster.number}", f"of cluster {cluster.number}"
        members[f"{name}-typical"] = (f"the most typical images {of}", cluster.typical)
        members[f"{name}-least-certain"] = (f"the least certain images {of}", cluster.doubtful)
    images = subject.seen.images
    return grids | {name: (title, images.shown([one.row for one in some])) for name, (title, some) in members.items()}
