"""What stands between the page and everybody else: who may ask, how much they may send, what a browser may do.

The server listens on the loopback interface, where every web site that is open in the user's browser, and every other
user of the machine, can reach it. Therefore:

- a `Host` that is no name of this machine is refused, so that no foreign name can be pointed here (DNS rebinding);
- a foreign `Origin`, or a browser's word that a request comes from another site, is refused;
- everything needs a key that only the printed address holds; it becomes a cookie that other sites' pages cannot use;
- what changes something also needs the token of the page in a header, which no form of another site can set.
"""

import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clusterloom.errors import ClusterloomError

MAX_JSON_BYTES = 8 << 20  # the row numbers of a million images
MAX_UPLOAD_BYTES = 16 << 20
TOKEN_HEADER = "x-clusterloom-token"
_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class BodyTooLargeError(ClusterloomError):
    """A request's body is larger than its path allows; raised while it is received."""


class Guard:
    """ASGI middleware around the whole application; see the module.

    Args:
        app: The application.
        port: Where the server listens; it names the cookie, since a browser shares cookies between ports.
        upload_path: The one path that takes `MAX_UPLOAD_BYTES`; all others take `MAX_JSON_BYTES`.

    Attributes:
        key: What the address that is opened first holds.
        token: What requests that change something hold.
    """

    def __init__(self, app: ASGIApp, port: int, upload_path: str) -> None:
        self._app, self._upload_path = app, upload_path
        self._checked = TrustedHostMiddleware(self._check, _HOSTS, www_redirect=False)
        self._cookie = f"clusterloom-{port}"
        self.key = secrets.token_urlsafe(24)
        self.token = secrets.token_urlsafe(24)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            return
        asked = Headers(scope=scope)
        limit, received = self._limit(scope), 0
        complete = "transfer-encoding" not in asked and asked.get("content-length", "0") == "0"

        async def receive_limited() -> Message:  # a body may be longer than it says, or not say how long it is
            nonlocal received, complete
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise BodyTooLargeError(_too_large(limit))
            complete = complete or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("cache-control", "no-store")
                if not complete:  # closing is what stops a sender; it would otherwise go on to the end
                    headers["connection"] = "close"
            await send(message)

        await self._checked(scope, receive_limited, send_guarded)

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._answer(scope) or self._app)(scope, receive, send)

    def _limit(self, scope: Scope) -> int:
        return MAX_UPLOAD_BYTES if scope["path"] == self._upload_path else MAX_JSON_BYTES

    def _answer(self, scope: Scope) -> Response | None:
        """What to answer without asking the application; None where the request is in order."""
        headers = Headers(scope=scope)
        if _is_foreign(scope["method"], headers):
            return PlainTextResponse("Refused: the request comes from another site.\n", 403)
        if (redirect := self._let_in(scope)) is not None:
            return redirect
        if not self._is_known(headers):
            return PlainTextResponse("Open the address that clusterloom explore printed; it holds the key.\n", 403)
        if scope["method"] not in ("GET", "HEAD") and not _same(headers.get(TOKEN_HEADER, ""), self.token):
            return JSONResponse({"error": "this page is from an earlier start of explore; reload it"}, 403)
        if "range" in headers:
            return PlainTextResponse("Parts of answers are not served.\n", 416)
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", length) or int(length) > self._limit(scope):
            return JSONResponse({"error": _too_large(self._limit(scope))}, 413)
        return None

    def _let_in(self, scope: Scope) -> Response | None:
        """The first visit: the key in the address becomes a cookie, and leaves the address."""
        if scope["path"] != "/" or not scope["query_string"] or scope["method"] != "GET":
            return None
        if not _same(scope["query_string"].decode("latin-1"), f"key={self.key}"):
            return None
        answer = RedirectResponse("/", 303)
        # Lax and not strict: a terminal in a browser opens the address from another site.
        answer.set_cookie(self._cookie, self.key, httponly=True, samesite="lax", path="/")
        return answer

    def _is_known(self, headers: Headers) -> bool:
        # Not the standard library's parser: it stops at the first value that it dislikes, and other programs on this
        # machine, whose cookies come along, may have set any.
        cookies = cookie_parser(headers.get("cookie", ""))
        return _same(cookies.get(self._cookie, ""), self.key)


def _is_foreign(method: str, headers: Headers) -> bool:
    if headers.get("origin") not in (None, f"http://{headers['host']}"):
        return True
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    # Following a link is harmless, and the answer stays closed to the other site.
    return method != "GET" or headers.get("sec-fetch-mode") != "navigate"


def _same(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _too_large(limit: int) -> str:
    return f"too large: at most {limit >> 20} MB"
