"""Commands that make a model or ask something of one."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from clusterloom.cli.options import (
    MAX_SEED,
    Channels,
    DataArgument,
    ImageSize,
    Limit,
    ModelArgument,
    Overwrite,
    SkipBad,
    data_options,
    printer,
    seed_numbers,
    talk,
    whole_numbers,
)

app = typer.Typer()

_PAPER = "The paper's formulas"
_NETWORK = "Network"
_TRAINING = "Training"
_IMAGES = "Reading images"


@app.command()
def fit(
    context: typer.Context,
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Model directory to write.")],
    clusters: Annotated[
        str, typer.Option(help="Number of clusters; auto finds it from 2 to 20, FROM-TO in that range.", metavar="K")
    ] = "10",
    method: Annotated[str, typer.Option(help="convvae; vae for flattened pixels, dec, ae-kmeans.")] = "convvae",
    preset: Annotated[
        str | None,
        typer.Option(help="Set of defaults: guided or paper. Default: guided; paper for other methods and --literal."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Fixes initial weights, order and noise.", min=0, max=MAX_SEED)] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of the same --out.")] = False,
    overwrite: Overwrite = False,
    colour_views: Annotated[
        bool | None,
        typer.Option(
            help="Change colours in views of colour images; not where kinds differ by colour.",
            rich_help_panel=_TRAINING,
        ),
    ] = None,
    latent_dim: Annotated[
        int | None, typer.Option(max=10**6, help="Latent dimensions, the paper's s.", rich_help_panel=_NETWORK)
    ] = None,
    conv_depth: Annotated[
        int | None, typer.Option(help="Conv layers per network, the paper's n.", rich_help_panel=_NETWORK)
    ] = None,
    hidden_dim: Annotated[
        int | None, typer.Option(max=10**6, help="Width of dense layers, the paper's m.", rich_help_panel=_NETWORK)
    ] = None,
    conv_filters: Annotated[
        str | None, typer.Option(help="Filters of each conv network, such as 16,32.", rich_help_panel=_NETWORK)
    ] = None,
    conv_kernels: Annotated[
        str | None, typer.Option(help="Kernel size of each conv network, such as 3,5.", rich_help_panel=_NETWORK)
    ] = None,
    concatenate: Annotated[
        bool | None, typer.Option(help="Use all conv networks' outputs, or the last one's.", rich_help_panel=_NETWORK)
    ] = None,
    encoder_activation: Annotated[
        str | None, typer.Option(help="relu, or none for a linear encoder.", rich_help_panel=_NETWORK)
    ] = None,
    initial_weights: Annotated[str | None, typer.Option(help="torch or glorot.", rich_help_panel=_NETWORK)] = None,
    category_input: Annotated[
        str | None, typer.Option(help="latent for q(y|z), features for q(y|x).", rich_help_panel=_NETWORK)
    ] = None,
    conv_downsample: Annotated[
        str | None, typer.Option(help="How conv networks halve images: stride or pool.", rich_help_panel=_NETWORK)
    ] = None,
    batch_norm: Annotated[bool | None, typer.Option(help="Normalise over the batch.", rich_help_panel=_NETWORK)] = None,
    literal: Annotated[
        bool,
        typer.Option(
            "--literal", help="Formulas (3) and (7) as printed, on q(y|x); they do not cluster.", rich_help_panel=_PAPER
        ),
    ] = False,
    prior: Annotated[str | None, typer.Option(help="class or standard.", rich_help_panel=_PAPER)] = None,
    kl: Annotated[str | None, typer.Option(help="sampled or analytic.", rich_help_panel=_PAPER)] = None,
    category_formula: Annotated[str | None, typer.Option(help="entropy or printed.", rich_help_panel=_PAPER)] = None,
    reconstruction_weight: Annotated[
        float | None, typer.Option(help="Weight of formula (2); default 2.5 on 28 x 28.", rich_help_panel=_PAPER)
    ] = None,
    category_weight: Annotated[
        float | None, typer.Option(help="Weight of formula (7); default 1.", rich_help_panel=_PAPER)
    ] = None,
    kl_weight: Annotated[float | None, typer.Option(help="Weight of formula (3).", rich_help_panel=_PAPER)] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the images.", rich_help_panel=_TRAINING)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.", rich_help_panel=_TRAINING)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.", rich_help_panel=_TRAINING)] = None,
    patience_epochs: Annotated[
        int | None,
        typer.Option(help="Stop when the loss has not improved for so many epochs.", rich_help_panel=_TRAINING),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_TRAINING)
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32 or bf16.", rich_help_panel=_TRAINING)] = None,
    tracker: Annotated[
        str | None, typer.Option(help="Also log to tensorboard or mlflow.", rich_help_panel=_TRAINING)
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(help="Resize pictures to SIDE or HEIGHTxWIDTH pixels.", metavar="SIZE", rich_help_panel=_IMAGES),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="Convert pictures to 1 (grey) or 3 (colour) channels.", rich_help_panel=_IMAGES),
    ] = None,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Leave out files that cannot be read, and list them.", rich_help_panel=_IMAGES),
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Use a random subset of so many images.", rich_help_panel=_IMAGES)
    ] = None,
) -> None:
    """Train on DATA without labels and write a model directory with pictures of every cluster."""
    from clusterloom import commands

    options = commands.FitOptions(
        out,
        method,
        preset,
        literal,
        {
            "n_clusters": _cluster_number(clusters),
            "random_state": seed,
            "colour_views": colour_views,
            "latent_dim": latent_dim,
            "conv_depth": conv_depth,
            "hidden_dim": hidden_dim,
            "conv_filters": whole_numbers("--conv-filters", conv_filters),
            "conv_kernels": whole_numbers("--conv-kernels", conv_kernels),
            "concatenate": concatenate,
            "conv_downsample": conv_downsample,
            "batch_norm": batch_norm,
            "encoder_activation": encoder_activation,
            "initial_weights": initial_weights,
            "category_input": category_input,
            "prior": prior,
            "kl": kl,
            "category_formula": category_formula,
            "reconstruction_weight": reconstruction_weight,
            "category_weight": category_weight,
            "kl_weight": kl_weight,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "patience_epochs": patience_epochs,
            "device": device,
            "precision": precision,
            "tracker": tracker,
        },
        resume,
        overwrite,
        shlex.join(["clusterloom", *context.obj]),
    )
    commands.fit(data_options(data, image_size, channels, skip_bad, limit), options, talk())


@app.command()
def sweep(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Folder for the models, the table and the plot.", metavar="FOLDER")],
    vary: Annotated[
        list[str] | None,
        typer.Option(help="NAME=A,B,C, NAME=LOW..HIGH or NAME=log:LOW..HIGH; several times.", metavar="KNOB"),
    ] = None,
    fixed: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE for all runs; several times.", metavar="PARAMETER")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Draw so many settings; by default every combination is tried.", min=1)
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; one run each of every setting.")] = "0",
    clusters: Annotated[str, typer.Option(help="Number of clusters, as for fit.", metavar="K")] = "10",
    method: Annotated[str, typer.Option(help="As for fit.")] = "convvae",
    preset: Annotated[str | None, typer.Option(help="As for fit.")] = None,
    rank_by: Annotated[
        str, typer.Option(help="modularity (on pixels), silhouette, confidence or likelihood; none sees labels.")
    ] = "modularity",
    storage: Annotated[
        str | None,
        typer.Option(help="Database that workers share, such as postgresql+psycopg://user@host/name.", metavar="URL"),
    ] = None,
    name: Annotated[str, typer.Option(help="The sweep's name in the database.")] = "sweep",
    grace_seconds: Annotated[
        int, typer.Option(help="Take a run from a worker that has given no sign of life for so long.", min=6)
    ] = 120,
    show: Annotated[bool, typer.Option("--show", help="Run nothing; print what has been found.")] = False,
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Try many settings, rank them without labels. The same command resumes a sweep, or helps one that is running."""
    from clusterloom.console import Output
    from clusterloom.sweep.sweep import SweepOptions, found
    from clusterloom.sweep.sweep import sweep as make_runs

    options = SweepOptions(
        out=out,
        method=method,
        preset=preset,
        vary=vary or (),
        fixed={"n_clusters": _cluster_number(clusters), **_parameters(method, fixed or [])},
        trials=trials,
        seeds=seed_numbers(seeds),
        rank_by=rank_by,
        storage=storage,
        name=name,
        grace_seconds=grace_seconds,
    )
    output = Output()
    if show:
        results = found(options, output.say)
    else:
        images = data_options(data, image_size, channels, skip_bad, limit)
        results = make_runs(partial(images.load, talk()), options, output.say)
    output.result(results.table())
    for line in results.remarks():
        output.result(line)


@app.command()
def predict(
    model: ModelArgument,
    data: DataArgument,
    out: Annotated[str, typer.Option(help="labels.csv, labels.parquet, or - for the screen.")] = "-",
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Write one row per image: id, cluster, probability, runner-up, score and outlier flag."""
    from clusterloom import commands

    commands.predict(model, data_options(data, image_size, channels, skip_bad, limit), out, talk())


@app.command()
def generate(
    model: ModelArgument,
    out: Annotated[str, typer.Option(help="A grid (NAME.png), or a folder for one PNG per image.")],
    cluster: Annotated[int | None, typer.Option(help="One cluster only; by default all of them.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=10**9, help="New images per cluster.")] = 16,
    spread: Annotated[float, typer.Option(help="Standard deviation around the class mean; 1 is the prior.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers.", min=0, max=MAX_SEED)] = 0,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Keep also images that the model would put into another cluster.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate new images of each cluster."""
    from clusterloom import commands

    options = commands.GenerateOptions(cluster, n, spread, seed, not unchecked)
    commands.generate(model, options, out, overwrite, talk())


@app.command()
def evaluate(
    model: ModelArgument,
    data: DataArgument,
    labels: Annotated[
        Path | None, typer.Option(help="Labels: .npy, .csv with columns id and label, or text with one per line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Score a model: sizes and confidence, and where labels exist accuracy, purity, NMI, ARI and a table per class."""
    from clusterloom import commands

    options = data_options(data, image_size, channels, skip_bad, limit)
    commands.evaluate(model, options, labels, as_json, printer(), talk())


@app.command()
def describe(
    model: ModelArgument,
    out: Annotated[Path | None, typer.Option(help="Also draw the networks: NAME.png.", metavar="FILE")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print a model's networks: layers, shapes and parameter counts, as in the paper's figure 1."""
    from clusterloom import commands

    commands.describe_model(model, out, overwrite, printer(), talk())


def _cluster_number(text: str) -> int | tuple[int, ...] | str:
    if text == "auto":
        return text
    try:
        numbers = tuple(int(part) for part in text.split("-"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2) or (len(numbers) == 2 and not 2 <= numbers[0] <= numbers[1]):
        raise typer.BadParameter(f"--clusters {text}: expected a number, FROM-TO with FROM at least 2, or auto")
    return numbers[0] if len(numbers) == 1 else numbers


def _parameters(method: str, texts: list[str]) -> dict[str, Any]:
    """Estimator parameters from NAME=VALUE."""
    from clusterloom.sweep.plan import parse_knob

    knobs = [parse_knob(method, text) for text in texts]
    for knob, text in zip(knobs, texts, strict=True):
        if len(knob.values) != 1:
            raise typer.BadParameter(f"--set {text}: expected NAME=VALUE")
    return {knob.name: knob.values[0] for knob in knobs}
