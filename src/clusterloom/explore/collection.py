"""A set of images, what the model says of each, and the user's edits: what the page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterloom.console import ProgressReport
from clusterloom.data.images import ImageSet
from clusterloom.errors import ClusterloomError, printable
from clusterloom.explore.assignment import Assignment
from clusterloom.explore.editor import Editor
from clusterloom.explore.journal import Journal
from clusterloom.mosaics import Mosaic, mosaics
from clusterloom.palette import Style, styles
from clusterloom.predictions import Predictions, joint_features, predict_images

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer


class NotFoundError(ClusterloomError):
    """There is no such image."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A set of images that has been looked at.

    Attributes:
        images: The images.
        predictions: What the model says of them.
        editor: The user's edits.
        kept: What has been made of the current state, by name.
    """

    images: ImageSet
    predictions: Predictions
    editor: Editor
    kept: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @classmethod
    def prepare(cls, model: ImageClusterer, images: ImageSet, journal: Journal, progress: ProgressReport) -> Collection:
        """Ask the model about every image, and make all that a first request would otherwise wait for.

        Raises:
            DataError: the images do not have the shape of the training images, or the journal cannot be used.
            OSError: the journal cannot be read.
        """
        journal.read()  # one that cannot be used is refused before a minute's work
        predictions = predict_images(model, images, progress)
        progress("putting images in order", 0, 0)
        new = cls(images, predictions, Editor(predictions.labels, predictions.n_clusters, journal))
        _ = new.ranks, new.searchable_ids
        predictions.similar(np.zeros(1, np.int64), 1)
        return new

    @property
    def assignment(self) -> Assignment:
        """The clusters as they are now."""
        return self.editor.assignment

    def once_a_revision(self, name: str, make: Callable[[Collection], Any]) -> Any:
        """What `make` gives, made anew only after an edit."""
        revision = self.editor.revision
        if self.kept.get(name, (-1, None))[0] != revision:
            self.kept[name] = (revision, make(self))
        return self.kept[name][1]

    @property
    def styles(self) -> list[Style]:
        """Of every cluster number that there is or was: undo may bring a merged one back."""
        return styles(self.predictions.middles, self.assignment.next_number - self.predictions.n_clusters)

    def mosaic_of(self, row: int) -> Mosaic | None:
        """The tiles of the picture that an image was cut from; None where images are no tiles."""
        return self._mosaics[row] if self._mosaics else None

    @cached_property
    def _mosaics(self) -> list[Mosaic]:
        """The mosaic of each image; none where they are no tiles."""
        if not self.images.reading.get("tile"):
            return []
        by_row = {int(row): mosaic for mosaic in mosaics(self.images.ids) for row in mosaic.rows[mosaic.rows >= 0]}
        return [by_row[row] for row in range(len(self.images))]

    @cached_property
    def ranks(self) -> dict[str, np.ndarray]:
        """Place of each image among those that the model puts into its cluster, from 0 to 1, shape (N,), by order.

        "typical" has the most typical first, "doubtful" the most doubtful.
        """
        ranks = {}
        for order, rows_of in (("typical", self.predictions.typical), ("doubtful", self.predictions.doubtful)):
            ranks[order] = np.zeros(len(self.images), np.float32)
            for rows in map(rows_of, range(self.predictions.n_clusters)):
                ranks[order][rows] = np.arange(len(rows)) / max(len(rows) - 1, 1)
        return ranks

    @cached_property
    def searchable_ids(self) -> list[str]:
        """Ids as a search compares them."""
        return [printable(id_).lower() for id_ in self.images.ids]

    def pixels(self, rows: list[int]) -> np.ndarray:
        """Some images, in the order of `rows`, in the channels that pictures show, shape (n, H, W, C), uint8.

        Raises:
            NotFoundError: one of them is not there.
        """
        self.check(max(rows))
        return np.stack([self.images.shown(row) for row in rows])

    def check(self, row: int) -> None:
        """Refuse a row number that no image has.

        Raises:
            NotFoundError: it is too large.
        """
        if row >= len(self.images):
            raise NotFoundError(f"there is no image {row}; they are numbered from 0 to {len(self.images) - 1}")

    def ordered(self, cluster: int, order: str) -> np.ndarray:
        """Rows of a cluster's images as it is now, the most "typical" or the most "doubtful" first.

        Images that came from other clusters stand at the place that they had there.
        """
        members = self.assignment.members(cluster)
        return members[np.argsort(self.ranks[order][members], kind="stable")]

    def nearest(self, latents: np.ndarray, proba: np.ndarray, n: int) -> np.ndarray:
        """Rows of the images that are most like one which is not among them, the nearest first.

        Args:
            latents: Of that image, shape (D,).
            proba: Its probability of every cluster, shape (K,).
            n: At most so many.
        """
        # Joined with all the others for a moment, so that it is measured with the same scale.
        known = self.predictions
        features = joint_features(np.vstack([known.latents, latents]), np.vstack([known.proba, proba]))
        distance = np.square(features[:-1] - features[-1]).sum(1)
        n = min(n, len(distance))
        rows = np.argpartition(distance, n - 1)[:n]
        return rows[np.argsort(distance[rows], kind="stable")]

    def brief(self, row: int) -> dict[str, Any]:
        """What is shown of an image in a gallery, as JSON values."""
        cluster = int(self.assignment.labels[row])
        changed = cluster != int(self.predictions.labels[row])
        return {
            "row": row,
            "id": printable(self.images.ids[row]),
            "cluster": cluster,
            # The model's probability is of its own cluster, not of the one that a user moved the image to.
            "probability": None if changed else round(float(self.predictions.confidence[row]), 4),
            "changed": changed,
        }

    def briefs(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """`brief` of several images."""
        return [self.brief(row) for row in rows.tolist()]
