"""The program: its commands put together. Heavy imports wait until a command runs, so that help is quick."""

import gc
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from clusterloom.cli import (
    data,
    describe,
    evaluate,
    explore,
    export,
    fit,
    generate,
    methods,
    predict,
    refit,
    report,
    sweep,
)
from clusterloom.cli.errors import exit_status, show_warning

# Python's own 700 have it look for garbage hundreds of times while PyTorch and scikit-learn are imported.
_OBJECTS_BEFORE_COLLECTION = 10_000

app = typer.Typer(
    help="Sort unlabelled images into clusters, with probabilities, and generate new images of each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(fit.fit)
app.command()(predict.predict)
app.command()(generate.generate)
app.command()(evaluate.evaluate)
app.command()(report.report)
app.command()(explore.explore)
app.command()(refit.refit)
app.command()(export.export)
app.command()(sweep.sweep)
app.command()(describe.describe)
app.command()(methods.methods)
app.add_typer(data.app, name="data")


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


def main() -> NoReturn:
    """Run what the user typed, and end with its exit status."""
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal can show every name
    status = run(sys.argv[1:])
    gc.freeze()  # or Python's last collection goes over all of PyTorch, which takes half a second
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run a command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit status; see `clusterloom.cli.errors`.
    """
    warnings.showwarning = show_warning
    command = typer.main.get_command(app)
    if "_CLUSTERLOOM_COMPLETE" in os.environ:  # a shell asks what could come next
        command.main(arguments, "clusterloom")
    try:
        # Not `command.main`: it ends the program itself when an output pipe is closed.
        with command.make_context("clusterloom", list(arguments), obj=arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from clusterloom.training.processes import leave_together

            leave_together()
    except (Exception, KeyboardInterrupt) as error:
        return exit_status(error, arguments[0] if arguments else "")
    return 0
