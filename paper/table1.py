"""Table 1 of the paper: 14 settings of the convolutional model, with the printed loss and accuracy beside ours."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.table import Table

from clusterloom.estimators.convvae import ConvVAEClusterer
from paper.models import Reading
from paper.records import count, spread
from paper.runs import PARTS, Experiment


@dataclass(frozen=True)
class Row:
    """One row as printed: the paper's s, n and m, then loss and accuracy in percent on the training and test parts."""

    dataset: str
    latent_dim: int
    conv_depth: int
    hidden_dim: int
    losses: tuple[float, float]
    accuracies: tuple[float, float]

    @property
    def settings(self) -> dict[str, Any]:
        """What tells the row from others, by our names."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def title(self) -> str:
        """The paper's s, n, m."""
        return f"{self.latent_dim}, {self.conv_depth}, {self.hidden_dim}"


SETTINGS = ("dataset", "latent_dim", "conv_depth", "hidden_dim")
ROWS = (
    Row("mnist", 2, 2, 128, (41.23, 41.13), (66.40, 66.39)),
    Row("mnist", 5, 2, 128, (33.15, 33.42), (87.61, 88.32)),
    Row("mnist", 10, 2, 128, (32.04, 31.85), (85.65, 86.54)),
    Row("mnist", 20, 1, 512, (37.71, 37.4), (84.63, 85.06)),
    Row("mnist", 50, 1, 512, (47.20, 46.59), (93.94, 94.0)),
    Row("mnist", 60, 1, 512, (50.13, 50.16), (94.22, 94.42)),
    Row("mnist", 100, 1, 512, (66.12, 65.36), (83.66, 83.92)),
    Row("fashion-mnist", 10, 4, 512, (154.20, 160.18), (67.45, 66.51)),
    Row("fashion-mnist", 20, 6, 512, (141.74, 146.70), (64.83, 64.01)),
    Row("fashion-mnist", 30, 4, 512, (143.77, 146.93), (67.62, 67.6)),
    Row("fashion-mnist", 40, 5, 512, (148.73, 150.72), (66.19, 65.67)),
    Row("fashion-mnist", 60, 5, 512, (158.39, 162.43), (68.03, 68.0)),
    Row("fashion-mnist", 70, 5, 512, (161.70, 163.41), (64.54, 64.8)),
    Row("fashion-mnist", 100, 5, 512, (178.10, 180.82), (66.08, 65.67)),
)
MISS = 5  # points below the printed accuracy from which on a row counts as missed


def run(rows: Iterable[Row], reading: Reading, experiment: Experiment, keep: Path | None = None) -> None:
    """Run what is not on record yet, and save the models in the folder `keep`, if there is one."""
    for identity in experiment.missing([_settings(row, reading) for row in rows]):
        parameters = {name: value for name, value in identity.items() if name not in ("dataset", "limit", "seed")}
        name = "{dataset}-s{latent_dim}-n{conv_depth}-m{hidden_dim}-seed{seed}".format(**identity)
        experiment.run(ConvVAEClusterer(**parameters), identity, keep=keep / name if keep else None)


def table(rows: Sequence[Row], reading: Reading, experiment: Experiment) -> Table:
    """Printed figures beside those on record."""
    result = Table(
        *("s, n, m", "", "seeds", "printed loss", "loss", "printed accuracy", "accuracy", "purity"),
        title="Table 1: printed figures, and ours as mean ± standard deviation (worst to best) over seeds",
    )
    for i, row in enumerate(rows):
        if i == 0 or row.dataset != rows[i - 1].dataset:
            result.add_row(row.dataset)
        runs = experiment.runs(_settings(row, reading))
        for k, part in enumerate(PARTS):
            result.add_row(
                *((row.title, part, count(runs)) if k == 0 else ("", part, "")),
                f"{row.losses[k]:.1f}",
                spread(runs, f"loss_{part}", 1),
                f"{row.accuracies[k]:.1f}",
                *(spread(runs, f"{name}_{part}", 1, 100, ends=True) for name in ("accuracy", "purity")),
            )
    return result


def misses(rows: Iterable[Row], reading: Reading, experiment: Experiment) -> list[tuple[Row, float]]:
    """Rows whose mean test accuracy is more than `MISS` points below the printed one, and by how many points."""
    found = []
    for row in rows:
        if runs := experiment.runs(_settings(row, reading)):
            short = row.accuracies[1] - 100 * mean(r["accuracy_test"] for r in runs)
            if short > MISS:
                found.append((row, short))
    return found


def _settings(row: Row, reading: Reading) -> dict[str, Any]:
    return row.settings | reading.of(row.dataset)
