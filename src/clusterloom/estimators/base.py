"""What all estimators share: scikit-learn's conventions around a network that is trained on images."""

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.images import ImageArray, ImageRows, limited_rows
from clusterloom.data.pixels import PixelRange
from clusterloom.device import Compute, memory_errors_named
from clusterloom.errors import DataError, SettingsError
from clusterloom.estimators.outliers import fit_pixel_variances, outlier_threshold
from clusterloom.estimators.validation import images_from, warn_of_duplicates
from clusterloom.inference import apply_in_batches
from clusterloom.model_dir.contents import contents_of, restored
from clusterloom.model_dir.read import read_model
from clusterloom.model_dir.write import write_model
from clusterloom.networks.cluster_network import ClusterNetwork
from clusterloom.settings import CommonSettings
from clusterloom.training.loop import DivergedError
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.processes import from_main
from clusterloom.training.randomness import fresh_weights
from clusterloom.training.run import Run
from clusterloom.training.session import check_tracker, training_session

_SAMPLE = 10_000  # images that say what is usual


class ImageClusterer(ClusterMixin, TransformerMixin, BaseEstimator, ABC):
    """Base of all estimators: a network that is trained on images, and what can be asked of it afterwards.

    A subclass names its method and its `Settings`, whose fields are the estimator's parameters.

    Attributes:
        n_clusters_: Number of clusters.
        labels_: Clusters of the training images, shape (N,): `predict` of them.
        confidences_: Probability of that cluster for each training image, shape (N,).
        cluster_sizes_: Training images per cluster, shape (K,).
        labelled_rows_: Where not all images were visited, the rows of the sample of a million that the three above are
            of; else None. Not kept in model directories.
        cluster_names_: What a user calls each cluster, "" where nobody has named it; see `GuidedClusterer.refit`.
        corrected_: Ascending rows of the training images of which a user has said where they belong, shape (n,).
        history_: One record per epoch: loss and its terms in nats per image, clusters in use, speed, time.
        about_: Seed, device, time and versions of the run, and what the method decided from the images.
        outlier_threshold_: Scores below it are flagged by `predictions`, in nats.
        network_: The trained network; see `clusterloom.networks.cluster_network.ClusterNetwork`.
        image_shape_: Height, width, channels.
        pixel_range_: Values that were scaled to 0 and 1; two tuples where every channel has its own. None for uint8 and
            for numbers in [0, 1], which mean themselves; images that the model makes then are in [0, 1].
        reading_: What later images have to be read with, see `clusterloom.data.ImageSet`.
        framing_: How images are framed before the network reads them, which then decodes such images, too; None where
            they are read as they are. See `clusterloom.recipe.views.places.framed`.
        n_features_in_: Numbers per image.
    """

    method: ClassVar[str]  # its name on the command line and in model directories
    description: ClassVar[str]  # what it is, for reports: after the class's name and a comma
    Settings: ClassVar[type[CommonSettings]]
    bears_rounding: ClassVar[bool] = False  # whether precision="auto" may take bf16 for a small gain
    framings: ClassVar[tuple[str, ...]] = ()  # what `framing_` may be beside None
    generates: ClassVar[bool] = False  # whether there is a `sample` of new images
    decodes: ClassVar[bool] = True  # whether what latents decode to is still an image
    refits: ClassVar[bool] = False  # whether there is a `refit` to what a user has corrected

    n_clusters: Any
    network_: ClusterNetwork
    labels_: np.ndarray
    confidences_: np.ndarray
    cluster_sizes_: np.ndarray
    labelled_rows_: np.ndarray | None
    cluster_names_: tuple[str, ...]
    corrected_: np.ndarray
    history_: list[dict[str, Any]]
    about_: dict[str, Any]
    outlier_threshold_: float
    image_shape_: tuple[int, int, int]
    pixel_range_: PixelRange | None
    reading_: dict[str, Any]
    framing_: str | None
    n_features_in_: int

    if TYPE_CHECKING:  # every method has its own, see `parameters_of`

        def __init__(self, n_clusters: Any = ..., **parameters: Any) -> None: ...

    @abstractmethod
    def new_network(self, image_shape: tuple[int, int, int], n_clusters: int) -> ClusterNetwork:
        """A fresh network of these settings, with weights from torch's global generator."""

    @abstractmethod
    def _plan(self, settings: Any, shape: tuple[int, ...], seed: int) -> TrainingPlan:
        """How long and how to train on images of that shape, (N, H, W, C)."""

    @abstractmethod
    def _train_stages(
        self, settings: Any, network: Any, run: Run, images: ImageArray, plan: TrainingPlan
    ) -> dict[str, Any]:
        """Train a network in place; what was decided on the way, as JSON values."""

    @property
    def settings(self) -> CommonSettings:
        """The parameters, checked and frozen.

        Raises:
            SettingsError: one is of another type, or out of range.
        """
        return self.Settings.of(self.get_params(deep=False))

    def cluster_range(self) -> tuple[int, int]:
        """The smallest and the largest number of clusters that the model may come to have."""
        return self.settings.n_clusters, self.settings.n_clusters

    def most_visited(self) -> int | None:
        """How many different images `fit` visits at most; None for all, however many there are."""
        return None

    def check_parameters(self, image_shape: tuple[int, int, int] | None = None) -> None:
        """Refuse parameters that `fit` would refuse, as far as that can be seen without images; draws no random number.

        Args:
            image_shape: Height, width and channels of the images to come, where they are known.

        Raises:
            SettingsError: a parameter is out of range, of another type, or does not fit such images.
        """
        settings = self.settings
        _, most = self.cluster_range()
        self._plan(settings, (1, 1, 1, 1), 0)
        if image_shape is not None:
            with torch.device("meta"):
                self.new_network(image_shape, most)
        Compute.choose(settings.device, settings.precision)
        check_tracker(settings.tracker, settings.run_dir)
        if settings.run_dir == "":
            raise SettingsError("run_dir is empty; name a folder or an address, or leave it None")

    def fit(self, X: Any, y: None = None) -> Self:
        """Train on images and assign them to clusters.

        Args:
            X: Images: an `ImageSet`, (N, H, W), (N, H, W, C), or (N, D) with `image_shape`; uint8, or numbers whose
                range is taken from these images and kept.
            y: Ignored; training never sees labels.

        Returns:
            The fitted estimator.

        Raises:
            DataError: the images cannot be used.
            SettingsError: a parameter is out of range or does not fit the images.
            DivergedError: the loss became NaN; the estimator holds its last good epoch, if there was one.
            TrainingError: out of memory.
        """
        self.check_parameters()
        settings = self.settings
        fewest, most = self.cluster_range()
        with self._as_it_was_where_nothing_is_trained():
            self.reading_, self.framing_ = {}, None
            images = images_from(self, X, reset=True)
            if len(images) < fewest:
                wanted = f"n_clusters={fewest}" if fewest == most else f"{fewest} clusters"  # a range was asked for
                several = "1 sample is" if len(images) == 1 else f"{len(images)} samples are"
                raise SettingsError(f"{several} too few for {wanted}")
            warn_of_duplicates(images)
            compute = self.compute()
            seed = from_main(compute.processes(), lambda: seed_of(settings))  # each would draw its own
            plan = self._plan(settings, images.shape, seed)
            network = self._initialised_network(most, plan.seed).to(compute.device)
            self._train(images, network, plan, compute, {}, partial(self._train_stages, settings, network))
        return self

    @contextlib.contextmanager
    def _as_it_was_where_nothing_is_trained(self) -> Iterator[None]:
        """Put an estimator back where a fit has failed and there is no model: half of the new one is none."""
        before = vars(self).copy()
        try:
            yield
        except BaseException as error:
            if not (isinstance(error, DivergedError) and error.history):
                vars(self).clear()
                vars(self).update(before)
            raise

    def _train(
        self,
        images: np.ndarray,
        network: ClusterNetwork,
        plan: TrainingPlan,
        compute: Compute,
        more_identity: Mapping[str, Any],
        stages: Callable[[Run, ImageArray, TrainingPlan], dict[str, Any]],
    ) -> None:
        """Train a network in one run, and set what is known of it afterwards.

        Args:
            images: Shape (N, H, W, C).
            network: On the device.
            plan: How long and how.
            compute: Device and precision.
            more_identity: What tells the run from others, besides images, settings and plan.
            stages: Trains the network in place; what was decided on the way, as JSON values.
        """
        settings = self.settings
        diverged: DivergedError | None = None
        parameters = {k: v for k, v in vars(settings).items() if k not in _FREE}
        identity = {"method": self.method, "parameters": parameters, **more_identity}
        with training_session(settings, images, plan, identity, compute) as session:
            try:
                recipe = stages(session.run, images, plan)
                history = session.run.history
            except DivergedError as error:
                if not error.history:
                    raise
                diverged, history, recipe = error, error.history, {}
            self.network_, self.history_ = network, history
            rows = plan.rows_described(len(images))
            described = self.as_read(images if rows is None else ImageRows(images, rows))
            self.labelled_rows_ = rows
            self.cluster_names_ = ("",) * self.n_clusters_
            self.corrected_ = np.empty(0, np.int64)
            self._describe_training(described, compute, session.run.progress)
            self.about_ = {**session.about(), **({"recipe": json.loads(json.dumps(recipe))} if recipe else {})}
        if not (np.isfinite(self.confidences_).all() and np.isfinite(self.outlier_threshold_)):
            # Each step looks at the loss before it. The last one, and finite weights that are too large, show here.
            steps = -(-len(images) // plan.batch_size)
            raise DivergedError("what the model says", len(history), steps, [], plan.remedy)
        if diverged is not None:
            raise diverged

    def fit_predict(self, X: Any, y: None = None) -> np.ndarray:
        """`fit`, then the clusters of the training images, shape (N,)."""
        self.fit(X)
        return self.labels_ if self.labelled_rows_ is None else self.predict(X)

    @property
    def refines(self) -> bool:
        """Whether new images are refined by a second decoder."""
        return False

    @property
    def n_clusters_(self) -> int:
        """Number of clusters of the fitted model."""
        check_is_fitted(self, "network_")
        return int(self.network_.n_clusters)

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
        """What the decoder makes of each image's posterior mean: (N, H, W, C), float32, in `pixel_range_`."""

        def reconstructed(x: Tensor) -> tuple[Tensor, ...]:
            return (self.network_.decode(self.network_.latents(x)).permute(0, 2, 3, 1),)

        return self._in_training_range(self._apply(X, reconstructed)[0])

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Images (N, H, W, C), float32, in `pixel_range_`, from latents (N, latent_dim)."""
        check_is_fitted(self, "network_")
        latents = np.asarray(latents, np.float32)
        dim = self.network_.latent_dim
        if latents.ndim != 2 or latents.shape[1] != dim or len(latents) == 0:
            raise DataError(f"latents must have shape (N, {dim}), N at least 1; got {latents.shape}")
        # Latents travel through the batching of images as images of 1 x 1 pixel and D channels.
        (images,) = apply_in_batches(
            lambda z: (self.network_.decode(z.flatten(1)).permute(0, 2, 3, 1),), latents[:, None, None], self.compute()
        )
        return self._in_training_range(images)

    def predictions(self, X: Any, progress: ProgressReport = no_progress) -> dict[str, np.ndarray]:
        """Everything that the model says of each image, in one pass.

        Returns:
            Arrays by name, "proba" (N, K), "latents" (N, latent_dim), "score" (N,) and "outlier" (N,). The
            flag says that the score lies below `outlier_threshold_`; see `clusterloom.estimators.outliers`.
        """
        check_is_fitted(self, "network_")
        proba, latents, score = self._apply(X, self.network_.predictions, progress)
        return {"proba": proba, "latents": latents, "score": score, "outlier": score < self.outlier_threshold_}

    def sample(
        self,
        n_samples: int = 1,
        cluster: int | np.ndarray | None = None,
        spread: float = 1.0,
        random_state: int | None = None,
        checked: bool = True,
        plain: bool = False,
    ) -> np.ndarray:
        """New images, where the method `generates`; see `VariationalClusterer.sample`.

        Raises:
            SettingsError: it does not.
        """
        raise SettingsError(f"method {self.method} makes no new images")

    def sample_latents(
        self, clusters: np.ndarray, spread: float, generator: np.random.Generator, checked: bool = True
    ) -> np.ndarray:
        """Latents of new images, where the method `generates`; see `VariationalClusterer.sample_latents`.

        Raises:
            SettingsError: it does not.
        """
        raise SettingsError(f"method {self.method} makes no new images")

    def to_unit(self, images: np.ndarray) -> np.ndarray:
        """Images in `pixel_range_`, as `decode` and `reconstruct` give them, brought to [0, 1] to be shown."""
        if self.pixel_range_ is None:
            return images
        low, high = (np.asarray(bound, np.float32) for bound in self.pixel_range_)
        return (images - low) / np.where(high > low, high - low, 1)

    def shown(self, images: np.ndarray) -> np.ndarray:
        """Images (..., C) in the channels that pictures show: those that `reading_` names for that, or all."""
        channels = self.reading_.get("shown")
        return images[..., list(channels)] if channels else images

    def save(self, path: str | Path, pictures: Mapping[str, bytes] | None = None, overwrite: bool = False) -> None:
        """Write a model directory; see `clusterloom.model_dir.write`.

        Args:
            path: The directory.
            pictures: PNG files to put beside the model card, by name.
            overwrite: Replace a model that is there already.

        Raises:
            ModelError: there is something at `path` that may not be replaced.
            OSError: the disk is full or not writable; what was at `path` is intact.
        """
        check_is_fitted(self, "network_")
        write_model(Path(path), contents_of(self), pictures, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model directory that `save` wrote.

        Raises:
            ModelError: it is missing, damaged, tampered with, of an unknown version or of another estimator.
        """
        return restored(cls, read_model(Path(path)), Path(path))

    def _apply(
        self, X: Any, function: Callable[[Tensor], tuple[Tensor, ...]], progress: ProgressReport = no_progress
    ) -> tuple[np.ndarray, ...]:
        check_is_fitted(self, "network_")
        images = self.as_read(images_from(self, X, reset=False))
        return apply_in_batches(function, images, self.compute(), progress=progress)

    def as_read(self, images: ImageArray) -> ImageArray:
        """Images (N, H, W, C) as the network reads them."""
        return images

    def compute(self) -> Compute:
        """Device and precision; under several processes the device of this one."""
        settings = self.settings
        compute = Compute.choose(settings.device, settings.precision, self.bears_rounding)
        processes = compute.processes()
        return compute if processes.num_processes == 1 else Compute(processes.device, compute.precision)

    def _in_training_range(self, images: np.ndarray) -> np.ndarray:
        if self.pixel_range_ is None:
            return images
        low, high = (np.asarray(bound, np.float32) for bound in self.pixel_range_)
        return low + images * (high - low)

    def _describe_training(self, images: ImageArray, compute: Compute, progress: ProgressReport) -> None:
        """Set what is known of the training images once the network is trained."""
        (q,) = apply_in_batches(lambda x: (self.network_.assign(x),), images, compute, progress=progress)
        self.labels_, self.confidences_ = q.argmax(1), q.max(1)
        self.cluster_sizes_ = np.bincount(self.labels_, minlength=self.n_clusters_)
        sample = images[limited_rows(len(images), _SAMPLE)]
        fit_pixel_variances(self.network_, sample, compute)
        (scores,) = apply_in_batches(lambda x: self.network_.predictions(x)[2:], sample, compute)
        self.outlier_threshold_ = outlier_threshold(scores)

    def _initialised_network(self, n_clusters: int, seed: int) -> ClusterNetwork:
        with fresh_weights(seed), memory_errors_named():
            network = self.new_network(self.image_shape_, n_clusters)
            return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Latents and probabilities are float32 whatever the images were.
        tags.transformer_tags.preserves_dtype = []
        return tags


# Knobs that another session of the same run may change; epochs are the plans' business, see `Run.train`.
_FREE = {"device", "epochs", "image_shape", "patience_epochs", "precision", "random_state", "resume", "run_dir"}
_FREE |= {"tracker", "verbose"}


def seed_of(settings: CommonSettings) -> int:
    """The seed, or one drawn from the generator that was given, without touching NumPy's global one."""
    given = settings.random_state
    if given is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(given, np.random.RandomState):
        return int(given.randint(2**31 - 1))
    if isinstance(given, np.random.Generator):
        return int(given.integers(2**31 - 1))
    return int(given)
