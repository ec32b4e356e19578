"""The paper's baseline: variational clustering of flattened pixels."""

from dataclasses import dataclass
from typing import ClassVar

from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.networks.objective import ObjectiveSettings
from clusterloom.networks.vae import NetworkSettings
from clusterloom.settings import CommonSettings, Count, TrainingSettings, parameters_of


@dataclass(frozen=True)
class VAESettings(TrainingSettings, ObjectiveSettings, NetworkSettings, CommonSettings):
    """The defaults are the paper's peak for MNIST (s = 10, m = 100); for Fashion-MNIST it gives s = 25, m = 200."""

    latent_dim: Count = 10
    hidden_dim: Count = 100


class VAEClusterer(VariationalClusterer):
    """Clustering with a variational autoencoder on flattened pixels: the plain VAE that the paper improves on.

    The same model as `ConvVAEClusterer` without its conv networks. The parameters are the fields of `VAESettings`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> model = VAEClusterer(epochs=2, random_state=0).fit(load_digits().images[:200] / 16)
        >>> model.transform(load_digits().images[:3] / 16).shape
        (3, 10)
    """

    method: ClassVar[str] = "vae"
    description: ClassVar[str] = "a variational autoencoder of flattened pixels with a category encoder"
    Settings = VAESettings
    __init__ = parameters_of(VAESettings)
