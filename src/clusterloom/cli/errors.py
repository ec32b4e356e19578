"""What a command raises, as one line and an exit status.

Exit status: 0 done; 2 bad input, with one line that says what to do; 1 the machine failed (disk full, no
permission); 130 interrupted; 141 the reader of the output went away. Anything else is a defect and is raised.
"""

import errno
import os
import re
import sys

_GOES_ON = {
    "fit": ("--resume goes on with it",),
    "refit": ("--resume goes on with it",),
    "sweep": ("the same command goes on with it",),
}
# What gloo and NCCL say of a process that is gone.
_LOST_PROCESS = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|[Tt]imed out", re.ASCII)
# How a user of the command line says what Python's parameters say, unless what was typed is quoted, or part of a path.
_UNQUOTED = r"(?<!--set )(?<!--vary )(?<![\w/\\.-])"
_OPTION_WORDS = (
    (re.compile(r"\bresume=False\b"), "--overwrite in place of --resume"),
    (re.compile(_UNQUOTED + r"n_clusters=(?=\d)"), "-k "),
    (re.compile(_UNQUOTED + r"n_clusters\b"), "-k"),
    (re.compile(_UNQUOTED + r"random_state\b"), "--seed"),
    (re.compile(_UNQUOTED + r"image_size\b"), "--image-size"),
    (re.compile(r"^show is\b"), "--show-channels is"),
    (re.compile(r"^(channels|limit|spread|tile) (?=is |must )"), r"--\1 "),
    (re.compile(_UNQUOTED + r"([a-z]+(?:_[a-z]+)*=\w)"), r"--set \1"),
)


def exit_status(error: BaseException, command: str) -> int:
    """Say what went wrong on one line of standard error; the exit status. Raises what nobody expected.

    Args:
        error: What was raised.
        command: Name of the command that raised it.
    """
    if isinstance(error, BrokenPipeError):
        # The reader has gone. Python would complain once more when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    if isinstance(error, KeyboardInterrupt):
        return _said("; ".join(["interrupted", *_GOES_ON.get(command, ())]), 130)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return 2
    if hasattr(error, "format_message"):  # the parser's own errors
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "clusterloom"
        return _said(f"{error.format_message().rstrip('.')}; see {path} --help", 2)
    if type(error).__name__ in ("Abort", "Exit"):
        return 130 if type(error).__name__ == "Abort" else int(getattr(error, "exit_code", 0))
    if isinstance(error, ValueError):
        from clusterloom.errors import ClusterloomError, DataError

        if isinstance(error, ClusterloomError):
            if isinstance(error, DataError):  # quotes names of files, which are nobody's options
                return _said(str(error).removesuffix(" (skip_bad=True)"), 2)
            return _said(in_option_words(str(error)), 2)
    if (
        isinstance(error, RuntimeError)
        and _LOST_PROCESS.search(str(error))
        and int(os.environ.get("WORLD_SIZE", "1")) > 1
    ):
        hint = _GOES_ON.get(command, ("run it again",))
        return _said("; ".join(["another process of this run has ended, or cannot be reached", *hint]), 1)
    if isinstance(error, OSError):
        from clusterloom.errors import printable

        where = f"{printable(str(error.filename))}: " if error.filename else ""
        hints = ["free some space", *_GOES_ON.get(command, ("run it again",))] if error.errno == errno.ENOSPC else []
        return _said("; ".join([f"{where}{error.strerror or error}", *hints]), 1)
    raise error


def in_option_words(text: str) -> str:
    """What Python says of parameters, in words that can be typed on the command line.

    Example:
        >>> in_option_words("5 samples are too few for n_clusters=10"), in_option_words("try batch_size=50")
        ('5 samples are too few for -k 10', 'try --set batch_size=50')
        >>> in_option_words("show is (7,)")
        '--show-channels is (7,)'
        >>> in_option_words("runs/k=10/model holds a model already")
        'runs/k=10/model holds a model already'
    """
    for pattern, words in _OPTION_WORDS:
        text = pattern.sub(words, text)
    return text


def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Our own warnings on one line; those of libraries say nothing to a user."""
    if category.__module__.startswith("clusterloom"):
        print(f"clusterloom: warning: {message}", file=sys.stderr)


def _said(text: str, status: int) -> int:
    line = " ".join(text.split())
    print(f"clusterloom: error: {line}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return status
