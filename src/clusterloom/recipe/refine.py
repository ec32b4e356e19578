"""Stage 7, refine: a second decoder learns what the first one's images lack. Clusters are settled by then."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from clusterloom.inference import apply_in_batches
from clusterloom.networks.refiner import COMPONENTS, LatentMixtures, Refiner
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE
from clusterloom.recipe.mixture import fit_mixtures, kmeans_labels, mixture_of
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights, numpy_generator, seed_for
from clusterloom.training.run import Run

_LARGEST_BATCH = 64  # steps count for more than images do
_LEARNING_RATE = 2e-3
_KERNEL_STEP = 0.8  # of Muon, in learning rates: docs/tried.md, "Sharp new images"
_POINTS = 10  # latents for each dimension that a Gaussian needs
_COMPARED = 400  # images on each side, when decoded and refined ones are compared with real ones
_SAMPLE = 10_000  # images that say how far decoded ones are from real ones
_EVEN = 0.05  # share of that error which is taken to be the same at every pixel: where none was seen some may come


def refine(
    network: ClusterVAE,
    run: Run,
    images: np.ndarray,
    plan: TrainingPlan,
    q: np.ndarray,
    mu: np.ndarray,
    log_var: np.ndarray,
) -> None:
    """Give the network a `Refiner` and train it, from the weights of one that it has; nothing else of it changes.

    Args:
        network: With its final clusters and class covariances.
        run: Keeps what is needed to resume.
        images: Shape (N, H, W, C).
        plan: Of the other stages, with the epochs of this one.
        q: Soft assignments of all images, shape (N, K).
        mu: Their posterior means, shape (N, D).
        log_var: Logarithms of their posterior variances, shape (N, D).
    """
    with fresh_weights(plan.seed, "refine"):
        refiner = Refiner(network.image_shape, network.latent_dim, network.n_clusters)
    if network.refiner is not None:  # of the same network before it was fitted again, with other clusters
        state = network.refiner.state_dict()
        refiner.load_state_dict({k: v for k, v in state.items() if not k.startswith("latents.")}, strict=False)
    refiner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.refiner = refiner.to(run.compute.device)
    posteriors = np.hstack([mu, log_var])
    fit_latents(refiner.latents, network, run, q.argmax(1), posteriors, plan.seed)
    _measure(refiner, network, run, images, posteriors, plan.seed)
    objective = FlowObjective(network, refiner)
    batch_size = min(plan.batch_size, _LARGEST_BATCH)
    plan = replace(plan, batch_size=batch_size, learning_rate=_LEARNING_RATE, kernel_step=_KERNEL_STEP)
    run.train(objective, plan, images, "refine", posteriors)
    refiner.helps.fill_(True)
    decoded, refined = contrast_distances(network, run, images, posteriors, plan.seed)
    refiner.helps.fill_(refined <= decoded)
    if refined > decoded:
        run.note("refine: it has learned too little from these images; new ones would be grainy, and stay soft")


def contrast_distances(
    network: ClusterVAE, run: Run, images: np.ndarray, posteriors: np.ndarray, seed: int
) -> tuple[float, float]:
    """How far decoded images and refined ones are from real ones in how much pixels differ from those around them.

    That is the Wasserstein distance between the distributions of absolute Laplacians, of up to 400 images: soft images
    have few large ones, grainy images few small ones.

    Args:
        network: With its refiner.
        run: Knows the device.
        images: Shape (N, H, W, C).
        posteriors: Their posterior means and log-variances, shape (N, 2 D).
        seed: Of the run.

    Returns:
        The distance of decoded images, and of refined ones.
    """
    rows = np.arange(len(images))[:: -(-len(images) // (2 * _COMPARED))]
    real, others = rows[::2], rows[1::2]  # of which new ones are made
    if len(others) == 0:
        return 0.0, 0.0
    height, width, channels = network.image_shape
    numbers = network.latent_dim + channels * height * width
    noise = numpy_generator(seed, "noise", "compare").standard_normal((len(others), numbers), dtype=np.float32)

    def made(x: Tensor, beside: Tensor) -> tuple[Tensor, ...]:
        posterior, of_latent, of_pixels = beside.tensor_split((2 * network.latent_dim, 3 * network.latent_dim), dim=1)
        z = _drawn(posterior, of_latent)
        return _contrasts(network.decode(z)), _contrasts(network.refined(z, of_pixels.reshape(x.shape)))

    (of_real,) = apply_in_batches(lambda x: (_contrasts(x),), images[real], run.compute)
    found = apply_in_batches(made, images[others], run.compute, beside=np.hstack([posteriors[others], noise]))
    decoded, refined = (float(wasserstein_distance(of_real.ravel(), each.ravel())) for each in found)
    return decoded, refined


def _contrasts(x: Tensor) -> Tensor:
    """Absolute Laplacians of images (B, C, H, W), shape (B, C H W); beyond its edge an image goes on as its edge."""
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    down = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    return (4 * x - across - down).abs().flatten(1)


class FlowObjective(nn.Module):
    """What the stage minimises: the squared error of the flow's velocity at a random time.

    At time t the flow is at (1 - t) (x' + s e) + t x, where x' is decoded from a latent of q(z|x), s are the deviations
    of its pixels and e is noise; so its velocity is x - (x' + s e). A model for `clusterloom.training.loop`.

    Args:
        vae: Decodes; it is not trained, and no part of this.
        refiner: What is trained.
    """

    def __init__(self, vae: ClusterVAE, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner
        self._decode, self._latent_dim = vae.decode, vae.latent_dim

    def draw_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """For each image a time from 0 to 1, then normal numbers for its latent and its pixels."""
        numbers = self._latent_dim + self.refiner.deviations.numel()
        device = generator.device
        time = torch.rand(n, 1, generator=generator, device=device)
        return torch.cat([time, torch.randn(n, numbers, generator=generator, device=device)], 1)

    def forward(self, x: Tensor, noise: Tensor, posteriors: Tensor) -> StepOutput:
        """Loss terms of images (B, C, H, W), whose posteriors are means and log-variances (B, 2 D)."""
        time, of_pixels = noise[:, 0], noise[:, 1 + self._latent_dim :]
        z = _drawn(posteriors, noise[:, 1 : 1 + self._latent_dim])
        with torch.no_grad():
            decoded = self._decode(z)
        start = decoded + self.refiner.deviations * of_pixels.reshape(x.shape)
        noisy = torch.lerp(start, x, time[:, None, None, None])
        velocity = self.refiner(noisy, decoded, z, time)
        error = ((velocity - (x - start)) / self.refiner.error).square().flatten(1).mean(1)
        # The mean over pixels, so that the loss has the height of the other stages'.
        return StepOutput({"flow": error})


def fit_latents(
    mixtures: LatentMixtures, network: ClusterVAE, run: Run, labels: np.ndarray, posteriors: np.ndarray, seed: int
) -> None:
    """Set the mixtures to what latents of each cluster's images are like; where they are few, to the class's Gaussian.

    Args:
        mixtures: What is set.
        network: With its class means and covariances.
        run: Keeps what is found.
        labels: Clusters of all images, shape (N,).
        posteriors: Their posterior means and log-variances, shape (N, 2 D).
        seed: Of the run.
    """
    means, factors = (t.detach().cpu().numpy() for t in (network.class_means, network.scale_tril))
    n_clusters, dim = means.shape

    def compute() -> dict[str, np.ndarray]:
        found = {
            "weights": np.zeros((n_clusters, COMPONENTS), np.float32),
            "means": np.repeat(means[:, None], COMPONENTS, 1),
            "factors": np.repeat(factors[:, None], COMPONENTS, 1),
        }
        found["weights"][:, 0] = 1
        generator = numpy_generator(seed, "mixtures", "refine")
        for k in range(n_clusters):
            of_cluster = torch.from_numpy(posteriors[labels == k])
            n = min(COMPONENTS, len(of_cluster) // (_POINTS * dim))
            run.progress("latents of each cluster", k, n_clusters)
            if n < 2:
                continue
            noise = torch.from_numpy(generator.standard_normal((len(of_cluster), dim), dtype=np.float32))
            points = _drawn(of_cluster, noise).numpy()
            start = mixture_of(
                points, np.eye(n)[kmeans_labels(points, n, seed_for(seed, "mixtures", "refine", k) % 2**31)]
            )
            (mixture,) = fit_mixtures(points, [start])
            found["weights"][k, :n] = mixture.weights
            found["means"][k, :n] = mixture.means
            found["factors"][k, :n] = np.linalg.cholesky(mixture.covariances)
        return found

    for name, array in run.cached("latents", compute).items():
        getattr(mixtures, name).copy_(torch.from_numpy(array))


def _measure(
    refiner: Refiner, network: ClusterVAE, run: Run, images: np.ndarray, posteriors: np.ndarray, seed: int
) -> None:
    """Set how far decoded images are from real ones at each pixel, and how far latents reach."""
    rows = np.arange(len(images))[:: -(-len(images) // _SAMPLE)]
    noise = numpy_generator(seed, "noise", "refine").standard_normal((len(rows), network.latent_dim), dtype=np.float32)
    latents = _drawn(torch.from_numpy(posteriors[rows]), torch.from_numpy(noise)).numpy()
    (errors,) = apply_in_batches(
        lambda x, z: ((x - network.decode(z)).square(),), images[rows], run.compute, beside=latents
    )
    of_pixels = errors.mean(0)
    variances = (1 - _EVEN) * of_pixels + _EVEN * of_pixels.mean()
    refiner.deviations.copy_(torch.from_numpy(np.sqrt(np.maximum(variances, 1e-8))))
    refiner.latent_deviations.copy_(torch.from_numpy(np.maximum(latents.std(0), 1e-3)))


def _drawn(posteriors: Tensor, noise: Tensor) -> Tensor:
    """Latents (B, D) of posteriors (B, 2 D) for standard normal noise (B, D)."""
    mu, log_var = posteriors.chunk(2, 1)
    return mu + (0.5 * log_var).exp() * noise
