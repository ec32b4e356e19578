"""What a frozen backbone says of the images that a model learns from, computed once."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.inference import BATCH_SIZE, apply_in_batches
from clusterloom.networks.backbone import Backbone
from clusterloom.training.randomness import numpy_generator
from clusterloom.training.run import Run

BACKBONE = "backbone"  # the space of frozen features
_FITTED = 10_000  # images whose features give the principal components
_FITTED_TENSORS = ("centre", "directions")


def frozen_features(backbone: Backbone | None, run: Run, images: ImageArray, seed: int) -> np.ndarray:
    """Fit the backbone to the images, and let it remember what it says of them.

    Args:
        backbone: With its weights; None has nothing to say.
        run: Keeps the result for a run that is taken up.
        images: Shape (N, H, W, C).
        seed: Of the sample that the principal components are taken from.

    Returns:
        Shape (N, FROZEN_DIM), or (N, 0) without a backbone, float32.
    """
    if backbone is None:
        return np.empty((len(images), 0), np.float32)

    def applied(function: Callable[[Tensor], Tensor], some: ImageArray) -> np.ndarray:
        (found,) = apply_in_batches(lambda x: (function(x),), some, run.compute, run.progress, "frozen features")
        return found

    def compute() -> dict[str, np.ndarray]:
        if len(images) <= _FITTED:
            of_all = torch.from_numpy(applied(backbone.features, images))
            backbone.fit(of_all)
            frozen = backbone.reduced(of_all.to(run.compute.device)).cpu().numpy()
        else:
            rows = np.sort(numpy_generator(seed, "sample", "backbone").permutation(len(images))[:_FITTED])
            backbone.fit(torch.from_numpy(applied(backbone.features, images[rows])))
            frozen = applied(backbone, images)
        kept = {name: getattr(backbone, name).cpu().numpy() for name in _FITTED_TENSORS}
        return {"frozen": frozen, **kept}

    run.note(f"frozen features of {len(images):,} images: {backbone.name}")
    arrays = run.cached("backbone", compute, everywhere=True)
    for name in _FITTED_TENSORS:
        getattr(backbone, name).copy_(torch.from_numpy(arrays[name]))
    remember(backbone, images, arrays["frozen"], run)
    return arrays["frozen"]


def remember(backbone: Backbone, images: ImageArray, frozen: np.ndarray, run: Run) -> None:
    """Let a backbone remember what it says (N, FROZEN_DIM) of images (N, H, W, C), where that saves time."""
    if run.compute.device.type == "cpu":  # others are quick enough to compute it again
        for start in range(0, len(images), BATCH_SIZE):
            x = run.compute.batch(images[start : start + BATCH_SIZE])
            backbone.remember(x, torch.from_numpy(frozen[start : start + BATCH_SIZE]))
