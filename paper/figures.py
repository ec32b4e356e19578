"""Figures 1 to 4 of the paper, and the numbers that they lack: how good and how varied new images of a class are."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from clusterloom.errors import SettingsError
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.methods import load_model
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.figures import network_figure
from clusterloom.files import write_atomically
from clusterloom.networks.describe import describe
from clusterloom.pictures import image_grid, png_bytes
from paper.classifier import trained_classifier
from paper.models import VAE, Reading
from paper.new_images import SAMPLES, class_scores, clusters_of_classes, images_of, new_images
from paper.runs import Experiment, labels

DATASET = "fashion-mnist"
SHOWN = {"Bag": 2, "T-shirt/top": 3, "Ankle boot": 4}  # classes, and the figures that show them
_NAMES = {"plain": "plain VAE", "ours": "with conv networks", "guided": "guided recipe"}
_SHOWN_SIDE = 6
_HEAD_PIXELS, _ASIDE_PIXELS = 18, 24  # above and between pictures
# What the table calls a score, and its name on record.
_COLUMNS = {
    "judged right": "share_judged_right",
    "Fréchet": "frechet_distance",
    "density": "density",
    "coverage": "coverage",
    "recall": "recall",
    "Vendi / real": "vendi_over_real",
}


def trained_model(kind: str, folder: Path, sizes: Mapping[str, int], experiment: Experiment) -> VAE:
    """The "plain" VAE or "ours", trained into a folder unless an earlier run has left it there.

    Args:
        kind: "plain" or "ours".
        folder: Of the model directory, which is named after all that makes the model what it is.
        sizes: latent_dim, hidden_dim and, for ours, conv_depth: the paper's s, m and n.
        experiment: How long to train, on how many images.
    """
    training = {"epochs": experiment.epochs, "precision": experiment.precision, "random_state": experiment.seeds[0]}
    path = folder / "-".join(map(str, (kind, *sizes.values(), *training.values(), experiment.limit)))
    if not path.exists():
        new: Callable[..., VAE] = VAEClusterer if kind == "plain" else ConvVAEClusterer
        model = new(**Reading().of(DATASET), **sizes, **training)
        scratch = f"{path}.partial"
        model.set_params(run_dir=scratch, resume=True, verbose=1).fit(experiment.parts(DATASET)["train"]).save(path)
        shutil.rmtree(scratch, ignore_errors=True)
    return given_model(path)


def given_model(path: Path) -> VAE:
    """A model directory that can generate.

    Raises:
        ModelError: there is none, or it cannot be read.
        SettingsError: it makes no new images, or images of another shape.
    """
    model = load_model(path)
    if not isinstance(model, VariationalClusterer) or tuple(model.image_shape_) != (28, 28, 1):
        raise SettingsError(f"{path}: the figures need a model of {DATASET} that makes new images")
    return model


def draw(folder: Path, models: Mapping[str, VAE], experiment: Experiment) -> list[dict[str, Any]]:
    """Write the figures, measure the new images of every class, and put the numbers on record.

    Args:
        folder: Where the pictures go.
        models: The "plain" VAE, "ours", the convolutional one, and, if there is one, a "guided" model.
        experiment: How many images, and where the numbers go.

    Returns:
        The numbers: one record for each class and model, and for real images in their place.
    """
    train, test = experiment.parts(DATASET).values()
    classifier, accuracy = trained_classifier(train.images, labels(train))
    groups = {name: clusters_of_classes(model, train) for name, model in models.items()}
    title = "Figure 1: the convolutional model, drawn from its network"
    write_atomically(folder / "figure-1.png", network_figure(describe(models["ours"].network_), title))
    found = []
    for label, name in enumerate(train.class_names):
        # As the paper draws them, unchecked; of the guided recipe as it draws them.
        new = {kind: new_images(m, groups[kind][label], label, kind == "guided") for kind, m in models.items()}
        if name in SHOWN:
            write_atomically(folder / f"figure-{SHOWN[name]}.png", png_bytes(_beside(new)))
        for kind, images in {"real": images_of(test, label), **new}.items():
            record = {
                "class": name,
                "images": kind,
                "clusters": len(groups[kind][label]) if kind in groups else None,
                **class_scores(classifier, label, images_of(train, label), images),
                "judge_accuracy": round(accuracy, 4),
                **({"model": _described(models[kind])} if kind in models else {}),
                "epochs": experiment.epochs,
                "limit": experiment.limit,
            }
            found.append(record)
            if not experiment.records.matching(**record):
                experiment.add(record, {})
    return found


def _described(model: VAE) -> dict[str, Any]:
    parameters = model.get_params()
    return {
        "estimator": type(model).__name__,
        **{name: parameters[name] for name in ("latent_dim", "hidden_dim")},
        "reconstruction_weight": model.network_.reconstruction_weight,
        "category_input": parameters["category_input"],
        "conv_depth": parameters.get("conv_depth"),
        "seed": model.about_["seed"],
        "seconds": model.about_["training_seconds"],
    }


def _beside(new: Mapping[str, np.ndarray]) -> Image.Image:
    """New images of the plain VAE on the left and ours on the right, as in the paper's figures, then guided ones."""
    grids = {}
    for kind in new:
        name = _NAMES[kind]
        title = name if len(new[kind]) else f"{name}: no cluster of this class"
        blank = np.ones((_SHOWN_SIDE**2, *new[kind].shape[1:]), np.float32)
        shown = np.concatenate([new[kind], blank])[: _SHOWN_SIDE**2]
        grids[title] = image_grid(np.split(shown, _SHOWN_SIDE), smallest=56)
    return side_by_side(grids)


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures next to each other, each under its name."""
    width = sum(picture.width for picture in pictures.values()) + _ASIDE_PIXELS * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, _HEAD_PIXELS + max(p.height for p in pictures.values())), "white")
    draw, font, left = ImageDraw.Draw(canvas), ImageFont.load_default(12), 0
    for name, picture in pictures.items():
        draw.text((left + 2, 1), name, fill="black", font=font)
        canvas.paste(picture, (left, _HEAD_PIXELS))
        left += picture.width + _ASIDE_PIXELS
    return canvas


def table(records: list[dict[str, Any]]) -> Table:
    """Records of `draw`, one row each, and their means over the classes that every model has clusters of."""
    title = f"New images against {SAMPLES} real ones; real: other real ones, the floor"
    result = Table("class", "images", "clusters", *_COLUMNS, title=title)
    for r in records:
        clusters = "" if r["clusters"] is None else str(r["clusters"])
        scores = (f"{r[name]:.2f}" if name in r else "" for name in _COLUMNS.values())
        result.add_row(r["class"], r["images"], clusters, *scores)
    shown = {r["class"] for r in records} - {r["class"] for r in records if "share_judged_right" not in r}
    for kind in dict.fromkeys(r["images"] for r in records if shown):
        some = [r for r in records if r["images"] == kind and r["class"] in shown]
        means = (f"{mean(r[name] for r in some):.2f}" for name in _COLUMNS.values())
        result.add_row(f"mean of {len(shown)}", kind, "", *means)
    return result
