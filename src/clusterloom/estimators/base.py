"""What all estimators share: everything but their knobs and how they are trained."""

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from clusterloom.bundle import read_bundle, write_bundle
from clusterloom.console import Output
from clusterloom.device import Compute, freed_memory_reused, memory_errors_named
from clusterloom.errors import ClusterloomError, DataError, ModelError, SettingsError
from clusterloom.estimators.card import model_card
from clusterloom.estimators.persistence import from_bundle, to_bundle
from clusterloom.estimators.validation import images_from, warn_of_duplicates
from clusterloom.inference import apply_in_batches
from clusterloom.training.loop import DivergedError, Observer
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.progress import EpochLines, MetricsFile, TrackerLog, TrainingProgress
from clusterloom.training.run import CHECKPOINTS, Run

_THRESHOLD_SAMPLE = 10_000
_NOISE_CHUNK = 1_000  # images whose errors are in memory at once
_LEAST_NOISE = 1e-4  # a hundredth of the pixels' range, squared: a pixel that never changed may change a little

# Parameters that another session of the same run may change. Epochs are the plans' business, see `Run.train`.
_FREE = {"device", "epochs", "image_shape", "min_improvement", "patience_epochs", "precision", "random_state"}
_FREE |= {"resume", "run_dir", "tracker", "verbose"}


class ClusterNetwork(Protocol):
    """What an estimator asks of its network, a `torch.nn.Module`."""

    settings: Any  # a frozen dataclass with at least image_shape, n_clusters and latent_dim
    class_means: Tensor  # (K, D)
    pixel_variances: Tensor  # (C, H, W), of each pixel around its reconstruction

    def latents(self, x: Tensor) -> Tensor:
        """Latents (B, D) of images (B, C, H, W)."""

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) from latents (B, D)."""

    def assign(self, x: Tensor) -> Tensor:
        """Soft assignments (B, K) of images (B, C, H, W)."""

    def predictions(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Soft assignments (B, K), latents (B, D) and scores (B,), in nats, of images (B, C, H, W)."""


class ImageClusterer(ClusterMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of all estimators: a network that is trained on images, and what can be asked of it afterwards.

    A subclass has an explicit `__init__` without logic, as scikit-learn asks; see `ConvVAEClusterer` for the parameters
    and attributes.
    """

    network_: Any

    @abstractmethod
    def _network_settings(self, image_shape: tuple[int, int, int]) -> Any:
        """Settings of the network for images of that shape (height, width, channels): a frozen dataclass."""

    @abstractmethod
    def _new_network(self, settings: Any) -> nn.Module:
        """A fresh `ClusterNetwork`, with weights from torch's global generator."""

    @abstractmethod
    def _train_stages(self, network: Any, run: Run, images: np.ndarray, plan: TrainingPlan) -> dict[str, Any]:
        """Train a network in place; what was decided on the way, as JSON values."""

    def _cluster_range(self) -> tuple[int, int]:
        """The smallest and the largest number of clusters that the model may come to have."""
        if isinstance(self.n_clusters, str | tuple | list):
            raise SettingsError(
                f"the guided recipe alone can find the number of clusters; give one number, not {self.n_clusters!r}"
            )
        return self.n_clusters, self.n_clusters

    def check_parameters(self, image_shape: tuple[int, int, int] | None = None) -> None:
        """Refuse parameters that `fit` would refuse, as far as that can be seen without images.

        Args:
            image_shape: Height, width and channels of the images to come, where they are known.

        Raises:
            SettingsError: a parameter is out of range, of another type, or does not fit such images.
        """
        try:
            self._cluster_range()
            self._plan(1)
            if image_shape is not None:
                self._network_settings(image_shape)
        except ClusterloomError:
            raise
        except (TypeError, ValueError) as error:
            raise SettingsError(f"a value is of a type that its parameter does not take ({error})") from error
        Compute.choose(self.device, self.precision)
        _check_tracker(self.tracker)

    def fit(self, X: Any, y: None = None) -> Self:
        """Train on images and assign them to clusters.

        Args:
            X: Images: an `ImageSet`, (N, H, W), (N, H, W, C), or (N, D) with `image_shape`; uint8, or floats in [0, 1].
            y: Ignored; training never sees labels.

        Returns:
            The fitted estimator.

        Raises:
            DataError: the images cannot be used.
            SettingsError: a parameter is out of range or does not fit the images.
            DivergedError: the loss became NaN; the estimator holds its last good epoch, if there was one.
            TrainingError: out of memory.
        """
        images = images_from(self, X, reset=True)
        if len(images) < self._cluster_range()[0]:
            raise DataError(f"n_samples={len(images)} should be >= n_clusters={self._cluster_range()[0]}")
        warn_of_duplicates(images)
        settings = self._network_settings(self.image_shape_)
        plan = self._plan(len(images))
        started = time.perf_counter()
        compute = self._compute()
        network = self._initialised_network(settings, plan.seed).to(compute.device)
        diverged: DivergedError | None = None
        try:
            history, recipe = self._train(network, images, plan, compute)
        except DivergedError as error:
            if not error.history:
                raise
            diverged, history, recipe = error, error.history, {}
        self.network_, self.history_ = network, history
        self._describe_training(images, compute)
        self.about_ = {
            "seed": plan.seed,
            "device": str(compute.device),
            "precision": compute.precision,
            "processes": compute.processes().num_processes,
            "threads": torch.get_num_threads(),
            "images": len(images),
            "seconds": round(time.perf_counter() - started, 3),
            "training_seconds": round(self.history_[-1]["seconds"], 3),
            "versions": _versions(),
            **({"recipe": recipe} if recipe else {}),
        }
        if diverged is not None:
            raise diverged
        return self

    def fit_predict(self, X: Any, y: None = None) -> np.ndarray:
        """`fit`, then the clusters of the training images, shape (N,)."""
        return self.fit(X).labels_

    @property
    def n_clusters_(self) -> int:
        """Number of clusters of the fitted model."""
        check_is_fitted(self, "network_")
        return int(self.network_.settings.n_clusters)

    def predict(self, X: Any) -> np.ndarray:
        """Most likely cluster of each image, shape (N,), int64: always the argmax of `predict_proba`."""
        return self.predict_proba(X).argmax(1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of every cluster for each image, shape (N, K), float32.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: the images do not have the shape or the range of the training images.
        """
        (q,) = self._apply(X, lambda x: (self.network_.assign(x),))
        return q

    def transform(self, X: Any) -> np.ndarray:
        """Posterior means of the latent variables, shape (N, latent_dim), float32."""
        return self._apply(X, lambda x: (self.network_.latents(x),))[0]

    def score_samples(self, X: Any) -> np.ndarray:
        """How well the model explains each image, nats per image, shape (N,), float32; higher is more typical.

        See `clusterloom.networks.vae.ClusterVAE.predictions`.
        """
        return self._apply(X, lambda x: self.network_.predictions(x)[2:])[0]

    def reconstruct(self, X: Any) -> np.ndarray:
        """What the decoder makes of each image's posterior mean: (N, H, W, C), float32 in [0, 1]."""

        def reconstructed(x: Tensor) -> tuple[Tensor, ...]:
            return (self.network_.decode(self.network_.latents(x)).permute(0, 2, 3, 1),)

        return self._apply(X, reconstructed)[0]

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C), float32 in [0, 1], from latents (N, latent_dim)."""
        check_is_fitted(self, "network_")
        latents = np.asarray(latents, np.float32)
        dim = self.network_.settings.latent_dim
        if latents.ndim != 2 or latents.shape[1] != dim or len(latents) == 0:
            raise DataError(f"latents must have shape (N, {dim}), N at least 1; got {latents.shape}")
        # Latents travel through the batching of images as images of 1 x 1 pixel and D channels.
        (images,) = apply_in_batches(
            lambda z: (self.network_.decode(z.flatten(1)).permute(0, 2, 3, 1),), latents[:, None, None], self._compute()
        )
        return images

    def predictions(self, X: Any) -> dict[str, np.ndarray]:
        """Everything that the model says of each image, in one pass.

        Returns:
            Arrays by name, "proba" (N, K), "latents" (N, latent_dim), "score" (N,) and "outlier" (N,). The
            flag says that the score lies below `outlier_threshold_`, that is that the square root of the loss is
            beyond Tukey's outer fence (third quartile plus three times the interquartile range) of at most 10,000
            training images, evenly spaced.
        """

        proba, latents, score = self._apply(X, self.network_.predictions)
        return {"proba": proba, "latents": latents, "score": score, "outlier": score < self.outlier_threshold_}

    def save(self, path: str | Path, pictures: Mapping[str, bytes] | None = None, overwrite: bool = False) -> None:
        """Write a model directory; see `clusterloom.bundle`.

        Args:
            path: The directory.
            pictures: PNG files to put beside the model card, by name.
            overwrite: Replace a model that is there already.

        Raises:
            ModelError: there is something at `path` that may not be replaced.
            OSError: the disk is full or not writable; what was at `path` is intact.
        """
        check_is_fitted(self, "network_")
        bundle = to_bundle(self)
        card = model_card(bundle, self.cluster_sizes_, sorted(pictures or ()))
        write_bundle(Path(path), bundle, card, pictures, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model directory that `save` wrote.

        Raises:
            ModelError: it is missing, damaged, tampered with, of an unknown version or of another estimator.
        """
        path = Path(path)
        bundle = read_bundle(path)
        if bundle.settings.get("estimator") != cls.__name__:
            raise ModelError(f"{path}: holds a {bundle.settings.get('estimator')!r}, not a {cls.__name__}")
        return from_bundle(cls, bundle, path)

    def _apply(self, X: Any, function: Any) -> tuple[np.ndarray, ...]:
        check_is_fitted(self, "network_")
        return apply_in_batches(function, images_from(self, X, reset=False), self._compute())

    def _compute(self) -> Compute:
        compute = Compute.choose(self.device, self.precision)
        processes = compute.processes()
        return compute if processes.num_processes == 1 else Compute(processes.device, compute.precision)

    def _plan(self, n_images: int) -> TrainingPlan:
        """How long and how to train on so many images."""
        return TrainingPlan(self.epochs, self.batch_size, self.learning_rate, self._seed(), self.patience_epochs)

    def _train(
        self, network: Any, images: np.ndarray, plan: TrainingPlan, compute: Compute
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Train a network in place; the records of the epochs, and what the recipe decided, as JSON values."""
        _check_tracker(self.tracker)
        run_dir = None if self.run_dir is None and self.tracker is None else self._run_dir()
        if self.resume and self.random_state is None and run_dir is not None and any(run_dir.glob(CHECKPOINTS)):
            raise SettingsError("resume needs random_state, the seed that the run began with")
        # One process needs no word about the device, and after a fit on another one Accelerate would refuse it.
        on_cpu = compute.device.type == "cpu" and compute.processes().num_processes > 1
        accelerator = Accelerator(device_placement=False, cpu=on_cpu, log_with=self.tracker, project_dir=run_dir)
        with ExitStack() as stack, memory_errors_named(plan.batch_size), freed_memory_reused():
            output = stack.enter_context(Output(quiet=not self.verbose))
            observers = self._observers(stack, accelerator, output, len(images), plan, network.settings)
            identity = self._run_identity(network.settings, plan)
            run = Run(
                images, identity, compute, accelerator, run_dir, self.resume, observers, output.progress, output.say
            )
            recipe = self._train_stages(network, run, images, plan)
        return run.history, recipe

    def _run_identity(self, settings: Any, plan: TrainingPlan) -> dict[str, Any]:
        """What a run must have in common with the unfinished one that it takes up, besides images and plans."""
        parameters = {name: value for name, value in self.get_params().items() if name not in _FREE}
        return {"network": asdict(settings), "parameters": parameters, "seed": plan.seed}

    def _describe_training(self, images: np.ndarray, compute: Compute) -> None:
        """Set what is known of the training images once the network is trained."""
        (q,) = apply_in_batches(lambda x: (self.network_.assign(x),), images, compute)
        self.labels_ = q.argmax(1)
        self.cluster_sizes_ = np.bincount(self.labels_, minlength=self.n_clusters_)
        sample = images[:: -(-len(images) // _THRESHOLD_SAMPLE)]
        self._fit_noise(sample, compute)
        (scores,) = apply_in_batches(lambda x: self.network_.predictions(x)[2:], sample, compute)
        # Square roots, for losses are sums of squares: as distances they have no long tail of ordinary images.
        first, third = np.percentile(np.sqrt(np.maximum(-scores.astype(np.float64), 0)), [25, 75])
        # A little further off: where all scores are equal, rounding must not put the fence among them.
        self.outlier_threshold_ = -float(np.float32((third + 3 * (third - first)) ** 2 * (1 + 1e-6)))

    def _fit_noise(self, sample: np.ndarray, compute: Compute) -> None:
        """Set the variance of every pixel around its reconstruction to what it is over a sample of images."""

        def squared_error(x: Tensor) -> tuple[Tensor, ...]:
            return ((x - self.network_.decode(self.network_.latents(x))) ** 2,)

        total = np.zeros(self.network_.pixel_variances.shape)
        for start in range(0, len(sample), _NOISE_CHUNK):
            (errors,) = apply_in_batches(squared_error, sample[start : start + _NOISE_CHUNK], compute)
            total += errors.sum(0, dtype=np.float64)
        variances = np.maximum(total / len(sample), _LEAST_NOISE)
        self.network_.pixel_variances.copy_(torch.from_numpy(variances))

    def _initialised_network(self, settings: Any, seed: int) -> nn.Module:
        """A network whose initial weights depend on the seed alone; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]), memory_errors_named():
            torch.default_generator.manual_seed(seed)  # those of other devices stay as they are
            return self._new_network(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _seed(self) -> int:
        """A seed, without touching NumPy's global generator."""
        if self.random_state is None:
            return int(np.random.SeedSequence().generate_state(1)[0])
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31 - 1))
        if self.random_state < 0:
            raise SettingsError(f"random_state must be a whole number of at least 0, got {self.random_state}")
        return int(self.random_state)

    def _run_dir(self) -> Path:
        if self.run_dir is None:
            raise SettingsError("a tracker needs run_dir, the folder to write to")
        path = Path(self.run_dir)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _observers(
        self,
        stack: ExitStack,
        accelerator: Accelerator,
        output: Output,
        n_images: int,
        plan: TrainingPlan,
        settings: Any,
    ) -> Sequence[Observer]:
        observers: list[Observer] = []
        if self.run_dir is not None and accelerator.is_main_process:
            observers.append(MetricsFile(self._run_dir() / "metrics.jsonl"))
        observers.append(TrainingProgress(output.progress, n_images, plan.epochs))
        if self.verbose > 1:
            observers.append(EpochLines(output.say))
        if self.tracker is not None:
            observers.append(TrackerLog(accelerator, {**asdict(settings), **self.get_params()}))
            stack.callback(accelerator.end_training)
        return observers

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Latents and probabilities are float32 whatever the images were.
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_tracker(name: str | None) -> None:
    if name not in (None, "tensorboard", "mlflow"):
        raise SettingsError(f"tracker must be tensorboard or mlflow; got {name!r}")
    if name is not None and find_spec(name) is None:
        raise SettingsError(f"tracker {name} is not installed: pip install 'clusterloom[{name}]'")


def _versions() -> dict[str, str]:
    packages = ("clusterloom", "torch", "numpy", "scikit-learn", "umap-learn", "accelerate", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
