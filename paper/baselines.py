"""What the paper compares itself with, and simpler methods, on the same images."""

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clusterloom.presets import PRESETS
from rich.table import Table
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from clusterloom.errors import SettingsError
from clusterloom.estimators.autoencoder import AutoencoderClusterer, DECClusterer
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.vae import VAEClusterer
from paper.records import Records, spread
from paper.runs import PARTS, Extent, fit_and_score, load_parts, scores


@dataclass(frozen=True)
class Baseline:
    """One method on one data set.

    Attributes:
        method: A key of `METHODS`.
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
        return {name: getattr(self, name) for name in ("method", "dataset", "latent_dim", "hidden_dim")}


_PEAKS = {"mnist": (75.0, 10, 100), "fashion-mnist": (55.0, 25, 200)}
_GRIDS = {"mnist": ((5, 10, 20), (50, 100, 200)), "fashion-mnist": ((10, 25, 50), (100, 200, 400))}
METHODS = ("vae", "dec", "ae-kmeans", "kmeans", "gmm")


def baselines() -> tuple[Baseline, ...]:
    """All of them: the plain VAE at the paper's peaks and on a grid around them, DEC, and the others."""
    found = []
    for dataset, (printed, s, m) in _PEAKS.items():
        found.append(Baseline("vae", dataset, printed, s, m))
        found.append(Baseline("dec", dataset, 84.3 if dataset == "mnist" else None))
        found += [Baseline(method, dataset) for method in METHODS[2:]]
        around = [(a, b) for a in _GRIDS[dataset][0] for b in _GRIDS[dataset][1] if (a, b) != (s, m)]
        found += [Baseline("vae", dataset, None, a, b, in_grid=True) for a, b in around]
    return tuple(found)


def chosen(methods: str | None, datasets: str | None, grid: bool) -> tuple[Baseline, ...]:
    """Baselines of some methods and data sets, separated by commas; None is all of them.

    Raises:
        SettingsError: there is no such method or data set.
    """
    wanted = {}
    for option, text, known in (("--methods", methods, METHODS), ("--datasets", datasets, tuple(_PEAKS))):
        wanted[option] = known if text is None else tuple(text.split(","))
        if unknown := [name for name in wanted[option] if name not in known]:
            raise SettingsError(f"{option} {text}: {unknown[0]!r} is none of {', '.join(known)}")
    return tuple(
        b
        for b in baselines()
        if b.method in wanted["--methods"] and b.dataset in wanted["--datasets"] and (grid or not b.in_grid)
    )


def run(some: Sequence[Baseline], extent: Extent, records: Records, command: str) -> None:
    """Run what is not on record yet."""
    for seed in extent.seeds:
        for baseline in some:
            settings = _identity(baseline, extent) | {"seed": seed}
            if records.matching(**settings):
                continue
            if baseline.method in _ON_PIXELS:
                result = _fit_pixels(baseline, extent, seed) | {"command": command}
            else:
                model = _estimator(baseline, extent).set_params(random_state=seed)
                result = fit_and_score(model, baseline.dataset, settings, extent, records, command)
            records.add(settings | result)


def _estimator(baseline: Baseline, extent: Extent) -> ImageClusterer:
    if baseline.method == "vae":
        parameters = {**PRESETS["paper"]["vae"], "epochs": extent.epochs}
        return VAEClusterer(**parameters | {"latent_dim": baseline.latent_dim, "hidden_dim": baseline.hidden_dim})
    return DECClusterer(epochs=extent.epochs) if baseline.method == "dec" else AutoencoderClusterer()


def _kmeans(seed: int) -> KMeans:
    return KMeans(10, n_init=10, random_state=seed)


def _gmm(seed: int) -> GaussianMixture:
    # Full covariances of 784 pixels, of which many never change, are singular.
    return GaussianMixture(10, covariance_type="diag", reg_covar=1e-3, random_state=seed)


_ON_PIXELS: dict[str, Callable[[int], Any]] = {"kmeans": _kmeans, "gmm": _gmm}


def _fit_pixels(baseline: Baseline, extent: Extent, seed: int) -> dict[str, Any]:
    """scikit-learn's methods on rows of pixels from 0 to 1."""
    parts = load_parts(baseline.dataset, extent.limit)
    rows = {part: images.images.reshape(len(images), -1) / np.float32(255) for part, images in parts.items()}
    started = time.perf_counter()
    model = _ON_PIXELS[baseline.method](seed).fit(rows["train"])
    seconds = time.perf_counter() - started
    result: dict[str, Any] = {}
    for part in PARTS:
        result |= scores(parts[part], model.predict(rows[part]), part)
    versions = {name: importlib.metadata.version(name) for name in ("clusterloom", "scikit-learn")}
    return result | {"seconds": round(seconds, 1), "versions": versions, "date": time.strftime("%Y-%m-%d")}


def table(some: Sequence[Baseline], extent: Extent, records: Records) -> Table:
    """Printed figures beside those on record."""
    result = Table(
        *("data set", "method", "s, m", "seeds", "printed", "accuracy, test", "purity, test", "accuracy, train"),
        *("NMI, test", "seconds"),
        title="Baselines: percent, mean ± standard deviation over seeds (worst to best)",
    )
    for baseline in some:
        runs = records.matching(**_identity(baseline, extent))
        result.add_row(
            baseline.dataset,
            baseline.method,
            f"{baseline.latent_dim}, {baseline.hidden_dim}" if baseline.latent_dim else "",
            str(len(runs)) if runs else "not run",
            "" if baseline.printed is None else f"{baseline.printed:.1f}",
            *(
                spread([100 * r[name] for r in runs], 1, ends=True)
                for name in ("accuracy_test", "purity_test", "accuracy_train")
            ),
            spread([r["nmi_test"] for r in runs], 3),
            spread([r["seconds"] for r in runs], 0),
        )
    return result


def on_record(baseline: Baseline, extent: Extent, records: Records) -> bool:
    """Whether any run of a baseline is on record."""
    return bool(records.matching(**_identity(baseline, extent)))


def default_path() -> Path:
    """Where results lie in a checkout."""
    return Path("benchmarks", "results", "baselines.jsonl")


def _identity(baseline: Baseline, extent: Extent) -> dict[str, Any]:
    # Methods on pixels, and k-means after the autoencoder, know no epochs of the paper's.
    epochs = extent.epochs if baseline.method in ("vae", "dec") else None
    return {**baseline.settings, "epochs": epochs, "limit": extent.limit}
