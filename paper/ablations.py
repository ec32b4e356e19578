"""What each part of the paper's model is worth, and what its claims come to: one part changed at a time.

All runs start from the same settings, `Setting()`, at fewer epochs than the paper's 50. A setting that several studies
compare is run once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from rich.table import Table
from scipy.sparse import csr_array
from torch import Tensor

from clusterloom.errors import SettingsError
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.inference import apply_in_batches
from clusterloom.presets import LITERAL, PRESETS
from clusterloom.recipe.neighbours import modularity, neighbour_graph
from paper.judge import Judge, trained_judge
from paper.new_images import clusters_of_classes, images_of, new_images, scores_of_class
from paper.records import Records, spread
from paper.runs import Extent, fit_and_score, load_parts
from paper.table1 import Reading

DATASETS = ("mnist", "fashion-mnist")
EPOCHS = 10
_FILTERS, _KERNELS = (16, 32, 64, 64), (3, 5, 3, 3)
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

    def estimator(self, dataset: str, **training: Any) -> VariationalClusterer:
        """The model, not fitted."""
        common = {"latent_dim": self.latent_dim, "hidden_dim": self.hidden_dim, **(LITERAL if self.literal else {})}
        given = {**Reading().of(dataset), **common, **training}
        if self.networks == 0:
            return VAEClusterer(10, **{**PRESETS["paper"]["vae"], **given})
        conv = {
            "conv_filters": _FILTERS[: self.networks],
            "conv_kernels": _KERNELS[: self.networks],
            "conv_depth": self.conv_depth,
            "concatenate": self.concatenate,
        }
        return ConvVAEClusterer(10, **{**PRESETS["paper"]["convvae"], **given, **conv})


Runs = Callable[[Setting], list[dict[str, Any]]]


@dataclass(frozen=True)
class Study:
    """Settings that differ in one part, and the paper's claim about it.

    Attributes:
        name: What is changed.
        settings: By what the table calls them.
        claim: The paper's words, translated; empty where it claims nothing.
        answer: From the runs of each setting to whether they bear the claim out, and the number that says so.
    """

    name: str
    settings: Mapping[str, Setting]
    claim: str = ""
    answer: Callable[[Runs], tuple[bool, str]] | None = None


def _mean(runs: Runs, setting: Setting, score: str) -> float:
    return mean(r[score] for r in runs(setting))


def _conv_gains(runs: Runs) -> tuple[bool, str]:
    gain = 100 * (_mean(runs, Setting(), _ACCURACY) - _mean(runs, Setting(networks=0), _ACCURACY))
    return gain >= 15, f"two conv networks against none: {gain:+.1f} points"


def _fewer_layers(runs: Runs) -> tuple[bool, str]:
    best = {
        s: max(_DEPTHS, key=lambda n: _mean(runs, Setting(conv_depth=n, latent_dim=s), _ACCURACY)) for s in _DEPTH_DIMS
    }
    few, many = _DEPTH_DIMS
    return best[many] < best[few], f"best n at s = {few}: {best[few]}, at s = {many}: {best[many]}"


def _falls_past_60(runs: Runs) -> tuple[bool, str]:
    at = {s: 100 * _mean(runs, Setting(latent_dim=s), _ACCURACY) for s in (60, 100)}
    return at[100] < at[60], f"s = 60: {at[60]:.1f} %, s = 100: {at[100]:.1f} %"


def _generation_lost(runs: Runs) -> tuple[bool, str]:
    few, many = Setting(latent_dim=_DIMS[0]), Setting(latent_dim=_DIMS[-1])
    variance = [_mean(runs, s, "posterior_variance") for s in (few, many)]
    right = [_mean(runs, s, "new_share_judged_right") for s in (few, many)]
    borne_out = variance[1] < variance[0] and right[1] < right[0] / 2
    return borne_out, (
        f"from s = {_DIMS[0]} to s = {_DIMS[-1]} the mean posterior variance goes from {variance[0]:.2f} to "
        f"{variance[1]:.2f}, and the share of new images that show their class from {right[0]:.0%} to {right[1]:.0%}"
    )


def _more_diverse(runs: Runs) -> tuple[bool, str]:
    plain, ours = Setting(networks=0), Setting()
    text, higher = [], []
    for score, title in (("new_vendi_over_real", "Vendi score over that of real images"), ("new_recall", "recall")):
        values = [_mean(runs, setting, score) for setting in (plain, ours)]
        higher.append(values[1] > values[0])
        text.append(f"{title} {values[0]:.2f} without, {values[1]:.2f} with conv networks")
    return all(higher), "; ".join(text)


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


def chosen(studies: str | None, datasets: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of studies and data sets, separated by commas; None is all studies.

    Raises:
        SettingsError: there is no such study or data set.
    """
    found = []
    for option, text, known in (("--studies", studies, tuple(STUDIES)), ("--datasets", datasets, DATASETS)):
        wanted = known if text is None else tuple(text.split(","))
        if unknown := [name for name in wanted if name not in known]:
            raise SettingsError(f"{option}: {unknown[0]!r} is none of {', '.join(known)}")
        found.append(wanted)
    return found[0], found[1]


def run(studies: Sequence[str], datasets: Sequence[str], extent: Extent, records: Records, command: str) -> None:
    """Run what is not on record yet."""
    settings = dict.fromkeys(setting for name in studies for setting in STUDIES[name].settings.values())
    for seed in extent.seeds:
        for dataset in datasets:
            measure = partial(_measured, dataset=dataset, limit=extent.limit)
            for setting in settings:
                known = _identity(setting, dataset, extent) | {"seed": seed}
                if not records.matching(**known):
                    model = setting.estimator(dataset, epochs=extent.epochs, random_state=seed)
                    result = fit_and_score(model, dataset, known, extent, records, command, measure)
                    records.add(known | result)


def _identity(setting: Setting, dataset: str, extent: Extent) -> dict[str, Any]:
    return {"dataset": dataset, **asdict(setting), "epochs": extent.epochs, "limit": extent.limit}


def _measured(model: VariationalClusterer, dataset: str, limit: int | None) -> dict[str, Any]:
    """What the claims are about besides accuracy: posterior variances, and new images."""
    parts, yardsticks = load_parts(dataset, limit), _yardsticks(dataset, limit)
    train = parts["train"]

    def posterior(x: Tensor) -> tuple[Tensor, Tensor]:
        found = model.network_.encode(model.network_.features(x))
        return found.mu, found.log_var.exp()

    means, variances = apply_in_batches(posterior, parts["test"].images, model._compute())
    shown = [
        scores_of_class(yardsticks.judge, label, images_of(train, label), new_images(model, clusters, seed=label))
        for label, clusters in enumerate(clusters_of_classes(model, train))
        if clusters
    ]
    return {
        "posterior_variance": round(float(variances.mean()), 4),
        "active_dims": int((means.var(0) > _ACTIVE).sum()),
        "pixel_modularity": round(modularity(yardsticks.graph, model.labels_[yardsticks.rows]), 4),
        "classes_shown": len(shown),
        **{f"new_{name}": round(mean(scores[name] for scores in shown), 4) for name in shown[0]},
    }


@dataclass(frozen=True)
class _Yardsticks:
    """What all models of a data set are measured with.

    Attributes:
        judge: Trained on the labels of the training images, for new images.
        rows: Training images in the graph.
        graph: Neighbours among their pixels.
    """

    judge: Judge
    rows: np.ndarray
    graph: csr_array


@cache
def _yardsticks(dataset: str, limit: int | None) -> _Yardsticks:
    train = load_parts(dataset, limit)["train"]
    assert train.labels is not None, "the built-in sets have labels"
    judge, _ = trained_judge(train.images, train.labels)
    return _Yardsticks(judge, *neighbour_graph(train.images.reshape(len(train), -1).astype(np.float32), seed=0))


def table(study: Study, dataset: str, extent: Extent, records: Records) -> Table:
    """The runs on record of a study's settings, as mean and standard deviation over seeds, on the test images.

    "variance" is the mean of the posterior's variances over dimensions and images; "dims used" are those whose mean
    changes with the image; "classes" have a cluster of their own, and for these "right" is the share of new images that
    the judge gives to the class, "recall" how many of the real ones lie among new ones, and "Vendi" the new images'
    variety over that of real ones.
    """
    result = Table(
        *("", "seeds", "loss", "accuracy", "purity", "NMI", "variance", "dims used"),
        *("classes", "right", "recall", "Vendi"),
        title=f"{dataset}: {study.name}",
    )
    scores = (
        *(("loss_test", 1, 1), ("accuracy_test", 100, 1), ("purity_test", 100, 1), ("nmi_test", 1, 3)),
        *(("posterior_variance", 1, 2), ("active_dims", 1, 0), ("classes_shown", 1, 1)),
        *(("new_share_judged_right", 1, 2), ("new_recall", 1, 2), ("new_vendi_over_real", 1, 2)),
    )
    for name, setting in study.settings.items():
        runs = records.matching(**_identity(setting, dataset, extent))
        cells = (spread([factor * r[score] for r in runs], digits) for score, factor, digits in scores)
        result.add_row(name, str(len(runs)) if runs else "not run", *cells)
    return result


def answer(study: Study, dataset: str, extent: Extent, records: Records) -> str:
    """The paper's claim, and whether the runs on record bear it out, with how many seeds; empty without a claim."""
    if study.answer is None:
        return ""

    def runs(setting: Setting) -> list[dict[str, Any]]:
        return records.matching(**_identity(setting, dataset, extent))

    seeds = min(len(runs(setting)) for setting in study.settings.values())
    if seeds == 0:
        return f'"{study.claim}" Not answered yet: settings are missing.'
    borne_out, number = study.answer(runs)
    by = "one seed each" if seeds == 1 else f"at least {seeds} seeds each"
    return f'"{study.claim}" {"Yes" if borne_out else "No"} ({by}): {number}.'


def default_path() -> Path:
    """Where results lie in a checkout."""
    return Path("benchmarks", "results", "ablations.jsonl")
