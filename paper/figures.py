"""Figures 1 to 4 of the paper, and the numbers that they lack: how good and how varied new images of a class are."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from clusterloom.presets import PRESETS
from PIL import Image
from rich.table import Table

from clusterloom.errors import SettingsError
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.methods import load_model
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.figures import network_figure
from clusterloom.files import write_atomically
from clusterloom.networks.describe import describe
from clusterloom.pictures import image_grid, png_bytes, side_by_side
from paper.judge import trained_judge
from paper.new_images import SAMPLES, clusters_of_classes, images_of, new_images, scores_of_class
from paper.records import Records
from paper.runs import Extent, load_parts
from paper.table1 import Reading

DATASET = "fashion-mnist"
# Figures 2 to 4: number, class, file.
SHOWN = ((2, "Bag"), (3, "T-shirt/top"), (4, "Ankle boot"))
_SHOWN_SIDE = 6


@dataclass(frozen=True)
class Setting:
    """The network of figures 2 to 4: the paper's s, n and m. The plain VAE has the same s and m."""

    latent_dim: int = 60
    conv_depth: int = 5
    hidden_dim: int = 512


def fit_models(
    folder: Path, setting: Setting, extent: Extent, given: Mapping[str, VariationalClusterer]
) -> dict[str, VariationalClusterer]:
    """ "plain" and "ours": as given, or from model directories in a folder, or trained into it.

    Raises:
        SettingsError: a model in the folder was trained in another way.
    """
    seed = extent.seeds[0]
    images = load_parts(DATASET, extent.limit)["train"]
    # The plain VAE has the weights that the table's reading has, so that the two differ in the conv networks alone.
    weights = {
        key: value for key, value in Reading().of(DATASET).items() if key in ("reconstruction_weight", "batch_size")
    }
    common = {**weights, "epochs": extent.epochs, "precision": extent.precision, "random_state": seed}
    common |= {"resume": True, "verbose": 1}
    dims = {"latent_dim": setting.latent_dim, "hidden_dim": setting.hidden_dim}
    fresh: dict[str, VariationalClusterer] = {
        "plain": VAEClusterer(**{**PRESETS["paper"]["vae"], **dims, **common}),
        "ours": ConvVAEClusterer(**{**PRESETS["paper"]["convvae"], **dims, "conv_depth": setting.conv_depth, **common}),
    }
    there = [name for name in fresh if name not in given and (folder / name).exists()]
    models = {**given, **{name: _kept_model(folder / name, fresh[name], len(images)) for name in there}}
    for name, model in fresh.items():
        if name not in models:
            model.set_params(run_dir=str(folder / f"{name}.partial")).fit(images)
            model.save(folder / name)
            models[name] = given_model(folder / name)
    return models


def _kept_model(path: Path, fresh: VariationalClusterer, n_images: int) -> VariationalClusterer:
    """A model that an earlier run left, if it is what `fresh` would become."""
    model = given_model(path)
    kept, wanted = ({**m.get_params(), "images": n} for m, n in ((model, model.about_["images"]), (fresh, n_images)))
    # How a model was made is not saved with it, and lists are what became of tuples.
    ignored = ("device", "resume", "run_dir", "verbose")
    other = [k for k in wanted if k not in ignored and json.dumps(kept.get(k)) != json.dumps(wanted[k])]
    if other:
        raise SettingsError(f"{path} holds a model with other {', '.join(other)}; choose another --out")
    return model


def given_model(path: Path) -> VariationalClusterer:
    """A model directory that can generate.

    Raises:
        ModelError: there is none, or it cannot be read.
        SettingsError: it makes no new images, or images of another shape.
    """
    model = load_model(path)
    if not isinstance(model, VariationalClusterer) or tuple(model.image_shape_) != (28, 28, 1):
        raise SettingsError(f"{path}: the figures need a model of {DATASET} that makes new images")
    return model


def draw(
    folder: Path, models: Mapping[str, VariationalClusterer], extent: Extent, records: Records, command: str
) -> Table:
    """Write the figures, measure the new images of every class, and keep the numbers.

    Args:
        folder: Where the pictures go.
        models: "plain" and "ours".
        extent: How many images.
        records: Where the numbers go; one record for each class and model.
        command: What the user typed.

    Returns:
        The numbers as a table.
    """
    parts = load_parts(DATASET, extent.limit)
    train, test = parts["train"], parts["test"]
    assert train.labels is not None, "the built-in sets have labels"
    judge, accuracy = trained_judge(train.images, train.labels)
    groups = {name: clusters_of_classes(model, train) for name, model in models.items()}
    title = "Figure 1: the convolutional model, drawn from its network"
    write_atomically(folder / "figure-1.png", network_figure(describe(models["ours"].network_), title))
    found = []
    for label, name in enumerate(train.class_names):
        real, other = (images_of(part, label) for part in (train, test))
        new = {kind: new_images(model, groups[kind][label], seed=label) for kind, model in models.items()}
        figure = next((number for number, shown in SHOWN if shown == name), None)
        if figure is not None:
            write_atomically(folder / f"figure-{figure}.png", png_bytes(_beside(new)))
        for kind, images in {"real": other, **new}.items():
            record = {
                "class": name,
                "images": kind,
                "clusters": len(groups[kind][label]) if kind in groups else None,
                **scores_of_class(judge, label, real, images),
                "judge_accuracy": round(accuracy, 4),
                **({"model": _of_model(models[kind])} if kind in models else {}),
                "epochs": extent.epochs,
                "limit": extent.limit,
                "date": time.strftime("%Y-%m-%d"),
                "command": command,
            }
            found.append(record)
            if not records.matching(**{k: v for k, v in record.items() if k not in ("date", "command")}):
                records.add(record)
    return table(found)


def _of_model(model: VariationalClusterer) -> dict[str, Any]:
    settings = asdict(model.network_.settings)
    kept = ("latent_dim", "hidden_dim", "reconstruction_weight", "category_input")
    return {
        "estimator": type(model).__name__,
        **{name: settings[name] for name in kept},
        "conv_depth": settings["conv_networks"][0]["depth"] if settings["conv_networks"] else None,
        "seed": model.about_["seed"],
        "seconds": model.about_["training_seconds"],
    }


def _beside(new: Mapping[str, np.ndarray]) -> Image.Image:
    """New images of the plain VAE on the left, ours on the right, as in the paper's figures."""
    grids = {}
    for kind, name in (("plain", "plain VAE"), ("ours", "with conv networks")):
        if len(new[kind]) == 0:
            name += ": no cluster of this class"
        blank = np.ones((_SHOWN_SIDE**2, *new[kind].shape[1:]), np.float32)
        shown = np.concatenate([new[kind], blank])[: _SHOWN_SIDE**2]
        grids[name] = image_grid(np.split(shown, _SHOWN_SIDE), smallest=56)
    return side_by_side(grids)


def table(records: list[dict[str, Any]]) -> Table:
    """Records of `draw`, one row each, and their means over the classes that every model has clusters of."""
    result = Table(
        *("class", "images", "clusters", "judged right", "Fréchet", "density", "coverage", "recall", "Vendi / real"),
        title=f"New images against {SAMPLES} real ones; real: other real ones, the floor",
    )
    names = ("share_judged_right", "frechet_distance", "density", "coverage", "recall", "vendi_over_real")
    for r in records:
        clusters = "" if r["clusters"] is None else str(r["clusters"])
        result.add_row(r["class"], r["images"], clusters, *(f"{r[n]:.2f}" if n in r else "" for n in names))
    shown = {r["class"] for r in records}.difference(r["class"] for r in records if names[0] not in r)
    for kind in dict.fromkeys(r["images"] for r in records if shown):
        some = [r for r in records if r["images"] == kind and r["class"] in shown]
        means = (f"{mean(r[n] for r in some):.2f}" for n in names)
        result.add_row(f"mean of {len(shown)}", kind, "", *means)
    return result


def default_path() -> Path:
    """Where results lie in a checkout."""
    return Path("benchmarks", "results", "figures.jsonl")
