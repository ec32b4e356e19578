"""What the page shows outside its views, and what it knows of every image, column by column."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.corrections.edits import described
from clusterloom.errors import DataError, printable
from clusterloom.explore.collection import Collection
from clusterloom.explore.session import Session, about
from clusterloom.palette import Style, styles

_STRIP = 16  # typical images beside each cluster
_HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None

Column: TypeAlias = Literal[
    "position", "confidence", "typical", "doubtful", "question", "score", "outlier", "model", "class"
]

# Little-endian. Of the orders and of the score the place from 0 to 1; of an image without a score nan.
_COLUMNS: Mapping[str, tuple[str, Callable[[Collection], np.ndarray]]] = {
    "position": ("<f4", lambda collection: collection.predictions.position),  # x and y in turns
    "confidence": ("<f4", lambda collection: collection.predictions.confidence),
    "typical": ("<f4", lambda collection: collection.ranks["typical"]),
    "doubtful": ("<f4", lambda collection: collection.ranks["doubtful"]),
    "question": ("<f4", lambda collection: collection.question_ranks),
    "score": ("<f4", lambda collection: collection.score_ranks),
    "outlier": ("u1", lambda collection: collection.predictions.outlier),
    "model": ("<u2", lambda collection: collection.predictions.labels),
    "class": ("<u2", lambda collection: _classes(collection)),
}
assert _COLUMNS.keys() == set(get_args(Column))


def state(session: Session) -> Response:
    """All that is the same in every view, as JSON; also what other processes have changed meanwhile."""
    result: dict[str, Any] = {
        "version": session.version,
        "ready": session.ready,
        "has_data": session.has_data,
        "progress": session.progress,
        "share": round(session.share, 2),
        "seconds": 0 if session.ready else session.seconds,
        "model": about(session.model) | {"name": printable(session.path.name)},
        "why_not_generating": session.why_not_generating,
        "why_not_decoding": session.why_not_decoding,
        "export_dir": printable(str(session.export_dir)),
        "has_parquet": _HAS_PYARROW,
        "revision": 0,
    }
    if not session.ready:
        return JSONResponse(result | _of_model(session))
    with session.collection.editor.still():
        return JSONResponse(result | _of_collection(session))


def column(session: Session, name: Column) -> Response:
    """What is known of every image and never changes, as numbers one after the other."""
    dtype, values = _COLUMNS[name]
    return _binary(values(session.collection), dtype)


def labels(session: Session) -> Response:
    """Cluster numbers as they are now: uint16, little-endian, (N,); behind them the marks: uint8, (N,)."""
    assignment = session.collection.assignment
    return _binary(np.concatenate([assignment.labels.astype("<u2").view("u1"), assignment.marks]), "u1")


def _classes(collection: Collection) -> np.ndarray:
    if collection.labels is None:
        raise DataError("the images have no labels")
    return collection.labels.numbers


def _of_collection(session: Session) -> dict[str, Any]:
    collection = session.collection
    editor = collection.editor
    editor.refresh()
    undo, redo = editor.history.done[-1:], editor.history.undone[-1:]
    return {
        "revision": editor.revision,
        "undo": described(undo[0], editor.assignment.title) if undo else "",
        "redo": described(redo[0], editor.assignment.title) if redo else "",
        "next_number": editor.assignment.next_number,
        "journal": printable(str(session.journal_path)),
        "data": {
            "name": printable(collection.images.name),
            "images": len(collection.images),
            "notes": list(collection.images.notes),
            "linkable": session.source is not None,
            "framed": session.model.framing_ is not None,
            "key": session.data_key,
            "classes": [] if collection.labels is None else [printable(name) for name in collection.labels.names],
            "class_styles": _as_json(collection.class_styles),
            "has_scores": bool(np.isfinite(collection.predictions.score).any()),
        },
        "clusters": collection.once_a_revision("clusters", _clusters),
        "styles": collection.once_a_revision("styles", _styles),
    }


def _of_model(session: Session) -> dict[str, Any]:
    n_clusters = session.model.n_clusters_
    return {
        "clusters": [{"number": k, "name": "", "title": f"cluster {k}"} for k in range(n_clusters)],
        "styles": _as_json(styles(np.zeros((n_clusters, 2)))),
    }


def _clusters(collection: Collection) -> list[dict[str, Any]]:
    assignment, predictions = collection.assignment, collection.predictions
    sizes, shown, total = collection.sizes, collection.shown, assignment.next_number
    unmoved = assignment.labels == predictions.labels
    counts = np.bincount(assignment.labels[unmoved], minlength=total)
    sums = np.bincount(assignment.labels[unmoved], predictions.confidence[unmoved], minlength=total)
    looked_at = np.bincount(assignment.labels[assignment.marks > 0], minlength=total)
    return [
        {
            "number": k,
            "name": assignment.names[k],
            "title": assignment.title(k),
            "size": int(sizes[k]),
            "confidence": float(sums[k] / counts[k]) if counts[k] else None,
            "changed": int(sizes[k] - counts[k]),
            "looked_at": int(looked_at[k]),
            "typical": collection.ordered(k, "typical")[:_STRIP].tolist(),
        }
        | _next(collection, k, shown)
        for k in shown
    ]


def _next(collection: Collection, cluster: int, shown: list[int]) -> dict[str, Any]:
    """The cluster whose probability a cluster's images have most of, besides their own, and how much on average."""
    pulls = collection.pulls[cluster]
    if cluster >= collection.predictions.n_clusters:  # what the user parted lies nearest to what it came from
        origins = collection.predictions.labels[collection.assignment.members(cluster)]
        pulls = pulls + np.bincount(collection.owners[origins], minlength=len(pulls)) / max(len(origins), 1)
        pulls[cluster] = 0
    others = [k for k in shown if k != cluster]
    nearest = max(others, key=lambda k: float(pulls[k]), default=None)
    if nearest is None or pulls[nearest] <= 0:
        return {"next": None, "next_share": 0.0}
    return {"next": nearest, "next_share": float(collection.pulls[cluster][nearest])}


def _styles(collection: Collection) -> list[list[str]]:
    return _as_json(collection.styles)


def _as_json(chosen: list[Style]) -> list[list[str]]:
    return [[style.hex, style.shape] for style in chosen]


def _binary(array: np.ndarray, dtype: str) -> Response:
    return Response(np.ascontiguousarray(array, dtype).tobytes(), media_type="application/octet-stream")
