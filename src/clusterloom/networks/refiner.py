"""The second decoder: it makes sharp images of the soft ones that the first decodes, and draws their latents.

A decoder that is trained on squared errors gives the mean of all images that a latent may stand for, which is soft.
What that mean lacks is drawn here: a conditional rectified flow (Lipman and others, "Flow Matching for Generative
Modeling", 2023; Liu, Gong and Liu, "Flow Straight and Fast", 2023) leads from the decoded image, with noise like its
errors, to an image. The way is short, so few steps are enough.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clusterloom.networks.precision import as_float32

COMPONENTS = 5  # Gaussians for each cluster, at most
_STEPS = 8  # of the flow, when it draws
_LARGEST_GRID = 16  # places along a side that the network's first layer sees
_WIDTHS = (32, 64)  # channels at that grid and at half of it
_BLOCKS = 2  # at half of it
_CONDITION_DIM = 128
_FREQUENCIES = 8


def crowded(image_shape: tuple[int, int, int]) -> bool:
    """Whether squares of pixels are so many numbers that white noise would not pass the network.

    Args:
        image_shape: Height, width, channels.

    Example:
        >>> [crowded(shape) for shape in ((28, 28, 1), (32, 32, 3), (64, 64, 1), (64, 64, 3))]
        [False, False, False, True]
    """
    return image_shape[2] * _square_of(image_shape) ** 2 > _WIDTHS[0] // 2


def _square_of(image_shape: tuple[int, int, int]) -> int:
    """Pixels along a side of the squares that are gathered, a power of two."""
    return int(2 ** max(0, math.ceil(math.log2(max(image_shape[:2]) / _LARGEST_GRID))))


class Refiner(nn.Module):
    """A small U-Net that says where a noisy image is to move, and the distribution of latents to begin with.

    Pixels are gathered in squares, so that the network sees a grid of at most 16 x 16 places whatever the size of the
    images. It sees the decoded image beside the noisy one, and latent and time change what its blocks do (Perez and
    others, "FiLM", 2018).

    Args:
        image_shape: Height, width, channels.
        latent_dim: Dimensions of z, D.
        n_clusters: Number of clusters, K.

    Example:
        >>> refiner = Refiner((28, 28, 1), latent_dim=16, n_clusters=10)
        >>> decoded, z, noise = torch.rand(3, 1, 28, 28), torch.zeros(3, 16), torch.randn(3, 1, 28, 28)
        >>> refiner.refine(decoded, z, noise).shape
        torch.Size([3, 1, 28, 28])

    Attributes:
        helps: Whether what it makes is more like real images than what the first decoder makes; of few images it learns
            too little. Otherwise only its latents are of use.
        crowded: See `crowded`.
        guidance: How many times its own part of the velocity counts when images are drawn. One that has not learned all
            it could says too little.
        deviations: How large the errors of decoded images are at each pixel, shape (C, H, W).
        rows, columns, channels: Lower triangular factors of the correlations of errors, shape (H, H), (W, W), (C, C),
            where squares are crowded.
    """

    helps: Tensor
    guidance: Tensor
    deviations: Tensor
    rows: Tensor
    columns: Tensor
    channels: Tensor
    latent_deviations: Tensor

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, n_clusters: int) -> None:
        super().__init__()
        height, width, channels = image_shape
        self.square, self.crowded = _square_of(image_shape), crowded(image_shape)
        numbers = channels * self.square**2  # of a square
        wide, wider = _WIDTHS
        if self.crowded:
            wide = wider
        self.condition = nn.Sequential(
            nn.Linear(latent_dim + 1 + 2 * _FREQUENCIES, _CONDITION_DIM),
            nn.ReLU(),
            nn.Linear(_CONDITION_DIM, _CONDITION_DIM),
            nn.ReLU(),
        )
        self.first = nn.Conv2d(2 * numbers, wide, 3, padding=1)
        self.before = _Block(wide)
        self.down = nn.Conv2d(wide, wider, 2, 2)
        self.middle = nn.ModuleList(_Block(wider) for _ in range(_BLOCKS))
        self.up = nn.Conv2d(wider, 4 * wide, 1)
        self.after = _Block(wide)
        self.last = nn.Conv2d(wide, numbers, 3, padding=1)
        # At the beginning it gives back what it is given.
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.latents = LatentMixtures(n_clusters, latent_dim)
        self.register_buffer("helps", torch.tensor(False))
        self.register_buffer("guidance", torch.tensor(1.0))
        self.register_buffer("deviations", torch.ones(channels, height, width))
        if self.crowded:
            for name, size in (("rows", height), ("columns", width), ("channels", channels)):
                self.register_buffer(name, torch.eye(size))
        self.register_buffer("latent_deviations", torch.ones(latent_dim))

    @property
    def error(self) -> Tensor:
        """How far decoded images usually are from real ones, root mean square over pixels, shape ()."""
        return self.deviations.square().mean().sqrt()

    def forward(
        self, noisy: Tensor, decoded: Tensor, z: Tensor, time: Tensor, guidance: float | Tensor = 1.0
    ) -> Tensor:
        """The velocity of the flow, image less beginning, that is expected for noisy images.

        The network adds to what is expected from the noisy image alone if image and noise deviate equally from what was
        decoded. That has about the same variance at all times (Karras and others, "Elucidating the Design Space of
        Diffusion-Based Generative Models", 2022). Drawn with more than what it adds, images are led away from what a
        network without knowledge would make (after Karras and others, "Guiding a Diffusion Model with a Bad Version of
        Itself", 2024).

        Args:
            noisy: (1 - time) (decoded + noise) + time * image, shape (B, C, H, W).
            decoded: What the first decoder makes of the latents, shape (B, C, H, W).
            z: Latents, shape (B, D).
            time: From 0 to 1, shape (B,).
            guidance: How many times what the network adds is added.

        Returns:
            Shape (B, C, H, W), float32.
        """
        height, width = noisy.shape[2:]
        t = time[:, None, None, None]
        variance = (1 - t) ** 2 + t**2  # of the noisy image around what was decoded, in squared deviations
        offset = (noisy - decoded) / variance
        # Sides become whole numbers of squares, and of pairs of them.
        side = 2 * self.square
        padding = (0, -width % side, 0, -height % side)
        seen = offset * variance.sqrt() / self.deviations
        pair = F.pad(torch.cat([seen, decoded], 1), padding)
        condition = self.condition(torch.cat([z / self.latent_deviations, _waves(time)], 1))
        x = self.first(_rows_of_squares(pair, self.square))  # (B, wide, h, w)
        x = self.before(x, condition)
        y = self.down(x)  # (B, wider, h / 2, w / 2)
        for block in self.middle:
            y = block(y, condition)
        x = self.after(x + F.pixel_shuffle(self.up(y), 2), condition)
        found = as_float32(F.pixel_shuffle(self.last(F.relu(x)), self.square)[:, :, :height, :width])
        return (2 * t - 1) * offset + self.deviations * variance.rsqrt() * (guidance * found)

    def noise(self, white: Tensor) -> Tensor:
        """Noise like the errors of decoded images, from standard normal numbers, shape (B, C, H, W) both.

        It is as large at each pixel, and where squares are crowded as alike in pixels side by side and in channels.
        """
        if not self.crowded:
            return self.deviations * white
        mixed = torch.einsum("cd,bdhw->bchw", self.channels, white)
        return self.deviations * (self.rows @ mixed @ self.columns.T)

    def refine(self, decoded: Tensor, z: Tensor, white: Tensor, steps: int = _STEPS) -> Tensor:
        """Draw images, in 32 bits also under autocast: every step would add to the rounding.

        Args:
            decoded: What the first decoder makes of the latents, shape (B, C, H, W).
            z: Latents, shape (B, D).
            white: Standard normal numbers, shape (B, C, H, W). Of the same ones images change smoothly with latents.
            steps: Of the method of Adams and Bashforth of second order, which takes the velocity before into account:
                8 are as good as 24 of Euler's.

        Returns:
            Images (B, C, H, W) in [0, 1].
        """
        with torch.autocast(decoded.device.type, enabled=False):
            x, before = decoded + self.noise(white), None
            for step in range(steps):
                time = x.new_full((len(x),), step / steps)
                velocity = self(x, decoded, z, time, self.guidance)
                # The velocity halfway through the step, if it goes on changing as it did in the step before.
                x = x + (velocity if before is None else 1.5 * velocity - 0.5 * before) / steps
                before = velocity
            return x.clamp(0, 1)


class _Block(nn.Module):
    """A residual block whose inner layer is scaled and shifted by a condition; it changes nothing at the beginning."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Conv2d(channels, channels, 3, padding=1)
        self.outer = nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(_CONDITION_DIM, 2 * channels)
        for layer in (self.outer, self.condition):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Features of the same shape (B, channels, h, w), for conditions (B, _CONDITION_DIM)."""
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, 1)
        # One number for each image keeps it in range; a mean for each place or channel costs a CPU far more.
        level = torch.rsqrt(x.square().mean((1, 2, 3), keepdim=True) + 1e-6)
        inner = F.relu(self.inner(F.relu(x * level)) * (1 + scale) + shift)
        changed: Tensor = x + self.outer(inner)
        return changed


class LatentMixtures(nn.Module):
    """A mixture of Gaussians for the latents of each cluster, which one Gaussian fits badly.

    Args:
        n_clusters: Number of clusters, K.
        latent_dim: Dimensions of z, D.

    Attributes:
        weights: Shares of the components of each cluster, shape (K, M); those without one are 0.
        means: Shape (K, M, D).
        factors: Lower triangular, shape (K, M, D, D).
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, n_clusters: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_clusters, COMPONENTS))
        self.register_buffer("means", torch.zeros(n_clusters, COMPONENTS, latent_dim))
        self.register_buffer("factors", torch.zeros(n_clusters, COMPONENTS, latent_dim, latent_dim))

    def draw(self, clusters: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A latent of each of `clusters`, shape (n, D), float32."""
        weights, means, factors = (t.cpu().numpy() for t in (self.weights, self.means, self.factors))
        shares = weights[clusters].astype(np.float64).cumsum(1)
        u = generator.random(len(clusters)) * shares[:, -1]
        component = np.minimum((u[:, None] >= shares).sum(1), weights.shape[1] - 1)
        noise = generator.standard_normal((len(clusters), means.shape[2]), dtype=np.float32)
        drawn: np.ndarray = means[clusters, component] + np.einsum("nij,nj->ni", factors[clusters, component], noise)
        return drawn


def _rows_of_squares(x: Tensor, side: int) -> Tensor:
    """Squares of pixels as channels, in the memory format that conv layers want: (B, C s s, H / s, W / s)."""
    return F.pixel_unshuffle(x, side).contiguous(memory_format=torch.channels_last)


def _waves(time: Tensor) -> Tensor:
    """Times (B,) and waves of them, shape (B, 1 + 2 _FREQUENCIES)."""
    angles = time[:, None] * (math.pi * 2.0 ** torch.arange(_FREQUENCIES, device=time.device))
    return torch.cat([time[:, None], angles.sin(), angles.cos()], 1)
