"""The corrections of one model's clusters of a set of images, from the journal beside the model."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import Edit
from clusterloom.corrections.journal import corrections, corrections_of_others
from clusterloom.data.images import ImageSet
from clusterloom.errors import DataError, DataWarning, printable


def journal_path(model_path: Path) -> Path:
    """Where the corrections of a model directory, or one that a link leads to, are kept: `MODEL.journal.sqlite`."""
    path = model_path.resolve()
    return path.with_name(path.name + ".journal.sqlite")


def weights_sha256(model_path: Path) -> str:
    """What tells a model from others in a journal."""
    return hashlib.sha256((model_path / "model.safetensors").read_bytes()).hexdigest()


def read_assignment(
    model_path: Path,
    images: ImageSet,
    labels: np.ndarray,
    n_clusters: int,
    names: Sequence[str] = (),
    progress: ProgressReport = no_progress,
) -> Assignment | None:
    """The clusters as a user has corrected them.

    Args:
        model_path: The model directory.
        images: The images, N of them.
        labels: Cluster of each image as the model says, shape (N,).
        n_clusters: The model's number of clusters.
        names: What they are called in the model itself; none, or one for each.
        progress: Told how far it is.

    Returns:
        None where nobody has corrected or named anything.

    Raises:
        DataError: the journal cannot be used.
        OSError: it cannot be read.
    """
    path = journal_path(model_path)
    edits: list[Edit] = []
    if path.exists():
        key = weights_sha256(model_path), images.fingerprint(progress)
        edits = corrections(path, *key)
        if not edits and (others := corrections_of_others(path, *key)):
            warnings.warn(
                f"{printable(path.name)} holds {others} corrections, but of other images than "
                f"{printable(images.name)}: one image more makes them others",
                DataWarning,
                stacklevel=2,
            )
    assignment = Assignment(labels, n_clusters, names)
    try:
        for edit in edits:
            assignment.apply(edit, again=True)
    except DataError as error:
        raise DataError(f"{printable(str(path))}: {error}") from error
    return assignment if edits or any(names) else None
