"""What each part of the paper's model is worth, and what its claims come to: one part changed at a time.

All runs start from the same settings, `Setting()`, at fewer epochs than the paper's 50. A setting that several studies
compare is run once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from statistics import mean
from typing import Any, TypeAlias

import numpy as np
from rich.table import Table
from scipy.sparse import csr_array

from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.recipe.neighbours import modularity, neighbour_graph
from clusterloom.training.randomness import numpy_generator
from paper.classifier import Classifier, trained_classifier
from paper.models import LITERAL, VAE, Reading, posterior
from paper.new_images import class_scores, clusters_of_classes, images_of, new_images
from paper.records import count, spread
from paper.runs import Experiment, labels

EPOCHS = 10
_FILTERS, _KERNELS = (16, 32, 64, 64), (3, 5, 3, 3)
_GRAPH_IMAGES = 12_000
_ACTIVE = 0.01  # variance of a latent's mean over the images, from which on it counts as used (Burda and others, 2015)


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


MeanScore: TypeAlias = Callable[[Setting, str], float]


@dataclass(frozen=True)
class Study:
    """Settings that differ in one part, and the paper's claim about it.

    Attributes:
        name: What is changed.
        settings: By what the table calls them.
        claim: The paper's words, translated; empty where it claims nothing.
        answer: From a setting's mean scores to whether they bear the claim out, and the numbers that say so.
    """

    name: str
    settings: Mapping[str, Setting]
    claim: str = ""
    answer: Callable[[MeanScore], tuple[bool, str]] | None = None


def _conv_gains(score: MeanScore) -> tuple[bool, str]:
    gain = 100 * (score(Setting(), _ACCURACY) - score(Setting(networks=0), _ACCURACY))
    return gain >= 15, f"two conv networks against none: {gain:+.1f} points"


def _fewer_layers(score: MeanScore) -> tuple[bool, str]:
    few, many = (max(_DEPTHS, key=lambda n: score(Setting(conv_depth=n, latent_dim=s), _ACCURACY)) for s in _DEPTH_DIMS)
    return many < few, f"best n at s = {_DEPTH_DIMS[0]}: {few}, at s = {_DEPTH_DIMS[1]}: {many}"


def _falls_past_60(score: MeanScore) -> tuple[bool, str]:
    at_60, at_100 = (100 * score(Setting(latent_dim=s), _ACCURACY) for s in (60, 100))
    return at_100 < at_60, f"s = 60: {at_60:.1f} %, s = 100: {at_100:.1f} %"


def _generation_lost(score: MeanScore) -> tuple[bool, str]:
    few, many = Setting(latent_dim=_DIMS[0]), Setting(latent_dim=_DIMS[-1])
    variance = [score(s, "posterior_variance") for s in (few, many)]
    right = [score(s, "new_share_judged_right") for s in (few, many)]
    return variance[1] < variance[0] and right[1] < right[0] / 2, (
        f"from s = {_DIMS[0]} to s = {_DIMS[-1]} the mean posterior variance goes from {variance[0]:.2f} to "
        f"{variance[1]:.2f}, and the share of new images that show their class from {right[0]:.0%} to {right[1]:.0%}"
    )


def _more_diverse(score: MeanScore) -> tuple[bool, str]:
    titles = {"new_vendi_over_real": "Vendi score over that of real images", "new_recall": "recall"}
    found = {title: (score(Setting(networks=0), name), score(Setting(), name)) for name, title in titles.items()}
    text = (f"{title} {plain:.2f} without, {ours:.2f} with conv networks" for title, (plain, ours) in found.items())
    return all(ours > plain for plain, ours in found.values()), "; ".join(text)


_ACCURACY = "accuracy_test"
_DIMS = (2, 5, 10, 20, 50, 60, 100)
_DEPTHS, _DEPTH_DIMS = (1, 2, 3), (10, 50)
STUDIES = {
    "networks": Study(
        "Number of conv networks",
        {str(networks): Setting(networks=networks) for networks in (0, 1, 2, 3)},
        "Convolution before the encoder raises accuracy by about 20 points.",
        _conv_gains,
    ),
    "diversity": Study(
        "Variety of new images",
        {"plain": Setting(networks=0), "two conv networks": Setting()},
        "New images of the convolutional model are more varied.",
        _more_diverse,
    ),
    "depth": Study(
        "Conv layers in a network, n",
        {f"s {s}, n {n}": Setting(conv_depth=n, latent_dim=s) for s in _DEPTH_DIMS for n in _DEPTHS},
        "With more latent dimensions, fewer conv layers are best.",
        _fewer_layers,
    ),
    "latent-dim": Study(
        "Latent dimensions, s",
        {str(s): Setting(latent_dim=s) for s in _DIMS},
        "Past s = 60 accuracy falls.",
        _falls_past_60,
    ),
    "generation": Study(
        "What many latent dimensions do to generation",
        {f"s {s}": Setting(latent_dim=s) for s in (_DIMS[0], 20, 60, _DIMS[-1])},
        "With more latent dimensions the variance shrinks until the model can generate no longer.",
        _generation_lost,
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
    means, variances = posterior(model, test.images)
    classifier, rows, graph = _yardsticks(dataset, experiment)
    shown = [
        class_scores(classifier, label, images_of(train, label), new_images(model, clusters, seed=label))
        for label, clusters in enumerate(clusters_of_classes(model, train))
        if clusters
    ]
    return {
        "posterior_variance": round(float(variances.mean()), 4),
        "active_dims": int((means.var(0) > _ACTIVE).sum()),
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
    """The paper's claim, and whether the runs on record bear it out, with how many seeds; empty without a claim."""
    if study.answer is None:
        return ""
    runs = {setting: experiment.runs(_settings(dataset, setting)) for setting in study.settings.values()}
    seeds = min(map(len, runs.values()))
    if seeds == 0:
        return f'"{study.claim}" Not answered yet: settings are missing.'
    borne_out, numbers = study.answer(lambda setting, score: mean(r[score] for r in runs[setting]))
    by = "one seed each" if seeds == 1 else f"at least {seeds} seeds each"
    return f'"{study.claim}" {"Yes" if borne_out else "No"} ({by}): {numbers}.'
