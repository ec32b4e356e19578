"""`clusterloom data`: the built-in data sets."""

from typing import Annotated

import typer

from clusterloom.cli.options import Json

app = typer.Typer(help="Built-in data sets.", no_args_is_help=True)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the built-in data sets."""
    from clusterloom.console import Output
    from clusterloom.data import BUILTIN

    if as_json:
        Output().json(list(BUILTIN))
    else:
        for name in BUILTIN:
            Output().result(name)


@app.command("fetch")
def data_fetch(
    names: Annotated[list[str], typer.Argument(help="mnist or fashion-mnist, or both.", metavar="NAME...")],
) -> None:
    """Download data sets and keep them for later.

    They are checked against their known SHA-256.
    """
    from clusterloom.console import Output
    from clusterloom.data import fetch

    output = Output()
    for name in names:
        output.result(str(fetch(name, tell=output.say, progress=output.progress)))
