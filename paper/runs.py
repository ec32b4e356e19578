"""Runs of an experiment: what is not on record is fitted on the training part and scored on both; it can be resumed."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from clusterloom.data import ImageSet, load_images
from clusterloom.device import Compute
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.metrics import label_scores
from clusterloom.networks.objective import Algorithm1
from paper.models import mean_loss
from paper.records import Records

RESULTS = Path("benchmarks", "results")  # of a checkout, which the experiments are run from
DATASETS = ("mnist", "fashion-mnist")
PARTS = ("train", "test")

Values: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """How much to run, and where finished runs are.

    Attributes:
        records: Finished runs.
        seeds: One run each.
        epochs: Passes over the training images.
        limit: At most so many images of each part; None takes all.
        precision: As for the estimators.
        command: What the user typed.
    """

    records: Records
    seeds: tuple[int, ...] = (0,)
    epochs: int = 50
    limit: int | None = None
    precision: str = "auto"
    command: str = ""

    def parts(self, dataset: str) -> dict[str, ImageSet]:
        """The official training and test images, or at most `limit` of each."""
        return {part: load_images(f"{dataset}:{part}", limit=self.limit) for part in PARTS}

    def runs(self, settings: Values) -> list[dict[str, Any]]:
        """Runs on record with these settings and of this extent, one for each seed."""
        return self.records.matching(**self._known(settings))

    def missing(self, settings: Sequence[Values]) -> Iterator[dict[str, Any]]:
        """Settings of the runs that are not on record yet, extent and seed among them, in the order of seeds."""
        for seed in self.seeds:
            for identity in ({**self._known(some), "seed": seed} for some in settings):
                if not self.records.matching(**identity):
                    yield identity

    def add(self, identity: Values, result: Values) -> None:
        """Put a finished run on record, with the day and the command."""
        self.records.add({**identity, **result, "date": time.strftime("%Y-%m-%d"), "command": self.command})

    def run(
        self,
        model: ImageClusterer,
        identity: Values,
        also: Callable[[Any], Values] | None = None,
        keep: Path | None = None,
    ) -> None:
        """Fit a model on the training part, score both, and put that on record; an interrupted run goes on.

        Args:
            model: Not fitted; its seed, its precision and where it keeps its run are set here.
            identity: What `missing` says of the run, its data set among it.
            also: What else to ask of the fitted model.
            keep: Where to save it; None does not.
        """
        parts = self.parts(identity["dataset"])
        # A record does not tell precisions apart, but what one has begun another cannot go on with.
        precision = Compute.choose(model.settings.device, self.precision).precision
        scratch = self.records.scratch("-".join(map(str, (*identity.values(), precision))))
        model.set_params(random_state=identity["seed"], precision=precision)
        model.set_params(run_dir=str(scratch), resume=True, verbose=1).fit(parts["train"])
        result: dict[str, Any] = {"loss_last_epoch": round(model.history_[-1]["loss"], 3)}
        for part, images in parts.items():
            if isinstance(model, ConvVAEClusterer | VAEClusterer):
                objective = Algorithm1(model.network_, model.settings)  # type: ignore[arg-type]
                result[f"loss_{part}"] = round(mean_loss(objective, images.images, model.compute()), 4)
            result |= scores(images, model.predict(images), part)
        result |= also(model) if also else {}
        result["clusters_in_use"] = int((model.cluster_sizes_ > 0).sum())
        result["seconds"] = model.about_["training_seconds"]
        result |= {key: model.about_[key] for key in ("device", "precision", "threads", "versions")}
        if keep:
            model.save(keep, overwrite=True)
        self.add(identity, result)
        shutil.rmtree(scratch, ignore_errors=True)

    def _known(self, settings: Values) -> dict[str, Any]:
        return {**settings, "epochs": self.epochs, "limit": self.limit, **settings}  # settings may have other epochs


def scores(images: ImageSet, labels_pred: np.ndarray, part: str) -> dict[str, float]:
    """Label scores of one part, under names that end in its own."""
    return {f"{name}_{part}": round(value, 4) for name, value in label_scores(labels(images), labels_pred).items()}


def labels(images: ImageSet) -> np.ndarray:
    """The true classes (N,) of a set that has them, as the built-in ones do."""
    assert images.labels is not None
    return images.labels
