"""How far new images go beyond what the second decoder says, and whether it is shown at all. No label is asked."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from scipy.stats import wasserstein_distance
from torch import Tensor

from clusterloom.data.images import ImageArray, limited_rows
from clusterloom.inference import apply_in_batches
from clusterloom.networks.refiner import Refiner
from clusterloom.networks.vae import ClusterVAE, Posterior
from clusterloom.training.randomness import numpy_generator, torch_generator
from clusterloom.training.run import Run

_COMPARED = (50, 100, 400)  # real images and new ones are compared: one of so many, at least, at most
_GUIDANCES = (1.0, 2.0)  # least and most
_TRIALS = 5  # of a guidance
_DIRECTIONS = 16  # in which their patches are compared
_PATCH = 5  # pixels
_PLACES = 16  # of patches along a side, at most


def choose_guidance(
    network: ClusterVAE, refiner: Refiner, run: Run, images: ImageArray, posteriors: np.ndarray, seed: int
) -> None:
    """Set the guidance of a trained refiner to that of the least patch distance, and whether it then helps.

    Args:
        network: Whose refiner it is.
        refiner: What is set.
        run: Knows the device, and keeps what was found.
        images: Shape (N, H, W, C).
        posteriors: Their posterior means and log-variances, shape (N, 2 D).
        seed: Of the run.
    """

    def compute() -> dict[str, np.ndarray]:
        distance = patch_distance(network, run, images, posteriors, seed)

        def guided(guidance: float) -> float:
            refiner.guidance.fill_(guidance)
            return distance(network.refined)

        refiner.helps.fill_(True)
        best = minimize_scalar(guided, bounds=_GUIDANCES, method="bounded", options={"maxiter": _TRIALS})
        helps = best.fun <= distance(lambda z, noise: network.decode(z))
        return {"guidance": np.array(best.x, np.float32), "helps": np.array(helps)}

    for name, array in run.cached("guidance", compute, everywhere=True).items():  # images are made by shares
        getattr(refiner, name).fill_(array.item())


def patch_distance(
    network: ClusterVAE, run: Run, images: ImageArray, posteriors: np.ndarray, seed: int
) -> Callable[[Callable[[Tensor, Tensor], Tensor]], float]:
    """A measure of how far images that are made of latents are from real ones in how pixels differ from those around.

    That is the sliced Wasserstein distance (Rabin and others, 2011) between patches of up to 400 images and of those
    that are made of their latents: the mean over random directions, none of which sees a patch's own brightness. Soft
    images have few large differences, grainy ones few small ones.

    Args:
        network: Its image shape and latent dimensions count.
        run: Knows the device.
        images: Shape (N, H, W, C).
        posteriors: Their posterior means and log-variances, shape (N, 2 D).
        seed: Of the run.

    Returns:
        The distance of what a function makes: images (B, C, H, W) of latents (B, D) and normal noise (B, C, H, W), both
        the same whatever is measured.
    """
    one_of, least, most = _COMPARED
    rows = limited_rows(len(images), min(max(least, len(images) // one_of), most))
    height, width, channels = network.image_shape
    noise = numpy_generator(seed, "noise", "compare").standard_normal(
        (len(rows), network.latent_dim + channels * height * width), dtype=np.float32
    )
    of_latents, of_pixels = np.split(noise, [network.latent_dim], axis=1)
    posterior = Posterior(*torch.from_numpy(posteriors[rows]).chunk(2, 1))
    beside = np.hstack([posterior.sample(torch.from_numpy(of_latents)).numpy(), of_pixels])

    directions = torch.randn(_DIRECTIONS, 1, _PATCH, _PATCH, generator=torch_generator(seed, "noise", "directions"))
    directions -= directions.mean((2, 3), keepdim=True)
    directions /= directions.square().sum((2, 3), keepdim=True).sqrt()
    directions = directions.to(run.compute.device)

    def patches(x: Tensor) -> Tensor:
        """Patches of images (B, C, H, W) along each direction, shape (B, directions, places and channels)."""
        step = -(-max(height, width) // _PLACES)
        padded = F.pad(x, (_PATCH // 2,) * 4, mode="replicate")
        along = F.conv2d(padded.flatten(0, 1)[:, None], directions, stride=step)  # (B C, directions, h, w)
        return along.view(len(x), channels, _DIRECTIONS, -1).transpose(1, 2).flatten(2)

    compared = images[rows]
    (of_real,) = apply_in_batches(lambda x: (patches(x),), compared, run.compute)

    def distance(made: Callable[[Tensor, Tensor], Tensor]) -> float:
        def patches_made(x: Tensor, beside: Tensor) -> tuple[Tensor]:
            z, noise = beside.tensor_split((network.latent_dim,), dim=1)
            return (patches(made(z, noise.reshape(x.shape))),)

        (of_made,) = apply_in_batches(patches_made, compared, run.compute, beside=beside)
        pairs = ((of_real[:, d].ravel(), of_made[:, d].ravel()) for d in range(_DIRECTIONS))
        return float(np.mean([wasserstein_distance(*pair) for pair in pairs]))

    return distance
