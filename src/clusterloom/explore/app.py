"""The page's application: its paths, and how errors become answers."""

import functools
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import ConfigDict, ValidationError, validate_call
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from clusterloom.corrections.editor import StaleError
from clusterloom.errors import ClusterloomError, DataError, printable
from clusterloom.explore.collection import NotFoundError
from clusterloom.explore.routes import edits, exports, images, new_images, refit, state
from clusterloom.explore.security import BodyTooLargeError, Guard
from clusterloom.explore.session import NotReadyError, Session, about

_UPLOAD = "/api/drop"
_STATIC = {"page.js": "text/javascript", "page.css": "text/css", "icon.svg": "image/svg+xml"}
_STATUS: Mapping[type, int] = {NotFoundError: 404, StaleError: 409, BodyTooLargeError: 413, NotReadyError: 503}
_MOST_TEXT = 300  # of what is wrong with a request

Answer: TypeAlias = Callable[..., Response]
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_GET: Mapping[str, Answer] = {
    "/image/{row}.png": images.image,
    "/seen/{row}.png": images.seen,
    "/original/{row}.png": images.original,
    "/place/{row}.png": images.place,
    "/sprites.png": images.sprites,
    "/api/state": state.state,
    "/api/labels": state.labels,
    "/api/columns/{name}": state.column,
    "/api/history": edits.history,
    "/api/images/{row}": images.details,
    "/api/find": images.find,
    "/api/refit": refit.refit_state,
}
_POST: Mapping[str, Answer] = {
    "/api/briefs": images.briefs,
    "/api/similar": images.similar,
    "/api/edit": edits.edit,
    "/api/split": edits.split_preview,
    "/api/refit/start": refit.start_refit,
    "/api/refit/cancel": refit.cancel_refit,
    "/api/refit/open": refit.open_refitted,
    "/api/save/labels": exports.save_labels,
    "/api/save/images": exports.save_images,
    "/api/save/generated": exports.save_generated,
    "/api/generate": new_images.generate,
    "/api/walk": new_images.walk,
    "/api/latent/image": new_images.latent_image,
    "/api/latent/strips": new_images.latent_strips,
}


def build_app(session: Session, port: int) -> Guard:
    """The whole application, guarded.

    Args:
        session: What it shows; after a refit its latest.
        port: Where it will listen.
    """

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(session.latest, guard.token))

    async def upload(request: Request) -> Response:
        return await run_in_threadpool(new_images.drop, session.latest, await request.body())

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", _static),
            *(Route(path, _get(session, answer)) for path, answer in _GET.items()),
            *(Route(path, _post(session, answer), methods=["POST"]) for path, answer in _POST.items()),
            Route(_UPLOAD, upload, methods=["POST"]),
        ],
        exception_handlers={ClusterloomError: _refused, HTTPException: _http_error, OSError: _failed},
    )
    guard = Guard(app, port, _UPLOAD)
    return guard


def _get(session: Session, answer: Answer) -> Endpoint:
    """An endpoint that calls `answer` with what path and query hold, by name; they hold nothing but text."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(answer)

    async def endpoint(request: Request) -> Response:
        return await _answered(request, checked, session, {**request.query_params, **request.path_params})

    return endpoint


def _post(session: Session, answer: Answer) -> Endpoint:
    """An endpoint that calls `answer` with the fields of the body, a JSON object, by name."""
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True, strict=True))(answer)

    async def endpoint(request: Request) -> Response:
        if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise DataError("expected a body of type application/json")
        body = await request.body()
        try:
            values = from_json(body, allow_inf_nan=False)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise DataError("expected a JSON object")
        return await _answered(request, checked, session, values)

    return endpoint


async def _answered(request: Request, answer: Answer, session: Session, values: dict[str, Any]) -> Response:
    try:
        return await run_in_threadpool(lambda: answer(session.latest, **values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        text = printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")[:_MOST_TEXT]
        raise (NotFoundError if first["loc"][0] in request.path_params else DataError)(text) from None


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
    return JSONResponse({"error": str(error)}, _STATUS.get(type(error), 400))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is handled for nothing else"
    return JSONResponse({"error": error.detail.lower()}, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    """The machine could not do it: the disk is full, or a folder cannot be written."""
    where = f"{printable(str(error.filename))}: " if isinstance(error, OSError) and error.filename else ""
    return JSONResponse({"error": f"{where}{getattr(error, 'strerror', None) or error}"}, 507)
