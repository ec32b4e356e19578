"""The page's application: its paths, and how errors become answers."""

import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from clusterloom.errors import ClusterloomError, DataError, printable
from clusterloom.explore import changing, looking, making
from clusterloom.explore.asking import json_body
from clusterloom.explore.editor import StaleError
from clusterloom.explore.guard import BodyTooLargeError, Guard, too_large
from clusterloom.explore.session import NotFoundError, NotReadyError, Session, about

_UPLOAD = "/api/drop"
_STATIC = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_STATUS: Mapping[type[ClusterloomError], int] = {NotFoundError: 404, StaleError: 409, NotReadyError: 503}

Answer = Callable[[Session, Mapping[str, Any]], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def build_app(session: Session, port: int) -> Guard:
    """The whole application, guarded.

    Args:
        session: What it shows.
        port: Where it will listen.
    """

    async def page(request: Request) -> Response:
        return HTMLResponse(html)

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", _static),
            Route("/image/{row}.png", _get(session, looking.image_png)),
            Route("/sprites.png", _get(session, looking.sprites)),
            Route("/api/state", _get(session, looking.state)),
            Route("/api/positions", _get(session, looking.positions)),
            Route("/api/labels", _get(session, looking.labels)),
            Route("/api/confidences", _get(session, looking.confidences)),
            Route("/api/images/{row}", _get(session, looking.image_details)),
            Route("/api/clusters/{cluster}", _get(session, looking.cluster_page)),
            Route("/api/find", _get(session, looking.find)),
            *(
                Route(f"/api/{name}", _post(session, answer), methods=["POST"])
                for name, answer in {
                    "similar": looking.similar,
                    "edit": changing.edit,
                    "split": changing.split_preview,
                    "save/labels": changing.save_labels,
                    "save/images": changing.save_images,
                    "save/generated": making.save_generated,
                    "generate": making.generate,
                    "walk": making.walk,
                    "latent/image": making.latent_image,
                    "latent/strips": making.latent_strips,
                }.items()
            ),
            Route(_UPLOAD, _upload(session), methods=["POST"]),
        ],
        exception_handlers={
            ClusterloomError: _refused,
            BodyTooLargeError: _too_large,
            HTTPException: _http_error,
            OSError: _failed,
        },
    )
    guard = Guard(app, port, _UPLOAD)
    html = _page(session, guard.token)
    return guard


def _get(session: Session, answer: Answer) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answer, session, {**request.query_params, **request.path_params})

    return endpoint


def _post(session: Session, answer: Answer) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(answer, session, await json_body(request))

    return endpoint


def _upload(session: Session) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        if not body:
            raise DataError("the picture is empty")
        return await run_in_threadpool(making.drop, session, body)

    return endpoint


def _page(session: Session, token: str) -> str:
    environment = Environment(loader=PackageLoader("clusterloom.explore"), autoescape=True, undefined=StrictUndefined)
    start = {"token": token, "version": session.version, "model": about(session.model)}
    name = printable(session.path.name)
    return environment.get_template("page.html").render(start=json.dumps(start), name=name)


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        raise HTTPException(404)
    return Response(_static_bytes(name), media_type=_STATIC[name])


@functools.cache
def _static_bytes(name: str) -> bytes:
    return files("clusterloom.explore").joinpath("static", name).read_bytes()


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, _STATUS.get(type(error), 400))  # type: ignore[arg-type]


async def _too_large(request: Request, error: Exception) -> Response:
    return too_large(error.limit if isinstance(error, BodyTooLargeError) else 0)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": {404: "not found", 405: "not allowed"}.get(status, "refused")}, status)


async def _failed(request: Request, error: Exception) -> Response:
    """The machine could not do it: the disk is full, or a folder cannot be written."""
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return JSONResponse({"error": f"{where}{getattr(error, 'strerror', None) or error}"}, 507)
