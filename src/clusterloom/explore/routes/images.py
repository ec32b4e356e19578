"""Images that are there: one by one, on sheets, by their rows, found by their ids or by likeness."""

import threading

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.corrections.forms import ClusterNumber, Row, Rows
from clusterloom.data.boundary import reason
from clusterloom.data.one_picture import read_header, read_picture
from clusterloom.errors import DataError
from clusterloom.explore.collection import NotFoundError
from clusterloom.explore.requests import Count, FewRows, RowText, SearchText
from clusterloom.explore.session import Session
from clusterloom.explore.sheets import SHEET_COLUMNS, png_response, sheet, thumbnails
from clusterloom.mosaics import assembled, outlined, tinted
from clusterloom.pictures import to_picture

_TOP = 5
_ORIGINAL_PIXELS = 2048  # of the longer side
_ONE_FILE = threading.Lock()  # a picture of the largest size allowed takes hundreds of megabytes
_PLACE_PIXELS = 288  # of the longer side: what the panel has room for


def image(session: Session, row: Row, v: str = "") -> Response:
    """One image, read at the model's size and in its range."""
    return _kept(session, v, png_response(to_picture(session.collection.pixels([row])[0])))


def seen(session: Session, row: Row, v: str = "") -> Response:
    """One image as the model sees it: framed, where the model frames."""
    session.collection.check(row)
    model = session.model
    read = model.as_read(session.collection.images.images[row][None])[:]
    return _kept(session, v, png_response(to_picture(model.shown(read[0]))))


def original(session: Session, row: Row, v: str = "") -> Response:
    """The file that an image was read from, in its own size up to 2,048 pixels a side, and in its own colours."""
    collection, model = session.collection, session.model
    collection.check(row)
    path = None if session.source is None else session.source / collection.images.ids[row]
    if path is None or not path.is_file():  # an id is what the reader found in the folder; a page sends its number
        raise NotFoundError(f"image {row} has no file of its own")
    picks, channels = model.reading_.get("channels"), model.image_shape_[2]
    try:
        with _ONE_FILE:
            header = read_header(str(path))
            scale = min(1.0, _ORIGINAL_PIXELS / max(header.height, header.width))
            target = session.target(
                max(1, round(scale * header.height)),
                max(1, round(scale * header.width)),
                3 if picks is None and channels in (1, 3) else channels,
            )
            pixels = read_picture(str(path), target).pixels[0, 0]
    except Exception as error:  # decoders raise nearly anything on a file that has been damaged since
        raise DataError(f"this picture cannot be read: {reason(error)}") from error
    shown = pixels if pixels.shape[-1] in (1, 3) and picks is None else model.shown(pixels)
    return _kept(session, v, png_response(to_picture(shown)))


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
    rank = collection.score_ranks[row]
    return JSONResponse(
        collection.brief(row)
        | {
            "model_cluster": int(predictions.labels[row]),
            "title": assignment.title(int(assignment.labels[row])),
            "score": float(predictions.score[row]) if np.isfinite(rank) else None,
            "score_rank": float(rank) if np.isfinite(rank) else None,
            "outlier": bool(predictions.outlier[row]),
            "is_tile": collection.mosaic_of(row) is not None,
            "probabilities": collection.shares(predictions.proba[row])[:_TOP],
        }
    )


def briefs(session: Session, rows: FewRows) -> Response:
    """What a gallery shows of some images, in their order."""
    collection = session.collection
    collection.check(max(rows))
    return JSONResponse({"images": [collection.brief(row) for row in rows]})


def find(session: Session, text: SearchText) -> Response:
    """Rows of the images whose id has a text in it, one whose id is that text first: uint32, little-endian."""
    collection, text = session.collection, text.lower()
    found = [row for row, id_ in enumerate(collection.searchable_ids) if text in id_]
    exact = [row for row in found if collection.searchable_ids[row] == text]
    rows = np.array(list(dict.fromkeys(exact + found)), "<u4")
    return Response(rows.tobytes(), media_type="application/octet-stream")


def similar(session: Session, rows: Rows, n: Count = 60, cluster: ClusterNumber | None = None) -> Response:
    """Images most like some others, in one cluster or in all, and how far away each is."""
    collection = session.collection
    among = None if cluster is None else collection.assignment.labels == collection.assignment.checked(cluster)
    found, distances = collection.predictions.similar(collection.assignment.rows(rows), n, among)
    return JSONResponse({"images": collection.briefs(found), "distances": distances.tolist()})


def _kept(session: Session, version: str, answer: Response) -> Response:
    """The response, which a browser may keep if it was asked for with this start's version."""
    if version == session.version:
        answer.headers["cache-control"] = "private, max-age=86400, immutable"
    return answer
