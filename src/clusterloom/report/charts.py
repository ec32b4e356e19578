"""Charts of the page: what to draw and where; the templates turn it into SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from clusterloom.metrics import CalibrationBin
from clusterloom.recipe.cluster_count import Evidence, best_count
from clusterloom.training.progress import NOT_TERMS

WIDTH, HEIGHT = 320, 150  # of a panel's plotting area, in SVG units


@dataclass(frozen=True)
class Line:
    """Points of a line, as SVG's `points` attribute has them; one without a neighbour is drawn as a dot."""

    points: str
    single: bool


@dataclass(frozen=True)
class Panel:
    """One quantity over the epochs of training.

    Attributes:
        name: Of the quantity.
        lines: One for each stage that has it.
        bounds: Where a stage ends, in SVG units from the left.
        low: Smallest value.
        high: Largest value.
        first: Value after the first epoch that has it.
        last: Value after the last one.
        x_low: The first number on the horizontal axis.
        x_high: The last one.
        ring: Where a chosen point is ringed, (x, y), if any.
    """

    name: str
    lines: list[Line]
    bounds: list[float]
    low: float
    high: float
    first: float
    last: float
    x_low: int
    x_high: int
    ring: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bar:
    """A bin of the calibration chart: place and height of its bar, where its confidence lies, and its numbers."""

    x: float
    width: float
    height: float
    confidence_x: float
    bin: CalibrationBin


def loss_panels(history: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The loss and each of its terms over the epochs, as far as they were finite.

    Args:
        history: Records of the epochs, as `metrics.jsonl` has them.
    """
    terms = dict.fromkeys(name for record in history for name in record if name not in NOT_TERMS)
    stages = [len(list(records)) for _, records in groupby(record.get("stage") for record in history)]
    ends = [sum(stages[: i + 1]) for i in range(len(stages) - 1)]
    names = ["loss", *terms] if len(terms) > 1 else ["loss"]
    return [panel for name in names if (panel := _loss_panel(name, history, ends)) is not None]


def stage_rows(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Name of each stage of training, its epochs, and its loss after the first and after the last of them."""
    rows = []
    for stage, group in groupby(history, lambda record: record.get("stage", "training")):
        records = list(group)
        rows.append((str(stage), len(records), float(records[0]["loss"]), float(records[-1]["loss"])))
    return rows


def evidence_panels(evidence: Sequence[Evidence]) -> list[Panel]:
    """What speaks for each number of clusters, the chosen one ringed."""
    if len(evidence) < 2:
        return []
    numbers = [e.n_clusters for e in evidence]
    chosen = numbers.index(best_count(evidence))
    panels = []
    for name in ("modularity", "stability"):
        values = [float(getattr(e, name)) for e in evidence]
        x, y = _scale(min(numbers), max(numbers), WIDTH), _scale(min(values), max(values), HEIGHT)
        line = Line(" ".join(f"{x(n):.1f},{HEIGHT - y(v):.1f}" for n, v in zip(numbers, values, strict=True)), False)
        ring = (round(x(numbers[chosen]), 1), round(HEIGHT - y(values[chosen]), 1))
        ends = (values[0], values[-1], min(numbers), max(numbers))
        panels.append(Panel(name, [line], [], min(values), max(values), *ends, ring))
    return panels


def calibration_bars(bins: Sequence[CalibrationBin]) -> list[Bar]:
    """Bars of the bins that have images, on a square of `HEIGHT`."""
    return [
        Bar(b.low * HEIGHT, (b.high - b.low) * HEIGHT, b.accuracy * HEIGHT, b.confidence * HEIGHT, b)
        for b in bins
        if b.images
    ]


def _loss_panel(name: str, history: Sequence[Mapping[str, Any]], ends: Sequence[int]) -> Panel | None:
    points = [(epoch, float(record[name])) for epoch, record in enumerate(history, 1) if name in record]
    points = [(epoch, value) for epoch, value in points if abs(value) < float("inf")]
    if not points:
        return None
    values = [value for _, value in points]
    x, y = _scale(1, max(len(history), 2), WIDTH), _scale(min(values), max(values), HEIGHT)
    lines = []
    # Stages have losses of their own; a line across their border would join what does not belong together.
    for _, group in groupby(points, lambda point: sum(point[0] > end for end in ends)):
        part = list(group)
        lines.append(Line(" ".join(f"{x(e):.1f},{HEIGHT - y(v):.1f}" for e, v in part), len(part) == 1))
    bounds = [round(x(end + 0.5), 1) for end in ends]
    return Panel(name, lines, bounds, min(values), max(values), values[0], values[-1], 1, len(history))


def _scale(low: float, high: float, length: float) -> Any:
    """From values to SVG units; equal values come to lie in the middle."""
    if high == low:
        return lambda value: length / 2
    return lambda value: (value - low) / (high - low) * length
