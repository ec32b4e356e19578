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
def data_fetch(name: Annotated[str, typer.Argument(help="mnist or fashion-mnist.")]) -> None:
    """Download a data set, check it against its known SHA-256, and keep it for later."""
    from clusterloom.data import fetch

    print(fetch(name, report=lambda line: print(line, file=sys.stderr)))
