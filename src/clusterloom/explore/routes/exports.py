"""Files out: labels as a table, images as folders, always into the one folder that was chosen at the start of explore.

Nothing that a page sends becomes part of a path. Files and folders appear whole or not at all.
"""

import re
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.corrections.apply import corrected_columns
from clusterloom.corrections.forms import ClusterNumber, Rows
from clusterloom.errors import DataError, printable
from clusterloom.explore.latent_space import new_images
from clusterloom.explore.requests import NewCount, Seeds, Spread
from clusterloom.explore.session import Session
from clusterloom.files import new_directory, sweep_all_stale
from clusterloom.marks import write_facts
from clusterloom.pictures import png_bytes, to_picture
from clusterloom.tables import prediction_columns, write_table


def save_labels(session: Session, format: Literal["csv", "parquet"]) -> Response:
    """Write one row per image: where it is now, what that is called, and what the model says.

    Columns are those of `clusterloom.corrections.apply.corrected_columns`.
    """
    images, assignment, said = session.collection.images, session.collection.assignment, session.collection.predictions
    columns = prediction_columns(images.ids, {"proba": said.proba, "score": said.score, "outlier": said.outlier})
    target = _new_name(session.export_dir, "labels", f".{format}")
    write_table(corrected_columns(columns, assignment), str(target))
    return _written(target, len(images))


def save_images(session: Session, rows: Rows, how: Literal["copies", "links"]) -> Response:
    """Write images into a new folder: copies of the original files, links to them, or PNGs where there are no files."""
    images, source = session.collection.images, session.source
    if how == "links" and source is None:
        raise DataError("there are no files to link to: the images did not come from a folder; export copies")
    chosen = session.collection.assignment.rows(rows).tolist()
    ids = [images.ids[row] for row in chosen]
    names = _file_names(ids, ".png" if source is None else None)
    target = _new_name(session.export_dir, "selection")
    with new_directory(target) as scratch:
        for row, identifier, name in zip(chosen, ids, names, strict=True):
            if source is None:
                (scratch / name).write_bytes(png_bytes(to_picture(images.shown(row)), made=False))
            else:
                _place_file(source, identifier, scratch / name, how == "links")
        write_facts(scratch, "selection", {"images": len(chosen)})
    return _written(target, len(chosen))


def save_generated(
    session: Session, cluster: ClusterNumber, spread: Spread, seeds: Seeds, n: NewCount = 24
) -> Response:
    """Write the very images that `generate` makes of the same values with each of `seeds`, one PNG each."""
    images = np.concatenate([new_images(session, cluster, n, spread, seed) for seed in seeds])
    target = _new_name(session.export_dir, "generated")
    with new_directory(target) as scratch:
        for i, image in enumerate(images):
            (scratch / f"{i:05d}.png").write_bytes(png_bytes(to_picture(image)))
    return _written(target, len(images))


def _written(path: Path, count: int) -> Response:
    return JSONResponse({"path": printable(str(path)), "count": count})


def _place_file(source: Path, identifier: str, target: Path, link: bool) -> None:
    # Ids of a folder's images are what the reader found inside it. They were checked then; a link may point elsewhere
    # by now, and what is no regular file is not opened.
    path = source / identifier
    if not path.is_file():
        raise DataError(f"{printable(identifier)} is no longer in the folder that was read")
    if link:
        target.symlink_to(path.absolute())
    else:
        shutil.copy2(path, target)


def _file_names(ids: list[str], suffix: str | None) -> list[str]:
    """A name for each file: what the id ends in, with a number where that would come twice.

    Example:
        >>> _file_names(["a/x.png", "b/x.png", "y.png"], None)
        ['x.png', 'x-2.png', 'y.png']
        >>> _file_names(["17", "b\\n.jpg"], ".png")
        ['17.png', 'b_.jpg.png']
    """
    names: list[str] = []
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    for identifier in ids:
        # Bytes that are not UTF-8 stay what they are; what a terminal or another system would choke on does not.
        base = re.sub(r'[\x00-\x1f\x7f<>:"\\|?*]', "_", PurePosixPath(identifier).name) or "_"
        stem, dot_end = (Path(base).stem, Path(base).suffix) if suffix is None else (base, suffix)
        name = stem + dot_end
        while name.lower() in taken:
            numbers[base] += 1
            name = f"{stem}-{numbers[base] + 1}{dot_end}"
        taken.add(name.lower())
        names.append(name)
    return names


def _new_name(folder: Path, name: str, suffix: str = "") -> Path:
    """A name that nothing has yet, for it holds the time to the microsecond; its folder is there afterwards.

    What killed processes have left in the folder goes: nobody will write under their names again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep_all_stale(folder)
    return folder / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}{suffix}"
