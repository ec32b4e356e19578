"""The default method: the convolutional VAE, trained by the guided recipe."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from annotated_types import Ge
from sklearn.utils.validation import check_is_fitted

from clusterloom.console import ProgressReport
from clusterloom.data.images import ImageArray
from clusterloom.device import Compute
from clusterloom.errors import DataError, SettingsError
from clusterloom.estimators.validation import images_from
from clusterloom.estimators.variational import VariationalClusterer
from clusterloom.networks.backbone import Backbone, check_available
from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.budget import Epochs, automatic_batch_size, automatic_epochs, epoch_images, most_visited
from clusterloom.recipe.guided import Colours, Kinds, train_guided
from clusterloom.recipe.refit import NOBODY, Answers, refit_epochs, train_again
from clusterloom.recipe.views.augment import SIGNS, ViewSettings, views_from
from clusterloom.recipe.views.fair import choose_views
from clusterloom.recipe.views.places import Framing, frame_images
from clusterloom.settings import CommonSettings, Count, Rate, Weight, parameters_of
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.run import Run

_AUTO = (2, 100)
_WEIGHT_DECAY = 1e-4
_KERNEL_STEP = 0.4  # with which these few epochs are enough: docs/tried.md, "Fewer epochs with Muon"


@dataclass(frozen=True)
class GuidedSettings(ConvNetworkSettings, CommonSettings):
    """Knobs of the guided recipe, `clusterloom.recipe`."""

    n_clusters: Count | tuple[Count, Count] | Literal["auto"] = "auto"  # type: ignore[assignment]
    """Number of clusters. auto finds it from the images among 2 to 100, a pair of numbers from the first to the
    second; see `clusterloom.recipe.cluster_count.choice`."""
    batch_norm: bool = True
    category_input: Literal["features", "latent"] = "features"
    kl_weight: Weight = 0.1
    colours: Colours = "auto"
    """Whether colours tell kinds apart: use, ignore, or auto, which finds it out from the images."""
    equal_kinds: bool = False
    """The kinds are known to be about equally many: clusters become more equal than images alone ask for."""
    strokes: bool = True
    """Whether strokes may tell kinds apart: signs are also seen by a small network, which has learned from made-up
    drawings what hands and fonts do to a sign."""
    epochs: Annotated[int, Ge(3)] | Literal["auto"] = "auto"
    """Passes over the images, over all stages but the last, refine; auto is 10 for 70,000 images, 15 for 10,000, 21 for
    1,800, 64 for 300, and 6 for a million. Of more than that, auto visits a million in each of six epochs, others each
    time. These numbers leave out what auto adds for few images: the first stage sees 20,000, each at most 64 times, and
    of some tens to 1,800 images the first fit is up to 2.4 times as long. Of up to 17,000 textures, things at any angle
    or place, or signs in any ink on any paper the first fit goes on while it has not learned its clusters, until it has
    seen 110,000 images at most, and of other images while it has learned fewer than three quarters of them."""
    batch_size: Count | Literal["auto"] = "auto"
    """Images per step; auto is 512 from some 60,000 images on, and less for fewer."""
    learning_rate: Rate = 3e-3
    """The highest one, of AdamW and Muon."""
    refine: bool = True
    """Train a second decoder for sharp new images, in a quarter as many epochs, of images of at most 8 pixels a side in
    a twelfth; clusters do not depend on it."""
    backbone: str | None = None
    """A frozen, pretrained conv network beside those that learn: efficientnet-lite0 (of the extra backbone), or timm:
    and the name of one of timm's models (of the extra timm). Its weights have seen labels of other images."""
    backbone_weights: str | None = None
    """File of the backbone's weights, safetensors or a PyTorch file without code; none takes those of the extra, or
    has timm download them."""


class GuidedClusterer(VariationalClusterer):
    """Clustering with a convolutional variational autoencoder that is led to the same clusters every time.

    The recipe is `clusterloom.recipe.guided`; docs/guided.md says what each part of it is worth. The parameters are the
    fields of `GuidedSettings`.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> images = (load_digits().images[:200] * 15).astype("uint8")
        >>> model = GuidedClusterer(10, hidden_dim=32, epochs=4, random_state=0).fit(images)
        >>> model.labels_.shape, model.predict_proba(images[:3]).shape, model.sample(5, cluster=2).shape
        ((200,), (3, 10), (5, 8, 8, 1))
    """

    method: ClassVar[str] = "guided"
    description: ClassVar[str] = "a convolutional variational autoencoder, guided by pseudo-labels"
    refits: ClassVar[bool] = True
    bears_rounding: ClassVar[bool] = True
    framings: ClassVar[tuple[str, ...]] = get_args(Framing)
    framing_: Framing | None
    Settings = GuidedSettings
    __init__ = parameters_of(GuidedSettings)

    @property
    def settings(self) -> GuidedSettings:
        """See `ImageClusterer.settings`."""
        return GuidedSettings.of(self.get_params(deep=False))

    def cluster_range(self) -> tuple[int, int]:
        """The smallest and the largest number of clusters that the model may come to have."""
        wanted = self.settings.n_clusters
        if isinstance(wanted, int):
            return wanted, wanted
        fewest, most = _AUTO if isinstance(wanted, str) else wanted
        if not 2 <= fewest <= most:
            raise SettingsError(f"n_clusters must be a range that rises from 2 or more; got {fewest} to {most}")
        return fewest, most

    def most_visited(self) -> int | None:
        """See `ImageClusterer.most_visited`."""
        return most_visited() if isinstance(self.settings.epochs, str) else None

    def as_read(self, images: ImageArray) -> ImageArray:
        """See `ImageClusterer.as_read`: framed, where that was found to be fair."""
        return frame_images(images, self.framing_) if self.framing_ else images

    def check_parameters(self, image_shape: tuple[int, int, int] | None = None) -> None:
        """See `ImageClusterer.check_parameters`; a backbone's weights must be there, too."""
        super().check_parameters(image_shape)
        settings = self.settings
        if settings.backbone is not None:
            check_available(settings.backbone, settings.backbone_weights)
        elif settings.backbone_weights is not None:
            raise SettingsError("backbone_weights needs a backbone")

    def new_network(self, image_shape: tuple[int, int, int], n_clusters: int) -> ClusterVAE:
        """A fresh network of these settings; its backbone, if it has one, is without weights."""
        name = self.settings.backbone
        backbone = None if name is None else Backbone(name, image_shape)
        return ClusterVAE(self.settings, image_shape, n_clusters, backbone, self.settings.refine)

    def _initialised_network(self, n_clusters: int, seed: int) -> ClusterVAE:
        network: ClusterVAE = super()._initialised_network(n_clusters, seed)  # type: ignore[assignment]
        network.refiner = None  # its stage makes it, for the clusters that there are then
        if network.backbone is not None:
            network.backbone.load_pretrained(self.settings.backbone_weights)
        return network

    def _plan(self, settings: GuidedSettings, shape: tuple[int, ...], seed: int) -> TrainingPlan:
        n_images = shape[0]
        batch_size = automatic_batch_size(n_images) if isinstance(settings.batch_size, str) else settings.batch_size
        budget = epoch_images(n_images) if isinstance(settings.epochs, str) else None
        return TrainingPlan(
            _epochs(settings, shape).total,
            batch_size,
            settings.learning_rate,
            seed,
            schedule="one-cycle",
            weight_decay=_WEIGHT_DECAY,
            epoch_images=budget,
            kernel_step=_KERNEL_STEP,
            warns_of_collapse=False,
        )

    def _train_stages(
        self, settings: GuidedSettings, network: ClusterVAE, run: Run, images: ImageArray, plan: TrainingPlan
    ) -> dict[str, Any]:
        views = choose_views(images, plan.seed)
        self.framing_ = views.framing
        if self.framing_ == "middle":
            run.note("places do not count in these images: what they show is brought into the middle first")
        elif self.framing_:
            run.note("what these images show reaches their edges: they get a margin first")
        images = self.as_read(images)
        epochs = _epochs(settings, images.shape, views)
        run.expect(epochs.total)
        kinds = Kinds(self.cluster_range()[0], settings.colours, settings.equal_kinds, settings.strokes)
        recipe = train_guided(network, run, images, plan, epochs, views, kinds)
        return recipe if network.backbone is None else {"backbone": network.backbone.about(), **recipe}

    def refit(
        self,
        X: Any,
        answers: Answers,
        names: Sequence[str] = (),
        run_dir: str | None = None,
        resume: bool = False,
    ) -> "GuidedClusterer":
        """Fit again, from this model's weights and from what a user has said of its images.

        Takes about a quarter of the epochs of `fit`. This estimator is left as it is.

        Args:
            X: The images of the answers, N of them, of the shape of the training images.
            answers: What a user has said; `clusterloom.corrections.refit.answers_of` makes them of corrections. The new
                model has as many clusters, M, as they tell apart.
            names: What the clusters are called; none, or M.
            run_dir: Where this run keeps what is needed to resume it: not where `fit` has kept its own.
            resume: Go on with the run in `run_dir`.

        Returns:
            A new estimator with the same parameters but for `n_clusters`, `run_dir` and `resume`.

        Raises:
            NotFittedError: `fit` has not been called.
            DataError: the images cannot be used, or the answers are not theirs.
            SettingsError: names of another number than clusters.
            DivergedError: the loss became NaN.
            TrainingError: out of memory.
        """
        check_is_fitted(self, "network_")
        images = images_from(self, X, reset=False)
        if len(images) != len(answers.q) or answers.outlier.all():
            raise DataError(
                f"expected answers about {len(images)} images, not all of them outliers; got {len(answers.q)} answers"
            )
        n_clusters = answers.q.shape[1]
        if names and len(names) != n_clusters:
            raise SettingsError(f"expected no names or {n_clusters}, one for each cluster; got {len(names)}")
        seed = int(self.about_["seed"])  # the one that was drawn, where none was given
        of_run = {"n_clusters": n_clusters, "random_state": seed, "run_dir": run_dir, "resume": resume}
        new = type(self)(**{**self.get_params(deep=False), **of_run})
        for name in ("image_shape_", "n_features_in_", "pixel_range_", "reading_", "framing_"):
            setattr(new, name, getattr(self, name))
        settings, compute = new.settings, self.compute()
        epochs = refit_epochs(_epochs(settings, images.shape))
        plan = self._plan(settings, images.shape, seed)
        plan = replace(plan, epochs=epochs.total, epoch_images=None)
        network = copy.deepcopy(self.network_).to(compute.device)
        # Of other images, fewer perhaps, other views may look fair.
        views = views_from(self.about_.get("recipe", {}).get("views", {})) or choose_views(images, seed)

        def stages(run: Run, images: ImageArray, plan: TrainingPlan) -> dict[str, Any]:
            recipe = train_again(network, run, self.as_read(images), plan, epochs, views, answers)
            return recipe if network.backbone is None else {"backbone": network.backbone.about(), **recipe}

        new._train(images, network, plan, compute, {"answers": answers.sha256()}, stages)
        new.cluster_names_ = tuple(names) or ("",) * n_clusters
        new.corrected_ = np.flatnonzero((answers.confirmed != NOBODY) | answers.outlier)
        return new

    def _describe_training(self, images: ImageArray, compute: Compute, progress: ProgressReport) -> None:
        super()._describe_training(images, compute, progress)
        if self.network_.backbone is not None:
            self.network_.backbone.forget()


def _epochs(settings: GuidedSettings, shape: tuple[int, ...], views: ViewSettings = SIGNS) -> Epochs:
    n_images, height, width, channels = shape
    automatic = isinstance(settings.epochs, str)
    in_all = automatic_epochs(n_images) if isinstance(settings.epochs, str) else settings.epochs
    epochs = Epochs.split(in_all, n_images, (height, width, channels), settings.refine)
    if automatic:
        epochs = epochs.enough_to_represent(n_images)
    if views.kind == "textures":
        epochs = epochs.of_textures()
    return epochs.enough_to_fit(n_images) if automatic else epochs
