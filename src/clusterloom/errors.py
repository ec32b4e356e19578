"""Every exception that a user of clusterloom can meet.

All of them derive from `ValueError`, so that code written against scikit-learn's conventions catches them.
The command line prints their text on one line and ends with status 2.
"""


class ClusterloomError(ValueError):
    """Base of all errors that tell a user what was received, what was expected and what to do."""


class DataError(ClusterloomError):
    """Images, or a file that should hold them, cannot be used."""


class MissingPackageError(DataError):
    """What the images are stored in needs an optional package that is not installed; the text says which."""


class SettingsError(ClusterloomError):
    """A setting is out of range, or settings do not fit each other or the images."""


class ModelError(ClusterloomError):
    """A model directory is missing, damaged, tampered with, or of a version that this release does not know."""


class TrainingError(ClusterloomError):
    """Training cannot go on; the last good state has been kept."""


class CollapseWarning(UserWarning):
    """Most clusters have lost their images during training."""


class DataWarning(UserWarning):
    """The images can be used, but something about them will surprise (all alike, many duplicates)."""


def printable(text: str) -> str:
    r"""Text that is safe to put on one line of a terminal or log: control characters and surrogates are escaped.

    File names may hold newlines, terminal escapes and bytes that are not UTF-8 (surrogates, as `os.fsdecode` gives).
    The result is not HTML; pages escape it once more.

    Args:
        text: Any text.

    Returns:
        The same text, with every character that cannot be printed written as a backslash escape.

    Example:
        >>> printable("cat\n.png")
        'cat\\n.png'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
