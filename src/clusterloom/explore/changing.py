"""Answers that change something: edits of the clusters, and files written."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.errors import DataError, printable
from clusterloom.explore.asking import choice, whole
from clusterloom.explore.exporting import export_images, export_labels
from clusterloom.explore.looking import brief, state
from clusterloom.explore.session import Session
from clusterloom.explore.splitting import split_in_two

_SHOWN = 24

Values = Mapping[str, Any]


def edit(session: Session, values: Values) -> Response:
    """Make, undo or redo an edit; the answer is the new state."""
    entry = values.get("edit")
    if not isinstance(entry, dict):
        raise DataError("expected an edit, a JSON object")
    session.collection.editor.edit(entry, whole(values, "revision", 0, 1 << 53))
    return state(session, {})


def split_preview(session: Session, values: Values) -> Response:
    """The two parts that a cluster would fall into; nothing is changed."""
    collection = session.collection
    cluster = whole(values, "cluster", 0, 1 << 16)
    revision = collection.editor.revision  # read first: what is newer than its number is refused
    sorting = collection.sorting
    members = sorting.members(cluster)
    second = split_in_two(collection.predictions.latents[members])
    parts = [members[~second], members[second]]
    rank = collection.typical_rank
    shown = [part[np.argsort(rank[part], kind="stable")[:_SHOWN]] for part in parts]
    return JSONResponse(
        {
            "revision": revision,
            "new": sorting.next_number,
            "sizes": [len(part) for part in parts],
            "images": [[brief(collection, int(row)) for row in rows] for rows in shown],
            "rows": parts[1].tolist(),
        }
    )


def save_labels(session: Session, values: Values) -> Response:
    """Write the labels as a table."""
    suffix = "." + choice(values, "format", ("csv", "parquet"))
    path = export_labels(session.collection, session.export_dir, suffix)
    return JSONResponse({"path": printable(str(path)), "count": len(session.collection.images)})


def save_images(session: Session, values: Values) -> Response:
    """Write a selection as a folder."""
    collection = session.collection
    rows = collection.sorting.rows(values.get("rows"))
    links = choice(values, "how", ("copies", "links")) == "links"
    path, count = export_images(collection, rows, session.export_dir, session.source, links)
    return JSONResponse({"path": printable(str(path)), "count": count})
