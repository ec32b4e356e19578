"""Clusters and outliers on the page: their numbers, and the images that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterloom.corrections.assignment import Assignment
from clusterloom.data.images import ImageSet
from clusterloom.errors import printable
from clusterloom.palette import Style
from clusterloom.predictions import Predictions, Totals
from clusterloom.report.map_picture import MapPicture, Spot
from clusterloom.report.numbers import percent
from clusterloom.report.thumbnails import thumbnail
from clusterloom.tables import Labels

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_SHOWN = 12  # images of each kind for each cluster
_SHOWN_OF_MANY = 6
_MANY_CLUSTERS = 24
_OUTLIERS = 24
_CLASSES = 3  # named of each cluster
_LEAST_CLASS = 0.005  # share of a cluster's images that is worth a name


@dataclass(frozen=True)
class Seen:
    """Images, what the model says of them, and their labels if there are any.

    Attributes:
        images: The images.
        predictions: What is said of them, as a user has corrected it.
        labels: True labels, or None.
        corrections: The clusters as they were corrected, or None.
        uncorrected: What the model itself says, where that is not the same.
        totals: What it says of all images, where these are a sample of them and nothing was corrected; else None.
        all_labels: True labels of all images, or None.
    """

    images: ImageSet
    predictions: Predictions
    labels: Labels | None = None
    corrections: Assignment | None = None
    uncorrected: Predictions | None = None
    totals: Totals | None = None
    all_labels: Labels | None = None

    @property
    def counted(self) -> Predictions | Totals:
        """What the page's numbers are of: all images, or those that are shown."""
        return self.predictions if self.totals is None else self.totals

    @property
    def own(self) -> Predictions:
        """What the model itself says."""
        return self.predictions if self.uncorrected is None else self.uncorrected


@dataclass(frozen=True)
class Shown:
    """One image on the page.

    Attributes:
        uri: The image itself.
        text: What it is, for those who do not see it, and when the pointer rests on it.
        caption: Below it; may be empty.
        row: Its number in the data, or -1 for a new image.
    """

    uri: str
    text: str
    caption: str = ""
    row: int = -1


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        number: From 0.
        title: What it is called.
        style: How it is drawn.
        images: How many it has, of the report's images or else of the training images.
        share: Of all images.
        new: New images that the model made of it.
        confidence: Mean probability of its images; None without data or where it is empty.
        next: The cluster that its images would go to next, or None.
        classes: The most frequent classes of its images, with their share of them.
        typical: Its most typical images.
        doubtful: Its least certain ones.
    """

    number: int
    title: str
    style: Style
    images: int
    share: float
    new: list[Shown]
    confidence: float | None = None
    next: int | None = None
    classes: list[tuple[str, float]] = field(default_factory=list)
    typical: list[Shown] = field(default_factory=list)
    doubtful: list[Shown] = field(default_factory=list)


def clusters(model: ImageClusterer, seen: Seen | None, styles: Sequence[Style]) -> list[Cluster]:
    """All clusters of a model, with their members where there are images.

    Args:
        model: The model.
        seen: The images, if there are any.
        styles: How each cluster is drawn.
    """
    sizes = model.cluster_sizes_ if seen is None else seen.counted.sizes
    shares = (sizes / max(sizes.sum(), 1)).tolist()
    members = [{}] * len(styles) if seen is None else _members(seen)
    corrected = None if seen is None else seen.corrections
    return [
        Cluster(k, _title(k, corrected), style, int(sizes[k]), shares[k], _new(model, k), **members[k])
        for k, style in enumerate(styles)
        if corrected is None or sizes[k]
    ]


def _title(cluster: int, corrected: Assignment | None) -> str:
    named = corrected is not None and corrected.names.get(cluster)
    return f"Cluster {cluster}: {named}" if named else f"Cluster {cluster}"


def new_images(model: ImageClusterer, cluster: int) -> np.ndarray:
    """New images of a cluster, always the same, (n, H, W, C) in [0, 1], in the channels that pictures show.

    None of them, shape (0, H, W, C), if it is empty or the model makes none.
    """
    if not model.generates or cluster >= model.n_clusters_ or model.cluster_sizes_[cluster] == 0:
        return np.empty((0, *model.image_shape_), np.float32)
    return model.shown(model.to_unit(model.sample(_number_shown(model.n_clusters_), cluster, random_state=cluster)))


def outliers(seen: Seen) -> list[Shown]:
    """The images that the model explains worst among those that it flags."""
    said = seen.predictions
    flagged = np.flatnonzero(said.outlier)
    order = flagged[np.argsort(said.score[flagged], kind="stable")][:_OUTLIERS].tolist()
    return [_shown(seen, row, f"cluster {said.labels[row]}", _explained(said, row)) for row in order]


def spots(seen: Seen, drawn: MapPicture) -> list[tuple[Spot, str]]:
    """Points of the map, and what their image is called."""
    return [(spot, _text(seen, spot.row)) for spot in drawn.spots]


def _explained(said: Predictions, row: int) -> str:
    worse = int((said.score < said.score[row]).sum())
    return f"; explained worse than {percent(1 - (worse + 1) / len(said))} of all images"


def _number_shown(n_clusters: int) -> int:
    return _SHOWN if n_clusters <= _MANY_CLUSTERS else _SHOWN_OF_MANY


def _new(model: ImageClusterer, k: int) -> list[Shown]:
    return [Shown(thumbnail(image), f"new image {i} of cluster {k}") for i, image in enumerate(new_images(model, k), 1)]


def _members(seen: Seen) -> list[dict[str, Any]]:
    """Of each cluster what is known with images alone: fields of `Cluster`."""
    said = seen.predictions
    n = _number_shown(said.n_clusters)
    return [
        {
            "confidence": seen.counted.confidence_of(k),
            "next": nearest if nearest >= 0 else None,
            "classes": _classes(said.labels == k, seen.labels),
            "typical": [_shown(seen, row) for row in said.typical(k, n).tolist()],
            "doubtful": [_doubtful(seen, row) for row in said.doubtful(k, n).tolist()],
        }
        for k, nearest in enumerate(said.nearest_clusters().tolist())
    ]


def _classes(members: np.ndarray, labels: Labels | None) -> list[tuple[str, float]]:
    """The most frequent classes of a cluster's images, and their share of them."""
    if labels is None:
        return []
    counts = np.bincount(labels.numbers[members], minlength=len(labels.names))
    order = [c for c in np.argsort(-counts, kind="stable")[:_CLASSES] if counts[c] >= _LEAST_CLASS * counts.sum() > 0]
    return [(labels.names[c], float(counts[c] / counts.sum())) for c in order]


def _shown(seen: Seen, row: int, caption: str = "", more: str = "") -> Shown:
    return Shown(thumbnail(seen.images.shown(row)), _text(seen, row, more), caption, row)


def _text(seen: Seen, row: int, more: str = "") -> str:
    said = seen.predictions
    name, probability = printable(seen.images.ids[row]), percent(said.confidence[row], 0)
    labelled = f"; labelled {seen.labels.names[seen.labels.numbers[row]]}" if seen.labels else ""
    return f"image {name}, cluster {said.labels[row]} with probability {probability}{more}{labelled}"


def _doubtful(seen: Seen, row: int) -> Shown:
    proba = seen.predictions.proba[row]
    if len(proba) == 1:
        return _shown(seen, row)
    first, second = np.argsort(-proba, kind="stable")[:2].tolist()
    caption = f"{percent(proba[first], 0)} → {second}".replace("\u00a0%", "")
    return _shown(seen, row, caption, f", cluster {second} with {percent(proba[second], 0)}")
