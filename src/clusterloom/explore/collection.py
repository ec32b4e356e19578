"""A set of images, what the model says of each, and the user's edits: what the page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterloom.console import ProgressReport
from clusterloom.corrections.apply import cluster_places
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.editor import Editor
from clusterloom.corrections.journal import Journal
from clusterloom.corrections.questions import question_order
from clusterloom.data.images import ImageSet
from clusterloom.errors import ClusterloomError, printable
from clusterloom.explore.appearance import Appearance
from clusterloom.mosaics import Mosaic, mosaics
from clusterloom.palette import Style, styles
from clusterloom.predictions import Predictions, joint_features, predict_images
from clusterloom.tables import Labels

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer


_PLACED_AMONG = 8  # nearest images
_TOGETHER = 0.1  # of the map's width: what is further away lies in another part of it


class NotFoundError(ClusterloomError):
    """There is no such image."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A set of images that has been looked at.

    Attributes:
        images: The images.
        predictions: What the model says of them.
        editor: The user's edits.
        labels: True labels to compare with, if there are any.
        kept: What has been made of the current state, by name.
    """

    images: ImageSet
    predictions: Predictions
    editor: Editor
    labels: Labels | None = None
    kept: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @classmethod
    def prepare(
        cls,
        model: ImageClusterer,
        images: ImageSet,
        journal: Journal,
        progress: ProgressReport,
        labels: Labels | None = None,
    ) -> Collection:
        """Ask the model about every image, and make all that a first request would otherwise wait for.

        Raises:
            DataError: the images do not have the shape of the training images, or the journal cannot be used.
            OSError: the journal cannot be read.
        """
        journal.read()  # one that cannot be used is refused before a minute's work
        predictions = predict_images(model, images, progress)
        progress("putting images in order", 0, 0)
        new = cls(
            images,
            predictions,
            Editor(predictions.labels, predictions.n_clusters, journal, model.cluster_names_),
            labels,
        )
        _ = new.ranks, new.searchable_ids, new.score_ranks
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
        """Of every cluster number that there is or was: undo brings a merged one back.

        A cluster of the user's is placed where it began, so that it keeps its colour whatever comes and goes.
        """
        return styles(cluster_places(self.predictions.middles, self.predictions.position, self.assignment))

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
        """Place of each image in an order, from 0 for the first to 1 for the last, shape (N,), float32.

        "typical" has the most typical of each cluster first, each image among those of the model's own cluster;
        "doubtful" the most doubtful of all.
        """
        typical = np.zeros(len(self.images), np.float32)
        for rows in map(self.predictions.typical, range(self.predictions.n_clusters)):
            typical[rows] = np.arange(len(rows)) / max(len(rows) - 1, 1)
        return {"typical": typical, "doubtful": _ranks(self.predictions.by_doubt)}

    @cached_property
    def question_ranks(self) -> np.ndarray:
        """Place of each image in the queue of doubt, from 0 for the first to 1 for the last, shape (N,), float32."""
        return _ranks(question_order(self.predictions.features, 1 - self.predictions.confidence))

    @cached_property
    def score_ranks(self) -> np.ndarray:
        """Share of the images that the model explains worse than each one, shape (N,), float32; nan without scores."""
        score = self.predictions.score
        below = np.searchsorted(np.sort(score), score).astype(np.float32) / max(len(score) - 1, 1)
        return np.where(np.isfinite(score), below, np.float32(np.nan))

    @cached_property
    def searchable_ids(self) -> list[str]:
        """Ids as a search compares them."""
        return [printable(id_).lower() for id_ in self.images.ids]

    @cached_property
    def class_styles(self) -> list[Style]:
        """How each label is drawn on the map; none without labels."""
        if self.labels is None:
            return []
        members = [self.labels.numbers == k for k in range(len(self.labels.names))]
        position = self.predictions.position
        return styles(np.array([np.median(position[some], 0) if some.any() else (0, 0) for some in members]))

    @cached_property
    def appearance(self) -> Appearance:
        """How the images look, for pictures that are brought to them."""
        return Appearance.of(self.images.images)

    @property
    def sizes(self) -> np.ndarray:
        """Images of every cluster number that there is or was, as it is now."""
        return self.once_a_revision("sizes", _sizes)

    @property
    def shown(self) -> list[int]:
        """Numbers of the clusters to list: those with images, and those for which the model never had any."""
        own = self.predictions.sizes
        return [k for k in sorted(self.assignment.names) if self.sizes[k] or (k < len(own) and not own[k])]

    @property
    def owners(self) -> np.ndarray:
        """Of each of the model's clusters the one that its probability belongs to now, shape (K,), int64.

        That is itself while it is listed, and otherwise the one that has most of its images.
        """
        return self.once_a_revision("owners", _owners)

    @property
    def pulls(self) -> np.ndarray:
        """Mean probability that the images of each cluster number have of each of the others, shape (M, M)."""
        return self.once_a_revision("pulls", _pulls)

    def shares(self, proba: np.ndarray) -> list[tuple[int, float]]:
        """Probabilities (K,) of the model's clusters as those of the clusters that there are now, the largest first."""
        total = np.bincount(self.owners, proba)
        return [(int(k), float(total[k])) for k in np.argsort(-total, kind="stable") if k in set(self.owners.tolist())]

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
        return self.in_order(self.assignment.members(cluster), order)

    def in_order(self, rows: np.ndarray, order: str) -> np.ndarray:
        """Some rows, the most "typical" or the most "doubtful" first."""
        return rows[np.argsort(self.ranks[order][rows], kind="stable")]

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

    def place(self, nearest: np.ndarray) -> list[float]:
        """Where on the map something lies whose nearest images are these: among those of them that lie together."""
        places = self.predictions.position[nearest[:_PLACED_AMONG]]
        near = np.linalg.norm(places - places[0], axis=1) < _TOGETHER
        return [float(v) for v in places[near].mean(0)]

    def brief(self, row: int) -> dict[str, Any]:
        """What is shown of an image in a gallery, as JSON values."""
        cluster = int(self.assignment.labels[row])
        changed = cluster != int(self.predictions.labels[row])
        return {
            "row": row,
            "id": printable(self.images.ids[row]),
            "cluster": cluster,
            # The model's probability is of its own cluster, not of the one that a user moved the image to.
            "probability": None if changed else float(self.predictions.confidence[row]),
            "changed": changed,
            "mark": int(self.assignment.marks[row]),
        }

    def briefs(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """`brief` of several images."""
        return [self.brief(row) for row in rows.tolist()]


def _ranks(order: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.arange(len(order)) / max(len(order) - 1, 1)
    return ranks


def _sizes(collection: Collection) -> np.ndarray:
    return np.bincount(collection.assignment.labels, minlength=collection.assignment.next_number)


def _owners(collection: Collection) -> np.ndarray:
    assignment, predictions = collection.assignment, collection.predictions
    owners, shown = np.arange(predictions.n_clusters), set(collection.shown)
    for k in range(predictions.n_clusters):
        if k not in shown:
            if predictions.sizes[k]:
                owners[k] = np.bincount(assignment.labels[predictions.labels == k]).argmax()
            else:
                owners[k] = assignment.owner(k)
    return owners


def _pulls(collection: Collection) -> np.ndarray:
    labels, proba, total = collection.assignment.labels, collection.predictions.proba, len(collection.sizes)
    pulls = np.zeros((total, total))
    for column, owner in enumerate(collection.owners):
        pulls[:, owner] += np.bincount(labels, proba[:, column], total)
    np.fill_diagonal(pulls, 0)
    return pulls / np.maximum(collection.sizes, 1)[:, None]
