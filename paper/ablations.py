"""What each part of the paper's model is worth, and what its claims come to: one part changed at a time.

All runs start from the same settings, `Setting()`, at fewer epochs than the paper's 50. A setting that several studies
compare is run once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from statistics import mean
from typing import Any

import numpy as np
from rich.table import Table
from scipy.sparse import csr_array

from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.recipe.points.neighbours import modularity, neighbour_graph
from clusterloom.training.randomness import numpy_generator
from paper.classifier import Classifier, trained_classifier
from paper.contrasts import Contrast, verdict
from paper.models import LITERAL, VAE, Reading, active_dims, posterior
from paper.new_images import class_scores, clusters_of_classes, images_of, new_images
from paper.records import count, spread
from paper.runs import Experiment, labels

EPOCHS = 10
_FILTERS, _KERNELS = (16, 32, 64, 64), (3, 5, 3, 3)
_GRAPH_IMAGES = 12_000


@dataclass(frozen=True)
class Setting:
    """One model to train; the defaults are the row of Table 1 whose printed loss ours agrees with.

    Attributes:
        networks: Conv networks; 0 is the plain VAE on flattened pixels, 2 the paper's.
        conv_depth: The paper's n.
        latent_dim: The paper's s.
        hidden_dim: The paper's m.
        concatenate: All networks' outputs, or the last one's alone.
        literal: Formulas (3) and (7) as printed.
    """

    networks: int = 2
    conv_depth: int = 1
    latent_dim: int = 20
    hidden_dim: int = 512
    concatenate: bool = True
    literal: bool = False

    def estimator(self, dataset: str, epochs: int) -> VAE:
        """The model, not fitted."""
        common = {**Reading().of(dataset), **(LITERAL if self.literal else {}), "epochs": epochs}
        common |= {"latent_dim": self.latent_dim, "hidden_dim": self.hidden_dim}
        if self.networks == 0:
            return VAEClusterer(**common)
        return ConvVAEClusterer(
            **common,
            conv_depth=self.conv_depth,
            conv_filters=_FILTERS[: self.networks],
            conv_kernels=_KERNELS[: self.networks],
            concatenate=self.concatenate,
        )


@dataclass(frozen=True)
class Study:
    """Settings that differ in one part, and the paper's claim about it.

    Attributes:
        name: What is changed.
        settings: By what the table calls them.
        claim: The paper's words, translated; empty where it claims nothing.
        wanted: What must all be above its number if the claim is right.
    """

    name: str
    settings: Mapping[str, Setting]
    claim: str = ""
    wanted: Sequence[Contrast] = ()


def _less(title: str, one: Setting, other: Setting, score: str = "accuracy_test", **options: Any) -> Contrast:
    """One setting's mean score less another's."""
    return Contrast(title, score, {one: 1, other: -1}, **options)


_VENDI = "new_vendi_over_real"
_DIMS = (2, 5, 10, 20, 50, 60, 100)
_FEWEST, _MOST = Setting(latent_dim=_DIMS[0]), Setting(latent_dim=_DIMS[-1])
_DEPTHS, _DEPTH_DIMS = (1, 2, 3), (10, 50)
STUDIES = {
    "networks": Study(
        "Number of conv networks",
        {str(networks): Setting(networks=networks) for networks in (0, 1, 2, 3)},
        "Convolution before the encoder raises accuracy by about 20 points.",
        [_less("two conv networks less none", Setting(), Setting(networks=0), above=0.15, in_points=True)],
    ),
    "diversity": Study(
        "Variety of new images",
        {"plain": Setting(networks=0), "two conv networks": Setting()},
        "New images of the convolutional model are more varied.",
        [
            _less("Vendi score over that of real images, with less without", Setting(), Setting(networks=0), _VENDI),
            _less("recall, with less without", Setting(), Setting(networks=0), "new_recall"),
        ],
    ),
    "depth": Study(
        "Conv layers in a network, n",
        {f"s {s}, n {n}": Setting(conv_depth=n, latent_dim=s) for s in _DEPTH_DIMS for n in _DEPTHS},
        "With more latent dimensions, fewer conv layers are best.",
        [
            Contrast(
                "what n = 1 gains over n = 3 at s = 50, less that at s = 10",
                "accuracy_test",
                {
                    Setting(conv_depth=n, latent_dim=s): sign
                    for (n, s), sign in {(1, 50): 1, (3, 50): -1, (1, 10): -1, (3, 10): 1}.items()
                },
                in_points=True,
            )
        ],
    ),
    "latent-dim": Study(
        "Latent dimensions, s",
        {str(s): Setting(latent_dim=s) for s in _DIMS},
        "Past s = 60 accuracy falls.",
        [_less("s = 60 less s = 100", Setting(latent_dim=60), Setting(latent_dim=100), in_points=True)],
    ),
    "generation": Study(
        "What many latent dimensions do to generation",
        {f"s {s}": Setting(latent_dim=s) for s in (_DIMS[0], 20, 60, _DIMS[-1])},
        "With more latent dimensions the variance shrinks until the model can generate no longer.",
        [
            _less("mean posterior variance, s = 2 less s = 100", _FEWEST, _MOST, "posterior_variance"),
            Contrast(
                "half the share of new images that show their class at s = 2, less that at s = 100",
                "new_share_judged_right",
                {_FEWEST: 0.5, _MOST: -1},
                in_points=True,
            ),
        ],
    ),
    "hidden-dim": Study("Width of the dense layers, m", {str(m): Setting(hidden_dim=m) for m in (128, 256, 512)}),
    "formulas": Study(
        "Formulas (3) and (7)", {"class-conditional prior": Setting(), "as printed": Setting(literal=True)}
    ),
    "concatenation": Study(
        "What the encoder reads", {"both networks": Setting(), "the last alone": Setting(concatenate=False)}
    ),
}


def run(studies: Iterable[Study], datasets: Iterable[str], experiment: Experiment) -> None:
    """Run what is not on record yet."""
    settings = dict.fromkeys(setting for study in studies for setting in study.settings.values())
    for identity in experiment.missing([_settings(dataset, s) for dataset in datasets for s in settings]):
        dataset = identity["dataset"]
        setting = Setting(**{field.name: identity[field.name] for field in fields(Setting)})
        measure = partial(_measured, dataset=dataset, experiment=experiment)
        experiment.run(setting.estimator(dataset, experiment.epochs), identity, measure)


def _settings(dataset: str, setting: Setting) -> dict[str, Any]:
    return {"dataset": dataset, **asdict(setting)}


def _measured(model: VAE, dataset: str, experiment: Experiment) -> dict[str, Any]:
    """What the claims are about besides accuracy: posterior variances, and new images."""
    train, test = experiment.parts(dataset).values()
    means, variances = posterior(model.network_, test.images, model.compute())
    classifier, rows, graph = _yardsticks(dataset, experiment)
    shown = [
        class_scores(classifier, label, images_of(train, label), new_images(model, clusters, seed=label))
        for label, clusters in enumerate(clusters_of_classes(model, train))
        if clusters
    ]
    return {
        "posterior_variance": round(float(variances.mean()), 4),
        "active_dims": active_dims(means),
        "pixel_modularity": round(modularity(graph, model.labels_[rows]), 4),
        "classes_shown": len(shown),
        **{f"new_{name}": round(mean(scores[name] for scores in shown), 4) for name in shown[0]},
    }


@cache
def _yardsticks(dataset: str, experiment: Experiment) -> tuple[Classifier, np.ndarray, csr_array]:
    """What all models of a set are measured with: a classifier; rows of training images, and their pixels' graph."""
    train = experiment.parts(dataset)["train"]
    classifier, _ = trained_classifier(train.images, labels(train))
    rows = numpy_generator(0, "sample", "graph").permutation(len(train))[:_GRAPH_IMAGES]
    return classifier, rows, neighbour_graph(train.images[rows].reshape(len(rows), -1).astype(np.float32))


# What the table calls a score: its name on record, digits, factor.
_COLUMNS: dict[str, tuple[Any, ...]] = {
    "loss": ("loss_test", 1),
    "accuracy": ("accuracy_test", 1, 100),
    "purity": ("purity_test", 1, 100),
    "NMI": ("nmi_test", 3),
    "variance": ("posterior_variance", 2),
    "dims used": ("active_dims", 0),
    "classes": ("classes_shown", 1),
    "right": ("new_share_judged_right", 2),
    "recall": ("new_recall", 2),
    "Vendi": ("new_vendi_over_real", 2),
}


def table(study: Study, dataset: str, experiment: Experiment) -> Table:
    """The runs on record of a study's settings, as mean and standard deviation over seeds, on the test images.

    The page says what the columns are.
    """
    result = Table("", "seeds", *_COLUMNS, title=f"{dataset}: {study.name}")
    for name, setting in study.settings.items():
        runs = experiment.runs(_settings(dataset, setting))
        result.add_row(name, count(runs), *(spread(runs, *column) for column in _COLUMNS.values()))
    return result


def answer(study: Study, dataset: str, experiment: Experiment) -> str:
    """The paper's claim, and what the runs on record say of it, with how many seeds; empty without a claim."""
    if not study.wanted:
        return ""
    runs = {setting: experiment.runs(_settings(dataset, setting)) for setting in study.settings.values()}
    compared = {setting for contrast in study.wanted for setting in contrast.weights}
    seeds = min(len(runs[setting]) for setting in compared)
    if seeds == 0:
        return f'"{study.claim}" Not answered yet: settings are missing.'
    by = "one seed each" if seeds == 1 else f"at least {seeds} seeds each"
    numbers = "; ".join(contrast.text(runs) for contrast in study.wanted)
    return f'"{study.claim}" {verdict(study.wanted, runs)} ({by}): {numbers}.'
