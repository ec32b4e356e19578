"""The paper's baseline as an estimator: variational clustering of flattened pixels."""

from typing import Any, Literal

from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.networks.vae import VAESettings


class VAEClusterer(VariationalClusterer):
    """Clustering with a variational autoencoder on flattened pixels: the plain VAE that the paper improves on.

    The same model as `ConvVAEClusterer` without its conv networks. The defaults are the paper's peak for MNIST
    (s = 10, m = 100); for Fashion-MNIST it gives s = 25, m = 200.

    Parameters and attributes are those of `ConvVAEClusterer`, less the ones of conv networks.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> model = VAEClusterer(epochs=2, random_state=0).fit(load_digits().images[:200] / 16)
        >>> model.transform(load_digits().images[:3] / 16).shape
        (3, 10)
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        latent_dim: int = 10,
        hidden_dim: int = 100,
        encoder_activation: Literal["relu", "none"] = "relu",
        initial_weights: Literal["torch", "glorot"] = "torch",
        category_input: Literal["features", "latent"] = "latent",
        prior: Literal["class", "standard"] = "class",
        kl: Literal["sampled", "analytic"] = "sampled",
        category_formula: Literal["entropy", "printed"] = "entropy",
        reconstruction_weight: float | Literal["auto"] = "auto",
        category_weight: float = 1.0,
        epochs: int = 50,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        patience_epochs: int | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        device: str = "auto",
        precision: str = "auto",
        run_dir: str | None = None,
        resume: bool = False,
        tracker: str | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_clusters = n_clusters
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.encoder_activation = encoder_activation
        self.initial_weights = initial_weights
        self.category_input = category_input
        self.prior = prior
        self.kl = kl
        self.category_formula = category_formula
        self.reconstruction_weight = reconstruction_weight
        self.category_weight = category_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience_epochs = patience_epochs
        self.image_shape = image_shape
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.run_dir = run_dir
        self.resume = resume
        self.tracker = tracker
        self.verbose = verbose

    def _network_settings(self, image_shape: tuple[int, int, int]) -> VAESettings:
        return VAESettings(
            image_shape=image_shape,
            n_clusters=self._cluster_range()[1],
            latent_dim=self.latent_dim,
            hidden_dim=self.hidden_dim,
            conv_networks=(),
            encoder_activation=self.encoder_activation,
            initial_weights=self.initial_weights,
            category_input=self.category_input,
            prior=self.prior,
            kl=self.kl,
            category_formula=self.category_formula,
            reconstruction_weight=self._reconstruction_weight(image_shape),
            category_weight=self.category_weight,
        )
