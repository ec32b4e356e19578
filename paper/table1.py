"""Table 1 of the paper: 14 settings of the convolutional model, with the printed loss and accuracy beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from clusterloom.presets import PRESETS
from rich.table import Table

from clusterloom.errors import SettingsError
from clusterloom.estimators.convvae import ConvVAEClusterer
from paper.records import Records, spread
from paper.runs import PARTS, Extent, fit_and_score


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
        names = ("dataset", "latent_dim", "conv_depth", "hidden_dim")
        return {name: getattr(self, name) for name in names}


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


@dataclass(frozen=True)
class Reading:
    """What the paper leaves open.

    Attributes:
        category_input: "latent" for q(y|z), "features" for q(y|x).
        kl: Formula (3) "sampled" or "analytic".
        encoder_activation: Of the encoder's hidden layer, "relu" or "none".
        initial_weights: "torch" or "glorot".
        batch_size: Images per step.
        reconstruction_weight: Weight lambda of formula (2); None takes 2.5 for MNIST and 28 for Fashion-MNIST, with
            which losses come out near the printed ones (docs/paper.md, "What measurement says").
    """

    category_input: str = "latent"
    kl: str = "sampled"
    encoder_activation: str = "relu"
    initial_weights: str = "torch"
    batch_size: int = 100
    reconstruction_weight: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                option = name.replace("_", "-")
                raise SettingsError(f"--{option} {getattr(self, name)}: expected {' or '.join(allowed)}")

    def of(self, dataset: str) -> dict[str, Any]:
        """As parameters of the estimator."""
        weight = self.reconstruction_weight
        if weight is None:
            weight = {"mnist": 2.5, "fashion-mnist": 28.0}[dataset]
        return {**vars(self), "reconstruction_weight": weight}


_CHOICES = {
    "category_input": ("latent", "features"),
    "kl": ("sampled", "analytic"),
    "encoder_activation": ("relu", "none"),
    "initial_weights": ("torch", "glorot"),
}


def run(
    rows: Sequence[Row], reading: Reading, extent: Extent, records: Records, command: str, keep: Path | None = None
) -> None:
    """Run what is not on record yet, in the order of seeds and then of rows.

    Args:
        rows: Of `ROWS`.
        reading: What the paper leaves open.
        extent: How much of it.
        records: Where finished runs are.
        command: What the user typed.
        keep: Folder for the models; None keeps none.
    """
    for seed in extent.seeds:
        for row in rows:
            settings = _identity(row, reading, extent) | {"seed": seed}
            if not records.matching(**settings):
                parameters = {**PRESETS["paper"]["convvae"], **reading.of(row.dataset), **row.settings}
                del parameters["dataset"]
                model = ConvVAEClusterer(10, **parameters | {"epochs": extent.epochs, "random_state": seed})
                name = f"{row.dataset}-s{row.latent_dim}-n{row.conv_depth}-m{row.hidden_dim}-seed{seed}"
                save = partial(_save, path=keep / name) if keep else None
                records.add(settings | fit_and_score(model, row.dataset, settings, extent, records, command, save))


def _save(model: ConvVAEClusterer, path: Path) -> dict[str, Any]:
    model.save(path, overwrite=True)
    return {}


def table(rows: Sequence[Row], reading: Reading, extent: Extent, records: Records) -> Table:
    """Printed figures beside those on record."""
    result = Table(
        *("s, n, m", "", "seeds", "printed loss", "loss", "printed accuracy", "accuracy", "purity"),
        title="Table 1: printed figures, and ours as mean ± standard deviation (worst to best) over seeds",
    )
    for i, row in enumerate(rows):
        if i == 0 or row.dataset != rows[i - 1].dataset:
            result.add_row(row.dataset)
        runs = records.matching(**_identity(row, reading, extent))
        for k, part in enumerate(PARTS):
            setting = f"{row.latent_dim}, {row.conv_depth}, {row.hidden_dim}" if k == 0 else ""
            result.add_row(
                setting,
                part,
                (str(len(runs)) if runs else "not run") if k == 0 else "",
                f"{row.losses[k]:.1f}",
                spread([r[f"loss_{part}"] for r in runs], 1),
                f"{row.accuracies[k]:.1f}",
                *(spread([100 * r[f"{name}_{part}"] for r in runs], 1, ends=True) for name in ("accuracy", "purity")),
            )
    return result


def misses(rows: Sequence[Row], reading: Reading, extent: Extent, records: Records) -> list[tuple[Row, float]]:
    """Rows whose mean test accuracy is more than `MISS` points below the printed one, and by how many points."""
    found = []
    for row in rows:
        if runs := records.matching(**_identity(row, reading, extent)):
            short = row.accuracies[1] - 100 * mean(r["accuracy_test"] for r in runs)
            if short > MISS:
                found.append((row, short))
    return found


def chosen_rows(text: str | None) -> tuple[Row, ...]:
    """Rows by their numbers from 1 and by data set, separated by commas; None is all of them.

    Example:
        >>> [row.latent_dim for row in chosen_rows("1,14")], len(chosen_rows("mnist")), len(chosen_rows(None))
        ([2, 100], 7, 14)

    Raises:
        SettingsError: there is no such row.
    """
    if text is None:
        return ROWS
    chosen: list[Row] = []
    for part in text.split(","):
        if part in ("mnist", "fashion-mnist"):
            chosen += [row for row in ROWS if row.dataset == part]
        elif part.isascii() and part.isdigit() and 1 <= int(part) <= len(ROWS):
            chosen.append(ROWS[int(part) - 1])
        else:
            raise SettingsError(f"--rows {text}: expected numbers from 1 to {len(ROWS)}, mnist or fashion-mnist")
    return tuple(dict.fromkeys(chosen))


def default_path() -> Path:
    """Where results lie in a checkout."""
    return Path("benchmarks", "results", "table1.jsonl")


def _identity(row: Row, reading: Reading, extent: Extent) -> dict[str, Any]:
    return {**row.settings, **reading.of(row.dataset), "epochs": extent.epochs, "limit": extent.limit}
