"""What the page shows outside its views, and the numbers behind its map."""

from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.errors import printable
from clusterloom.explore.collection import Collection
from clusterloom.explore.session import Session, about
from clusterloom.palette import Style, styles

_STRIP = 16  # typical images beside each cluster


def state(session: Session) -> Response:
    """All that is the same in every view, as JSON; also what other processes have changed meanwhile."""
    result: dict[str, Any] = {
        "version": session.version,
        "ready": session.ready,
        "has_data": session.has_data,
        "progress": session.progress,
        "model": about(session.model) | {"name": printable(session.path.name)},
        "generates": session.generates,
        "decodes": session.decodes,
        "export_dir": printable(str(session.export_dir)),
        "revision": 0,
    }
    return JSONResponse(result | (_of_collection(session) if session.ready else _of_model(session)))


def positions(session: Session) -> Response:
    """Places on the map: float32, little-endian, x and y in turns, (N, 2)."""
    return _binary(session.collection.predictions.position, "<f4")


def labels(session: Session) -> Response:
    """Cluster numbers as they are now: uint16, little-endian, (N,)."""
    return _binary(session.collection.assignment.labels, "<u2")


def confidences(session: Session) -> Response:
    """Probability of each image's most likely cluster, as uint8 from 0 to 255, (N,)."""
    return _binary(np.rint(session.collection.predictions.confidence * 255), "u1")


def _of_collection(session: Session) -> dict[str, Any]:
    collection = session.collection
    editor = collection.editor
    editor.refresh()
    return {
        "revision": editor.revision,
        "can_undo": bool(editor.history.done),
        "can_redo": bool(editor.history.undone),
        "next_number": editor.assignment.next_number,
        "journal": printable(str(session.journal_path)),
        "data": {
            "name": printable(collection.images.name),
            "images": len(collection.images),
            "notes": list(collection.images.notes),
            "linkable": session.source is not None,
        },
        "clusters": collection.once_a_revision("clusters", _clusters),
        "heirs": collection.once_a_revision("heirs", _heirs),
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
    sizes = np.bincount(assignment.labels, minlength=assignment.next_number)
    unmoved = assignment.labels == predictions.labels
    counts = np.bincount(assignment.labels[unmoved], minlength=assignment.next_number)
    sums = np.bincount(assignment.labels[unmoved], predictions.confidence[unmoved], minlength=assignment.next_number)
    return [
        {
            "number": k,
            "name": name,
            "title": assignment.title(k),
            "size": int(sizes[k]),
            "confidence": round(float(sums[k] / counts[k]), 4) if counts[k] else None,
            "changed": int(sizes[k] - counts[k]),
            "typical": collection.ordered(k, "typical")[:_STRIP].tolist(),
        }
        for k, name in sorted(assignment.names.items())
    ]


def _heirs(collection: Collection) -> dict[int, int]:
    """Of the model's clusters that were merged away, where most of their images are now."""
    assignment, predictions = collection.assignment, collection.predictions
    gone = (k for k in range(predictions.n_clusters) if k not in assignment.names)
    moved = {k: assignment.labels[predictions.labels == k] for k in gone}
    return {k: int(np.bincount(labels).argmax()) for k, labels in moved.items() if len(labels)}


def _styles(collection: Collection) -> list[list[str]]:
    return _as_json(collection.styles)


def _as_json(chosen: list[Style]) -> list[list[str]]:
    return [[style.hex, style.shape] for style in chosen]


def _binary(array: np.ndarray, dtype: str) -> Response:
    return Response(np.ascontiguousarray(array, dtype).tobytes(), media_type="application/octet-stream")
