"""Arguments and options that several commands share, and how their texts are read."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from clusterloom.commands import DataOptions

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
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

MAX_SEED = 2**32 - 1  # scikit-learn's generators take no larger one


def talk() -> "Console":
    """Where a command says what it does: not among its results."""
    from clusterloom.cli.console import PlainConsole

    return PlainConsole(stderr=True, emoji=False)


def printer() -> "Console":
    """Where a command prints its results."""
    from clusterloom.cli.console import PlainConsole

    # Piped output has no width of its own; 80 columns would break figures up.
    return PlainConsole(width=None if sys.stdout.isatty() else 160, emoji=False)


def data_options(
    source: str, size: str | None, channels: int | None, skip_bad: bool, limit: int | None
) -> "DataOptions":
    """How to read images, from the options of a command."""
    from clusterloom.commands import DataOptions

    sides = whole_numbers("--image-size", size.lower().replace("x", ",") if size else None)
    if sides is not None and len(sides) > 2:
        raise typer.BadParameter(f"--image-size {size}: expected SIDE or HEIGHTxWIDTH")
    return DataOptions(source, (sides[0], sides[-1]) if sides else None, channels, skip_bad, limit)


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Whole numbers separated by commas, or None where the option was not given."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text}: expected whole numbers separated by commas") from None


def seed_numbers(text: str) -> tuple[int, ...]:
    """Seeds separated by commas."""
    seeds = whole_numbers("--seeds", text) or ()
    if not all(0 <= seed <= MAX_SEED for seed in seeds):
        raise typer.BadParameter(f"--seeds {text}: expected numbers from 0 to {MAX_SEED}")
    return seeds
