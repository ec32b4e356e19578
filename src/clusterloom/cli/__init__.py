"""The command line: arguments and exit statuses alone. What commands do is in `clusterloom.commands`."""

from clusterloom.cli.program import main, run

__all__ = ["main", "run"]
