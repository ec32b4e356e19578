"""Every exception that a user of clusterloom can meet.

All of them derive from `ValueError`, so that code written against scikit-learn's conventions catches them.
The command line prints their text on one line and ends with status 2.
"""


class ClusterloomError(ValueError):
    """Base of all errors that tell a user what was received, what was expected and what to do."""


class DataError(ClusterloomError):
    """Images, or a file that should hold them, cannot be used."""


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
