"""Model directories of any estimator."""

from pathlib import Path

from clusterloom.bundle import read_bundle
from clusterloom.errors import ModelError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.methods import METHODS
from clusterloom.estimators.persistence import from_bundle

_ESTIMATORS: dict[str, type[ImageClusterer]] = {estimator.__name__: estimator for estimator in METHODS.values()}


def load_model(path: str | Path) -> ImageClusterer:
    """Read a model directory that an estimator's `save`, or `clusterloom fit`, wrote.

    Args:
        path: The directory.

    Returns:
        The fitted estimator.

    Raises:
        ModelError: it is missing, damaged, tampered with, or of an unknown version or estimator.
    """
    path = Path(path)
    bundle = read_bundle(path)
    name = bundle.settings.get("estimator")
    if not isinstance(name, str) or name not in _ESTIMATORS:
        raise ModelError(f"{path}: made by an estimator that this release does not know: {name!r}")
    return from_bundle(_ESTIMATORS[name], bundle, path)
