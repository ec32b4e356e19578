"""What the page says, worked out from a model and a survey, before any of it is laid out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clusterloom.cluster_count import Evidence
from clusterloom.data import ImageSet
from clusterloom.data.boundary import printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.metrics import (
    calibration_bins,
    expected_calibration_error,
    label_scores,
    per_class_table,
    sampled_silhouette_score,
)
from clusterloom.report import charts, map_picture
from clusterloom.report.palette import Style, styles
from clusterloom.report.thumbnails import raster, thumbnail
from clusterloom.survey import Survey

METHODS = {
    "ConvVAEClusterer": "a convolutional variational autoencoder with a category encoder",
    "VAEClusterer": "a variational autoencoder of flattened pixels with a category encoder",
    "DECClusterer": "deep embedded clustering (DEC)",
    "AutoencoderClusterer": "an autoencoder with k-means",
}
_SHOWN = 12  # images of each kind for each cluster
_SHOWN_OF_MANY = 6
_MANY_CLUSTERS = 24
_OUTLIERS = 24
_NOT_SETTINGS = {"run_dir", "resume", "tracker", "verbose"}


@dataclass(frozen=True)
class Labels:
    """True labels: class numbers, shape (N,), and the name of each class."""

    numbers: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """What a report is about: a model, and where there are images what it says of them and their labels."""

    model: ImageClusterer
    images: ImageSet | None = None
    survey: Survey | None = None
    labels: Labels | None = None


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
        confidence: Mean probability of its images; None without data or where it is empty.
        next: The cluster that its images would go to next, or None.
        classes: The most frequent classes of its images, with their share of them.
        typical: Its most typical images.
        doubtful: Its least certain ones.
        new: New images that the model made of it.
    """

    number: int
    style: Style
    images: int
    share: float
    confidence: float | None
    next: int | None
    classes: list[tuple[str, float]]
    typical: list[Shown]
    doubtful: list[Shown]
    new: list[Shown]


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
    class_name: str
    n_images: int
    trained_on: int
    image_shape: tuple[int, int, int]
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
    model, survey = subject.model, subject.survey
    recipe = model.about_.get("recipe", {})
    command = model.about_.get("command")
    shown = _styles(subject)
    return Contents(
        data=subject.images.name if subject.images is not None else str(model.about_.get("data", "an array of images")),
        method=METHODS[type(model).__name__],
        class_name=type(model).__name__,
        n_images=len(survey) if survey is not None else int(model.about_["images"]),
        trained_on=int(model.about_["images"]),
        image_shape=model.image_shape_,
        pixelated=max(model.image_shape_[:2]) <= 48,
        clusters=[_cluster(subject, k, shown[k]) for k in range(model.n_clusters_)],
        map=_map(survey, shown),
        confidence=None if survey is None else float(survey.confidence.mean()),
        n_outliers=None if survey is None else int(survey.outlier.sum()),
        outliers=_outliers(subject),
        silhouette=None if survey is None else sampled_silhouette_score(survey.latents, survey.labels),
        evaluation=_evaluation(subject),
        generates=isinstance(model, VariationalClusterer),
        panels=charts.loss_panels(model.history_),
        stages=charts.stage_rows(model.history_),
        evidence=charts.evidence_panels([Evidence(**e) for e in recipe.get("count_evidence", [])]),
        command=command or _python(model),
        is_python=command is None,
        stopped=str(model.about_.get("stopped", "")),
        about=_about(model, recipe),
        settings=[(k, _plain(v)) for k, v in sorted(model.get_params().items()) if k not in _NOT_SETTINGS],
        versions=[(str(k), str(v)) for k, v in model.about_["versions"].items()],
        notes=subject.images.notes if subject.images is not None else (),
    )


def pictures_of(cluster: Cluster, subject: Subject) -> dict[str, np.ndarray]:
    """The images that the page shows of a cluster, by kind, each (n, H, W, C); kinds without any are left out."""
    if subject.images is None:
        return {}
    kinds = {"typical": cluster.typical, "least-certain": cluster.doubtful}
    return {name: subject.images.images[[one.row for one in shown]] for name, shown in kinds.items() if shown}


def new_images(model: ImageClusterer, cluster: int) -> np.ndarray:
    """New images of a cluster, always the same, (n, H, W, C); none of an empty one, or where the model makes none."""
    if not isinstance(model, VariationalClusterer) or model.cluster_sizes_[cluster] == 0:
        return np.empty((0, *model.image_shape_), np.float32)
    return model.sample(_number_shown(model.n_clusters_), cluster, random_state=cluster)


def _number_shown(n_clusters: int) -> int:
    return _SHOWN if n_clusters <= _MANY_CLUSTERS else _SHOWN_OF_MANY


def _styles(subject: Subject) -> list[Style]:
    survey, n_clusters = subject.survey, subject.model.n_clusters_
    middles = np.zeros((n_clusters, 2))
    if survey is not None:
        for k in np.flatnonzero(survey.sizes):
            middles[k] = np.median(survey.position[survey.labels == k], 0)
    return styles(middles)


def _cluster(subject: Subject, k: int, style: Style) -> Cluster:
    model, survey = subject.model, subject.survey
    sizes = model.cluster_sizes_ if survey is None else survey.sizes
    n = _number_shown(model.n_clusters_)
    new = [Shown(thumbnail(image), f"new image {i} of cluster {k}") for i, image in enumerate(new_images(model, k), 1)]
    if survey is None:
        return Cluster(k, style, int(sizes[k]), _share(sizes, k), None, None, [], [], [], new)
    nearest = int(survey.nearest_clusters()[k])
    return Cluster(
        number=k,
        style=style,
        images=int(sizes[k]),
        share=_share(sizes, k),
        confidence=float(survey.confidence[survey.labels == k].mean()) if sizes[k] else None,
        next=nearest if nearest >= 0 else None,
        classes=_classes(subject, k),
        typical=[_member(subject, row) for row in survey.typical(k, n)],
        doubtful=[_member(subject, row, doubt=True) for row in survey.doubtful(k, n)],
        new=new,
    )


def _share(sizes: np.ndarray, k: int) -> float:
    return float(sizes[k] / max(sizes.sum(), 1))


def _classes(subject: Subject, k: int, at_most: int = 3) -> list[tuple[str, float]]:
    if subject.labels is None or subject.survey is None:
        return []
    counts = np.bincount(subject.labels.numbers[subject.survey.labels == k], minlength=len(subject.labels.names))
    order = [c for c in np.argsort(-counts, kind="stable")[:at_most] if counts[c] >= 0.005 * counts.sum() > 0]
    return [(subject.labels.names[c], float(counts[c] / counts.sum())) for c in order]


def _member(subject: Subject, row: int, doubt: bool = False) -> Shown:
    assert subject.images is not None
    assert subject.survey is not None
    proba = subject.survey.proba[row]
    cluster = int(proba.argmax())
    name = printable(subject.images.ids[int(row)])
    text = f"image {name}, cluster {cluster} with probability {_percent(proba[cluster])}"
    caption = ""
    if doubt and len(proba) > 1:
        second = int(np.argsort(-proba, kind="stable")[1])
        text += f", cluster {second} with {_percent(proba[second])}"
        caption = f"{_percent(proba[cluster])} → {second}".replace(" %", "")
    if subject.labels is not None:
        text += f"; labelled {subject.labels.names[subject.labels.numbers[row]]}"
    return Shown(thumbnail(subject.images.images[row]), text, caption, int(row))


def _percent(share: float) -> str:
    """A share in whole per cent, never rounded up to certainty."""
    return ">99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


def _map(survey: Survey | None, shown: Sequence[Style]) -> Map | None:
    if survey is None:
        return None
    drawn = map_picture.draw(survey, shown)
    return Map(*drawn.points.size, raster(drawn.points), drawn.labels)


def _outliers(subject: Subject) -> list[Shown]:
    if subject.survey is None:
        return []
    flagged = np.flatnonzero(subject.survey.outlier)
    order = flagged[np.argsort(subject.survey.score[flagged], kind="stable")][:_OUTLIERS]
    return [_outlier(subject, int(row)) for row in order]


def _outlier(subject: Subject, row: int) -> Shown:
    assert subject.survey is not None
    member = _member(subject, row)
    score = float(subject.survey.score[row])
    return Shown(member.uri, f"{member.text}; score {score:,.1f} nats", f"cluster {subject.survey.labels[row]}", row)


def _evaluation(subject: Subject) -> Evaluation | None:
    if subject.labels is None or subject.survey is None:
        return None
    true, names, survey = subject.labels.numbers, subject.labels.names, subject.survey
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
        bars=charts.calibration_bars(calibration_bins(true, survey.proba, bins=10)),
    )


def _python(model: ImageClusterer) -> str:
    """What makes the model again in Python: the parameters that are not the defaults, and the seed."""
    defaults = type(model)().get_params()
    changed = {k: v for k, v in model.get_params().items() if k not in _NOT_SETTINGS and v != defaults[k]}
    changed |= {"random_state": model.about_["seed"]}
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"{type(model).__name__}({arguments}).fit(images)"


def _about(model: ImageClusterer, recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table on how the model came to be."""
    about = model.about_
    height, width, channels = model.image_shape_
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    rows = [
        ("method", f"{type(model).__name__}, {METHODS[type(model).__name__]}"),
        ("trained on", f"{printable(str(about.get('data', 'an array of images')))}, {about['images']:,} images"),
        ("image size", f"{height} × {width}, {colours}"),
        ("pixels, SHA-256", str(about.get("data_sha256", ""))),
        ("clusters", str(model.n_clusters_)),
        ("seed", str(about["seed"])),
        ("epochs", f"{len(model.history_):,}"),
        ("time", _duration(float(about["seconds"]))),
        ("device", f"{about['device']}, {about['precision']}, {_counted(about['threads'], 'thread')}"),
        ("processes", str(about["processes"])),
    ]
    views = ", ".join(f"{name.replace('_', ' ')} {_plain(v)}" for name, v in recipe.get("views", {}).items() if v)
    stages = ", ".join(f"{name} {_duration(s)}" for name, s in recipe.get("stage_seconds", {}).items())
    rows += [("views, chosen from the images", views), ("time of each stage", stages)]
    return [(name, value) for name, value in rows if value]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> _duration(3.21), _duration(75), _duration(7384)
        ('3.2 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _plain(value: Any) -> str:
    """A setting as Python writes it, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_plain(v) for v in value) + ")"
    return repr(value)
