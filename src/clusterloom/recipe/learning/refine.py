"""Stage 7, refine: a second decoder learns what the first one's images lack. Clusters are settled by then."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from clusterloom.data.images import ImageArray, limited_rows
from clusterloom.inference import apply_in_batches
from clusterloom.networks.refiner import COMPONENTS, LatentMixtures, Refiner
from clusterloom.networks.step import StepOutput
from clusterloom.networks.vae import ClusterVAE, Posterior
from clusterloom.recipe.learning.guidance import choose_guidance
from clusterloom.recipe.points.mixture import fit_mixtures, kmeans_labels, mixture_of
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import fresh_weights, numpy_generator, seed_for
from clusterloom.training.run import Run

_LARGEST_BATCH = 64  # steps count for more than images do
_LEARNING_RATE = 2e-3
_KERNEL_STEP = 0.8  # of Muon, in learning rates: docs/tried.md, "Sharp new images"
_POINTS = 10  # latents for each dimension that a Gaussian needs
_SAMPLE = 10_000  # images that say how decoded ones differ from real ones, at most
_LEAST_SAMPLE = 400
_SAMPLE_NUMBERS = 2**25  # pixels and channels of these images, which are in memory at once
_EVEN = 0.01  # share of their errors which is taken to be the same at every pixel: where none was seen some may come
_WHITE = 0.002  # the same of what is alike in none but equal rows, columns and channels


def refine(
    network: ClusterVAE,
    run: Run,
    images: ImageArray,
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
    plan = replace(plan, remedy="refine=false")  # users cannot set the rate of this stage
    run.train(objective, plan, images, "refine", posteriors)
    choose_guidance(network, refiner, run, images, posteriors, plan.seed)
    if not refiner.helps:
        run.note("refine: it has learned too little from these images, and new ones stay soft")


class FlowObjective(nn.Module):
    """What the stage minimises: the squared error of the flow's velocity at a random time.

    At time t the flow is at (1 - t) (x' + e) + t x, where x' is decoded from a latent of q(z|x) and e is noise like its
    errors; so its velocity is x - (x' + e). A model for `clusterloom.training.loop`.

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
        z = Posterior(*posteriors.chunk(2, 1)).sample(noise[:, 1 : 1 + self._latent_dim])
        with torch.no_grad():
            decoded = self._decode(z)
        start = decoded + self.refiner.noise(of_pixels.reshape(x.shape))
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
            points = Posterior(*of_cluster.chunk(2, 1)).sample(noise).numpy()
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
    refiner: Refiner, network: ClusterVAE, run: Run, images: ImageArray, posteriors: np.ndarray, seed: int
) -> None:
    """Set how decoded images differ from real ones, and how far latents reach."""
    most = min(_SAMPLE, max(_LEAST_SAMPLE, _SAMPLE_NUMBERS // refiner.deviations.numel()))
    rows = limited_rows(len(images), most)
    noise = numpy_generator(seed, "noise", "refine").standard_normal((len(rows), network.latent_dim), dtype=np.float32)
    latents = Posterior(*torch.from_numpy(posteriors[rows]).chunk(2, 1)).sample(torch.from_numpy(noise)).numpy()
    found = apply_in_batches(lambda x, z: (x - network.decode(z),), images[rows], run.compute, beside=latents)
    errors = torch.from_numpy(found[0])
    of_pixels = errors.square().mean(0)
    variances = (1 - _EVEN) * of_pixels + _EVEN * of_pixels.mean()
    deviations = variances.clamp(min=1e-8).sqrt()
    refiner.deviations.copy_(deviations)
    if refiner.crowded:
        _correlate(refiner, errors / deviations)
    refiner.latent_deviations.copy_(torch.from_numpy(np.maximum(latents.std(0), 1e-3)))


def _correlate(refiner: Refiner, errors: Tensor) -> None:
    """Make noise as alike in rows, columns and channels as errors (N, C, H, W) are."""
    for name, products in (("rows", "bchw,bcgw->hg"), ("columns", "bchw,bchv->wv"), ("channels", "bchw,bdhw->cd")):
        getattr(refiner, name).copy_(_factor(torch.einsum(products, errors, errors)))


def _factor(products: Tensor) -> Tensor:
    """A lower triangular factor of the correlations that sums of products (n, n) tell, shape (n, n)."""
    precise = products.double()
    length = precise.diagonal().clamp(min=1e-12).sqrt()
    correlations = precise / torch.outer(length, length)
    correlations.fill_diagonal_(1)
    return torch.linalg.cholesky((1 - _WHITE) * correlations + _WHITE * torch.eye(len(precise)))
