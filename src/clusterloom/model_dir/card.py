"""The model card: README.md of a model directory, made from the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clusterloom.model_dir.contents import ModelContents
from clusterloom.training.progress import NOT_TERMS

NOT_SETTINGS = {"run_dir", "resume", "tracker", "verbose"}  # parameters that say nothing of the model
FOLLOWED = "spaces that the first clusters follow (adjusted Rand index)"


def model_card(contents: ModelContents, pictures: Sequence[str]) -> str:
    """Text of the card, in Markdown.

    Args:
        contents: What the model directory holds; `about` may name the data and the command, as the command line does.
        pictures: Names of the PNG files beside the card.
    """
    settings, about, history = contents.settings, contents.about, contents.history
    height, width, channels = settings["image_shape"]
    labels, names = contents.tensors["labels"], settings.get("cluster_names", [""] * settings["n_clusters"])
    cluster_sizes = np.bincount(labels, minlength=settings["n_clusters"])
    scored = np.setdiff1d(np.arange(len(labels)), contents.tensors.get("corrected", []))
    sums = np.bincount(labels[scored], contents.tensors["confidences"][scored], settings["n_clusters"])
    confidences = sums / np.maximum(np.bincount(labels[scored], minlength=settings["n_clusters"]), 1)
    last = next((record for record in reversed(history) if record.get("stage") != "refine"), history[-1])
    data = about.get("data", "images given as an array")
    commands = ["clusterloom predict THIS_FOLDER IMAGES --out clusters.csv"]
    if "network.scale_tril" in contents.tensors:  # that new images are drawn with
        commands.append("clusterloom generate THIS_FOLDER --out generated.png")
    sections = [
        "# A clusterloom model",
        f"Method {settings['method']}, {settings['n_clusters']} clusters, trained without labels on "
        f"{about['images']:,} images of {height} x {width} x {channels} ({_cell(data)}).",
        "\n".join(f"![{name.removesuffix('.png')}]({name})" for name in pictures),
        "## Use",
        "```\n" + "\n".join(commands) + "\n```",
        '```python\nfrom clusterloom import load_model\n\nmodel = load_model("THIS_FOLDER")\n```',
        "## Training",
        _table(
            [
                ("command", about.get("command", "Python")),
                ("seed", about["seed"]),
                ("epochs", len(history)),
                ("final loss, nats per image", f"{last['loss']:.3f}"),
                *((f"- {name}", f"{value:.3f}") for name, value in last.items() if name not in NOT_TERMS),
                ("time, seconds", f"{about['training_seconds']:,.1f}"),
                ("device", f"{about['device']}, {about['precision']}, {about['threads']} threads"),
                *_recipe_rows(about.get("recipe", {})),
            ],
            ("", ""),
        ),
        *_correction_sections(about.get("recipe", {}).get("corrections")),
        *_backbone_sections(about.get("recipe", {}).get("backbone")),
        *_count_sections(about.get("recipe", {}), settings["n_clusters"]),
        *_refine_sections(contents),
        "## Clusters",
        _table(
            [
                (f"{k} {name}".strip(), f"{size:,}", f"{size / max(cluster_sizes.sum(), 1):.1%}", f"{confidence:.3f}")
                for k, (size, confidence, name) in enumerate(zip(cluster_sizes, confidences, names, strict=True))
            ],
            ("cluster", "training images", "share", "mean probability"),
        ),
        "## Settings",
        _table(
            sorted((k, v) for k, v in settings["parameters"].items() if k not in NOT_SETTINGS), ("parameter", "value")
        ),
        "## Versions",
        _table(list(about["versions"].items()), ("package", "version")),
        "## Limits",
        "Clusters are groups of images that look alike to this model; nothing guarantees that they are the categories "
        "that a person would name. Probabilities are the model's own; a low score or an outlier flag means unlike the "
        "training images, not wrong. The files are checked against the hashes in config.json when the model is loaded.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _recipe_rows(recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the guided recipe decided from the images, and how long its stages took."""
    if not recipe:
        return []
    views = ", ".join(f"{name} {value}" for name, value in recipe["views"].items() if value)
    spaces = sorted(recipe.get("spaces", {}).items(), key=lambda space: -space[1])
    return [
        *((f"- {stage}, seconds", f"{seconds:,.1f}") for stage, seconds in recipe["stage_seconds"].items()),
        ("views, chosen from the images", views),
        *([(FOLLOWED, ", ".join(f"{name} {alike:.2f}" for name, alike in spaces))] if spaces else []),
    ]


def corrections_text(corrections: Mapping[str, int] | None) -> str:
    """How much a model has heard from a user, in words; "" where nothing.

    Example:
        >>> corrections_text({"images": 90, "outliers": 0, "merged": 1, "made": 1, "named": 3})
        '90 images kept or moved, 1 cluster merged, 1 cluster made, 3 clusters named'
    """
    words = {
        "images": ("image kept or moved", "images kept or moved"),
        "outliers": ("image marked as an outlier", "images marked as outliers"),
        "merged": ("cluster merged", "clusters merged"),
        "made": ("cluster made", "clusters made"),
        "named": ("cluster named", "clusters named"),
    }
    counts = {name: (corrections or {}).get(name, 0) for name in words}
    return ", ".join(f"{n:,} {words[name][n != 1]}" for name, n in counts.items() if n)


def _correction_sections(corrections: Mapping[str, int] | None) -> list[str]:
    """What the model has heard from a user, if anything."""
    if not corrections:
        return []
    return [
        "## Corrections",
        f"Fitted again to what a user said: **{corrections_text(corrections)}**. Mean probabilities below, and the "
        "scores that `evaluate` and `report` give on these images, are of those that were not corrected.",
    ]


def _backbone_sections(backbone: Mapping[str, Any] | None) -> list[str]:
    """What is known of a pretrained network in the model, if there is one."""
    if not backbone:
        return []
    return [
        "## Pretrained backbone",
        f"Beside what was learned from these images, the model reads a frozen network, {_cell(backbone['name'])}: "
        f"**{_cell(backbone['note'])}**. Its weights are in model.safetensors.",
        _table([(name.replace("_", " "), value) for name, value in backbone.items() if name != "note"], ("", "")),
    ]


def _refine_sections(contents: ModelContents) -> list[str]:
    """What new images are, where a second decoder makes them."""
    if "network.refiner.helps" not in contents.tensors:
        return []
    if not contents.tensors["network.refiner.helps"]:
        return [
            "## New images",
            "New images are soft, as the decoder makes them: the second one has learned too little from these images.",
        ]
    guidance = contents.tensors["network.refiner.guidance"].item()
    losses = [record["loss"] for record in contents.history if record.get("stage") == "refine"]
    lost = f", its loss from {losses[0]:,.2f} to {losses[-1]:,.2f}" if losses else ""  # none where it diverged at once
    return [
        "## New images",
        "The pictures beside this card, `generate` and `sample` show what the second decoder makes of the first one's "
        "images. `generate --plain` shows those of the first. Reconstructions and scores are the first one's alone. "
        f"The second decoder had {len(losses)} epochs{lost}. Its part is exaggerated {guidance:.2f} times (guidance), "
        "as far as brings patches of new images nearest to those of real ones.",
    ]


def count_text(recipe: Mapping[str, Any]) -> str:
    """How the number of clusters was found, in words; "" where it was given."""
    if not recipe.get("count_evidence"):
        return ""
    return f"Found from the images: {recipe.get('count_advice', '')}. {recipe.get('count_explained', '')}"


def _count_sections(recipe: Mapping[str, Any], chosen: int) -> list[str]:
    """How the number of clusters was found, where it was."""
    evidence = recipe.get("count_evidence", [])
    if not evidence:
        return []
    columns = ("modularity", "stability", "agreement", "coverage", "concentration", "score")
    rows = [
        (
            f"**{chosen}**" if row["n_clusters"] == chosen else row["n_clusters"],
            *(f"{row[name]:.3f}" for name in columns),
        )
        for row in evidence
    ]
    return [
        "## Number of clusters",
        count_text(recipe),
        _table(rows, ("clusters", *columns)),
    ]


def _table(rows: Sequence[tuple[Any, ...]], header: tuple[str, ...]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in lines)


def _cell(value: Any) -> str:
    """A value that cannot break out of its table cell or bring markup in: names come from users' files."""
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text.replace("\n", " ").replace("|", "\\|").replace("<", "&lt;")
