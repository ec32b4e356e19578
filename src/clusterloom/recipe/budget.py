"""How long the stages of the guided recipe train, and how many images they look at."""

import math
from dataclasses import dataclass, replace

import numpy as np

from clusterloom.data.images import ImageArray, ImageRows
from clusterloom.networks.refiner import crowded
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.randomness import numpy_generator

MAX_VISITED = 1_000_000  # of more images an epoch visits so many, so that the cost grows no further
MAX_EMBEDDED = 100_000  # of more images a sample gets pseudo-labels: neighbours cost the square of their number
_LEAST_STEPS = 600  # of batches of the smallest size, for small sets
_SMALLEST_BATCH = 32
_REPRESENT_SEES, _REPRESENT_EPOCHS = 20_000, 64  # images at least, one as often as there are few, but no more often
# Images that the first fit sees at least, one as often as there are few of them, and where it has not learned by then.
_FIRST_FIT_SEES, _LONG_FIRST_FIT_SEES = 9_000, 60_000
_REPEATED = 5  # passes over a sample at most in place of one over all images
_REFINE_SHARE = 4  # of the epochs of the other stages one is for the second decoder
_TINY = 8  # pixels along the longer side of images that a third is enough for: docs/tried.md, "Sharp new images"
_REFINED = 40_000  # images that it sees where squares of pixels are crowded,
_REFINED_EPOCHS = 24  # in so many epochs at most: of a hundred pictures it learns too little in any number


@dataclass(frozen=True)
class Epochs:
    """Passes over its images in each training stage.

    Attributes:
        represent: Of the first stage.
        first_fit: Of the first fit.
        second_fit: Of the second fit.
        refine: Of the last stage.
        first_fit_goes_on: Of the first fit on top, where its pseudo-labels are not learned by then.
    """

    represent: int
    first_fit: int
    second_fit: int
    refine: int
    first_fit_goes_on: int = 0

    @classmethod
    def split(
        cls, epochs: int, n_images: int, image_shape: tuple[int, int, int] = (28, 28, 1), refine: bool = True
    ) -> "Epochs":
        """Divide epochs, at least 3: a quarter to each fit, half or a little more to represent; refine comes on top.

        The first fit goes over a sample of very many images, up to five times in place of once. The second decoder goes
        more often over few images whose squares of pixels are crowded, of which it learns slowly, and less often over
        tiny ones.

        Args:
            epochs: Passes over all images, before refine.
            n_images: Number of images.
            image_shape: Height, width, channels.
            refine: Whether there is that stage; it gets a quarter as many, of tiny images a twelfth.

        Example:
            >>> Epochs.split(10, 70_000)
            Epochs(represent=6, first_fit=2, second_fit=2, refine=2, first_fit_goes_on=0)
            >>> Epochs.split(6, 1_000_000, refine=False)
            Epochs(represent=4, first_fit=5, second_fit=1, refine=0, first_fit_goes_on=0)
            >>> Epochs.split(22, 1_797, (8, 8, 1)).refine
            2
            >>> [Epochs.split(automatic_epochs(n), n, (64, 64, 3)).refine for n in (108, 300, 1_586, 10_000)]
            [44, 24, 22, 4]
        """
        fit = (epochs + 1) // 4
        repeated = math.ceil(fit * min(n_images / n_sampled(n_images), _REPEATED))
        refined = max(1, round(epochs / _REFINE_SHARE))
        if max(image_shape[:2]) <= _TINY:
            refined = math.ceil(refined / 3)
        elif crowded(image_shape):
            refined = max(refined, min(epochs, math.ceil(_REFINED / n_images), _REFINED_EPOCHS))
        return cls(epochs - 2 * fit, repeated, fit, refined if refine else 0)

    def enough_to_represent(self, n_images: int) -> "Epochs":
        """More to represent, of some 150 to 1,800 images; in fewer, what is seen so often is learned by heart.

        Args:
            n_images: Number of images.

        Example:
            >>> few = {n: Epochs.split(automatic_epochs(n), n) for n in (100, 200, 500, 1_000, 1_797)}
            >>> [(epochs.represent, epochs.enough_to_represent(n).represent) for n, epochs in few.items()]
            [(96, 96), (48, 64), (19, 40), (12, 20), (11, 11)]
        """
        enough = min(_REPRESENT_SEES // n_images, _REPRESENT_EPOCHS)
        return replace(self, represent=max(self.represent, enough))

    def enough_to_fit(self, n_images: int) -> "Epochs":
        """More for the first fit, of less than some 1,800 images.

        It starts from a category encoder that knows nothing, and of few images it has few steps. Where that has not
        been enough it may go on, twice if need be, on less than some 17,000 images.

        Args:
            n_images: Number of images.

        Example:
            >>> few = {n: Epochs.split(automatic_epochs(n), n) for n in (20, 100, 300, 1_000, 2_000, 70_000)}
            >>> [epochs.enough_to_fit(n).first_fit for n, epochs in few.items()]
            [50, 90, 30, 9, 5, 2]
            >>> [epochs.enough_to_fit(n).first_fit_goes_on for n, epochs in few.items()]
            [0, 60, 120, 51, 25, 0]
        """

        def first_fit(sees: int) -> int:
            # A handful that fills hardly a batch has so little to say that more of it tells nothing.
            longer = max(1, min(sees / (n_images * self.first_fit), n_images / _SMALLEST_BATCH))
            return round(self.first_fit * longer)

        usual = first_fit(_FIRST_FIT_SEES)
        return replace(self, first_fit=usual, first_fit_goes_on=first_fit(_LONG_FIRST_FIT_SEES) - usual)

    def of_textures(self) -> "Epochs":
        """As many in all, but half of those to represent go to the first fit.

        What a texture is can be seen without learning, better than it is learned from views.

        Example:
            >>> Epochs.split(20, 2_800, refine=False).of_textures()
            Epochs(represent=5, first_fit=10, second_fit=5, refine=0, first_fit_goes_on=0)
        """
        moved = self.represent // 2
        return replace(self, represent=self.represent - moved, first_fit=self.first_fit + moved)

    @property
    def total(self) -> int:
        """Of all stages, where the first fit does not go on."""
        return self.represent + self.first_fit + self.second_fit + self.refine


def most_visited() -> int:
    """So many different images are visited at most where epochs and their images are automatic.

    Example:
        >>> most_visited()
        4000000
    """
    return Epochs.split(automatic_epochs(MAX_VISITED), MAX_VISITED).represent * MAX_VISITED


def automatic_epochs(n_images: int) -> int:
    """10 for 70,000 images, more or fewer with the fifth root of how many there are, and 6 from a million on.

    Of fewer than some 700 images as many as make 600 steps, up to 200: too few steps are what small sets suffer from.

    Example:
        >>> [automatic_epochs(n) for n in (50, 100, 300, 1_000, 10_000, 70_000, 1_000_000, 10_000_000)]
        [200, 192, 64, 24, 15, 10, 6, 6]
    """
    epochs = math.ceil(10 * (70_000 / min(n_images, MAX_VISITED)) ** 0.2)
    return max(epochs, min(200, math.ceil(_LEAST_STEPS * _SMALLEST_BATCH / n_images)))


def automatic_batch_size(n_images: int) -> int:
    """The power of two from 32 to 512 that comes closest to 1,300 steps in all.

    Example:
        >>> [automatic_batch_size(n) for n in (300, 10_000, 70_000, 1_000_000)]
        [32, 128, 512, 512]
    """
    wanted = 2 ** round(math.log2(n_images * automatic_epochs(n_images) / 1300))
    return min(512, max(_SMALLEST_BATCH, wanted))


def epoch_images(n_images: int) -> int | None:
    """How many images an epoch visits where that is automatic; None for all."""
    return MAX_VISITED if n_images > MAX_VISITED else None


def n_sampled(n_images: int) -> int:
    """How many of so many images get pseudo-labels: all, or a sample of very many."""
    return min(n_images, MAX_EMBEDDED)


@dataclass(frozen=True)
class Visited:
    """Those of very many images that the recipe looks at one by one; of 100,000 or fewer these are all of them.

    Attributes:
        known: Those that the last stage visits, and the sample, shape (M, H, W, C).
        sample: Those that get pseudo-labels, shape (S, H, W, C).
        sampled: Rows of the sample among those that are known, ascending, shape (S,).
    """

    known: ImageArray
    sample: ImageArray
    sampled: np.ndarray

    @classmethod
    def of(cls, images: ImageArray, last_plan: TrainingPlan) -> "Visited":
        """Those of images (N, H, W, C), by the plan of the last stage."""
        n = len(images)
        rows = np.arange(n)
        if n_sampled(n) < n:
            rows = np.sort(numpy_generator(last_plan.seed, "sample", "embedding").permutation(n)[: n_sampled(n)])
        known = np.union1d(last_plan.rows_seen(n, "visited"), rows)

        def of_rows(some: np.ndarray) -> ImageArray:
            return images if len(some) == n else ImageRows(images, some)

        return cls(of_rows(known), of_rows(rows), np.searchsorted(known, rows))
