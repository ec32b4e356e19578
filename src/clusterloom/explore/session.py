"""What a page looks at: a model, images, what the model says of them, and the user's edits, as they become ready."""

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from clusterloom.data import ImageSet
from clusterloom.errors import ClusterloomError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.dec import DECClusterer
from clusterloom.estimators.methods import load_model
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.explore.editor import Editor
from clusterloom.explore.journal import Journal
from clusterloom.explore.sorting import Sorting
from clusterloom.predictions import Predictions, predict_images


class NotFoundError(ClusterloomError):
    """There is no such image."""


class NotReadyError(ClusterloomError):
    """What was asked for needs images that are still being read, or that nobody named."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A set of images that has been looked at.

    Attributes:
        images: The images.
        predictions: What the model says of them.
        editor: The user's sorting of them.
        kept: What has been made of the current state, by name.
    """

    images: ImageSet
    predictions: Predictions
    editor: Editor
    kept: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @property
    def sorting(self) -> Sorting:
        """The clusters as they are now."""
        return self.editor.sorting

    def once_a_revision(self, name: str, make: Callable[["Collection"], Any]) -> Any:
        """What `make` gives, made anew only after an edit."""
        revision = self.editor.revision
        if self.kept.get(name, (-1, None))[0] != revision:
            self.kept[name] = (revision, make(self))
        return self.kept[name][1]

    @cached_property
    def typical_rank(self) -> np.ndarray:
        """Place of each image among those that the model puts into its cluster, from 0, most typical, to 1, (N,)."""
        return self._rank(self.predictions.typical)

    @cached_property
    def doubtful_rank(self) -> np.ndarray:
        """Likewise from 0, most doubtful, to 1, (N,)."""
        return self._rank(self.predictions.doubtful)

    @cached_property
    def searchable_ids(self) -> list[str]:
        """Ids as `find` compares them."""
        return [printable(id_).lower() for id_ in self.images.ids]

    def ordered(self, cluster: int, order: str) -> np.ndarray:
        """Rows of a cluster's images as it is now, the most "typical" or the most "doubtful" first.

        Images that came from other clusters stand at the place that they had there.
        """
        members = self.sorting.members(cluster)
        rank = self.typical_rank if order == "typical" else self.doubtful_rank
        return members[np.argsort(rank[members], kind="stable")]

    def _rank(self, order: Callable[[int], np.ndarray]) -> np.ndarray:
        rank = np.zeros(len(self.images), np.float32)
        for rows in map(order, range(self.predictions.n_clusters)):
            rank[rows] = np.arange(len(rows)) / max(len(rows) - 1, 1)
        return rank


class Session:
    """A model that is there at once, and a collection that becomes ready in the background.

    Args:
        path: The model directory.
        load: Reads the images for a model; None where the user named none.
        source: The folder that the images come from; None where they come from elsewhere.
        export_dir: Where exports go; None for `MODEL.exports` beside the model.

    Attributes:
        version: Differs at every start; images that a browser keeps from another start are not shown.

    Raises:
        ModelError: the model cannot be used.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[ImageClusterer], ImageSet] | None,
        source: Path | None = None,
        export_dir: Path | None = None,
    ) -> None:
        self.path = path.absolute()
        self.model = load_model(path)
        self.model_sha256 = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
        self.export_dir = (export_dir or self.path.with_name(self.path.name + ".exports")).absolute()
        self.journal_path = self.path.with_name(self.path.name + ".journal.jsonl")
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
        if isinstance(self.model, VariationalClusterer):
            return ""
        return f"{type(self.model).__name__} learns no distribution that new images could be drawn from."

    @property
    def decodes(self) -> str:
        """Why the model's latents cannot be shown as images; "" where they can."""
        if not isinstance(self.model, DECClusterer):
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
            journal_of = (self.journal_path, self.model_sha256, images.fingerprint())
            Journal(*journal_of).read_new()  # a journal of other images is refused before a minute's work
            found = predict_images(self.model, images, lambda what, done, total: self._tell(what))
            collection = Collection(images, found, Editor(found.labels, found.n_clusters, Journal(*journal_of)))
            self._tell("putting images in order")
            # Made now, so that no first request has to wait for them.
            _ = collection.typical_rank, collection.doubtful_rank, collection.searchable_ids
            found.similar(np.zeros(1, np.int64), 1)
            self._collection = collection
            self._tell("")
        except Exception as error:
            self.error = error
            failed()
        finally:
            self._finished.set()

    def _tell(self, line: str) -> None:
        self.progress = line


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
