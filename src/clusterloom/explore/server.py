"""The page's server: on the loopback interface alone, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clusterloom.errors import SettingsError, printable
from clusterloom.explore.app import build_app
from clusterloom.explore.session import Load, RefitCommand, Session

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_HOST = "127.0.0.1"
_HEAD_SECONDS = 10.0  # in which a connection has to say what it wants
_MOST_CONNECTIONS = 200  # some systems let a process have 256 open files
_FAST_SECONDS = 1.5  # images that are read by then, or refused, are so before the page is announced


def explore(
    model: ImageClusterer,
    model_path: Path,
    load: Load | None,
    show: Callable[[str], None],
    tell: Callable[[str], None],
    *,
    port: int = 8765,
    browser: bool = True,
    source: Path | None = None,
    export_dir: Path | None = None,
    labels_file: Path | None = None,
    refit_command: RefitCommand | None = None,
) -> None:
    """Serve a page that shows a model and images, until it is interrupted.

    Args:
        model: Any fitted estimator.
        model_path: Its model directory.
        load: Reads the images for the model, and says how far it is; None for a page about the model alone.
        show: Called with the line that has the address.
        tell: Called with every other line.
        port: From 0, for any free one, to 65535.
        browser: Open it.
        source: The folder that the images come from; None where they come from elsewhere.
        export_dir: Where exports go; None for `MODEL.exports` beside the model.
        labels_file: File of true labels, in place of the data's own.
        refit_command: See `Session`.

    Raises:
        ClusterloomError: the images, the journal or the port cannot be used.
    """
    with _listen(port) as listener:
        session = Session(model, model_path, load, source, export_dir, labels_file, refit_command)
        port = listener.getsockname()[1]
        app = build_app(session, port)
        server = uvicorn.Server(_config(app))
        session.start(failed=lambda _: setattr(server, "should_exit", True))
        session.wait(_FAST_SECONDS)
        if session.error is None:
            address = f"http://{_HOST}:{port}/?key={app.key}"
            show(f"explore: {printable(address)}")  # who comes now waits in the line
            tell("Ctrl-C ends it")
            if browser:
                _open(address)
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:  # which the server raises again when it has ended
                tell("ended")
    if session.error is not None:
        raise session.error
    latest = session.latest
    if latest.refitting is not None:
        latest.refitting.cancel()
        latest.refitting.wait()  # for nobody would take away what it leaves
    if latest.at_work:
        # Python would wait for what PyTorch and OpenMP do in the background, or crash into it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _ImpatientProtocol(H11Protocol):
    """HTTP that closes a connection on which no whole head comes; for such ones uvicorn alone waits for ever."""

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._expect_head()

    def _expect_head(self) -> None:
        """Start the clock where a head is due, and stop it where none is."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not self.transport.is_closing():
            self._head_due = self._head_due or self.loop.call_later(_HEAD_SECONDS, self.transport.close)
        elif self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_ImpatientProtocol,  # it also refuses heads of more than 64 KiB
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=2,
    )


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio turns Nagle's algorithm off, which would hold back the end of every answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere this would let two programs listen at once
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"port {port} cannot be used ({why}); choose another with --port, or 0 for any") from None
    return listener


def _open(address: str) -> None:
    if _has_screen():
        # In a thread, for some browsers' starters wait until the browser is closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _has_screen() -> bool:
    """Whether a browser would open in a window; on a bare terminal Python would start one inside it."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(v) for v in ("DISPLAY", "WAYLAND_DISPLAY"))
