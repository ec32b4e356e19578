"""One run of a sweep: fit, keep the model, score it without labels."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from clusterloom.console import ProgressReport
from clusterloom.data.images import ImageSet, limited_rows
from clusterloom.errors import printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.methods import method_named
from clusterloom.metrics import sampled_silhouette_score
from clusterloom.model_dir.format import CONFIG, settings_sha256
from clusterloom.recipe.points.neighbours import modularity, neighbour_graph
from clusterloom.sweep.results import run_name, shown

_GRAPH_IMAGES = 12_000


def is_run_of(plan: Mapping[str, Any], folder: Path) -> bool:
    """Whether what is in a folder is a model that a sweep with that plan has made."""
    try:
        made_by = json.loads((folder / CONFIG).read_text())["about"]["sweep"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(made_by == settings_sha256(dict(plan)))


@dataclass(frozen=True)
class Runner:
    """Makes runs on one set of images.

    Attributes:
        images: What every run is fitted to. Labels are not looked at.
        plan: The sweep's, see `clusterloom.sweep.sweep.sweep`.
        folder: Where models go, and checkpoints until then.
        tell: Called with a line of text before and after each run.
        progress: Told of what lasts, besides the training.
        worker: Knobs of this worker's runs alone, such as its device.
    """

    images: ImageSet
    plan: Mapping[str, Any]
    folder: Path
    tell: Callable[[str], None]
    progress: ProgressReport
    worker: Mapping[str, Any]

    def make(self, run: int) -> dict[str, Any]:
        """Fit the model of a run, or go on where a worker that died has left it, and save it.

        Returns:
            Its scores and "score", the one that ranks; seconds, clusters in use, where the model is.

        Raises:
            SettingsError: a parameter does not fit.
        """
        name = run_name(run)
        scratch = self.folder / f"{name}.partial"
        changes = self.plan["runs"][run]
        told = ", ".join(f"{name} {shown(value)}" for name, value in changes.items())
        self.tell(f"{name}, {run + 1} of {len(self.plan['runs'])}: {told}")
        knobs = {**self.plan["parameters"], **changes, **self.worker}
        model = method_named(self.plan["method"])(**knobs, run_dir=str(scratch), resume=True)
        model.check_parameters(self.images.image_shape)
        model.fit(self.images)
        scores = self._scores(model)
        model.about_ |= {"data": printable(self.images.name), "data_sha256": self.images.fingerprint()}
        model.about_["sweep"] = settings_sha256(dict(self.plan))
        model.save(self.folder / name, overwrite=True)
        shutil.rmtree(scratch, ignore_errors=True)
        score, rank_by = scores[self.plan["rank_by"]], self.plan["rank_by"]
        self.tell(f"  {rank_by} {score:.4f}, {model.about_['seconds']:.0f} s")
        return {
            "score": score,
            **scores,
            "clusters_in_use": int((model.cluster_sizes_ > 0).sum()),
            "seconds": model.about_["seconds"],
            "model": name,
            "version": importlib.metadata.version("clusterloom"),
        }

    def _scores(self, model: ImageClusterer) -> dict[str, float]:
        predicted = model.predictions(self.images, self.progress)
        proba = predicted["proba"]
        silhouette = sampled_silhouette_score(predicted["latents"], proba.argmax(1))
        rows, graph = self._neighbours
        scores = {
            "modularity": modularity(graph, model.labels_[rows]),
            "silhouette": -1.0 if silhouette is None else silhouette,  # one cluster has none: the worst there is
            "confidence": float(proba.max(1).mean()),
            "likelihood": -model.history_[-1]["loss"],
        }
        return {name: round(value, 5) for name, value in scores.items()}

    @cached_property
    def _neighbours(self) -> tuple[np.ndarray, csr_array]:
        """Rows of some images, and who is alike whom by pixels, the one thing that all settings have in common."""
        rows = limited_rows(len(self.images), _GRAPH_IMAGES)
        pixels = self.images.images[rows].reshape(len(rows), -1).astype(np.float32)
        return rows, neighbour_graph(pixels, progress=self.progress)
