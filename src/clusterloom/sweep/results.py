"""What a sweep has found: a table, a file and a plot, best setting first, seeds together."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

SCORES = {
    "modularity": "share of the 15 nearest neighbours, by pixels, in the same cluster, beyond chance",
    "silhouette": "of the clusters in the model's own latents",
    "confidence": "mean probability of the most likely cluster",
    "likelihood": "minus the loss of the last epoch; compare it only where losses and their weights are the same",
}


def run_name(run: int) -> str:
    """What a run is called in messages, and the folder of its model."""
    return f"run-{run:03d}"


@dataclass(frozen=True)
class Setting:
    """A setting and its finished runs.

    Attributes:
        changes: The knobs' values.
        runs: Results of `clusterloom.sweep.run.Runner.make`, one for each seed that is finished.
    """

    changes: Mapping[str, Any]
    runs: list[Mapping[str, Any]] = field(default_factory=list)

    def mean(self, score: str) -> float:
        """Mean of a score over the seeds."""
        return statistics.mean(run[score] for run in self.runs)

    def deviation(self, score: str) -> float | None:
        """Standard deviation over the seeds; None for a single one."""
        return statistics.stdev(run[score] for run in self.runs) if len(self.runs) > 1 else None

    def text(self, score: str) -> str:
        """Mean and standard deviation of a score, as the table has them."""
        deviation = self.deviation(score)
        return f"{self.mean(score):.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


@dataclass(frozen=True)
class Results:
    """The state of a sweep.

    Attributes:
        plan: As `clusterloom.sweep.sweep.sweep` makes it.
        finished: Results by the number of their run.
        failed: Why a run could not be made, by its number.
        running: Runs that workers are at.
        gone: Finished runs whose model is not in the sweep's folder.
    """

    plan: Mapping[str, Any]
    finished: Mapping[int, Mapping[str, Any]]
    failed: Mapping[int, str] = field(default_factory=dict)
    running: Set[int] = frozenset()
    gone: Set[int] = frozenset()

    @property
    def missing(self) -> list[int]:
        """Runs that are neither finished nor failed."""
        return [run for run in range(len(self.plan["runs"])) if run not in self.finished and run not in self.failed]

    def ranked(self) -> list[Setting]:
        """Settings with finished runs, the one of the highest mean score first."""
        settings: dict[str, Setting] = {}
        for run, result in self.finished.items():
            changes = {name: value for name, value in self.plan["runs"][run].items() if name != "random_state"}
            settings.setdefault(repr(changes), Setting(changes)).runs.append(result)
        return sorted(settings.values(), key=lambda setting: -setting.mean("score"))

    def table(self) -> Table:
        """Settings, best first, with every score as mean and standard deviation over the seeds."""
        settings = self.ranked()
        knobs = list(settings[0].changes) if settings else []
        # The score that ranks stands first.
        names = sorted(SCORES, key=lambda name: name != self.plan["rank_by"])
        columns = ("rank", *knobs, "seeds", *names, "in use", "seconds")
        table = Table(*columns, title=f"ranked by {self.plan['rank_by']}")
        for place, setting in enumerate(settings, 1):
            values = [shown(setting.changes[knob]) for knob in knobs]
            scores = [setting.text(name) for name in names]
            in_use = "/".join(str(run["clusters_in_use"]) for run in setting.runs)
            seconds = f"{setting.mean('seconds'):.0f}"
            table.add_row(str(place), *values, str(len(setting.runs)), *scores, in_use, seconds)
        return table

    def remarks(self) -> Iterator[str]:
        """Lines of text on the runs that are not in the table, or whose models are not in the folder."""
        yield from (f"{run_name(run)}: {why}" for run, why in self.failed.items())
        if self.gone:
            yield f"without a model in the folder: {', '.join(map(run_name, sorted(self.gone)))}"
        if left := len(self.missing):
            yield f"{left} of {len(self.plan['runs'])} runs are not finished ({len(self.running)} running)"

    def summary(self) -> dict[str, Any]:
        """What table and remarks say, as JSON values."""
        settings = [
            {
                "knobs": dict(setting.changes),
                "models": [run["model"] for run in setting.runs],
                **{name: setting.mean(name) for name in (*SCORES, "seconds")},
            }
            for setting in self.ranked()
        ]
        return {
            "rank_by": self.plan["rank_by"],
            "settings": settings,
            "failed": dict(self.failed),
            "not_finished": self.missing,
            "gone": sorted(self.gone),
        }

    def csv(self) -> bytes:
        """One line for each finished run: its knobs, its seed, what it came to."""
        rows = [
            {"run": run, **{name: shown(value) for name, value in self.plan["runs"][run].items()}, **result}
            for run, result in self.finished.items()
        ]
        text = io.StringIO()
        names = dict.fromkeys(name for row in rows for name in row)  # a worker of another release may write others
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode("utf-8", "backslashreplace")

    def plot(self) -> bytes:
        """A PNG file with one panel for each knob: the score of every setting over the knob's value.

        Bars are the standard deviation over seeds; the best setting is ringed.
        """
        from matplotlib.figure import Figure

        settings = self.ranked()
        knobs = list(settings[0].changes)
        scores = [setting.mean("score") for setting in settings]
        deviations = [setting.deviation("score") or 0.0 for setting in settings]
        columns = min(len(knobs), 3)
        rows = math.ceil(len(knobs) / columns)
        figure = Figure(figsize=(4 * columns, 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for panel, knob in zip(panels, knobs, strict=False):
            places = _places(panel, [setting.changes[knob] for setting in settings])
            panel.errorbar(places, scores, deviations, fmt="o", color="#0072b2", markersize=5, elinewidth=1)
            panel.plot(places[:1], scores[:1], "o", markersize=13, markerfacecolor="none", color="#d55e00")
            panel.set_xlabel(knob)
            panel.grid(alpha=0.3)
        for panel in list(panels):
            panel.set_axis_off()
        figure.supylabel(f"{self.plan['rank_by']}; ringed: the best setting", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": "clusterloom"})
        return buffer.getvalue()


def shown(value: Any) -> str:
    """A knob's value as `clusterloom.sweep.plan.parse_values` reads it."""
    if isinstance(value, list | tuple):
        return ":".join(map(shown, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _places(panel: Any, values: Sequence[Any]) -> Sequence[Any]:
    """Where values lie along a panel's axis, which is made to fit: names where they are no numbers, or are few."""
    numbers = all(type(value) in (int, float) for value in values)
    named = {shown(value): value for value in values}
    if numbers and len(named) > 8:
        if min(values) > 0 and max(values) / min(values) > 20:
            panel.set_xscale("log")
        return values
    panel.xaxis.update_units(sorted(named, key=named.__getitem__ if numbers else None))
    return [shown(value) for value in values]
