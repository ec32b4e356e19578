"""`clusterloom fit`: train on images and write a model directory with pictures of every cluster."""

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clusterloom.cli.options import (
    MAX_SEED,
    Clusters,
    DataArgument,
    Json,
    Knobs,
    Method,
    Overwrite,
    Reading,
    Talk,
    grouped,
    knob_values,
    owning,
    tell_of,
)

if TYPE_CHECKING:
    from clusterloom.console import Output
    from clusterloom.data import ImageSet

_SURE = 0.8  # a probability below it is counted as doubtful


@grouped
def fit(
    context: typer.Context,
    data: DataArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.")],
    reading: Reading,
    talk: Talk,
    clusters: Clusters = None,
    method: Method = "guided",
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Add a frozen, pretrained conv network: efficientnet-lite0, or timm:NAME. It has seen labels of other "
            "images.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes initial weights, order and noise.", min=0, max=MAX_SEED)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    knobs: Knobs = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Keep the unfinished run there, for --resume on any machine."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same --out.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Train on DATA and write a model directory.

    Labels are never looked at. Pictures of every cluster go into the directory, and the clusters are listed at the end.
    """
    from clusterloom.console import is_main_process
    from clusterloom.estimators.methods import method_named
    from clusterloom.model_dir.write import check_target
    from clusterloom.report.model_pictures import model_pictures
    from clusterloom.training.loop import DivergedError

    estimator_class = method_named(method)
    parameters = knob_values(estimator_class.Settings, clusters, [*(knobs or ()), *_knob("backbone", backbone)])
    check_target(out, overwrite)
    target = out.resolve()  # a link to a folder means that folder
    run_dir = checkpoints or str(target.with_name(target.name + ".partial"))
    estimator = estimator_class(
        **parameters,
        random_state=seed,
        device=device,
        run_dir=run_dir,
        resume=resume,
        verbose=0 if talk.quiet else 2 if talk.verbose else 1,
    )
    estimator.check_parameters()  # reading images may take hours
    with talk.output() as output, owning(target), ExitStack() as stack:
        _check_run_dir(run_dir, out, resume, overwrite)
        images = stack.enter_context(_images(reading, data, estimator, output))
        diverged: DivergedError | None = None
        try:
            estimator.fit(images)
        except DivergedError as error:
            if not hasattr(estimator, "network_"):
                if is_main_process():
                    _remove_run(run_dir)  # resumed, it would end the same way
                raise
            diverged = error
        pictures = model_pictures(estimator, images, output.progress)  # every process takes part
        if is_main_process():
            estimator.about_ |= _origin(images, shlex.join(["clusterloom", *context.obj]))
            if diverged is not None:
                estimator.about_["stopped"] = str(diverged)
            estimator.save(target, pictures, overwrite)
            _remove_run(run_dir)
            if as_json:
                output.json(_found(estimator, out))
            else:
                _tell(estimator, out, [data, *(["--skip-bad"] if reading.skip_bad else [])], output)
        if diverged is not None:
            raise diverged


def _knob(name: str, value: str | None) -> list[str]:
    return [] if value is None else [f"{name}={value}"]


@contextmanager
def _images(reading: Reading, data: str, estimator: Any, output: "Output") -> "Iterator[ImageSet]":
    """The images. Of shards no more are read than are visited, by all processes together, each its share."""
    from clusterloom.data import load_images, parts_in, some_shards
    from clusterloom.training.divided_reading import read_divided

    parts = parts_in(data) if reading.limit is None else None
    if parts is None or not all(getattr(part, "is_shard", False) for part in parts.parts()):
        yield reading.load(data, output)
        return
    if most := estimator.most_visited():
        parts = some_shards(parts, most)
    wanted = reading.wanted(data, None)
    with ExitStack() as stack:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            state = estimator.compute().processes()
            images = stack.enter_context(read_divided(parts, wanted, state, output.progress))
        else:
            images = load_images(parts, **wanted, progress=output.progress)
        tell_of(images.name, len(images), images.image_shape, images.notes, output)
        yield images


def _check_run_dir(run_dir: str, out: Path, resume: bool, overwrite: bool) -> None:
    from clusterloom.console import is_main_process
    from clusterloom.errors import SettingsError, printable
    from clusterloom.training.run_folder import checkpoints_in

    if is_main_process() and not (resume or overwrite) and checkpoints_in(run_dir):
        raise SettingsError(
            f"an unfinished run of {printable(str(out))} is there; --resume goes on with it (same settings and "
            "images), --overwrite begins again"
        )


def _origin(images: "ImageSet", command: str) -> dict[str, str]:
    from clusterloom.data.boundary import without_secrets
    from clusterloom.errors import printable

    command = without_secrets(command)
    return {"data": printable(images.name), "data_sha256": images.fingerprint(), "command": command}


def _remove_run(place: str) -> None:
    """Remove what only an unfinished run needs; a tracker's logs stay."""
    from clusterloom.data.addresses import is_address
    from clusterloom.training.run_folder import CHECKPOINTS, remove_checkpoints

    if is_address(place):
        remove_checkpoints(place)
        return
    run_dir = Path(place)
    unfinished = run_dir.glob(f".{CHECKPOINTS}.*")  # by a process that was killed a moment ago
    for path in (*run_dir.glob(CHECKPOINTS), *unfinished, run_dir / "metrics.jsonl"):
        path.unlink(missing_ok=True)
    if run_dir.is_dir() and not any(run_dir.iterdir()):
        shutil.rmtree(run_dir)


def _found(estimator: Any, out: Path) -> dict[str, Any]:
    """The clusters that were found, as JSON values."""
    from clusterloom.recipe.cluster_count import best_counts, doubt_about
    from clusterloom.report.origin import disclosure, evidence_of

    rows = []
    for k, size in enumerate(estimator.cluster_sizes_):
        confidence = estimator.confidences_[estimator.labels_ == k]
        mean = float(confidence.mean()) if size else None
        rows.append(
            {"cluster": k, "images": int(size), "confidence": mean, "doubtful": int((confidence < _SURE).sum())}
        )
    found = {"model": str(out), "clusters": rows, "seconds": estimator.about_["training_seconds"]}
    if estimator.labelled_rows_ is not None:
        found["of_a_sample"] = len(estimator.labelled_rows_)
    if evidence := evidence_of(estimator):
        found["number_of_clusters"] = {"best": best_counts(evidence), "doubt": doubt_about(evidence)}
    return {**found, "note": note} if (note := disclosure(estimator)) else found


def _tell(estimator: Any, out: Path, source: list[str], output: "Output") -> None:
    """The clusters that were found, and what to type next."""
    from rich.table import Table

    from clusterloom.data.boundary import without_secrets
    from clusterloom.errors import printable
    from clusterloom.report.origin import recipe_of

    found = _found(estimator, out)
    sampled = found.get("of_a_sample")
    captions = [f"of {sampled:,} images chosen at random" if sampled else None, found.get("note")]
    caption = "; ".join(filter(None, captions)) or None
    table = Table("cluster", "images", "mean probability", f"doubtful (below {_SURE:.0%})", caption=caption)
    for row in found["clusters"]:
        mean = "" if row["confidence"] is None else f"{row['confidence']:.3f}"
        table.add_row(str(row["cluster"]), f"{row['images']:,}", mean, f"{row['doubtful']:,}")
    output.table(table)
    if advice := recipe_of(estimator).get("count_advice"):
        output.say(advice)
    output.say(f"model: {printable(str(out))} (members of every cluster: clusters.png)")
    output.say("next:")
    for command in (["predict", str(out), *source, "--out", "clusters.csv"], ["explore", str(out), *source]):
        output.say(f"  {printable(without_secrets(shlex.join(['clusterloom', *command])))}")
