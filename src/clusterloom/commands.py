"""What each command does, free of argument parsing: reads data and models, calls the library, writes results."""

import json
import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clusterloom.bundle import LEFT_BY_VIEWERS, check_target
from clusterloom.console import is_main_process
from clusterloom.data import ImageSet, holds_pictures, load_images
from clusterloom.device import memory_errors_named
from clusterloom.errors import DataError, SettingsError, TrainingError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.load import load_model
from clusterloom.estimators.methods import METHODS, method_parameters
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.files import write_atomically
from clusterloom.metrics import label_scores, per_class_table, sampled_silhouette_score
from clusterloom.networks.describe import describe, size
from clusterloom.pictures import cluster_count_plot, image_grid, member_grid, network_figure, png_bytes, to_picture
from clusterloom.recipe.cluster_count import Evidence
from clusterloom.tables import check_table_target, prediction_columns, read_labels, write_table
from clusterloom.training.loop import DivergedError
from clusterloom.training.run import CHECKPOINTS

_PICTURE_IMAGES = 20_000  # members shown are chosen among so many images at most
_GENERATED = re.compile(r"cluster-\d+(/\d{5,}\.png)?")  # what `generate` writes into a folder


@dataclass(frozen=True)
class DataOptions:
    """How images are read; see `clusterloom.data.load_images`."""

    source: str
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    skip_bad: bool = False
    limit: int | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that the images come from, if they come from one."""
        return Path(self.source) if holds_pictures(self.source) and Path(self.source).is_dir() else None

    def load(self, console: Console) -> ImageSet:
        """Read the images and say what conversion did to them."""
        images = load_images(
            self.source,
            image_size=self.image_size,
            channels=self.channels,
            skip_bad=self.skip_bad,
            limit=self.limit,
        )
        height, width, channels = images.image_shape
        _say(console, f"{printable(images.name)}: {len(images):,} images of {height} x {width} x {channels}")
        for note in images.notes:
            _say(console, f"  {note}")
        return images

    def load_for(self, model: ImageClusterer, console: Console) -> ImageSet:
        """Read images in the size and colour that a model was trained on, unless others are asked for."""
        height, width, channels = model.image_shape_
        if not holds_pictures(self.source):
            return self.load(console)
        size = self.image_size or (height, width)
        return DataOptions(self.source, size, self.channels or channels, self.skip_bad, self.limit).load(console)


@dataclass(frozen=True)
class FitOptions:
    """What to train, and where to put it.

    Attributes:
        out: The model directory.
        method: A key of `METHODS`.
        preset: A key of `PRESETS`, or None for the method's own.
        literal: Use the paper's formulas as printed.
        overrides: Estimator parameters that replace the preset's; None values are ignored.
        resume: Go on from `OUT.partial`.
        overwrite: Replace a model, or an unfinished run, that is there.
        command: What the user typed, for the model card.
    """

    out: Path
    method: str
    preset: str | None
    literal: bool
    overrides: Mapping[str, Any]
    resume: bool
    overwrite: bool
    command: str

    def parameters(self) -> dict[str, Any]:
        """Parameters of the estimator; see `clusterloom.estimators.methods.method_parameters`."""
        given = {name: value for name, value in self.overrides.items() if value is not None}
        return method_parameters(self.method, self.preset, given, self.literal)


def fit(data: DataOptions, options: FitOptions, console: Console) -> None:
    """Train on images and write a model directory with pictures of members and of new images.

    An unfinished run leaves its checkpoint in `OUT.partial`, where `resume` finds it.
    """
    parameters = options.parameters()
    check_target(options.out, options.overwrite)
    out = options.out.resolve()  # a link to a folder means that folder
    run_dir = out.with_name(out.name + ".partial")
    _check_run_dir(run_dir, options)
    estimator = METHODS[options.method](**parameters, run_dir=str(run_dir), resume=options.resume, verbose=1)
    estimator.check_parameters()  # reading images may take hours
    images = data.load(console)
    diverged: DivergedError | None = None
    try:
        estimator.fit(images)
    except DivergedError as error:
        if not hasattr(estimator, "network_"):
            raise
        diverged = error
    pictures = _pictures(estimator, images)  # every process takes part
    if not is_main_process():
        return
    estimator.about_ |= {
        "data": printable(images.name),
        "data_sha256": images.fingerprint(),
        "command": options.command,
    }
    if diverged is not None:
        estimator.about_["stopped"] = str(diverged)
    estimator.save(out, pictures, options.overwrite)
    _remove_run(run_dir)
    _say(console, f"model: {printable(str(options.out))}")
    for name in pictures:
        _say(console, f"{name.removesuffix('.png')}: {printable(str(options.out / name))}")
    if diverged is not None:
        raise diverged


def predict(model_path: Path, data: DataOptions, out: str, console: Console) -> None:
    """Write one row per image: id, cluster, probability, runner-up, score, outlier flag."""
    check_table_target(out)
    if Path(out).is_file() and Path(data.source).is_file() and Path(out).samefile(data.source):
        raise DataError(f"--out {printable(out)} is DATA itself; choose another")
    model = load_model(model_path)
    images = data.load_for(model, console)
    predicted = model.predictions(images)
    if not is_main_process():
        return
    write_table(prediction_columns(images.ids, predicted), out)
    if out != "-":
        _say(
            console, f"{len(images):,} rows: {printable(out)} ({int(predicted['outlier'].sum()):,} flagged as outliers)"
        )


@dataclass(frozen=True)
class GenerateOptions:
    """Which new images to make: `n` for one cluster, or for each where `cluster` is None."""

    cluster: int | None
    n: int
    spread: float
    seed: int
    checked: bool = True


def generate(model_path: Path, options: GenerateOptions, out: str, overwrite: bool, console: Console) -> None:
    """Write new images: a grid (a name that ends in .png), or a folder with one PNG per image."""
    path = Path(out)
    _check_picture_target(path, overwrite)
    model = load_model(model_path)
    if not isinstance(model, VariationalClusterer):
        raise SettingsError(f"{printable(str(model_path))}: a {type(model).__name__} makes no new images")
    clusters = list(range(model.n_clusters_)) if options.cluster is None else [options.cluster]
    rows = [_sampled(model, options, k) for k in clusters]
    if not is_main_process():
        return
    if path.suffix.lower() == ".png":
        # A single cluster is shown as a square rather than as one long row.
        single = options.cluster is not None
        lines = np.array_split(rows[0], max(1, round(options.n**0.5))) if single else rows
        labels = None if single else [f"cluster {k}" for k in clusters]
        write_atomically(path, png_bytes(image_grid(lines, labels)))
    else:
        for folder in path.glob("cluster-*"):  # of an earlier call, as `_check_picture_target` has seen
            shutil.rmtree(folder)
        for k, images in zip(clusters, rows, strict=True):
            _write_pictures(path / f"cluster-{k}", images)
    _say(console, f"{options.n * len(clusters):,} new images: {printable(out)}")


def evaluate(
    model_path: Path, data: DataOptions, labels_file: Path | None, as_json: bool, console: Console, talk: Console
) -> None:
    """Score a model on images: against labels where there are some, and without any.

    Args:
        model_path: The model directory.
        data: The images.
        labels_file: Labels to use instead of the data's own; see `clusterloom.tables.read_labels`.
        as_json: Print one JSON object instead of tables.
        console: Where the result goes.
        talk: Where everything else goes.
    """
    model = load_model(model_path)
    images = data.load_for(model, talk)
    labels_true, names = images.labels, images.class_names
    if labels_file is not None:
        labels_true, names = read_labels(labels_file, images.ids)
    predicted = model.predictions(images)
    if not is_main_process():
        return
    result = _unsupervised_scores(predicted)
    if labels_true is not None:
        labels_pred = predicted["proba"].argmax(1)
        result |= label_scores(labels_true, labels_pred)
        result["classes"] = [
            {**vars(row), "name": names[row.label]} for row in per_class_table(labels_true, labels_pred)
        ]
    if as_json:
        console.print(json.dumps(result), soft_wrap=True, highlight=False, markup=False)
    else:
        _print_evaluation(result, console)


def describe_model(model_path: Path, out: Path | None, overwrite: bool, console: Console, talk: Console) -> None:
    """Print a model's networks with their layers, shapes and parameter counts, and draw them where `out` says."""
    if out is not None:
        if out.suffix.lower() != ".png":
            raise DataError(f"--out {printable(str(out))}: the name must end in .png")
        _check_picture_target(out, overwrite)
    model = load_model(model_path)
    if not isinstance(model, VariationalClusterer):
        raise SettingsError(
            f"{printable(str(model_path))}: describe knows variational models, not {type(model).__name__}"
        )
    network = model.network_
    parts = describe(network)
    table = Table("network", "reads", "layers", "in", "out", "parameters", title=f"{type(model).__name__}")
    for part in parts:
        shapes = (size(part.input_shape), size(part.output_shape))
        table.add_row(part.name, part.reads, "\n".join(part.layers), *shapes, f"{part.parameters:,}")
    table.add_row("class means", "", "", "", size(tuple(network.class_means.shape)), f"{network.class_means.numel():,}")
    table.add_row("all", "", "", "", "", f"{sum(p.numel() for p in network.parameters()):,}")
    console.print(table)
    if out is not None:
        height, width, channels = model.image_shape_
        title = f"{type(model).__name__}, {model.n_clusters_} clusters, images of {height} x {width} x {channels}"
        write_atomically(out, network_figure(parts, title))
        _say(talk, f"figure: {printable(str(out))}")


def _check_run_dir(run_dir: Path, options: FitOptions) -> None:
    if any(run_dir.glob(CHECKPOINTS)) and not (options.resume or options.overwrite):
        raise SettingsError(
            f"an unfinished run is in {printable(str(run_dir))}; pass --resume to go on with it, "
            "or --overwrite to start again"
        )


def _check_picture_target(path: Path, overwrite: bool) -> None:
    out = printable(str(path))
    if path.suffix.lower() == ".png":
        if not path.parent.is_dir():
            raise DataError(f"--out {out}: the folder {printable(str(path.parent))} does not exist")
        if path.is_dir():
            raise DataError(f"--out {out} is a folder; give the name of a picture")
        if path.exists() and not overwrite:
            raise DataError(f"--out {out} exists; choose another, or pass --overwrite")
    elif path.exists() and not path.is_dir():
        raise DataError(f"--out {out} is a file; give the name of a folder, or of a picture that ends in .png")
    elif path.is_dir() and any(path.iterdir()):
        if not overwrite:
            raise DataError(f"--out {out} exists and is not an empty folder; choose another, or pass --overwrite")
        if strange := next((p for p in path.rglob("*") if not _is_generated(p, path)), None):
            raise DataError(f"--out {out} holds {printable(strange.name)}, which generate did not write; move it away")


def _is_generated(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).as_posix()
    return _GENERATED.fullmatch(inside) is not None or path.name in LEFT_BY_VIEWERS


def _sampled(model: VariationalClusterer, options: GenerateOptions, cluster: int) -> np.ndarray:
    try:
        with memory_errors_named():
            return model.sample(options.n, cluster, options.spread, options.seed + cluster, options.checked)
    except TrainingError as error:
        raise SettingsError(f"-n {options.n}: so many images at once do not fit into memory") from error


def _write_pictures(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        write_atomically(folder / f"{i:05d}.png", png_bytes(to_picture(image)))


def _remove_run(run_dir: Path) -> None:
    """Remove what only an unfinished run needs; a tracker's logs stay."""
    for path in (*run_dir.glob(CHECKPOINTS), run_dir / "metrics.jsonl"):
        path.unlink(missing_ok=True)
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        shutil.rmtree(run_dir)


def _pictures(estimator: ImageClusterer, images: ImageSet) -> dict[str, bytes]:
    step = -(-len(images) // _PICTURE_IMAGES)
    shown = images.images[::step]
    evidence = [Evidence(**e) for e in estimator.about_.get("recipe", {}).get("count_evidence", [])]
    return {
        **({"number-of-clusters.png": cluster_count_plot(evidence)} if evidence else {}),
        "clusters.png": png_bytes(member_grid(shown, estimator.predict_proba(shown), estimator.cluster_sizes_)),
        **({"generated.png": _new_images(estimator)} if isinstance(estimator, VariationalClusterer) else {}),
    }


def _new_images(estimator: VariationalClusterer) -> bytes:
    new = [estimator.sample(16, k, random_state=k) for k in range(estimator.n_clusters_)]
    return png_bytes(image_grid(new, [f"cluster {k}" for k in range(estimator.n_clusters_)]))


def _unsupervised_scores(predicted: Mapping[str, np.ndarray]) -> dict[str, Any]:
    proba = predicted["proba"]
    labels = proba.argmax(1)
    confidence = proba.max(1)
    score = float(predicted["score"].mean())
    return {
        "images": len(proba),
        "silhouette": sampled_silhouette_score(predicted["latents"], labels),
        "confidence": float(confidence.mean()),
        "score": score if math.isfinite(score) else None,  # JSON has no infinity
        "outliers": int(predicted["outlier"].sum()),
        "clusters": [
            {
                "cluster": k,
                "images": int((labels == k).sum()),
                "confidence": float(confidence[labels == k].mean()) if (labels == k).any() else None,
            }
            for k in range(proba.shape[1])
        ],
    }


def _print_evaluation(result: Mapping[str, Any], console: Console) -> None:
    clusters = Table("cluster", "images", "mean probability", title="clusters")
    for row in result["clusters"]:
        clusters.add_row(str(row["cluster"]), f"{row['images']:,}", _number(row["confidence"]))
    console.print(clusters)
    if "classes" in result:
        classes = Table("class", "images", "cluster", "recall", "precision", "most confused with", title="classes")
        name_of = {row["label"]: row["name"] for row in result["classes"]}
        for row in result["classes"]:
            cluster = "none" if row["cluster"] is None else str(row["cluster"])
            confused = name_of.get(row["confused_with"], "")
            numbers = (f"{row['recall']:.3f}", f"{row['precision']:.3f}")
            names = [Text(printable(name)) for name in (row["name"], confused)]  # plain strings would be markup
            classes.add_row(names[0], f"{row['images']:,}", cluster, *numbers, names[1])
        console.print(classes)
    scores = Table("score", "value", title=f"{result['images']:,} images")
    for name in ("accuracy", "purity", "nmi", "ari", "silhouette", "confidence"):
        if name in result:
            scores.add_row(name, _number(result[name]))
    scores.add_row("score, nats per image", _number(result["score"]))
    scores.add_row("outliers", f"{result['outliers']:,}")
    console.print(scores)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _say(console: Console, line: str) -> None:
    if is_main_process():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
