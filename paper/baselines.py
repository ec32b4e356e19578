"""What the paper compares itself with, and simpler methods, on the same images."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.table import Table
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from clusterloom.estimators.autoencoder import AutoencoderClusterer
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.dec import DECClusterer
from clusterloom.estimators.vae import VAEClusterer
from paper.records import count, spread
from paper.runs import DATASETS, Experiment, scores

METHODS = ("vae", "dec", "ae-kmeans", "kmeans", "gmm")


@dataclass(frozen=True)
class Baseline:
    """One method on one data set.

    Attributes:
        method: One of `METHODS`.
        dataset: "mnist" or "fashion-mnist".
        printed: Accuracy in percent that the paper gives, if any.
        latent_dim: The paper's s, for the plain VAE.
        hidden_dim: The paper's m, likewise.
        in_grid: Only run with the grid around the peak that the paper names.
    """

    method: str
    dataset: str
    printed: float | None = None
    latent_dim: int | None = None
    hidden_dim: int | None = None
    in_grid: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What tells the baseline from others."""
        settings = {name: getattr(self, name) for name in ("method", "dataset", "latent_dim", "hidden_dim")}
        # Methods on pixels, and k-means after the autoencoder, know no epochs of the paper's.
        return settings if self.method in ("vae", "dec") else {**settings, "epochs": None}


_PRINTED_DEC = {"mnist": 84.3}
_PEAKS = {"mnist": (75.0, 10, 100), "fashion-mnist": (55.0, 25, 200)}
_GRIDS = {"mnist": ((5, 10, 20), (50, 100, 200)), "fashion-mnist": ((10, 25, 50), (100, 200, 400))}


def baselines(
    methods: Iterable[str] = METHODS, datasets: Iterable[str] = DATASETS, grid: bool = True
) -> list[Baseline]:
    """The plain VAE at the paper's peaks and, if asked for, on a grid around them; DEC; and the others."""
    found = []
    for dataset, (printed, s, m) in _PEAKS.items():
        found.append(Baseline("vae", dataset, printed, s, m))
        found.append(Baseline("dec", dataset, _PRINTED_DEC.get(dataset)))
        found += [Baseline(method, dataset) for method in METHODS[2:]]
        around = [(a, b) for a in _GRIDS[dataset][0] for b in _GRIDS[dataset][1] if (a, b) != (s, m)]
        found += [Baseline("vae", dataset, None, a, b, in_grid=True) for a, b in around]
    return [b for b in found if b.method in methods and b.dataset in datasets and (grid or not b.in_grid)]


def run(some: Iterable[Baseline], experiment: Experiment) -> None:
    """Run what is not on record yet."""
    for identity in experiment.missing([baseline.settings for baseline in some]):
        if identity["method"] in ("kmeans", "gmm"):
            _run_on_pixels(identity, experiment)
        else:
            experiment.run(_estimator(**identity), identity)


def _estimator(method: str, epochs: int, latent_dim: int, hidden_dim: int, **_: Any) -> ImageClusterer:
    if method == "vae":
        return VAEClusterer(latent_dim=latent_dim, hidden_dim=hidden_dim, epochs=epochs)
    return DECClusterer(epochs=epochs) if method == "dec" else AutoencoderClusterer()


def _run_on_pixels(identity: dict[str, Any], experiment: Experiment) -> None:
    """scikit-learn's methods on rows of pixels from 0 to 1."""
    if identity["method"] == "kmeans":
        model = KMeans(10, n_init=10, random_state=identity["seed"])
    else:  # full covariances of 784 pixels, of which many never change, are singular
        model = GaussianMixture(10, covariance_type="diag", reg_covar=1e-3, random_state=identity["seed"])
    parts = experiment.parts(identity["dataset"])
    rows = {part: images.images.reshape(len(images), -1) / np.float32(255) for part, images in parts.items()}
    started = time.perf_counter()
    model.fit(rows["train"])
    result: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 1)}
    for part, images in parts.items():
        result |= scores(images, model.predict(rows[part]), part)
    result["versions"] = {name: version(name) for name in ("clusterloom", "scikit-learn")}
    experiment.add(identity, result)


def table(some: Iterable[Baseline], experiment: Experiment) -> Table:
    """Printed figures beside those on record."""
    result = Table(
        *("data set", "method", "s, m", "seeds", "printed", "accuracy, test", "purity, test", "accuracy, train"),
        *("NMI, test", "seconds"),
        title="Baselines: percent, mean ± standard deviation over seeds (worst to best)",
    )
    for baseline in some:
        runs = experiment.runs(baseline.settings)
        result.add_row(
            *(baseline.dataset, baseline.method),
            f"{baseline.latent_dim}, {baseline.hidden_dim}" if baseline.latent_dim else "",
            count(runs),
            f"{baseline.printed:.1f}" if baseline.printed else "",
            *(spread(runs, score, 1, 100, ends=True) for score in ("accuracy_test", "purity_test", "accuracy_train")),
            *(spread(runs, "nmi_test", 3), spread(runs, "seconds", 0)),
        )
    return result
