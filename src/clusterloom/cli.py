"""The command line: arguments and exit statuses. What commands do is in `clusterloom.commands`.

Exit status: 0 done; 2 bad input, with one line that says what to do; 1 the machine failed (disk full, no
permission); 130 interrupted; 141 the reader of the output went away. Heavy imports wait until a command runs, so that
help is quick.
"""

import contextlib
import errno
import os
import shlex
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from clusterloom.commands import DataOptions
    from clusterloom.reproduce.records import Records
    from clusterloom.reproduce.runs import Extent

app = typer.Typer(
    help="Sort unlabelled images into clusters, with probabilities, and generate new images of each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Built-in data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
reproduce_app = typer.Typer(help="The paper's experiments.", no_args_is_help=True)
app.add_typer(reproduce_app, name="reproduce")

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A folder of images, .npy, .npz, IDX, parquet, or a built-in name (data list)."
    ),
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory, as fit writes it.")]
ImageSize = Annotated[str | None, typer.Option(help="Resize pictures to SIDE or HEIGHTxWIDTH pixels.", metavar="SIZE")]
Channels = Annotated[int | None, typer.Option(help="Convert pictures to 1 (grey) or 3 (colour) channels.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read, and list them.")]
Limit = Annotated[int | None, typer.Option(help="Use a random subset of so many images.")]
Seeds = Annotated[str, typer.Option(help="Seeds, separated by commas; one run each.")]
Epochs = Annotated[int, typer.Option(help="Passes over the training images.", min=1)]
Show = Annotated[bool, typer.Option("--show", help="Run nothing; print what is on file.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="One epoch of a few images; nothing is kept.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

_PAPER = "The paper's formulas"
_NETWORK = "Network"
_TRAINING = "Training"
_IMAGES = "Reading images"


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"clusterloom {version('clusterloom')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


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
    seed: Annotated[int, typer.Option(help="Fixes initial weights, order and noise.", min=0)] = 0,
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
        int | None, typer.Option(help="Latent dimensions, the paper's s.", rich_help_panel=_NETWORK)
    ] = None,
    conv_depth: Annotated[
        int | None, typer.Option(help="Conv layers per network, the paper's n.", rich_help_panel=_NETWORK)
    ] = None,
    hidden_dim: Annotated[
        int | None, typer.Option(help="Width of dense layers, the paper's m.", rich_help_panel=_NETWORK)
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
        preset or ("guided" if method == "convvae" and not literal else "paper"),
        literal,
        {
            "n_clusters": _cluster_number(clusters),
            "random_state": seed,
            "colour_views": colour_views,
            "latent_dim": latent_dim,
            "conv_depth": conv_depth,
            "hidden_dim": hidden_dim,
            "conv_filters": _numbers("--conv-filters", conv_filters),
            "conv_kernels": _numbers("--conv-kernels", conv_kernels),
            "concatenate": concatenate,
            "conv_downsample": conv_downsample,
            "batch_norm": batch_norm,
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
    commands.fit(_data(data, image_size, channels, skip_bad, limit), options, _talk())


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

    commands.predict(model, _data(data, image_size, channels, skip_bad, limit), out, _talk())


@app.command()
def generate(
    model: ModelArgument,
    out: Annotated[str, typer.Option(help="A grid (NAME.png), or a folder for one PNG per image.")],
    cluster: Annotated[int | None, typer.Option(help="One cluster only; by default all of them.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="New images per cluster.")] = 16,
    spread: Annotated[float, typer.Option(help="Standard deviation around the class mean; 1 is the prior.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers.", min=0)] = 0,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Keep also images that the model would put into another cluster.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate new images of each cluster."""
    from clusterloom import commands

    options = commands.GenerateOptions(cluster, n, spread, seed, not unchecked)
    commands.generate(model, options, out, overwrite, _talk())


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
    from rich.console import Console

    from clusterloom import commands

    options = _data(data, image_size, channels, skip_bad, limit)
    commands.evaluate(model, options, labels, as_json, Console(), _talk())


@app.command()
def describe(
    model: ModelArgument,
    out: Annotated[Path | None, typer.Option(help="Also draw the networks: NAME.png.", metavar="FILE")] = None,
) -> None:
    """Print a model's networks: layers, shapes and parameter counts, as in the paper's figure 1."""
    from clusterloom import commands

    commands.describe_model(model, out, _printer(), _talk())


@data_app.command("list")
def data_list() -> None:
    """List the built-in data sets."""
    from clusterloom.data import BUILTIN

    for name in BUILTIN:
        print(name)


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="mnist or fashion-mnist.")]) -> None:
    """Download a data set, check it against its known SHA-256, and keep it for later."""
    from clusterloom.data import fetch

    print(fetch(name, report=lambda line: print(line, file=sys.stderr)))


@reproduce_app.command()
def table1(
    context: typer.Context,
    rows: Annotated[
        str | None, typer.Option(help="Numbers from 1 to 14, mnist or fashion-mnist, separated by commas; all of them.")
    ] = None,
    seeds: Seeds = "0",
    epochs: Epochs = 50,
    limit: Limit = None,
    category_input: Annotated[str, typer.Option(help="latent for q(y|z), features for q(y|x).")] = "latent",
    kl: Annotated[str, typer.Option(help="Formula (3): sampled or analytic.")] = "sampled",
    batch_size: Annotated[int, typer.Option(help="Images per step.")] = 100,
    reconstruction_weight: Annotated[
        float | None, typer.Option(help="Of formula (2); 2.5 for MNIST, 10 for Fashion-MNIST.")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="File of finished runs; benchmarks/results/table1.jsonl.", metavar="FILE")
    ] = None,
    show: Show = False,
    smoke: Smoke = False,
) -> None:
    """Run the 14 rows of Table 1 and set the printed figures beside ours. Runs on file are not repeated."""
    from clusterloom.reproduce import table1 as experiment

    chosen = experiment.chosen_rows(rows)
    reading = experiment.Reading(category_input, kl, batch_size, reconstruction_weight)
    extent = _extent(seeds, epochs, limit, smoke)
    with _records(results or experiment.default_path(), smoke) as records:
        if not show:
            experiment.run(chosen, reading, extent, records, shlex.join(["clusterloom", *context.obj]))
        _printer().print(experiment.table(chosen, reading, extent, records))


@reproduce_app.command()
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
    results: Annotated[
        Path | None, typer.Option(help="File of finished runs; benchmarks/results/baselines.jsonl.", metavar="FILE")
    ] = None,
    show: Show = False,
    smoke: Smoke = False,
) -> None:
    """Run what the paper compares itself with, and simpler methods. Runs on file are not repeated."""
    from clusterloom.reproduce import baselines as experiment

    chosen = experiment.chosen(methods, datasets, grid)
    extent = _extent(seeds, epochs, limit, smoke)
    with _records(results or experiment.default_path(), smoke) as records:
        if not show:
            experiment.run(chosen, extent, records, shlex.join(["clusterloom", *context.obj]))
        _printer().print(experiment.table(chosen, extent, records))


@reproduce_app.command()
def figures(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for pictures and models.", metavar="FOLDER")],
    plain: Annotated[
        Path | None, typer.Option(help="A plain VAE's model directory, in place of training one.", metavar="MODEL")
    ] = None,
    ours: Annotated[
        Path | None, typer.Option(help="A convolutional model, in place of training one.", metavar="MODEL")
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="The paper's s.")] = 60,
    conv_depth: Annotated[int, typer.Option(help="The paper's n.")] = 5,
    hidden_dim: Annotated[int, typer.Option(help="The paper's m.")] = 512,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    epochs: Epochs = 50,
    limit: Limit = None,
    results: Annotated[
        Path | None, typer.Option(help="File of the numbers; benchmarks/results/figures.jsonl.", metavar="FILE")
    ] = None,
    smoke: Smoke = False,
) -> None:
    """Draw figures 1 to 4, and measure new images of every class of Fashion-MNIST, plain VAE beside ours."""
    from clusterloom.reproduce import figures as experiment

    extent = _extent(str(seed), epochs, limit, smoke)
    setting = experiment.Setting(latent_dim, conv_depth, hidden_dim)
    out.mkdir(parents=True, exist_ok=True)
    given = {name: experiment.given_model(path) for name, path in (("plain", plain), ("ours", ours)) if path}
    models = given
    if len(given) < 2:
        models = experiment.fit_models(out, setting, extent, models)
    with _records(results or experiment.default_path(), smoke) as records:
        table = experiment.draw(out, models, extent, records, shlex.join(["clusterloom", *context.obj]))
    _printer().print(table)


@reproduce_app.command("page")
def reproduction_page(
    out: Annotated[Path, typer.Option(help="The page.", metavar="FILE")] = Path("docs/reproduction.md"),
    results: Annotated[Path, typer.Option(help="Folder of the files of finished runs.", metavar="FOLDER")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Write docs/reproduction.md from the files of finished runs."""
    from clusterloom.files import write_atomically
    from clusterloom.reproduce.page import page

    write_atomically(out, page(results).encode())


def main() -> NoReturn:
    """Entry point: runs a command and turns what it raises into one line and an exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run a command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit status.
    """
    warnings.showwarning = _show_warning
    command = typer.main.get_command(app)
    try:
        # Not `command.main`: it ends the program itself when an output pipe is closed.
        with command.make_context("clusterloom", list(arguments), obj=arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader has gone. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except KeyboardInterrupt:
        return _fail("interrupted; a fit goes on with --resume", 130)
    except Exception as error:
        return _report(error)


def _report(error: Exception) -> int:
    """One line for an expected error, and its exit status; anything else is a defect and is raised."""
    name = type(error).__name__
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # the parser's own errors
        return _fail(error.format_message() or "see clusterloom --help", 2) if error.exit_code else 0
    if name in ("Abort", "Exit"):
        return 130 if name == "Abort" else int(getattr(error, "exit_code", 0))
    if isinstance(error, ValueError):
        from clusterloom.errors import ClusterloomError

        if isinstance(error, ClusterloomError):
            return _fail(str(error), 2)
    if isinstance(error, OSError):
        hint = "; free some space and run the command again" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}{hint}", 1)
    raise error


def _fail(text: str, status: int) -> int:
    line = " ".join(text.split())
    print(f"clusterloom: error: {line}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return status


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Our own warnings on one line; those of libraries say nothing to a user."""
    if category.__module__.startswith("clusterloom"):
        print(f"clusterloom: warning: {message}", file=sys.stderr)


def _talk() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _extent(seeds: str, epochs: int, limit: int | None, smoke: bool) -> "Extent":
    from clusterloom.reproduce.runs import SMOKE, Extent

    return SMOKE if smoke else Extent(_numbers("--seeds", seeds) or (), epochs, limit)


@contextlib.contextmanager
def _records(path: Path, smoke: bool) -> "Iterator[Records]":
    """The file of finished runs, or one that is gone afterwards."""
    import tempfile

    from clusterloom.reproduce.records import Records

    with tempfile.TemporaryDirectory() as folder:
        yield Records(Path(folder, path.name) if smoke else path)


def _printer() -> "Console":
    from rich.console import Console

    # Piped output has no width of its own; 80 columns would cut figures short.
    return Console() if sys.stdout.isatty() else Console(width=120)


def _data(source: str, size: str | None, channels: int | None, skip_bad: bool, limit: int | None) -> "DataOptions":
    from clusterloom.commands import DataOptions

    sides = _numbers("--image-size", size.lower().replace("x", ",") if size else None)
    if sides is not None and len(sides) > 2:
        raise typer.BadParameter(f"--image-size {size}: expected SIDE or HEIGHTxWIDTH")
    return DataOptions(source, (sides[0], sides[-1]) if sides else None, channels, skip_bad, limit)


def _cluster_number(text: str) -> int | tuple[int, ...] | str:
    if text == "auto":
        return text
    try:
        numbers = tuple(int(part) for part in text.split("-"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise typer.BadParameter(f"--clusters {text}: expected a number, FROM-TO, or auto")
    return numbers[0] if len(numbers) == 1 else numbers


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas, or None where the option was not given."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: expected whole numbers separated by commas") from None


if __name__ == "__main__":
    main()
