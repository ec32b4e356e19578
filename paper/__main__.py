"""The paper's experiments, run from the root of a checkout: `python -m paper table1` and others, `--help` for all.

Exit statuses are those of `clusterloom.cli.errors`.
"""

import argparse
import dataclasses
import shlex
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.table import Table

from clusterloom.cli.errors import exit_status, show_warning
from clusterloom.console import Output
from clusterloom.files import write_atomically
from paper import ablations, baselines, figures, fixed_features, systems, table1
from paper.models import Reading
from paper.page import page
from paper.records import Records
from paper.runs import DATASETS, RESULTS, Experiment

# All that docs/reproduction.md and docs/paper.md report on, the most important first.
EVERYTHING = (
    "table1",
    "systems --seeds 0,1,2",
    "table1 --rows 3,5,6,8,12 --seeds 0,1,2",
    "baselines --seeds 0,1,2",
    "ablations --datasets mnist,fashion-mnist --seeds 0,1,2",
    "table1 --rows 6 --seeds 3,4",
    "table1 --rows 6 --initial-weights glorot --seeds 0,1,2,3,4",
    "table1 --rows 6 --initial-weights glorot --negative-slope 0.2 --seeds 0,1",
    "table1 --rows 6 --encoder-activation none --seeds 0,1",
    "table1 --rows 6 --category-input features --seeds 0,1",
    "table1 --rows 6 --reconstruction-weight 5 --seeds 0,1",
    "features --seeds 0,1",
    "baselines --methods vae --grid",
    "page",
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point.

    Args:
        arguments: Without the program's name; None takes those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(arguments)
    warnings.showwarning = show_warning
    output = Output()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for result in options.action(options, _experiment(options, arguments, Path(scratch)), Path(scratch)):
                output.result(result)
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted; the same command goes on\n")
    except Exception as error:
        sys.exit(exit_status(error, "paper"))


def _experiment(options: argparse.Namespace, arguments: Sequence[str], scratch: Path) -> Experiment:
    """What the options say; of a smoke run nothing is kept."""
    command = shlex.join(["python", "-m", "paper", *arguments])
    if options.smoke:
        return Experiment(Records(scratch / "smoke.jsonl"), epochs=1, limit=200, command=command)
    extent = (tuple(options.seeds), options.epochs, options.limit, options.precision)
    return Experiment(Records(options.results), *extent, command)


def _table1(options: argparse.Namespace, experiment: Experiment, _: Path) -> Iterator[Table]:
    reading = Reading(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Reading)})
    if not options.show:
        table1.run(options.rows, reading, experiment, None if options.smoke else options.keep)
    yield table1.table(options.rows, reading, experiment)


def _baselines(options: argparse.Namespace, experiment: Experiment, _: Path) -> Iterator[Table]:
    some = baselines.baselines(options.methods, options.datasets, options.grid)
    if not options.show:
        baselines.run(some, experiment)
    yield baselines.table(some, experiment)


def _systems(options: argparse.Namespace, experiment: Experiment, _: Path) -> Iterator[Table]:
    some = list(systems.systems(options.datasets))
    if not options.show:
        systems.run(some, experiment)
    yield systems.table(some, options.results.parent, experiment)


def _ablations(options: argparse.Namespace, experiment: Experiment, _: Path) -> Iterator[Table | str]:
    studies = [ablations.STUDIES[name] for name in options.studies]
    if not options.show:
        ablations.run(studies, options.datasets, experiment)
    for dataset in options.datasets:
        for study in studies:
            yield ablations.table(study, dataset, experiment)
            yield ablations.answer(study, dataset, experiment)


def _features(options: argparse.Namespace, experiment: Experiment, _: Path) -> Iterator[Table]:
    if not options.show:
        fixed_features.run(fixed_features.SETTINGS, experiment)
    yield fixed_features.table(fixed_features.SETTINGS, experiment)


def _figures(options: argparse.Namespace, experiment: Experiment, scratch: Path) -> Iterator[Table]:
    folder = scratch if options.smoke else options.out  # a later run must not take models of one epoch
    sizes = {"plain": {"latent_dim": options.latent_dim, "hidden_dim": options.hidden_dim}}
    sizes["ours"] = {**sizes["plain"], "conv_depth": options.conv_depth}
    given = {kind: figures.given_model(path) for kind in (*sizes, "guided") if (path := getattr(options, kind))}
    options.out.mkdir(parents=True, exist_ok=True)
    models = {kind: given.get(kind) or figures.trained_model(kind, folder, sizes[kind], experiment) for kind in sizes}
    yield figures.table(figures.draw(options.out, models | given, experiment))


def _everything(options: argparse.Namespace, *_: Any) -> Iterable[str]:
    for line in EVERYTHING:
        yield line
        main(shlex.split(line))


def _page(options: argparse.Namespace, *_: Any) -> Iterable[str]:
    write_atomically(options.out, page(options.results).encode())
    return ()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m paper", description="The paper's experiments. Runs on file are not repeated.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add = _experiment_command(commands, "table1", _table1, "run Table 1 and set the printed figures beside ours")
    add(
        "--rows", type=_rows, default=table1.ROWS, help="numbers from 1 to 14, mnist or fashion-mnist, with commas; all"
    )
    add("--category-input", choices=("latent", "features"), default="latent", help="q(y|z) or q(y|x); latent")
    add("--kl", choices=("sampled", "analytic"), default="sampled", help="formula (3); sampled")
    add("--encoder-activation", choices=("relu", "none"), default="relu", help="of its hidden layer; relu")
    add("--negative-slope", type=float, default=0.0, help="of all ReLUs, below zero; 0")
    add("--initial-weights", choices=("torch", "glorot"), default="torch", help="torch")
    add("--batch-size", type=_from_one, default=100, help="images per step; 100")
    add("--reconstruction-weight", type=float, help="of formula (2); 2.5 for MNIST, 28 for Fashion-MNIST")
    add("--kl-weight", type=float, default=1.0, help="of formula (3); 1")
    add("--keep", type=_folder, metavar="FOLDER", help="save the models there")

    about = "run what the paper compares itself with, and simpler methods"
    add = _experiment_command(commands, "baselines", _baselines, about)
    add("--methods", type=_names_of(baselines.METHODS), default=baselines.METHODS, help=", ".join(baselines.METHODS))
    add("--datasets", type=_names_of(DATASETS), default=DATASETS, help="mnist, fashion-mnist; both")
    add("--grid", action="store_true", help="also the plain VAE around the paper's peak")

    about = "lead the networks of the paper's best rows by the guided recipe, and set all its systems side by side"
    add = _experiment_command(commands, "systems", _systems, about)
    add("--datasets", type=_names_of(DATASETS), default=DATASETS, help="mnist, fashion-mnist; both")

    about = "change one part of the model at a time, and answer the paper's claims"
    add = _experiment_command(commands, "ablations", _ablations, about, epochs=ablations.EPOCHS)
    studies = tuple(ablations.STUDIES)
    add("--studies", type=_names_of(studies), default=studies, help=", ".join(studies))
    add("--datasets", type=_names_of(DATASETS), default=DATASETS[:1], help="mnist, fashion-mnist; mnist")

    about = "run Algorithm 1 to the letter: fixed conv networks, and a decoder that reconstructs their features"
    _experiment_command(commands, "features", _features, about)

    about = "draw figures 1 to 4, and measure new images of every class of Fashion-MNIST, plain VAE beside ours"
    add = _experiment_command(commands, "figures", _figures, about)
    add("--out", type=_folder, required=True, metavar="FOLDER", help="for pictures and models")
    add("--plain", type=Path, metavar="MODEL", help="a plain VAE's model directory, in place of training one")
    add("--ours", type=Path, metavar="MODEL", help="a convolutional model, in place of training one")
    add("--guided", type=Path, metavar="MODEL", help="a model of `clusterloom fit`, for a third column")
    add("--latent-dim", type=_from_one, default=60, help="the paper's s; 60")
    add("--conv-depth", type=_from_one, default=5, help="the paper's n; 5")
    add("--hidden-dim", type=_from_one, default=512, help="the paper's m; 512")

    command = commands.add_parser("page", help="write docs/reproduction.md from the files of finished runs")
    command.add_argument("--out", type=Path, default=Path("docs", "reproduction.md"), metavar="FILE")
    command.add_argument("--results", type=_folder, default=RESULTS, metavar="FOLDER")
    command.set_defaults(action=_page, smoke=True)  # it keeps no runs

    about = "all of these but the figures, and then the page: days on two cores, hours on a GPU"
    command = commands.add_parser("everything", help=about)
    command.set_defaults(action=_everything, smoke=True)  # it keeps no runs itself
    return parser


def _experiment_command(
    commands: Any, name: str, action: Callable[..., Any], about: str, epochs: int = 50
) -> Callable[..., Any]:
    """Add a command with the options that all experiments share; what adds an option of its own."""
    command = commands.add_parser(name, help=about)
    command.set_defaults(action=action, show=False)
    add = command.add_argument
    if name == "figures":  # they are of one pair of models
        add("--seed", type=_seed, nargs=1, default=(0,), dest="seeds", metavar="SEED", help="0")
    else:
        add("--seeds", type=_seeds, default=(0,), help="separated by commas, one run each; 0")
        add("--show", action="store_true", help="run nothing; print what is on file")
    add("--epochs", type=_from_one, default=epochs, help=f"passes over the training images; {epochs}")
    add("--limit", type=_from_one, help="a random subset of so many images")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="auto")
    path = RESULTS / f"{name}.jsonl"
    add("--results", type=Path, default=path, metavar="FILE", help=f"of finished runs; {path}")
    add("--smoke", action="store_true", help="one epoch of a few images; nothing is kept")
    return add


def _names_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def names(text: str) -> tuple[str, ...]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return tuple(text.split(","))

    return names


def _rows(text: str) -> list[table1.Row]:
    """Rows by their numbers from 1 and by data set, separated by commas.

    Example:
        >>> [row.latent_dim for row in _rows("1,14")], len(_rows("mnist"))
        ([2, 100], 7)
    """
    known = {str(number): [row] for number, row in enumerate(table1.ROWS, 1)}
    known |= {dataset: [row for row in table1.ROWS if row.dataset == dataset] for dataset in DATASETS}
    return list(dict.fromkeys(row for name in _names_of(tuple(known))(text) for row in known[name]))


def _from_one(text: str) -> int:
    return _whole_number(text, least=1)


def _seed(text: str) -> int:
    return _whole_number(text, most=2**32 - 1)  # scikit-learn takes no larger one


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(map(_seed, text.split(",")))


def _whole_number(text: str, least: int = 0, most: int = 10**9) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from {least} to {most}")
    return int(text)


def _folder(text: str) -> Path:
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file, not a folder")
    return Path(text)


if __name__ == "__main__":
    main()
