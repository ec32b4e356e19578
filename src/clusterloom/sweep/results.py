"""What a sweep has found: a table, a file and a plot, best setting first, seeds together."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from clusterloom.sweep.run import SCORES


@dataclass(frozen=True)
class Ranked:
    """A setting and its finished runs.

    Attributes:
        changes: The knobs' values.
        runs: Results of `Runner.make`, one for each seed that is finished.
    """

    changes: Mapping[str, Any]
    runs: Sequence[Mapping[str, Any]]

    def mean(self, score: str) -> float:
        """Mean of a score over the seeds."""
        return statistics.mean(float(run[score]) for run in self.runs)

    def deviation(self, score: str) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        values = [float(run[score]) for run in self.runs]
        return statistics.stdev(values) if len(values) > 1 else None


def ranked(plan: Mapping[str, Any], finished: Mapping[int, Mapping[str, Any]]) -> list[Ranked]:
    """Settings with finished runs, the one of the highest mean score first.

    Args:
        plan: The sweep's, see `clusterloom.sweep.command.sweep`.
        finished: Results by the number of their run.
    """
    groups: dict[str, Ranked] = {}
    for run, result in finished.items():
        changes = changes_of(plan, run)
        found = groups.setdefault(repr(changes), Ranked(changes, []))
        groups[repr(changes)] = Ranked(changes, [*found.runs, result])
    return sorted(groups.values(), key=lambda setting: -setting.mean("score"))


def changes_of(plan: Mapping[str, Any], run: int) -> dict[str, Any]:
    """The knobs' values of a run, without its seed."""
    return {name: value for name, value in plan["runs"][run].items() if name != "random_state"}


def table(plan: Mapping[str, Any], settings: Sequence[Ranked]) -> Table:
    """Settings, best first, with every score as mean and standard deviation over the seeds."""
    knobs = list(settings[0].changes) if settings else []
    # The score that ranks stands first.
    names = sorted(SCORES, key=lambda name: name != plan["rank_by"])
    result = Table(*("rank", *knobs, "seeds", *names, "in use", "seconds"), title=f"ranked by {plan['rank_by']}")
    for place, setting in enumerate(settings, 1):
        cells = [_with_deviation(setting, name) for name in names]
        in_use = "/".join(str(run["clusters_in_use"]) for run in setting.runs)
        values = [Text(shown(setting.changes[knob])) for knob in knobs]  # plain strings would be markup
        seconds = f"{setting.mean('seconds'):.0f}"
        result.add_row(str(place), *values, str(len(setting.runs)), *cells, in_use, seconds)
    return result


def _with_deviation(setting: Ranked, score: str) -> str:
    deviation = setting.deviation(score)
    text = f"{setting.mean(score):.3f}"
    return text if deviation is None else f"{text} ± {deviation:.3f}"


def shown(value: Any) -> str:
    """A knob's value as `clusterloom.sweep.plan.parse_value` reads it."""
    if isinstance(value, list | tuple):
        return ":".join(shown(part) for part in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_csv(plan: Mapping[str, Any], finished: Mapping[int, Mapping[str, Any]]) -> bytes:
    """One line for each finished run: its knobs, its seed, what it came to."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    knobs = list(plan["runs"][0])
    columns = list(next(iter(finished.values()))) if finished else []
    writer.writerow(["run", *knobs, *columns])
    for run, result in finished.items():
        writer.writerow([run, *(shown(plan["runs"][run][knob]) for knob in knobs), *(result[c] for c in columns)])
    return text.getvalue().encode()


def plot(plan: Mapping[str, Any], settings: Sequence[Ranked]) -> bytes:
    """A PNG file with one panel for each knob: the score of every setting over the knob's value.

    Bars are the standard deviation over seeds; the best setting is ringed.
    """
    from matplotlib.figure import Figure

    knobs = list(settings[0].changes)
    columns = min(len(knobs), 3)
    figure = Figure(figsize=(4 * columns, 3.4 * math.ceil(len(knobs) / columns)), layout="constrained")
    panels = figure.subplots(math.ceil(len(knobs) / columns), columns, sharey=True, squeeze=False).flat
    for panel, knob in zip(panels, knobs, strict=False):
        places, names = _places([setting.changes[knob] for setting in settings])
        scores = [setting.mean("score") for setting in settings]
        deviations = [setting.deviation("score") or 0.0 for setting in settings]
        panel.errorbar(places, scores, deviations, fmt="o", color="#0072b2", markersize=5, elinewidth=1)
        panel.plot(places[0], scores[0], "o", markersize=13, markerfacecolor="none", color="#d55e00")
        if names:
            panel.set_xticks(range(len(names)), names)
        elif min(places) > 0 and max(places) / min(places) > 20:
            panel.set_xscale("log")
        panel.set_xlabel(knob)
        panel.grid(alpha=0.3)
    for panel in list(panels):
        panel.set_axis_off()
    figure.supylabel(f"{plan['rank_by']}; ringed: the best setting", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _places(values: Sequence[Any]) -> tuple[list[float], list[str]]:
    """Where values lie along an axis; names of the ticks where they are not numbers, or are few enough to name."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if numbers and len(set(values)) > 8:
        return [float(value) for value in values], []
    different = sorted(set(values)) if numbers else sorted({shown(value) for value in values})
    return [float(different.index(v if numbers else shown(v))) for v in values], [shown(d) for d in different]
