"""What a page looks at: a model that is there at once, and images that become ready in the background."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterloom.data.images import ImageSet
from clusterloom.errors import ClusterloomError
from clusterloom.explore.collection import Collection
from clusterloom.explore.journal import Journal

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer


class NotReadyError(ClusterloomError):
    """What was asked for needs images that are still being read, or that nobody named."""


class Session:
    """A model that is there at once, and a collection that becomes ready in the background.

    Args:
        model: Any fitted estimator.
        path: Its model directory.
        load: Reads the images for a model; None where the user named none.
        source: The folder that the images come from; None where they come from elsewhere.
        export_dir: Where exports go; None for `MODEL.exports` beside the model.

    Attributes:
        version: Differs at every start; images that a browser keeps from another start are not shown.
        progress: What is being done before the collection is ready.
        error: Why it never will be.

    Raises:
        OSError: the model directory is not there.
    """

    def __init__(
        self,
        model: ImageClusterer,
        path: Path,
        load: Callable[[ImageClusterer], ImageSet] | None,
        source: Path | None = None,
        export_dir: Path | None = None,
    ) -> None:
        self.path = path.absolute()
        self.model = model
        self.model_sha256 = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        self.export_dir = (export_dir or self.path.with_name(self.path.name + ".exports")).absolute()
        self.journal_path = self.path.with_name(self.path.name + ".journal.sqlite")
        self.source = source
        self.version = secrets.token_hex(8)
        self.progress = "reading the images" if load else ""
        self.error: Exception | None = None
        self._load = load
        self._collection: Collection | None = None
        self._finished = threading.Event()

    @property
    def has_data(self) -> bool:
        """Whether the user named images."""
        return self._load is not None

    @property
    def ready(self) -> bool:
        """Whether the collection can be looked at."""
        return self._collection is not None

    @property
    def collection(self) -> Collection:
        """The images and all that is known of them.

        Raises:
            NotReadyError: they are not there, or not yet.
        """
        if self._collection is None:
            raise NotReadyError("the images are not ready yet" if self.has_data else "explore was started without DATA")
        return self._collection

    @property
    def generates(self) -> str:
        """Why the model makes no new images; "" where it does."""
        if self.model.generates:
            return ""
        return f"{type(self.model).__name__} learns no distribution that new images could be drawn from."

    @property
    def decodes(self) -> str:
        """Why the model's latents cannot be shown as images; "" where they can."""
        if self.model.method != "dec":
            return ""
        return "DEC moves its encoder away from its decoder, so that what it decodes is no image any more."

    def start(self, failed: Callable[[], None]) -> None:
        """Begin to read in the background.

        Args:
            failed: Called if that ends with an error, which is in `error` then.
        """
        if self._load is None:
            self._finished.set()
            return
        threading.Thread(target=self._prepare, args=(self._load, failed), daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Wait until all is ready or has failed, but not longer than so many seconds; whether it is."""
        return self._finished.wait(seconds)

    def _prepare(self, load: Callable[[ImageClusterer], ImageSet], failed: Callable[[], None]) -> None:
        try:
            images = load(self.model)
            if images.reading.get("tile"):
                self.source = None  # tiles have no files of their own
            journal = Journal(self.journal_path, self.model_sha256, images.fingerprint())
            self._collection = Collection.prepare(self.model, images, journal, self._report)
            self.progress = ""
        except Exception as error:
            self.error = error
            failed()
        finally:
            self._finished.set()

    def _report(self, what: str, done: int, total: int) -> None:
        self.progress = f"{what}, {done / total:.0%}" if total else what


def about(model: ImageClusterer) -> dict[str, Any]:
    """What the page says of a model, as JSON values."""
    height, width, channels = model.image_shape_
    return {
        "method": type(model).__name__,
        "clusters": model.n_clusters_,
        "latent_dim": int(model.network_.latent_dim),
        "height": height,
        "width": width,
        "channels": channels,
        "trained_on": str(model.about_.get("data", "")),
        "images": int(model.about_.get("images", 0)),
    }
