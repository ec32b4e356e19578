"""Sort unlabelled images into clusters, with probabilities, and generate new images of each, from one model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusterloom.data import ImageSet, load_images
    from clusterloom.errors import (
        ClusterloomError,
        CollapseWarning,
        DataError,
        DataWarning,
        ModelError,
        SettingsError,
        TrainingError,
    )
    from clusterloom.estimators.autoencoder import AutoencoderClusterer
    from clusterloom.estimators.convvae import ConvVAEClusterer
    from clusterloom.estimators.dec import DECClusterer
    from clusterloom.estimators.guided import GuidedClusterer
    from clusterloom.estimators.methods import load_model
    from clusterloom.estimators.vae import VAEClusterer

    __version__: str

__all__ = [
    "AutoencoderClusterer",
    "ClusterloomError",
    "CollapseWarning",
    "ConvVAEClusterer",
    "DECClusterer",
    "DataError",
    "DataWarning",
    "GuidedClusterer",
    "ImageSet",
    "ModelError",
    "SettingsError",
    "TrainingError",
    "VAEClusterer",
    "__version__",
    "load_images",
    "load_model",
]

# Where each public name lives. They are imported on first use (PEP 562): PyTorch takes seconds, and help must not wait.
# Nothing else is imported here, for Ctrl-C in these moments is Python's to answer, with a traceback.
_HOMES = {
    "AutoencoderClusterer": "clusterloom.estimators.autoencoder",
    "DECClusterer": "clusterloom.estimators.dec",
    "GuidedClusterer": "clusterloom.estimators.guided",
    "ConvVAEClusterer": "clusterloom.estimators.convvae",
    "ImageSet": "clusterloom.data",
    "VAEClusterer": "clusterloom.estimators.vae",
    "load_images": "clusterloom.data",
    "load_model": "clusterloom.estimators.methods",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'clusterloom' has no attribute {name!r}")
    if name == "__version__":
        return import_module("importlib.metadata").version("clusterloom")
    return getattr(import_module(_HOMES.get(name, "clusterloom.errors")), name)


def __dir__() -> list[str]:
    return __all__
