"""What a command raises, as one line and an exit status.

Exit status: 0 done; 2 bad input, with one line that says what to do; 1 the machine failed (disk full, no
permission); 130 interrupted; 141 the reader of the output went away. Anything else is a defect and is raised.
"""

import errno
import os
import sys


def exit_status(error: BaseException) -> int:
    """Say what went wrong on one line of standard error; the exit status. Raises what nobody expected."""
    if isinstance(error, BrokenPipeError):
        # The reader has gone. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    if isinstance(error, KeyboardInterrupt):
        return _said("interrupted; a fit goes on with --resume, a sweep with the same command", 130)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # the parser's own errors
        return _said(error.format_message() or "see clusterloom --help", 2) if error.exit_code else 0
    if type(error).__name__ in ("Abort", "Exit"):
        return 130 if type(error).__name__ == "Abort" else int(getattr(error, "exit_code", 0))
    if isinstance(error, ValueError):
        from clusterloom.errors import ClusterloomError

        if isinstance(error, ClusterloomError):
            return _said(str(error), 2)
    if isinstance(error, OSError):
        hint = "; free some space and go on (fit: with --resume)" if error.errno == errno.ENOSPC else ""
        where = f"{error.filename}: " if error.filename else ""
        return _said(f"{where}{error.strerror or error}{hint}", 1)
    raise error


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Our own warnings on one line; those of libraries say nothing to a user."""
    if category.__module__.startswith("clusterloom"):
        print(f"clusterloom: warning: {message}", file=sys.stderr)


def _said(text: str, status: int) -> int:
    line = " ".join(text.split())
    print(f"clusterloom: error: {line}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return status
