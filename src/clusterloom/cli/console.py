"""A console that leaves it to the program what a closed pipe means."""

from rich.console import Console


class PlainConsole(Console):
    """Rich's console, without its own end of the program."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled; rich would leave with status 1."""
        raise
