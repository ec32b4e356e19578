"""`python -m clusterloom`, and the entry point of the installed program."""

import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. While it is being imported, Ctrl-C ends the program without a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from clusterloom.cli.program import main as run_command_line

    signal.signal(signal.SIGINT, before)
    run_command_line()


if __name__ == "__main__":
    sys.exit(main())
