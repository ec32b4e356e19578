"""What the network is asked for: new images, ways between images, latent dimensions, and pictures dropped in."""

import base64
import threading

import numpy as np
from PIL import Image
from starlette.responses import JSONResponse, Response

from clusterloom.corrections.forms import ClusterNumber
from clusterloom.data.boundary import reason
from clusterloom.data.one_picture import read_picture
from clusterloom.errors import DataError
from clusterloom.explore.latent_space import decode, deviations, new_images, place, predictions, walked
from clusterloom.explore.requests import From, NewCount, Offsets, Seed, Spread, Steps, To
from clusterloom.explore.session import Session
from clusterloom.explore.sheets import SHEET_COLUMNS, png_response, quick_png, sheet, thumbnails
from clusterloom.pictures import to_picture

_STRIP = np.arange(-3, 4, dtype=np.float32)  # deviations shown beside each dimension
_NEAREST = 24
_ONE_PICTURE = threading.Lock()  # a picture of the largest size allowed takes hundreds of megabytes


def generate(session: Session, cluster: ClusterNumber, spread: Spread, n: NewCount = 24, seed: Seed = 0) -> Response:
    """New images of a cluster on one sheet."""
    images = new_images(session, cluster, n, spread, seed)
    return png_response(sheet(images, min(SHEET_COLUMNS, n)))


def walk(session: Session, start: From, to: To, steps: Steps = 16) -> Response:
    """Images on the straight way between two places in latent space, side by side on one sheet."""
    first, last = place(session, start), place(session, to)
    way = first + np.linspace(0, 1, steps, dtype=np.float32)[:, None] * (last - first)
    return png_response(sheet(walked(session, way), steps))


def latent_image(session: Session, start: From, offsets: Offsets) -> Response:
    """The image at a place in latent space, moved along every dimension by so many deviations."""
    latents = place(session, start)
    if len(offsets) != len(latents):
        raise DataError(f"offsets must be {len(latents)} numbers")
    moved = latents + np.array(offsets, np.float32) * deviations(session)
    return png_response(to_picture(decode(session, moved[None])[0]))


def latent_strips(session: Session, start: From) -> Response:
    """What each latent dimension does at a place: one line of seven images for each, most active first, and numbers."""
    latents, step = place(session, start), deviations(session)
    order = np.argsort(-step, kind="stable")
    moved = np.tile(latents, (len(order), len(_STRIP), 1))
    for line, dimension in enumerate(order.tolist()):
        moved[line, :, dimension] += _STRIP * step[dimension]
    images = decode(session, moved.reshape(-1, len(latents)))
    return JSONResponse(
        {
            "dimensions": order.tolist(),
            "offsets": _STRIP.tolist(),
            "sheet": _encoded(sheet(thumbnails(images), len(_STRIP))),
        }
    )


def drop(session: Session, body: bytes) -> Response:
    """What the model says of a picture that the user brought."""
    if not body:
        raise DataError("the picture is empty")
    try:
        with _ONE_PICTURE:
            read = read_picture(body, session.target(*session.model.image_shape_))
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise DataError(f"this picture cannot be read: {reason(error)}") from error
    pixels = read.pixels[0, 0]
    proba, latents, score, rebuilt = predictions(session.model, pixels)
    order = np.argsort(-proba, kind="stable")
    collection = session.collection if session.ready else None
    nearest = collection.nearest(latents, proba, _NEAREST) if collection else None
    return JSONResponse(
        {
            "cluster": int(order[0]),
            "probabilities": collection.shares(proba)[:10] if collection else _largest(proba, order[:10]),
            "score": score if np.isfinite(score) else None,
            "unlike": _unlike(session, pixels, score),
            "steps": read.steps,
            "seen": _encoded(to_picture(session.model.shown(session.model.as_read(pixels[None])[:][0]))),
            "rebuilt": "" if session.why_not_decoding else _encoded(to_picture(session.model.shown(rebuilt))),
            "nearest": [] if collection is None or nearest is None else collection.briefs(nearest),
            "position": None if collection is None or nearest is None else collection.place(nearest),
        }
    )


def _unlike(session: Session, pixels: np.ndarray, score: float) -> list[str]:
    """Why a picture is an outlier; nothing where it is none."""
    reasons = ["the model explains it badly"] if score < session.model.outlier_threshold_ else []
    words = session.collection.appearance.unlike(pixels) if session.ready else []
    return reasons + ([f"it is {' and '.join(words)} than all images here"] if words else [])


def _largest(proba: np.ndarray, order: np.ndarray) -> list[tuple[int, float]]:
    return [(int(k), float(proba[k])) for k in order]


def _encoded(picture: Image.Image) -> str:
    return base64.b64encode(quick_png(picture)).decode("ascii")
