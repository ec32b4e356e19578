"""`clusterloom fit`: train on images and write a model directory with pictures of every cluster."""

import os
import shlex
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
    TrainingTalk,
    grouped,
    knob_values,
    owning,
    tell_of,
)
from clusterloom.cli.runs import check_checkpoints, check_run_dir, found, origin, remove_run, tell

if TYPE_CHECKING:
    from clusterloom.console import Output
    from clusterloom.data import ImageSet


@grouped
def fit(
    context: typer.Context,
    data: DataArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="Model directory to write.")],
    reading: Reading,
    talk: TrainingTalk,
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
        typer.Option(metavar="PLACE", help="Folder or address for the unfinished run, for --resume on any machine."),
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
    kept_in = check_checkpoints(run_dir, target)
    estimator = estimator_class(
        **parameters,
        random_state=seed,
        device=device,
        run_dir=run_dir,
        resume=resume,
        verbose=talk.verbosity,
    )
    estimator.check_parameters()  # reading images may take hours
    with talk.output() as output, owning(target, kept_in), ExitStack() as stack:
        check_run_dir(run_dir, out, resume, overwrite)
        images = stack.enter_context(_images(reading, data, estimator, output))
        diverged: DivergedError | None = None
        try:
            estimator.fit(images)
        except DivergedError as error:
            if not hasattr(estimator, "network_"):
                if is_main_process():
                    remove_run(run_dir)  # resumed, it would end the same way
                raise
            diverged = error
        pictures = model_pictures(estimator, images, output.progress)  # every process takes part
        if is_main_process():
            estimator.about_ |= origin(images, shlex.join(["clusterloom", *context.obj]))
            if diverged is not None:
                estimator.about_["stopped"] = str(diverged)
            estimator.save(target, pictures, overwrite)
            remove_run(run_dir)
            if as_json:
                output.json(found(estimator, out))
            else:
                tell(estimator, out, [data, *(["--skip-bad"] if reading.skip_bad else [])], output)
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
