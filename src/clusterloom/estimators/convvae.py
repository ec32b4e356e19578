"""The method of the paper: the convolutional VAE, trained from random weights."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.networks.objective import ObjectiveSettings
from clusterloom.networks.vae import ConvNetworkSettings
from clusterloom.settings import CommonSettings, Count, TrainingSettings, parameters_of


@dataclass(frozen=True)
class ConvVAESettings(TrainingSettings, ObjectiveSettings, ConvNetworkSettings, CommonSettings):
    """The paper's knobs. The defaults are its best row for MNIST in Table 1, with what it leaves open as measured.

    docs/paper.md says where each value comes from.
    """

    latent_dim: Count = 60
    hidden_dim: Count = 512
    conv_filters: tuple[Count, ...] | Literal["auto"] = (16, 32)
    conv_kernels: tuple[Count, ...] | Literal["auto"] = (3, 5)
    conv_downsample: Literal["stride", "pool"] = "pool"
    concatenate: bool = True


class ConvVAEClusterer(VariationalClusterer):
    """Clustering with a variational autoencoder whose input goes through conv networks first.

    Yan, "Clustering Method Based on VAE with Convolution Optimization", Computer Systems & Applications 29(10), 2020.
    The parameters are the fields of `ConvVAESettings`. With prior="standard", kl="analytic",
    category_formula="printed" and category_input="features" the formulas are those that are printed, letter by letter;
    they do not cluster.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = (load_digits().images[:200] * 15).astype("uint8")
        >>> model = ConvVAEClusterer(hidden_dim=32, epochs=2, random_state=0).fit(images)
        >>> model.labels_.shape, model.predict_proba(images[:3]).shape, model.sample(5, cluster=2).shape
        ((200,), (3, 10), (5, 8, 8, 1))
    """

    method: ClassVar[str] = "convvae"
    description: ClassVar[str] = "a convolutional variational autoencoder with a category encoder"
    Settings = ConvVAESettings
    __init__ = parameters_of(ConvVAESettings)
