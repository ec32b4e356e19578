"""What all networks have in common that cluster images: the estimators ask for nothing else."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ClusterNetwork(nn.Module, ABC):
    """A network that assigns images to clusters, and has latents that it decodes.

    Attributes:
        image_shape: Height, width, channels.
        n_clusters: Number of clusters, K.
        class_means: Shape (K, D).
        pixel_variances: Of each pixel around its reconstruction, shape (C, H, W).
    """

    image_shape: tuple[int, int, int]
    n_clusters: int
    class_means: nn.Parameter
    pixel_variances: Tensor

    @property
    @abstractmethod
    def latent_dim(self) -> int:
        """Dimensions of z, D."""

    @abstractmethod
    def latents(self, x: Tensor) -> Tensor:
        """Latents (B, D) of images (B, C, H, W)."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) from latents (B, D)."""

    @abstractmethod
    def assign(self, x: Tensor) -> Tensor:
        """Soft assignments (B, K) of images (B, C, H, W)."""

    @abstractmethod
    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Soft assignments (B, K), latents (B, D) and scores (B,), in nats, of images (B, C, H, W)."""
