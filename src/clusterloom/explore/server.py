"""The page's server: on the loopback interface alone, until Ctrl-C."""

import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from rich.console import Console

from clusterloom.data import ImageSet
from clusterloom.errors import SettingsError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.explore.app import build_app
from clusterloom.explore.session import Session

_HOST = "127.0.0.1"
_FAST_SECONDS = 1.5  # images that are read by then, or refused, are so before the page is announced


@dataclass(frozen=True)
class ServeOptions:
    """How a page is served.

    Attributes:
        port: From 0, for any free one, to 65535.
        browser: Open it.
        source: The folder that the images come from; None where they come from elsewhere.
        export_dir: Where exports go; None for `MODEL.exports` beside the model.
    """

    port: int = 8765
    browser: bool = True
    source: Path | None = None
    export_dir: Path | None = None


def explore(
    model_path: Path,
    load: Callable[[ImageClusterer], ImageSet] | None,
    options: ServeOptions,
    console: Console,
) -> None:
    """Serve a page that shows a model and images, until it is interrupted.

    Args:
        model_path: The model directory.
        load: Reads the images for the model; None for a page about the model alone.
        options: How.
        console: Where the address is printed.

    Raises:
        ClusterloomError: the model, the images, the journal or the port cannot be used.
    """
    listener = _listen(options.port)
    with listener:
        session = Session(model_path, load, options.source, options.export_dir)
        port = listener.getsockname()[1]
        app = build_app(session, port)
        server = _Server(_config(app), lambda: _announce(f"http://{_HOST}:{port}/?key={app.key}", options, console))
        session.start(failed=lambda: setattr(server, "should_exit", True))
        session.wait(_FAST_SECONDS)
        if session.error is None:
            try:
                server.run(sockets=[listener])
            except KeyboardInterrupt:  # which the server raises again when it has ended
                console.print("ended", highlight=False)
    if session.error is not None:
        raise session.error
    if not session.wait(0):
        # Python would wait for what PyTorch and OpenMP do in the background, or crash into it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class _Server(uvicorn.Server):
    """A server that says when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",  # the one whose limits are known; it also refuses heads of more than 64 KiB
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=100,
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


def _announce(address: str, options: ServeOptions, console: Console) -> None:
    console.print(f"explore: {printable(address)}", highlight=False, markup=False, soft_wrap=True)
    console.print("Ctrl-C ends it", highlight=False)
    if options.browser and _has_screen():
        # In a thread, for some browsers' starters wait until the browser is closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _has_screen() -> bool:
    """Whether a browser would open in a window; on a bare terminal Python would start one inside it."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(v) for v in ("DISPLAY", "WAYLAND_DISPLAY"))
