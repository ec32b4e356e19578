"""Answers that show what is there: the state, the map, galleries, single images, and images like others.

Every function takes the session and the request's values, and returns a response.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from clusterloom.errors import DataError, printable
from clusterloom.explore.asking import choice, row_list, whole
from clusterloom.explore.decoding import sheet
from clusterloom.explore.session import Collection, NotFoundError, Session, about
from clusterloom.palette import Style, styles
from clusterloom.pictures import to_picture

THUMBNAIL = 64  # pixels of the longer side at most
_SHEET_COLUMNS = 16
_SHEET_ROWS = 256  # images on one sheet at most
_PAGE = 200
_FOUND = 100
_SIMILAR = 200
_TOP = 5
_STRIP = 16

Values = Mapping[str, Any]


def state(session: Session, values: Values) -> Response:
    """All that the page shows outside its views, as JSON; also what other processes have changed meanwhile."""
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
    if session.ready:
        collection = session.collection
        collection.editor.refresh()
        editor = collection.editor
        result |= {
            "revision": editor.revision,
            "can_undo": editor.can_undo,
            "can_redo": editor.can_redo,
            "next_number": editor.sorting.next_number,
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
    else:
        result["clusters"] = [
            {"number": k, "name": "", "title": f"cluster {k}"} for k in range(session.model.n_clusters_)
        ]
        result["styles"] = _as_json(styles(np.zeros((session.model.n_clusters_, 2))))
    return JSONResponse(result)


def positions(session: Session, values: Values) -> Response:
    """Places on the map: float32, little-endian, x and y in turns, (N, 2)."""
    return _binary(session.collection.predictions.position, "<f4")


def labels(session: Session, values: Values) -> Response:
    """Cluster numbers as they are now: uint16, little-endian, (N,). A header names the revision."""
    editor = session.collection.editor
    revision = editor.revision  # read first: labels that are newer than their number are asked for again
    answer = _binary(editor.sorting.labels, "<u2")
    answer.headers["x-revision"] = str(revision)
    return answer


def confidences(session: Session, values: Values) -> Response:
    """Probability of each image's most likely cluster, as uint8 from 0 to 255, (N,)."""
    return _binary(np.rint(session.collection.predictions.confidence * 255), "u1")


def image_png(session: Session, values: Values) -> Response:
    """One image as the model sees it."""
    collection = session.collection
    picture = to_picture(np.asarray(collection.images.images[_row(collection, values)]))
    return _kept(session, values, png(picture))


def image_details(session: Session, values: Values) -> Response:
    """What is known of one image."""
    collection = session.collection
    row = _row(collection, values)
    predictions, sorting = collection.predictions, collection.sorting
    top = np.argsort(-predictions.proba[row], kind="stable")[:_TOP]
    return JSONResponse(
        brief(collection, row)
        | {
            "model_cluster": int(predictions.labels[row]),
            "title": sorting.title(int(sorting.labels[row])),
            "score": float(predictions.score[row]) if np.isfinite(predictions.score[row]) else None,
            "outlier": bool(predictions.outlier[row]),
            "probabilities": [[int(k), float(predictions.proba[row, k])] for k in top],
        }
    )


def sprites(session: Session, values: Values) -> Response:
    """Several images on one sheet, 16 in a row, none larger than `THUMBNAIL`."""
    collection = session.collection
    rows = row_list(str(values.get("rows", "")), len(collection.images), _SHEET_ROWS)
    picture = sheet(thumbnails(collection.images.images, rows), min(_SHEET_COLUMNS, len(rows)))
    return _kept(session, values, png(picture))


def cluster_page(session: Session, values: Values) -> Response:
    """A stretch of a cluster's images, in one of two orders."""
    collection = session.collection
    cluster = whole(values, "cluster", 0, 1 << 16)
    order = choice(values, "order", ("typical", "doubtful"))
    start = whole(values, "start", 0, 1 << 31, default=0)
    n = whole(values, "n", 1, _PAGE, default=60)
    rows = collection.ordered(cluster, order)
    return JSONResponse(
        {
            "total": len(rows),
            "revision": collection.editor.revision,
            "images": [brief(collection, int(row)) for row in rows[start : start + n]],
        }
    )


def find(session: Session, values: Values) -> Response:
    """Images whose id has a text in it, in the order of the data."""
    collection = session.collection
    text = str(values.get("text", "")).strip().lower()
    if not 0 < len(text) <= 200:
        raise DataError("expected a text of at most 200 characters to look for")
    found = [row for row, id_ in enumerate(collection.searchable_ids) if text in id_]
    exact = [row for row in found if collection.searchable_ids[row] == text]
    shown = list(dict.fromkeys(exact + found[:_FOUND]))[:_FOUND]
    return JSONResponse({"total": len(found), "images": [brief(collection, row) for row in shown]})


def similar(session: Session, values: Values) -> Response:
    """Images most like some others."""
    collection = session.collection
    rows = collection.sorting.rows(values.get("rows"))
    n = whole(values, "n", 1, _SIMILAR, default=60)
    found = collection.predictions.similar(rows, n)
    return JSONResponse({"images": [brief(collection, int(row)) for row in found]})


def brief(collection: Collection, row: int) -> dict[str, Any]:
    """What is shown of an image in a gallery, as JSON values."""
    predictions, cluster = collection.predictions, int(collection.sorting.labels[row])
    changed = cluster != int(predictions.labels[row])
    return {
        "row": row,
        "id": printable(collection.images.ids[row]),
        "cluster": cluster,
        # The model's probability is of its own cluster, not of the one that a user moved the image to.
        "probability": None if changed else round(float(predictions.confidence[row]), 4),
        "changed": changed,
    }


def thumbnails(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some images, scaled down where a side is longer than `THUMBNAIL`, shape (n, h, w, C), uint8."""
    chosen = np.stack([images[row] for row in rows.tolist()])
    height, width = chosen.shape[1:3]
    scale = THUMBNAIL / max(height, width)
    if scale >= 1:
        return chosen
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(to_picture(image).resize(size, Image.Resampling.BOX)) for image in chosen]
    return np.stack(small).reshape(len(small), size[1], size[0], -1)


def png(picture: Image.Image) -> Response:
    """A picture as a response; packed quickly rather than tightly, for it travels within one machine."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return Response(buffer.getvalue(), media_type="image/png")


def _clusters(collection: Collection) -> list[dict[str, Any]]:
    sorting, predictions = collection.sorting, collection.predictions
    sizes = np.bincount(sorting.labels, minlength=sorting.next_number)
    unmoved = sorting.labels == predictions.labels
    counts = np.bincount(sorting.labels[unmoved], minlength=sorting.next_number)
    sums = np.bincount(sorting.labels[unmoved], predictions.confidence[unmoved], minlength=sorting.next_number)
    return [
        {
            "number": k,
            "name": name,
            "title": sorting.title(k),
            "size": int(sizes[k]),
            "confidence": round(float(sums[k] / counts[k]), 4) if counts[k] else None,
            "changed": int(sizes[k] - counts[k]),
            "typical": collection.ordered(k, "typical")[:_STRIP].tolist(),
        }
        for k, name in sorted(sorting.names.items())
    ]


def _heirs(collection: Collection) -> dict[int, int]:
    """Of the model's clusters that were merged away, where most of their images are now."""
    sorting, predictions = collection.sorting, collection.predictions
    moved = {
        k: sorting.labels[predictions.labels == k] for k in range(predictions.n_clusters) if k not in sorting.names
    }
    return {k: int(np.bincount(labels).argmax()) for k, labels in moved.items() if len(labels)}


def _styles(collection: Collection) -> list[list[str]]:
    """Of every cluster number that there is or was: a merged one still has its probability, and undo brings it back."""
    predictions = collection.predictions
    return _as_json(styles(predictions.middles, unplaced=collection.sorting.next_number - predictions.n_clusters))


def _as_json(chosen: list[Style]) -> list[list[str]]:
    return [[style.hex, style.shape] for style in chosen]


def _row(collection: Collection, values: Values) -> int:
    try:
        return whole(values, "row", 0, len(collection.images) - 1)
    except DataError:
        raise NotFoundError("there is no such image") from None


def _kept(session: Session, values: Values, answer: Response) -> Response:
    """The response, which a browser may keep if it was asked for with this start's version."""
    if values.get("v") == session.version:
        answer.headers["cache-control"] = "private, max-age=86400, immutable"
    return answer


def _binary(array: np.ndarray, dtype: str) -> Response:
    return Response(np.ascontiguousarray(array, dtype).tobytes(), media_type="application/octet-stream")
