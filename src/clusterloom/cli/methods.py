"""`clusterloom methods`: the methods, and the knobs of one."""

from typing import Annotated

import typer

from clusterloom.cli.options import Json, settable


def methods(
    name: Annotated[str | None, typer.Argument(metavar="METHOD", help="List the knobs of this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or the knobs of one of them.

    Knobs are what --set changes; each is listed with its default.
    """
    from rich.table import Table

    from clusterloom.console import Output
    from clusterloom.estimators.methods import METHODS, method_named

    output = Output()
    if name is None:
        summaries = {key: (cls.__doc__ or "").partition("\n")[0] for key, cls in METHODS.items()}
        if as_json:
            output.json(summaries)
            return
        table = Table("method", "what it is")
        for row in summaries.items():
            table.add_row(*row)
        output.result(table)
        return
    knobs = settable(method_named(name).Settings)
    if as_json:
        output.json([vars(knob) for knob in knobs])
        return
    table = Table("knob", "default", "takes", "what it does")
    for knob in knobs:
        table.add_row(knob.name, knob.default, knob.takes, knob.description)
    output.result(table)
