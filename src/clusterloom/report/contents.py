"""What the page says, worked out from a model and a survey, before any of it is laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from clusterloom.data import ImageSet
from clusterloom.errors import printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.metrics import (
    calibration_bins,
    expected_calibration_error,
    label_scores,
    per_class_table,
    sampled_silhouette_score,
)
from clusterloom.palette import Style, styles
from clusterloom.recipe.cluster_count import Evidence
from clusterloom.report import charts, map_picture
from clusterloom.report.making import METHODS, about_rows, python_call, settings_rows
from clusterloom.report.thumbnails import raster, thumbnail
from clusterloom.survey import Survey

_SHOWN = 12  # images of each kind for each cluster
_SHOWN_OF_MANY = 6
_MANY_CLUSTERS = 24
_OUTLIERS = 24
_CLASSES = 3  # named of each cluster
_LEAST_CLASS = 0.005  # share of a cluster's images that is worth a name
_PIXELATED = 48  # pixels; images up to this size are enlarged without smoothing


@dataclass(frozen=True)
class Labels:
    """True labels: class numbers, shape (N,), and the name of each class."""

    numbers: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """Images, what the model says of them, and their labels if there are any."""

    images: ImageSet
    survey: Survey
    labels: Labels | None = None


@dataclass(frozen=True)
class Subject:
    """What a report is about: a model, and images if some were given."""

    model: ImageClusterer
    seen: Seen | None = None


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
    style: Style
    images: int
    share: float
    new: list[Shown]
    confidence: float | None = None
    next: int | None = None
    classes: list[tuple[str, float]] = field(default_factory=list)
    typical: list[Shown] = field(default_factory=list)
    doubtful: list[Shown] = field(default_factory=list)


@dataclass(frozen=True)
class Map:
    """The map: size and labels in the pixels of its raster."""

    width: int
    height: int
    uri: str
    labels: list[map_picture.Label]


@dataclass(frozen=True)
class Evaluation:
    """Scores against labels.

    Attributes:
        scores: Accuracy, purity, NMI, ARI by name.
        calibration_error: Expected calibration error.
        columns: Clusters in the order of the classes that they are matched with, unmatched ones last.
        rows: For each class its name, its images in each of `columns`, and the place of its own cluster or None.
        bars: Of the calibration chart.
    """

    scores: Mapping[str, float]
    calibration_error: float
    columns: list[int]
    rows: list[tuple[str, list[int], int | None]]
    bars: list[charts.Bar]


@dataclass(frozen=True)
class Contents:
    """Everything that the page says; the templates only lay it out."""

    data: str
    method: str
    n_images: int
    trained_on: int
    pixelated: bool
    clusters: list[Cluster]
    map: Map | None
    confidence: float | None
    n_outliers: int | None
    outliers: list[Shown]
    silhouette: float | None
    evaluation: Evaluation | None
    generates: bool
    panels: list[charts.Panel]
    stages: list[tuple[str, int, float, float]]
    evidence: list[charts.Panel]
    command: str
    is_python: bool
    stopped: str
    about: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    versions: list[tuple[str, str]]
    notes: tuple[str, ...]


def contents(subject: Subject) -> Contents:
    """Work out everything that the page says.

    Args:
        subject: Without images, the page has only what the model itself tells.
    """
    model, seen = subject.model, subject.seen
    survey = None if seen is None else seen.survey
    shown = styles(np.zeros((model.n_clusters_, 2)) if survey is None else survey.middles)
    recipe = model.about_.get("recipe", {})
    command = model.about_.get("command")
    return Contents(
        data=str(model.about_.get("data", "an array of images")) if seen is None else seen.images.name,
        method=METHODS[type(model).__name__],
        n_images=int(model.about_["images"]) if survey is None else len(survey),
        trained_on=int(model.about_["images"]),
        pixelated=max(model.image_shape_[:2]) <= _PIXELATED,
        clusters=_clusters(model, seen, shown),
        map=None if survey is None else _map(survey, shown),
        confidence=None if survey is None else float(survey.confidence.mean()),
        n_outliers=None if survey is None else int(survey.outlier.sum()),
        outliers=[] if seen is None else _outliers(seen),
        silhouette=None if survey is None else sampled_silhouette_score(survey.latents, survey.labels),
        evaluation=None if seen is None or seen.labels is None else _evaluation(seen.survey, seen.labels),
        generates=isinstance(model, VariationalClusterer),
        panels=charts.loss_panels(model.history_),
        stages=charts.stage_rows(model.history_),
        evidence=charts.evidence_panels([Evidence(**e) for e in recipe.get("count_evidence", [])]),
        command=command or python_call(model),
        is_python=command is None,
        stopped=str(model.about_.get("stopped", "")),
        about=about_rows(model, recipe),
        settings=settings_rows(model),
        versions=[(str(k), str(v)) for k, v in model.about_["versions"].items()],
        notes=() if seen is None else seen.images.notes,
    )


def pictures_of(cluster: Cluster, images: ImageSet) -> dict[str, np.ndarray]:
    """The images that the page shows of a cluster, by kind, each (n, H, W, C); kinds without any are left out."""
    kinds = {"typical": cluster.typical, "least-certain": cluster.doubtful}
    return {name: images.images[[one.row for one in shown]] for name, shown in kinds.items() if shown}


def new_images(model: ImageClusterer, cluster: int) -> np.ndarray:
    """New images of a cluster, always the same, (n, H, W, C); none of an empty one, or where the model makes none."""
    if not isinstance(model, VariationalClusterer) or model.cluster_sizes_[cluster] == 0:
        return np.empty((0, *model.image_shape_), np.float32)
    return model.sample(_number_shown(model.n_clusters_), cluster, random_state=cluster)


def _number_shown(n_clusters: int) -> int:
    return _SHOWN if n_clusters <= _MANY_CLUSTERS else _SHOWN_OF_MANY


def _clusters(model: ImageClusterer, seen: Seen | None, shown: Sequence[Style]) -> list[Cluster]:
    sizes = model.cluster_sizes_ if seen is None else seen.survey.sizes
    shares = (sizes / max(sizes.sum(), 1)).tolist()
    bare = [
        Cluster(number=k, style=style, images=int(sizes[k]), share=shares[k], new=_new(model, k))
        for k, style in enumerate(shown)
    ]
    if seen is None:
        return bare
    nearest = seen.survey.nearest_clusters().tolist()
    return [_with_members(cluster, seen, nearest[cluster.number]) for cluster in bare]


def _new(model: ImageClusterer, k: int) -> list[Shown]:
    return [Shown(thumbnail(image), f"new image {i} of cluster {k}") for i, image in enumerate(new_images(model, k), 1)]


def _with_members(cluster: Cluster, seen: Seen, nearest: int) -> Cluster:
    k, survey = cluster.number, seen.survey
    n = _number_shown(survey.n_clusters)
    return replace(
        cluster,
        confidence=float(survey.confidence[survey.labels == k].mean()) if cluster.images else None,
        next=nearest if nearest >= 0 else None,
        classes=[] if seen.labels is None else _classes(survey, seen.labels, k),
        typical=[_member(seen, row) for row in survey.typical(k, n)],
        doubtful=[_member(seen, row, doubt=True) for row in survey.doubtful(k, n)],
    )


def _classes(survey: Survey, labels: Labels, k: int) -> list[tuple[str, float]]:
    """The most frequent classes of a cluster's images, and their share of them."""
    counts = np.bincount(labels.numbers[survey.labels == k], minlength=len(labels.names))
    order = [c for c in np.argsort(-counts, kind="stable")[:_CLASSES] if counts[c] >= _LEAST_CLASS * counts.sum() > 0]
    return [(labels.names[c], float(counts[c] / counts.sum())) for c in order]


def _member(seen: Seen, row: int, doubt: bool = False) -> Shown:
    proba = seen.survey.proba[row]
    cluster = int(proba.argmax())
    name = printable(seen.images.ids[int(row)])
    text = f"image {name}, cluster {cluster} with probability {_percent(proba[cluster])}"
    caption = ""
    if doubt and len(proba) > 1:
        second = int(np.argsort(-proba, kind="stable")[1])
        text += f", cluster {second} with {_percent(proba[second])}"
        caption = f"{_percent(proba[cluster])} → {second}".replace(" %", "")
    if seen.labels is not None:
        text += f"; labelled {seen.labels.names[seen.labels.numbers[row]]}"
    return Shown(thumbnail(seen.images.images[row]), text, caption, int(row))


def _percent(share: float) -> str:
    """A share in whole per cent, never rounded up to certainty."""
    return ">99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


def _map(survey: Survey, shown: Sequence[Style]) -> Map:
    drawn = map_picture.draw(survey, shown)
    return Map(*drawn.points.size, raster(drawn.points), drawn.labels)


def _outliers(seen: Seen) -> list[Shown]:
    flagged = np.flatnonzero(seen.survey.outlier)
    order = flagged[np.argsort(seen.survey.score[flagged], kind="stable")][:_OUTLIERS]
    return [_outlier(seen, int(row)) for row in order]


def _outlier(seen: Seen, row: int) -> Shown:
    member = _member(seen, row)
    text = f"{member.text}; score {float(seen.survey.score[row]):,.1f} nats"
    return replace(member, text=text, caption=f"cluster {seen.survey.labels[row]}")


def _evaluation(survey: Survey, labels: Labels) -> Evaluation:
    true, names = labels.numbers, labels.names
    counts = np.zeros((len(names), survey.n_clusters), np.int64)
    np.add.at(counts, (true, survey.labels), 1)
    table = per_class_table(true, survey.labels)
    matched = [row.cluster for row in table if row.cluster is not None]
    columns = [*matched, *(k for k in range(survey.n_clusters) if k not in matched)]
    return Evaluation(
        scores=label_scores(true, survey.labels),
        calibration_error=expected_calibration_error(true, survey.proba),
        columns=columns,
        rows=[
            (
                names[row.label],
                counts[row.label, columns].tolist(),
                None if row.cluster is None else columns.index(row.cluster),
            )
            for row in table
        ],
        bars=charts.calibration_bars(calibration_bins(true, survey.proba)),
    )
