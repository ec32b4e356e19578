"""`clusterloom data`: the built-in data sets."""

import sys
from typing import Annotated

import typer

app = typer.Typer(help="Built-in data sets.", no_args_is_help=True)


@app.command("list")
def data_list() -> None:
    """List the built-in data sets."""
    from clusterloom.data import BUILTIN

    for name in BUILTIN:
        print(name)


@app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="mnist or fashion-mnist, or both.", metavar="NAME...")],
) -> None:
    """Download data sets, check them against their known SHA-256, and keep them for later."""
    from clusterloom.data import fetch

    for name in names:
        print(fetch(name, tell=lambda line: print(line, file=sys.stderr)))
