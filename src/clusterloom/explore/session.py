"""What a page looks at: a model that is there at once, and images that become ready in the background."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clusterloom.corrections.journal import Journal
from clusterloom.corrections.read import journal_path, weights_sha256
from clusterloom.data.convert import SIXTEEN_BITS
from clusterloom.data.images import ImageSet, limited_rows
from clusterloom.data.one_picture import Target
from clusterloom.errors import ClusterloomError, DataError
from clusterloom.estimators.methods import load_model
from clusterloom.explore.collection import Collection
from clusterloom.explore.refitting import Refitting, free_name
from clusterloom.predictions import MOST_SHOWN
from clusterloom.tables import Labels, labels_of

if TYPE_CHECKING:
    from clusterloom.console import ProgressReport
    from clusterloom.estimators.base import ImageClusterer


Load: TypeAlias = "Callable[[ImageClusterer, ProgressReport], ImageSet]"
RefitCommand: TypeAlias = Callable[[Path, Path], list[str]]

# Steps of the preparation, and between which shares of it they lie: as at a first start with 70,000 images.
_STEPS = (
    ("converting pixels", 0.0, 0.08),
    ("hashing images", 0.08, 0.1),
    ("applying the model", 0.1, 0.35),
    ("neighbours", 0.35, 0.45),
    ("map", 0.45, 0.45),
    ("neighbours", 0.85, 0.97),
    ("putting images in order", 0.97, 0.97),
)
_WORDS = {
    "applying the model": "asking the model",
    "neighbours": "looking for neighbours",
    "map": "drawing the map",
}


class NotReadyError(ClusterloomError):
    """What was asked for needs images that are still being read, or that nobody named."""


class Session:
    """A model that is there at once, and a collection that becomes ready in the background.

    Args:
        model: Any fitted estimator.
        path: Its model directory.
        load: Reads the images for a model, and says how far it is; None where the user named none.
        source: The folder that the images come from; None where they come from elsewhere.
        export_dir: Where exports go; None for `MODEL.exports` beside the model.
        labels_file: File of true labels, in place of the data's own; see `clusterloom.tables.read_labels`.
        refit_command: What fits a model (the first path) again, to a new one (the second), with the images that `load`
            reads; None where that cannot be done.

    Attributes:
        data_key: Tells this set of images from others, once it has been read.
        version: Differs at every start; images that a browser keeps from another start are not shown.
        progress: What is being done before the collection is ready.
        share: How much of that is done, from 0 to 1, by the time that each step usually takes.
        error: Why it never will be.
        refitting: The last refit that was begun on the page, if any.

    Raises:
        OSError: the model directory is not there.
    """

    def __init__(
        self,
        model: ImageClusterer,
        path: Path,
        load: Load | None,
        source: Path | None = None,
        export_dir: Path | None = None,
        labels_file: Path | None = None,
        refit_command: RefitCommand | None = None,
    ) -> None:
        self.path = path.resolve()  # a link, or `..`, means the folder that it leads to
        self.model = model
        self.model_sha256 = weights_sha256(path)
        self.export_dir = (export_dir or self.path.with_name(self.path.name + ".exports")).absolute()
        self.journal_path = journal_path(path)
        self.source = source
        self.data_key = ""
        self.version = secrets.token_hex(8)
        self.progress = "reading the images" if load else ""
        self.share = 0.0
        self.error: Exception | None = None
        self._began, self._step = time.monotonic(), 0
        self._load, self._labels_file, self._refit_command = load, labels_file, refit_command
        self._export_dir, self._source = export_dir, source
        self._starting = threading.Lock()
        self._successor: Session | None = None
        self.refitting: Refitting | None = None
        self._collection: Collection | None = None
        self._finished = threading.Event()
        self._reader: threading.Thread | None = None

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
        collection = self._collection  # read once: the thread of a successor drops it
        if collection is None:
            raise NotReadyError("the images are not ready yet" if self.has_data else "explore was started without DATA")
        return collection

    @property
    def why_not_generating(self) -> str:
        """Why the model makes no new images; "" where it does."""
        if self.model.generates:
            return ""
        return f"{type(self.model).__name__} learns no distribution that new images could be drawn from."

    @property
    def why_not_decoding(self) -> str:
        """Why the model's latents cannot be shown as images; "" where they can."""
        if self.model.decodes:
            return ""
        name = type(self.model).__name__
        return f"{name} moves its encoder away from its decoder, so that what it decodes is no image any more."

    def target(self, height: int, width: int, channels: int) -> Target:
        """What a picture becomes that is read as the model's images were, in any size and with so many channels."""
        picks = self.model.reading_.get("channels")
        pixel_range = self.model.pixel_range_ or SIXTEEN_BITS
        return Target(height, width, channels, pixel_range, None if picks is None else tuple(picks))

    @property
    def refits(self) -> bool:
        """Whether the model can be fitted again with these images."""
        return self.has_data and self._refit_command is not None and self.model.refits

    def refit(self) -> None:
        """Begin to fit again, in a process of its own.

        Raises:
            DataError: that is being done already.
            OSError: the process cannot be started.
        """
        assert self._refit_command is not None, "callers ask whether it `refits`"
        with self._starting:
            if self.refitting is not None and self.refitting.running:
                raise DataError("the model is being fitted again already")
            out = free_name(self.path)
            self.refitting = Refitting(self._refit_command(self.path, out), out)

    @property
    def latest(self) -> Session:
        """The session that pages see: this one, or that of a model that was fitted again and opened."""
        successor = self._successor  # read once: the thread that reads its images may take it back
        return self if successor is None else successor.latest

    def open_refitted(self) -> Session:
        """Begin to show the model that the last refit has made; if its images cannot be read, this one comes back.

        Raises:
            ModelError: the new model cannot be used.
        """
        assert self.refitting is not None, "callers look whether there is one"
        with self._starting:
            if self._successor is None:
                path = self.refitting.out
                new = Session(
                    load_model(path),
                    path,
                    self._load,
                    self._source,
                    self._export_dir,
                    self._labels_file,
                    self._refit_command,
                )
                self._successor = new
                new.start(failed=self._come_back, ready=self._give_way)
        return self.latest

    def _come_back(self, error: Exception) -> None:
        assert self.refitting is not None, "its model was to be shown"
        self.refitting.not_opened(error)
        self._successor = None

    def _give_way(self) -> None:
        self._collection = None  # of a model that nobody sees any more

    def start(self, failed: Callable[[Exception], None], ready: Callable[[], None] = lambda: None) -> None:
        """Begin to read in the background.

        Args:
            failed: Called with the error if that ends with one, which is in `error` then.
            ready: Called once the collection can be looked at.
        """
        if self._load is None:
            self._finished.set()
            return
        self._reader = threading.Thread(target=self._prepare, args=(self._load, failed, ready), daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """Wait until all is ready or has failed, but not longer than so many seconds; whether it is."""
        return self._finished.wait(seconds)

    @property
    def at_work(self) -> bool:
        """Whether something goes on in the background, which it does for a moment after all is ready."""
        return self._reader is not None and self._reader.is_alive()

    def _prepare(self, load: Load, failed: Callable[[Exception], None], ready: Callable[[], None]) -> None:
        try:
            images = load(self.model, self._report)
            labels = labels_of(images, self._labels_file)
            if images.reading.get("tile"):
                self.source = None  # tiles have no files of their own
            if len(images) > MOST_SHOWN:
                images, labels = _sample(images, labels)
                self._refit_command = None  # it would read all of them, and corrections are those of the sample
            self.data_key = images.fingerprint(self._report)
            journal = Journal(self.journal_path, self.model_sha256, self.data_key)
            self._collection = collection = Collection.prepare(self.model, images, journal, self._report, labels)
            self.progress = ""
            ready()
        except Exception as error:
            self.error = error
            failed(error)
            return
        finally:
            self._finished.set()
        _ = collection.question_ranks  # whoever opens the queue first would wait for it

    def _report(self, what: str, done: int, total: int) -> None:
        shown = _WORDS.get(what, what)
        self.progress = f"{shown}, {done / total:.0%}" if total else shown
        # The search for neighbours comes twice, and is the later step the second time.
        at = next((i for i, (name, _, _) in enumerate(_STEPS) if i >= self._step and name == what), None)
        if at is not None:
            _, start, end = _STEPS[at]
            self._step, self.share = at, start + (end - start) * (done / total if total else 0)

    @property
    def seconds(self) -> int:
        """Since the start."""
        return int(time.monotonic() - self._began)


def _sample(images: ImageSet, labels: Labels | None) -> tuple[ImageSet, Labels | None]:
    """The images that the page shows of very many, the same ones every time, and their labels."""
    name = f"{images.name}, a sample of its {len(images):,} images"
    rows = limited_rows(len(images), MOST_SHOWN)
    shown = replace(images.head(MOST_SHOWN), name=name)
    return shown, None if labels is None else Labels(labels.numbers[rows], labels.names)


def about(model: ImageClusterer) -> dict[str, Any]:
    """What the page says of a model, as JSON values."""
    height, width, channels = model.image_shape_
    return {
        "method": type(model).__name__,
        "clusters": model.n_clusters_,
        "latent_dim": int(model.network_.latent_dim),
        "refines": model.refines,
        "height": height,
        "width": width,
        "channels": channels,
        "trained_on": str(model.about_.get("data", "")),
        "images": int(model.about_.get("images", 0)),
    }
