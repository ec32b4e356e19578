"""Images that are there: one by one, on sheets, in galleries, found by their ids or by likeness."""

from typing import Literal

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.explore.collection import NotFoundError
from clusterloom.explore.requests import ClusterNumber, Count, Row, Rows, RowText, SearchText, Start
from clusterloom.explore.session import Session
from clusterloom.explore.sheets import SHEET_COLUMNS, png_response, sheet, thumbnails
from clusterloom.mosaics import assembled, outlined, tinted
from clusterloom.pictures import to_picture

_FOUND = 100
_TOP = 5
_PLACE_PIXELS = 288  # of the longer side: what the panel has room for


def image(session: Session, row: Row, v: str = "") -> Response:
    """One image as the model sees it."""
    return _kept(session, v, png_response(to_picture(session.collection.pixels([row])[0])))


def sprites(session: Session, rows: RowText, v: str = "") -> Response:
    """Several images on one sheet, each as a thumbnail."""
    images = thumbnails(session.collection.pixels([int(row) for row in rows.split(",")]))
    return _kept(session, v, png_response(sheet(images, min(SHEET_COLUMNS, len(images)))))


def place(session: Session, row: Row, r: str = "") -> Response:
    """The picture that a tile was cut from, in the colours of the clusters as they are now, with a frame around it.

    It is another one after an edit; the revision `r` alone tells a browser so.
    """
    collection = session.collection
    collection.check(row)
    mosaic = collection.mosaic_of(row)
    if mosaic is None:
        raise NotFoundError(f"image {row} is no tile of a picture")
    picture = assembled(collection.images, mosaic, _PLACE_PIXELS)
    picture = tinted(picture, mosaic, collection.assignment.labels, collection.styles)
    return png_response(outlined(picture, mosaic, row))


def details(session: Session, row: Row) -> Response:
    """What is known of one image."""
    collection = session.collection
    collection.check(row)
    predictions, assignment = collection.predictions, collection.assignment
    top = np.argsort(-predictions.proba[row], kind="stable")[:_TOP]
    return JSONResponse(
        collection.brief(row)
        | {
            "model_cluster": int(predictions.labels[row]),
            "title": assignment.title(int(assignment.labels[row])),
            "score": float(predictions.score[row]) if np.isfinite(predictions.score[row]) else None,
            "outlier": bool(predictions.outlier[row]),
            "is_tile": collection.mosaic_of(row) is not None,
            "probabilities": [[int(k), float(predictions.proba[row, k])] for k in top],
        }
    )


def gallery(
    session: Session,
    cluster: ClusterNumber,
    order: Literal["typical", "doubtful"],
    start: Start = 0,
    n: Count = 60,
) -> Response:
    """A stretch of a cluster's images, in one of two orders."""
    collection = session.collection
    rows = collection.ordered(cluster, order)
    images = collection.briefs(rows[start : start + n])
    return JSONResponse({"total": len(rows), "revision": collection.editor.revision, "images": images})


def find(session: Session, text: SearchText) -> Response:
    """Images whose id has a text in it, in the order of the data; before them one whose id is that text."""
    collection, text = session.collection, text.lower()
    found = [row for row, id_ in enumerate(collection.searchable_ids) if text in id_]
    exact = [row for row in found if collection.searchable_ids[row] == text]
    shown = list(dict.fromkeys(exact + found[:_FOUND]))[:_FOUND]
    return JSONResponse({"total": len(found), "images": [collection.brief(row) for row in shown]})


def similar(session: Session, rows: Rows, n: Count = 60) -> Response:
    """Images most like some others."""
    collection = session.collection
    found = collection.predictions.similar(collection.assignment.rows(rows), n)
    return JSONResponse({"images": collection.briefs(found)})


def _kept(session: Session, version: str, answer: Response) -> Response:
    """The response, which a browser may keep if it was asked for with this start's version."""
    if version == session.version:
        answer.headers["cache-control"] = "private, max-age=86400, immutable"
    return answer
