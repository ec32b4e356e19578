"""One run of a sweep: fit, keep the model, score it without labels."""

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clusterloom.data import ImageSet
from clusterloom.data.images import limited_rows
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.methods import METHODS
from clusterloom.metrics import sampled_silhouette_score
from clusterloom.recipe.neighbours import modularity, neighbour_graph

SCORES = {
    "modularity": "share of the 15 nearest neighbours, by pixels, in the same cluster, beyond chance",
    "silhouette": "of the clusters in the model's own latents",
    "confidence": "mean probability of the most likely cluster",
    "likelihood": "minus the loss of the last epoch; compare it only where losses and their weights are the same",
}
_GRAPH_IMAGES = 12_000


class Runner:
    """Makes runs on one set of images.

    Args:
        images: What every run is fitted to. Labels are not looked at.
        method: A key of `clusterloom.estimators.methods.METHODS`.
        parameters: Of the estimator, for what a run does not vary.
        folder: Where models go, and checkpoints until then.
        rank_by: A key of `SCORES`.
    """

    def __init__(
        self, images: ImageSet, method: str, parameters: Mapping[str, Any], folder: Path, rank_by: str
    ) -> None:
        self.images, self.method, self.parameters = images, method, parameters
        self.folder, self.rank_by = folder, rank_by
        # The same graph for every run: pixels are what all settings have in common.
        rows = limited_rows(len(images), _GRAPH_IMAGES)
        shown, self._graph = neighbour_graph(images.images[rows].reshape(len(rows), -1).astype(np.float32), seed=0)
        self._rows = rows[shown]

    def make(self, run: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Fit one model, or go on where a worker that died has left it, and save it.

        Args:
            run: Its number in the plan.
            changes: Parameters that differ from the sweep's.

        Returns:
            Its scores and "score", the one that ranks; seconds, clusters in use, where the model is.

        Raises:
            SettingsError: a parameter does not fit.
        """
        name = f"run-{run:03d}"
        scratch = self.folder / f"{name}.partial"
        parameters = {**self.parameters, **_tuples(changes)}
        model = METHODS[self.method](**parameters, run_dir=str(scratch), resume=True, verbose=1)
        model.check_parameters(self.images.image_shape)
        model.fit(self.images)
        scores = self._scores(model)
        model.about_ |= {"data": self.images.name, "data_sha256": self.images.fingerprint()}
        model.save(self.folder / name, overwrite=True)
        shutil.rmtree(scratch, ignore_errors=True)
        return {
            "score": scores[self.rank_by],
            **scores,
            "clusters_in_use": int((model.cluster_sizes_ > 0).sum()),
            "seconds": model.about_["seconds"],
            "model": name,
            "version": importlib.metadata.version("clusterloom"),
        }

    def _scores(self, model: ImageClusterer) -> dict[str, float]:
        predicted = model.predictions(self.images)
        proba = predicted["proba"]
        silhouette = sampled_silhouette_score(predicted["latents"], proba.argmax(1))
        scores = {
            "modularity": modularity(self._graph, model.labels_[self._rows]),
            "silhouette": -1.0 if silhouette is None else silhouette,  # one cluster has none: the worst there is
            "confidence": float(proba.max(1).mean()),
            "likelihood": -model.history_[-1]["loss"],
        }
        return {name: round(value, 5) for name, value in scores.items()}


def _tuples(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as the tuples that they were before they went through JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
