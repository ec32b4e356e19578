"""`paper.: the paper's experiments."""

import contextlib
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterloom.cli.options import MAX_SEED, Limit, printer, seed_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paper.records import Records
    from paper.runs import Extent

app = typer.Typer(help="The paper's experiments.", no_args_is_help=True)

Seeds = Annotated[str, typer.Option(help="Seeds, separated by commas; one run each.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training images.", min=1)]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
Show = Annotated[bool, typer.Option("--show", help="Run nothing; print what is on file.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="One epoch of a few images; nothing is kept.")]


@app.command()
def table1(
    context: typer.Context,
    rows: Annotated[
        str | None, typer.Option(help="Numbers from 1 to 14, mnist or fashion-mnist, separated by commas; all of them.")
    ] = None,
    seeds: Seeds = "0",
    epochs: Epochs = 50,
    limit: Limit = None,
    precision: Precision = "auto",
    category_input: Annotated[str, typer.Option(help="latent for q(y|z), features for q(y|x).")] = "latent",
    kl: Annotated[str, typer.Option(help="Formula (3): sampled or analytic.")] = "sampled",
    encoder_activation: Annotated[str, typer.Option(help="Of the encoder's hidden layer: relu or none.")] = "relu",
    initial_weights: Annotated[str, typer.Option(help="torch or glorot.")] = "torch",
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 100,
    reconstruction_weight: Annotated[
        float | None, typer.Option(help="Of formula (2); 2.5 for MNIST, 28 for Fashion-MNIST.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="File of finished runs; benchmarks/results/table1.jsonl.", metavar="FILE")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Save the models there.", file_okay=False, metavar="FOLDER")] = None,
    show: Show = False,
    smoke: Smoke = False,
) -> None:
    """Run the 14 rows of Table 1 and set the printed figures beside ours. Runs on file are not repeated."""
    from paper import table1 as experiment

    chosen = experiment.chosen_rows(rows)
    reading = experiment.Reading(
        category_input, kl, encoder_activation, initial_weights, batch_size, reconstruction_weight
    )
    extent = _extent(seeds, epochs, limit, precision, smoke)
    with _records(results or experiment.default_path(), smoke) as records:
        if not show:
            command = shlex.join(["clusterloom", *context.obj])
            experiment.run(chosen, reading, extent, records, command, None if smoke else keep)
        printer().print(experiment.table(chosen, reading, extent, records))


@app.command()
def baselines(
    context: typer.Context,
    methods: Annotated[
        str | None, typer.Option(help="vae, dec, ae-kmeans, kmeans, gmm, separated by commas; all of them.")
    ] = None,
    datasets: Annotated[str | None, typer.Option(help="mnist, fashion-mnist; both.")] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Also the plain VAE around the paper's peak.")] = False,
    seeds: Seeds = "0",
    epochs: Epochs = 50,
    limit: Limit = None,
    precision: Precision = "auto",
    results: Annotated[
        Path | None, typer.Option(help="File of finished runs; benchmarks/results/baselines.jsonl.", metavar="FILE")
    ] = None,
    show: Show = False,
    smoke: Smoke = False,
) -> None:
    """Run what the paper compares itself with, and simpler methods. Runs on file are not repeated."""
    from paper import baselines as experiment

    chosen = experiment.chosen(methods, datasets, grid)
    extent = _extent(seeds, epochs, limit, precision, smoke)
    with _records(results or experiment.default_path(), smoke) as records:
        if not show:
            experiment.run(chosen, extent, records, shlex.join(["clusterloom", *context.obj]))
        printer().print(experiment.table(chosen, extent, records))


@app.command()
def figures(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for pictures and models.", file_okay=False, metavar="FOLDER")],
    plain: Annotated[
        Path | None, typer.Option(help="A plain VAE's model directory, in place of training one.", metavar="MODEL")
    ] = None,
    ours: Annotated[
        Path | None, typer.Option(help="A convolutional model, in place of training one.", metavar="MODEL")
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="The paper's s.")] = 60,
    conv_depth: Annotated[int, typer.Option(help="The paper's n.")] = 5,
    hidden_dim: Annotated[int, typer.Option(help="The paper's m.")] = 512,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED)] = 0,
    epochs: Epochs = 50,
    limit: Limit = None,
    precision: Precision = "auto",
    results: Annotated[
        Path | None, typer.Option(help="File of the numbers; benchmarks/results/figures.jsonl.", metavar="FILE")
    ] = None,
    smoke: Smoke = False,
) -> None:
    """Draw figures 1 to 4, and measure new images of every class of Fashion-MNIST, plain VAE beside ours."""
    from paper import figures as experiment

    extent = _extent(str(seed), epochs, limit, precision, smoke)
    setting = experiment.Setting(latent_dim, conv_depth, hidden_dim)
    out.mkdir(parents=True, exist_ok=True)
    given = {name: experiment.given_model(path) for name, path in (("plain", plain), ("ours", ours)) if path}
    models = given
    if len(given) < 2:
        with tempfile.TemporaryDirectory() as scratch:  # a later run must not take models of one epoch
            models = experiment.fit_models(Path(scratch) if smoke else out, setting, extent, models)
    with _records(results or experiment.default_path(), smoke) as records:
        table = experiment.draw(out, models, extent, records, shlex.join(["clusterloom", *context.obj]))
    printer().print(table)


@app.command()
def ablations(
    context: typer.Context,
    studies: Annotated[
        str | None, typer.Option(help="Names of studies, separated by commas; all of them.", metavar="NAMES")
    ] = None,
    datasets: Annotated[str, typer.Option(help="mnist, fashion-mnist, or both.")] = "mnist",
    seeds: Seeds = "0",
    epochs: Epochs = 10,
    limit: Limit = None,
    precision: Precision = "auto",
    results: Annotated[
        Path | None, typer.Option(help="File of finished runs; benchmarks/results/ablations.jsonl.", metavar="FILE")
    ] = None,
    show: Show = False,
    smoke: Smoke = False,
) -> None:
    """Change one part of the model at a time, and answer the paper's claims. Runs on file are not repeated."""
    from paper import ablations as experiment

    names, sets = experiment.chosen(studies, datasets)
    extent = _extent(seeds, epochs, limit, precision, smoke)
    with _records(results or experiment.default_path(), smoke) as records:
        if not show:
            experiment.run(names, sets, extent, records, shlex.join(["clusterloom", *context.obj]))
        for dataset in sets:
            for study in (experiment.STUDIES[name] for name in names):
                printer().print(experiment.table(study, dataset, extent, records))
                printer().print(experiment.answer(study, dataset, extent, records), highlight=False, markup=False)


@app.command("page")
def reproduction_page(
    out: Annotated[Path, typer.Option(help="The page.", metavar="FILE")] = Path("docs/reproduction.md"),
    results: Annotated[Path, typer.Option(help="Folder of the files of finished runs.", metavar="FOLDER")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Write docs/reproduction.md from the files of finished runs."""
    from paper.page import page

    from clusterloom.files import write_atomically

    write_atomically(out, page(results).encode())


def _extent(seeds: str, epochs: int, limit: int | None, precision: str, smoke: bool) -> "Extent":
    from paper.runs import SMOKE, Extent

    return SMOKE if smoke else Extent(seed_numbers(seeds), epochs, limit, precision)


@contextlib.contextmanager
def _records(path: Path, smoke: bool) -> "Iterator[Records]":
    """The file of finished runs, or one that is gone afterwards."""
    from paper.records import Records

    with tempfile.TemporaryDirectory() as folder:
        yield Records(Path(folder, path.name) if smoke else path)
