"""The program: its commands put together, and what they raise turned into one line and an exit status.

Exit status: 0 done; 2 bad input, with one line that says what to do; 1 the machine failed (disk full, no
permission); 130 interrupted; 141 the reader of the output went away. Heavy imports wait until a command runs, so that
help is quick.
"""

import errno
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from clusterloom.cli import data, models, views

app = typer.Typer(
    help="Sort unlabelled images into clusters, with probabilities, and generate new images of each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(models.app)
app.add_typer(views.app)
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
    """Entry point: runs a command and turns what it raises into one line and an exit status."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not every terminal can show every name
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
        return _fail("interrupted; a fit goes on with --resume, a sweep with the same command", 130)
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
