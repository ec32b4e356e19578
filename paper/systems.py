"""Every system of the paper in one table: printed, ours from random starts, and the same networks guided."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from clusterloom.estimators.guided import GuidedClusterer
from paper import baselines, table1
from paper.baselines import Baseline
from paper.models import Reading
from paper.records import Records, count, spread
from paper.runs import DATASETS, Experiment
from paper.table1 import Row

# The networks of the paper's figure 1. The decoder that refines new images is left out: it has no part in clusters.
_NETWORKS = {
    "conv_filters": (16, 32),
    "conv_kernels": (3, 5),
    "conv_downsample": "pool",
    "concatenate": True,
    "batch_norm": False,
    "refine": False,
}


@dataclass(frozen=True)
class System:
    """One system on one data set: a row of Table 1, or what the paper compares itself with.

    Attributes:
        name: What the paper calls it, and its size.
        of: Where its figures are.
    """

    name: str
    of: Row | Baseline

    @property
    def guided(self) -> dict[str, Any] | None:
        """What tells a guided run of its networks from others; None where the recipe cannot lead them."""
        return {**self.of.settings, "epochs": None} if isinstance(self.of, Row) else None

    @property
    def printed(self) -> float | None:
        """Accuracy in percent that the paper gives, on the test images where it says which."""
        return self.of.accuracies[1] if isinstance(self.of, Row) else self.of.printed


def systems(datasets: Iterable[str] = DATASETS) -> Iterator[System]:
    """The paper's best row of Table 1 for each data set, then the plain VAE and DEC."""
    for dataset in datasets:
        best = max((row for row in table1.ROWS if row.dataset == dataset), key=lambda row: row.accuracies[1])
        yield System(f"the paper's model, s, n, m = {best.title}", best)
        for baseline in baselines.baselines(("vae", "dec"), (dataset,), grid=False):
            size = f", s, m = {baseline.latent_dim}, {baseline.hidden_dim}" if baseline.latent_dim else ""
            yield System({"vae": "plain VAE", "dec": "DEC"}[baseline.method] + size, baseline)


def run(some: Iterable[System], experiment: Experiment) -> None:
    """Guide the networks of those systems that are not on record yet."""
    for identity in experiment.missing([system.guided for system in some if system.guided]):
        sizes = {name: identity[name] for name in ("latent_dim", "conv_depth", "hidden_dim")}
        experiment.run(GuidedClusterer(10, **sizes, **_NETWORKS), identity)


def table(some: Iterable[System], results: Path, guided: Experiment) -> Table:
    """Accuracy on the test images: printed, from random starts, and guided.

    Args:
        some: Whose rows.
        results: Folder with the finished runs of Table 1 and of the baselines.
        guided: Has those of `run`.
    """
    rows, compared = (Experiment(Records(results / f"{name}.jsonl")) for name in ("table1", "baselines"))
    result = Table(
        *("data set", "system", "printed", "from random starts", "seeds", "guided", "seeds"),
        title="Accuracy on the test images, in percent: mean ± standard deviation (worst to best)",
    )
    for system in some:
        of = system.of
        started = (
            rows.runs({**of.settings, **Reading().of(of.dataset)})
            if isinstance(of, Row)
            else compared.runs(of.settings)
        )
        led = guided.runs(system.guided) if system.guided else []
        result.add_row(
            *(of.dataset, system.name, f"{system.printed:.1f}" if system.printed else ""),
            *(spread(started, "accuracy_test", 1, 100, ends=True), count(started)),
            *((spread(led, "accuracy_test", 1, 100, ends=True), count(led)) if system.guided else ("", "")),
        )
    return result
