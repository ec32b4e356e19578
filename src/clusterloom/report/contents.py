"""Everything that the page says, worked out from a model and from what it says of images; and the page itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from clusterloom.corrections.apply import cluster_places
from clusterloom.metrics import sampled_silhouette_score
from clusterloom.model_dir.card import count_text
from clusterloom.palette import styles
from clusterloom.report import charts
from clusterloom.report.clusters import Cluster, Seen, Shown, clusters, outliers, spots
from clusterloom.report.evaluation import Evaluation, evaluation
from clusterloom.report.map_picture import MapPicture, Spot, draw
from clusterloom.report.numbers import number, percent
from clusterloom.report.origin import (
    about_rows,
    disclosure,
    evidence_of,
    python_call,
    recipe_of,
    scored_rows,
    settings_rows,
)
from clusterloom.report.places import Places, places
from clusterloom.report.thumbnails import photograph, raster
from clusterloom.tables import Labels

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

__all__ = ["Contents", "Seen", "Subject", "contents", "render"]

_PIXELATED = 48  # pixels; images up to this size are enlarged without smoothing


@dataclass(frozen=True)
class Subject:
    """What a report is about: a model, and images if some were given."""

    model: ImageClusterer
    seen: Seen | None = None


@dataclass(frozen=True)
class Contents:
    """Everything that the page says; the templates only lay it out. What only images can tell is None without them."""

    data: str
    method: str
    n_images: int
    pixelated: bool
    generates: bool
    refines: bool
    clusters: list[Cluster]
    n_pictured: int
    mean_probability: float | None
    n_outliers: int
    map: MapPicture | None
    spots: list[tuple[Spot, str]]
    silhouette: float | None
    outliers: list[Shown]
    places: Places | None
    evaluation: Evaluation | None
    panels: list[charts.Panel]
    stages: list[tuple[str, int, float, float]]
    evidence: list[charts.Panel]
    count_text: str
    command: str
    is_python: bool
    stopped: str
    disclosure: str
    corrected: str
    about: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    versions: dict[str, str]
    notes: tuple[str, ...]


def contents(subject: Subject) -> Contents:
    """Work out everything that the page says.

    Args:
        subject: Without images, the page has only what the model itself tells.
    """
    model, seen = subject.model, subject.seen
    said = None if seen is None else seen.predictions
    shown = styles(_places(model, seen))
    drawn = None if said is None else draw(said, shown)
    command = model.about_.get("command")
    return Contents(
        data=str(model.about_.get("data", "an array of images")) if seen is None else seen.images.name,
        method=model.description,
        n_images=int(model.about_["images"]) if seen is None else len(seen.counted),
        pixelated=max(model.image_shape_[:2]) <= _PIXELATED,
        generates=model.generates,
        refines=model.refines,
        clusters=clusters(model, seen, shown),
        n_pictured=0 if said is None else len(said),
        mean_probability=None if seen is None else float(seen.counted.confidence.mean()),
        n_outliers=0 if seen is None else int(seen.counted.outlier.sum()),
        map=drawn,
        spots=[] if seen is None or drawn is None else spots(seen, drawn),
        silhouette=None if said is None else sampled_silhouette_score(said.latents, said.labels),
        outliers=[] if seen is None else outliers(seen),
        places=None if seen is None else places(seen, shown),
        evaluation=None if seen is None else evaluation(_scored(model, seen)),
        panels=charts.loss_panels(model.history_),
        stages=charts.stage_rows(model.history_),
        evidence=charts.evidence_panels(evidence_of(model)),
        count_text=count_text(recipe_of(model)),
        command=command or python_call(model),
        is_python=command is None,
        stopped=str(model.about_.get("stopped", "")),
        disclosure=disclosure(model),
        corrected="" if seen is None else _corrected(seen),
        about=about_rows(model),
        settings=settings_rows(model),
        versions=model.about_["versions"],
        notes=() if seen is None else seen.images.notes,
    )


def _places(model: ImageClusterer, seen: Seen | None) -> np.ndarray:
    """Where clusters lie, for their colours."""
    if seen is None:
        return np.zeros((model.n_clusters_, 2))
    if seen.corrections is None:
        return seen.predictions.middles
    return cluster_places(seen.own.middles, seen.own.position, seen.corrections)


def _scored(model: ImageClusterer, seen: Seen) -> Seen:
    """What scores against labels are of: the images that the model has heard no correction about."""
    rows = scored_rows(model, seen.images)
    if seen.labels is None or seen.totals is not None or len(rows) == len(seen.images):
        return seen
    uncorrected = None if seen.uncorrected is None else seen.uncorrected.of(rows)
    labels = Labels(seen.labels.numbers[rows], seen.labels.names)
    return replace(seen, predictions=seen.predictions.of(rows), uncorrected=uncorrected, labels=labels)


def _corrected(seen: Seen) -> str:
    """What a user has corrected, in words; "" where nothing."""
    if seen.corrections is None:
        return ""
    moved = int((seen.corrections.labels != seen.own.labels).sum())
    looked_at = int((seen.corrections.marks > 0).sum())
    if not moved and not looked_at:  # they are named alone
        return ""
    return f"Corrected by hand: {moved:,} images are in another cluster than the model's, {looked_at:,} were looked at."


def render(content: Contents) -> str:
    """The page: HTML that needs nothing but itself, and no script."""
    environment = Environment(
        loader=PackageLoader("clusterloom.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "percent": percent, "number": number, "raster": raster}
    environment.filters["photograph"] = photograph
    return environment.get_template("page.html").render(page=content, charts=charts)
