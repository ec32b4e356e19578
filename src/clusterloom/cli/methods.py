"""`clusterloom methods`: the methods, and the knobs of one."""

from typing import Annotated

import typer

from clusterloom.cli.options import OWN_OPTIONS, PYTHON_ALONE, Json


def methods(
    name: Annotated[str | None, typer.Argument(metavar="METHOD", help="List the knobs of this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the methods, or what --set can change of one, with defaults."""
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
    unset = {*OWN_OPTIONS, *PYTHON_ALONE}
    knobs = [knob for knob in method_named(name).Settings.described() if knob.name not in unset]
    if as_json:
        output.json([vars(knob) for knob in knobs])
        return
    table = Table("knob", "default", "takes", "what it does")
    for knob in knobs:
        table.add_row(knob.name, knob.default, knob.takes, knob.description)
    output.result(table)
