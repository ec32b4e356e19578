"""Files written into the export folder: labels, selections, new images."""

from pathlib import Path
from typing import Literal

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.errors import printable
from clusterloom.explore.export import export_generated, export_images, export_labels
from clusterloom.explore.latent_space import new_images
from clusterloom.explore.requests import ClusterNumber, NewCount, Rows, Seeds, Spread
from clusterloom.explore.session import Session


def save_labels(session: Session, format: Literal["csv", "parquet"]) -> Response:
    """Write the labels as a table."""
    path = export_labels(session.collection, session.export_dir, f".{format}")
    return _written(path, len(session.collection.images))


def save_images(session: Session, rows: Rows, how: Literal["copies", "links"]) -> Response:
    """Write a selection as a folder."""
    collection = session.collection
    chosen = collection.assignment.rows(rows)
    path = export_images(collection, chosen, session.export_dir, session.source, how == "links")
    return _written(path, len(chosen))


def save_generated(
    session: Session, cluster: ClusterNumber, spread: Spread, seeds: Seeds, n: NewCount = 24
) -> Response:
    """Write the very images that `generate` makes of the same values with each of `seeds`."""
    images = np.concatenate([new_images(session, cluster, n, spread, seed) for seed in seeds])
    return _written(export_generated(images, session.export_dir), len(images))


def _written(path: Path, count: int) -> Response:
    return JSONResponse({"path": printable(str(path)), "count": count})
