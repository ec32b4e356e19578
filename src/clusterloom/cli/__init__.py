"""The command line, a file for each command: its arguments, and what it does with the library."""

from clusterloom.cli.program import main, run

__all__ = ["main", "run"]
