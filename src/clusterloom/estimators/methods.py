"""All methods by the names that users give them, and the model directories of any of them."""

from collections.abc import Mapping
from pathlib import Path

from clusterloom.errors import ModelError, SettingsError, printable
from clusterloom.estimators.autoencoder import AutoencoderClusterer
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.convvae import ConvVAEClusterer
from clusterloom.estimators.dec import DECClusterer
from clusterloom.estimators.guided import GuidedClusterer
from clusterloom.estimators.vae import VAEClusterer
from clusterloom.model_dir.contents import restored
from clusterloom.model_dir.read import read_model

METHODS: Mapping[str, type[ImageClusterer]] = {
    cls.method: cls for cls in (GuidedClusterer, ConvVAEClusterer, VAEClusterer, DECClusterer, AutoencoderClusterer)
}


def method_named(name: str) -> type[ImageClusterer]:
    """The estimator of a method.

    Raises:
        SettingsError: there is no such method.
    """
    if name not in METHODS:
        raise SettingsError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def load_model(path: str | Path) -> ImageClusterer:
    """Read a model directory that an estimator's `save`, or `clusterloom fit`, wrote.

    Args:
        path: The directory.

    Returns:
        The fitted estimator.

    Raises:
        ModelError: it is missing, damaged, tampered with, or of an unknown version or method.
    """
    contents = read_model(Path(path))
    name = contents.settings.get("method")
    if not isinstance(name, str) or name not in METHODS:
        raise ModelError(f"{printable(str(path))}: made by a method that this release does not know: {name!r}")
    return restored(METHODS[name], contents, Path(path))
