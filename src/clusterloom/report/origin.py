"""How a model came to be, in words: what made it, on what, where, and how long it took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clusterloom.errors import printable
from clusterloom.model_dir.card import NOT_SETTINGS, corrections_text
from clusterloom.networks.backbone import DISCLOSURE
from clusterloom.recipe.cluster_count.evidence import Evidence
from clusterloom.report.numbers import duration, plain

if TYPE_CHECKING:
    from clusterloom.data.images import ImageSet
    from clusterloom.estimators.base import ImageClusterer


def recipe_of(model: ImageClusterer) -> dict[str, Any]:
    """What the recipe decided on the way; empty where there was none."""
    found: dict[str, Any] = model.about_.get("recipe", {})
    return found


def evidence_of(model: ImageClusterer) -> list[Evidence]:
    """What spoke for each number of clusters; empty where the number was given."""
    rows = recipe_of(model).get("count_evidence", [])
    return [Evidence.from_record(row) for row in rows]


def python_call(model: ImageClusterer) -> str:
    """What makes the model again in Python: the parameters that are not the defaults, and the seed."""
    if len(model.corrected_):
        return "model.refit(images, answers)"
    defaults = type(model)().get_params()
    changed = {k: v for k, v in model.get_params().items() if k not in NOT_SETTINGS and v != defaults[k]}
    changed |= {"random_state": model.about_["seed"]}
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"{type(model).__name__}({arguments}).fit(images)"


def about_rows(model: ImageClusterer) -> list[tuple[str, str]]:
    """Rows of the table on how the model came to be."""
    about, recipe = model.about_, recipe_of(model)
    height, width, channels = model.image_shape_
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    threads = f"{about['threads']} thread{'s' if about['threads'] != 1 else ''}"
    views = [f"{name.replace('_', ' ')} {plain(v)}" for name, v in recipe.get("views", {}).items() if v]
    stages = [f"{name} {duration(seconds)}" for name, seconds in recipe.get("stage_seconds", {}).items()]
    spaces = sorted(recipe.get("spaces", {}).items(), key=lambda space: -space[1])
    rows = {
        "method": f"{type(model).__name__}, {model.description}",
        "trained on": f"{printable(str(about.get('data', 'an array of images')))}, {about['images']:,} images",
        "image size": f"{height} × {width}, {colours}",
        "pixels, SHA-256": str(about.get("data_sha256", "")),
        "clusters": str(model.n_clusters_),
        "seed": str(about["seed"]),
        "epochs": f"{len(model.history_):,}",
        "time": duration(float(about["seconds"])),
        "device": f"{about['device']}, {about['precision']}, {threads}",
        "processes": str(about["processes"]),
        "new images": "refined by a second decoder" if model.refines else "",
        "corrections": corrections_text(recipe.get("corrections")),
        "pretrained backbone": _backbone_text(recipe.get("backbone")),
        "views, chosen from the images": ", ".join(views),
        "spaces that the first clusters follow": ", ".join(f"{name} {alike:.2f}" for name, alike in spaces),
        "time of each stage": ", ".join(stages),
    }
    return [(name, value) for name, value in rows.items() if value]


def disclosure(model: ImageClusterer) -> str:
    """What to say beside every result of a model that knows more than its images told it; nothing for others."""
    name, corrected = getattr(model, "backbone", None), len(model.corrected_)
    backbone = "" if name is None else f"with the pretrained backbone {printable(name)}: {DISCLOSURE}"
    return "; ".join(filter(None, [backbone, f"fitted to {corrected:,} images corrected by hand" if corrected else ""]))


def scored_rows(model: ImageClusterer, images: ImageSet) -> np.ndarray:
    """Rows of the images that a model's scores are of: those that it has heard no correction about, ascending."""
    rows = np.arange(len(images))
    if not len(model.corrected_) or model.about_.get("data_sha256") != images.fingerprint():
        return rows
    others = np.setdiff1d(rows, model.corrected_)
    return others if len(others) else rows


def _backbone_text(backbone: dict[str, Any] | None) -> str:
    if not backbone:
        return ""
    height, width = backbone["input_size"]
    return (
        f"{printable(str(backbone['name']))}, frozen, {backbone['feature_dim']:,} features of images brought to "
        f"{height} × {width}; weights SHA-256 {printable(str(backbone['weights_sha256']))}"
    )


def settings_rows(model: ImageClusterer) -> list[tuple[str, str]]:
    """Parameters of the estimator by name."""
    return [(name, plain(v)) for name, v in sorted(model.get_params().items()) if name not in NOT_SETTINGS]
