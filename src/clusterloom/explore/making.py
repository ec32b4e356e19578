"""Answers that ask the network: new images, ways between images, latent dimensions, and images dropped in."""

import base64
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import JSONResponse, Response

from clusterloom.data.boundary import reason
from clusterloom.data.convert import read_pixels
from clusterloom.errors import DataError, printable
from clusterloom.explore.asking import offsets, real, whole
from clusterloom.explore.decoding import centre, components, decode, deviations, latents_of, predictions, sample, sheet
from clusterloom.explore.exporting import export_generated
from clusterloom.explore.looking import brief, png
from clusterloom.explore.session import Session
from clusterloom.pictures import png_bytes, to_picture
from clusterloom.predictions import joint_features

MAX_SPREAD = 3.0
MAX_OFFSET = 4.0  # deviations
_MOST_NEW = 64
_MOST_STEPS = 32
_STRIP = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # deviations shown beside each dimension
_NEAREST = 24
_SEED_LIMIT = 1 << 31
_MOST_SEEDS = 40
_SHEET_COLUMNS = 16
_ONE_PICTURE = threading.Lock()  # a picture of the largest size allowed takes hundreds of megabytes

Values = Mapping[str, Any]


def generate(session: Session, values: Values) -> Response:
    """New images of a cluster on one sheet, 16 in a row."""
    seed = whole(values, "seed", 0, _SEED_LIMIT, default=0)
    images = _new_images(session, values, seed)
    return png(sheet(images, min(_SHEET_COLUMNS, len(images))))


def save_generated(session: Session, values: Values) -> Response:
    """Write the very images that `generate` makes of the same values with each of `seeds`."""
    seeds = values.get("seeds")
    if not isinstance(seeds, list) or not 0 < len(seeds) <= _MOST_SEEDS:
        raise DataError(f"seeds must be a list of at most {_MOST_SEEDS} whole numbers")
    checked = [whole({"seed": seed}, "seed", 0, _SEED_LIMIT) for seed in seeds]
    images = np.concatenate([_new_images(session, values, seed) for seed in checked])
    path = export_generated(images, session.export_dir)
    return JSONResponse({"path": printable(str(path)), "count": len(images)})


def walk(session: Session, values: Values) -> Response:
    """Images on the straight way between two places in latent space, side by side on one sheet."""
    _check_decodes(session)
    start, end = _place(session, values.get("from")), _place(session, values.get("to"))
    steps = np.linspace(0, 1, whole(values, "steps", 2, _MOST_STEPS, default=16), dtype=np.float32)
    images = decode(session.model, start + steps[:, None] * (end - start))
    return png(sheet(images, len(images)))


def latent_image(session: Session, values: Values) -> Response:
    """The image at a place in latent space, moved along every dimension by so many deviations."""
    _check_decodes(session)
    place = _place(session, values.get("from"))
    moved = place + offsets(values, "offsets", len(place), MAX_OFFSET) * deviations(session)
    return png(to_picture(decode(session.model, moved[None])[0]))


def latent_strips(session: Session, values: Values) -> Response:
    """What each latent dimension does at a place: one line of seven images for each, most active first, and numbers."""
    _check_decodes(session)
    place, step = _place(session, values.get("from")), deviations(session)
    order = np.argsort(-step, kind="stable")
    latents = np.repeat(place[None], len(order) * len(_STRIP), 0).reshape(len(order), len(_STRIP), -1)
    for line, dimension in enumerate(order.tolist()):
        latents[line, :, dimension] += np.array(_STRIP, np.float32) * step[dimension]
    images = decode(session.model, latents.reshape(-1, len(place)))
    return JSONResponse(
        {
            "dimensions": order.tolist(),
            "deviations": [round(float(step[d]), 4) for d in order],
            "offsets": _STRIP,
            "sheet": _encoded(sheet(images, len(_STRIP))),
        }
    )


def drop(session: Session, body: bytes) -> Response:
    """What the model says of a picture that the user brought."""
    height, width, channels = session.model.image_shape_
    if channels not in (1, 3):
        raise DataError(f"the model's images have {channels} channels; a picture has 1 or 3")
    try:
        with _ONE_PICTURE:
            pixels, steps = read_pixels(body, height, width, channels)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise DataError(f"this picture cannot be read: {reason(error)}") from error
    proba, latents, score, rebuilt = predictions(session.model, pixels)
    order = np.argsort(-proba, kind="stable")
    return JSONResponse(
        {
            "cluster": int(order[0]),
            "probabilities": [[int(k), float(proba[k])] for k in order[:10]],
            "score": score if np.isfinite(score) else None,
            "outlier": bool(score < session.model.outlier_threshold_),
            "steps": steps,
            "seen": _encoded(to_picture(pixels)),
            "rebuilt": "" if session.decodes else _encoded(to_picture(rebuilt)),
            "nearest": _nearest(session, latents, proba),
        }
    )


def _new_images(session: Session, values: Values, seed: int) -> np.ndarray:
    if session.generates:
        raise DataError(session.generates)
    parts = components(session, whole(values, "cluster", 0, 1 << 16))
    n = whole(values, "n", 1, _MOST_NEW, default=24)
    return sample(session.model, parts, n, real(values, "spread", 0, MAX_SPREAD), seed)


def _check_decodes(session: Session) -> None:
    if session.decodes:
        raise DataError(session.decodes)


def _place(session: Session, what: Any) -> np.ndarray:
    """Latents (D,) of {"row": an image} or of {"cluster": the middle of a cluster}."""
    if not isinstance(what, dict):
        raise DataError("expected an image or a cluster to start from")
    if "row" in what:
        return latents_of(session, whole(what, "row", 0, len(session.collection.images) - 1))
    return centre(components(session, whole(what, "cluster", 0, 1 << 16)))


def _nearest(session: Session, latents: np.ndarray, proba: np.ndarray) -> list[dict[str, Any]]:
    if not session.ready:
        return []
    collection = session.collection
    predictions = collection.predictions
    # Joined with all the others for a moment, so that it is measured with the same scale.
    features = joint_features(np.vstack([predictions.latents, latents]), np.vstack([predictions.proba, proba]))
    distance = np.square(features[:-1] - features[-1]).sum(1)
    n = min(_NEAREST, len(distance))
    rows = np.argpartition(distance, n - 1)[:n]
    return [brief(collection, int(row)) for row in rows[np.argsort(distance[rows], kind="stable")]]


def _encoded(picture: Any) -> str:
    return base64.b64encode(png_bytes(picture)).decode("ascii")
