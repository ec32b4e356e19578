"""A dense autoencoder with cluster centres in its latent space, and what deep embedded clustering trains it on.

Source: Xie, Girshick and Farhadi, "Unsupervised Deep Embedding for Clustering Analysis" (2016).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom import losses
from clusterloom.networks.cluster_network import ClusterNetwork
from clusterloom.networks.conv import flatten_channels_last, unflatten_channels_last
from clusterloom.networks.precision import as_float32, in_float32
from clusterloom.networks.step import StepOutput
from clusterloom.settings import Count, Settings

_DROPOUT = 0.2  # of layer-wise pre-training


@dataclass(frozen=True, kw_only=True)
class AutoencoderNetworkSettings(Settings):
    """Knobs of the network."""

    hidden_dims: tuple[Count, ...] = (500, 500, 2000)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    latent_dim: Count = 10
    """Dimensions of the latent space."""


class ClusterAutoencoder(ClusterNetwork):
    """Encoder and decoder of dense layers with ReLU between them, on flattened pixels, and one centre per cluster.

    Args:
        settings: Architecture.
        image_shape: Height, width, channels.
        n_clusters: Number of clusters, K.

    Example:
        >>> network = ClusterAutoencoder(AutoencoderNetworkSettings(), (8, 8, 1), n_clusters=3)
        >>> x = torch.rand(5, 1, 8, 8)
        >>> network.assign(x).shape, network.decode(network.latents(x)).shape
        (torch.Size([5, 3]), torch.Size([5, 1, 8, 8]))
    """

    input_scale: Tensor

    def __init__(
        self, settings: AutoencoderNetworkSettings, image_shape: tuple[int, int, int], n_clusters: int
    ) -> None:
        super().__init__()
        self.settings, self.image_shape, self.n_clusters = settings, image_shape, n_clusters
        height, width, channels = image_shape
        sizes = [height * width * channels, *settings.hidden_dims, settings.latent_dim]
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.decoder = nn.ModuleList(nn.Linear(b, a) for a, b in reversed(list(pairwise(sizes))))
        self.class_means = nn.Parameter(torch.zeros(n_clusters, settings.latent_dim))
        self.register_buffer("input_scale", torch.ones(()))  # what the paper multiplies pixels by, see `scale_to`
        self.register_buffer("pixel_variances", torch.ones(channels, height, width))

    @property
    def latent_dim(self) -> int:
        """Dimensions of z, D."""
        return self.settings.latent_dim

    def scale_to(self, mean_square: float) -> None:
        """Scale pixels so that their squares, of this mean, are 1 on average, as in the paper's section 4."""
        self.input_scale.fill_(1 / math.sqrt(max(mean_square, 1e-12)))

    def inputs(self, x: Tensor) -> Tensor:
        """What the first layer reads of images (B, C, H, W): shape (B, H*W*C)."""
        return flatten_channels_last(x) * self.input_scale

    def latents(self, x: Tensor) -> Tensor:
        """Latents (B, D) of images (B, C, H, W)."""
        return self.encode(self.inputs(x))

    def encode(self, inputs: Tensor) -> Tensor:
        """Latents (B, D) of what `inputs` gives (B, H*W*C)."""
        hidden = inputs
        for layer in self.encoder[:-1]:
            hidden = F.relu(layer(hidden))
        return in_float32(self.encoder[-1], hidden)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] from latents (B, D)."""
        height, width, channels = self.image_shape
        pixels = self.decode_inputs(z) / self.input_scale
        return unflatten_channels_last(pixels, (channels, height, width)).clamp(0, 1)

    def decode_inputs(self, z: Tensor) -> Tensor:
        """What `inputs` would give of the images (B, H*W*C), from latents (B, D)."""
        hidden = z
        for layer in self.decoder[:-1]:
            hidden = F.relu(layer(hidden))
        return self.decoder[-1](hidden)

    def assign(self, x: Tensor) -> Tensor:
        """Soft assignments (B, K) of images (B, C, H, W)."""
        return losses.student_t_assignments(self.latents(x), self.class_means)

    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Soft assignments (B, K), latents (B, D), and minus half the squared error by pixel variance, in nats (B,)."""
        z = self.latents(x)
        error = (x - self.decode(z)) ** 2 / (2 * self.pixel_variances)
        return losses.student_t_assignments(z, self.class_means), z, -error.flatten(1).sum(1)


class LayerPretraining(nn.Module):
    """One layer of the encoder and its mirror, as a denoising autoencoder of what the layers before give.

    Dropout on the input and on the hidden units (the paper's formulas 6 to 9), drawn from the noise.

    Args:
        network: Its first `index` layers are trained already.
        index: Which layer.
    """

    def __init__(self, network: ClusterAutoencoder, index: int) -> None:
        super().__init__()
        self.layer, self.mirror = network.encoder[index], network.decoder[-1 - index]
        # Not as submodules: what is trained already stays as it is.
        self._below = [network]
        self._index = index
        height, width, channels = network.image_shape
        sizes = (height * width * channels, *network.settings.hidden_dims, network.settings.latent_dim)
        self._units = sizes[index] + sizes[index + 1]
        self._is_last = index == len(network.encoder) - 1

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, one for each unit that may be dropped."""
        return torch.randn(n, self._units, generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Half the squared error of the layer's input (B, I), summed over its units."""
        with torch.no_grad():
            (network,) = self._below
            x = network.inputs(x)
            for layer in network.encoder[: self._index]:
                x = F.relu(layer(x))
        width = x.shape[1]
        hidden = self.layer(_dropped(x, noise[:, :width]))
        hidden = hidden if self._is_last else F.relu(hidden)
        again = self.mirror(_dropped(hidden, noise[:, width:]))
        again = F.relu(again) if self._index else again
        return StepOutput({"reconstruction": 0.5 * ((as_float32(x) - as_float32(again)) ** 2).sum(1)})


class Reconstruction(nn.Module):
    """The whole autoencoder, without dropout."""

    def __init__(self, network: ClusterAutoencoder) -> None:
        super().__init__()
        self.encoder, self.decoder = network.encoder, network.decoder
        self._network = [network]  # not as a submodule: the centres are not trained here

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """None is needed."""
        return torch.empty(n, 0)

    def forward(self, x: Tensor, noise: Tensor) -> StepOutput:
        """Half the squared error of the scaled pixels, summed over them."""
        (network,) = self._network
        x = network.inputs(x)
        again = network.decode_inputs(network.encode(x))
        return StepOutput({"reconstruction": 0.5 * ((x - again) ** 2).sum(1)})


class EmbeddedClustering(nn.Module):
    """Encoder and centres, drawn to a target distribution that sharpens their own assignments (formula 2)."""

    def __init__(self, network: ClusterAutoencoder) -> None:
        super().__init__()
        self.encoder, self.class_means = network.encoder, network.class_means
        self._network = [network]  # not as a submodule: the decoder is not trained here

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """None is needed."""
        return torch.empty(n, 0)

    def forward(self, x: Tensor, noise: Tensor, target: Tensor) -> StepOutput:
        """KL(target || assignments) for targets (B, K)."""
        q = losses.student_t_assignments(self._network[0].latents(x), self.class_means)
        divergence = (target * (target.clamp(min=1e-12).log() - q.clamp(min=1e-12).log())).sum(1)
        return StepOutput({"clustering": divergence}, q.detach())


def _dropped(x: Tensor, noise: Tensor) -> Tensor:
    # A normal number is below this with the probability of dropout.
    threshold = math.sqrt(2) * float(torch.special.erfinv(torch.tensor(2 * _DROPOUT - 1)))
    return torch.where(noise < threshold, 0.0, x / (1 - _DROPOUT))
