"""Charts of the page: what to draw and where; the templates turn it into SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from clusterloom.recipe.cluster_count.evidence import Evidence, best_count
from clusterloom.training.progress import NOT_TERMS

WIDTH, HEIGHT = 320, 150  # of a panel's plotting area, in SVG units


class Line(NamedTuple):
    """Points of a line, as SVG's `points` attribute has them; one without a neighbour is drawn as a dot."""

    points: str
    single: bool


@dataclass(frozen=True)
class Panel:
    """One quantity over the epochs of training, or over numbers of clusters."""

    name: str
    lines: list[Line]  # one for each stage that has it
    bounds: list[float]  # where a stage ends, in SVG units from the left
    low: float
    high: float
    first: float  # value at the left end
    last: float
    x_low: int
    x_high: int
    ring: tuple[float, float] | None = None  # around a chosen point


def loss_panels(history: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """The loss and each of its terms over the epochs, as far as they were finite.

    Args:
        history: Records of the epochs, as `metrics.jsonl` has them.
    """
    terms = dict.fromkeys(name for record in history for name in record if name not in NOT_TERMS)
    ends = list(accumulate(epochs for _, epochs, _, _ in stage_rows(history)))[:-1]
    panels = []
    for name in ["loss", *terms] if len(terms) > 1 else ["loss"]:
        points = [(epoch, float(record[name])) for epoch, record in enumerate(history, 1) if name in record]
        finite = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        if finite:
            panels.append(_panel(name, finite, (1, len(history)), ends))
    return panels


def stage_rows(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Name of each stage of training, its epochs, and its loss after the first and after the last of them."""
    rows = []
    for stage, group in groupby(history, lambda record: record.get("stage", "training")):
        losses = [float(record["loss"]) for record in group]
        rows.append((str(stage), len(losses), losses[0], losses[-1]))
    return rows


def evidence_panels(evidence: Sequence[Evidence]) -> list[Panel]:
    """What speaks for each number of clusters, the chosen one ringed."""
    if len(evidence) < 2:
        return []
    numbers = [e.n_clusters for e in evidence]
    chosen = numbers.index(best_count(evidence))
    return [
        _panel(name, [(e.n_clusters, getattr(e, name)) for e in evidence], (min(numbers), max(numbers)), ringed=chosen)
        for name in ("score", "modularity", "stability", "agreement", "coverage")
    ]


def _panel(
    name: str,
    points: Sequence[tuple[int, float]],
    x_range: tuple[int, int],
    ends: Sequence[int] = (),
    ringed: int | None = None,
) -> Panel:
    """A panel of (x, value) points, interrupted after each of `ends`."""
    values = [value for _, value in points]
    x = _scale(x_range[0], max(x_range[1], x_range[0] + 1), WIDTH)
    y = _scale(min(values), max(values), HEIGHT)
    places = [(round(x(number), 1), round(HEIGHT - y(value), 1)) for number, value in points]
    # Stages have losses of their own; a line across their border would join what does not belong together.
    parts = groupby(range(len(points)), lambda i: sum(points[i][0] > end for end in ends))
    lines = [[places[i] for i in part] for _, part in parts]
    return Panel(
        name,
        [Line(" ".join(f"{left:.1f},{top:.1f}" for left, top in line), len(line) == 1) for line in lines],
        [round(x(end + 0.5), 1) for end in ends],
        low=min(values),
        high=max(values),
        first=values[0],
        last=values[-1],
        x_low=x_range[0],
        x_high=x_range[1],
        ring=None if ringed is None else places[ringed],
    )


def _scale(low: float, high: float, length: float) -> Callable[[float], float]:
    """From values to SVG units; equal values come to lie in the middle."""
    if high == low:
        return lambda value: length / 2
    return lambda value: (value - low) / (high - low) * length
