"""Applying a network to many images: fixed batches, split over processes, results in input order."""

import math
from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.images import ImageArray
from clusterloom.device import Compute, memory_errors_named, products_by_onednn

# One size for every batch, the last one filled up: matrix kernels round differently for different batch sizes, and
# the answer for an image must not depend on the images that it came with.
BATCH_SIZE = 256
_BLOCK_BYTES = 1 << 24  # of pixels


def block_size(image_shape: tuple[int, int, int], n_processes: int = 1) -> int:
    """Images to be read and predicted at once where there may be very many: 16 batches, fewer of large images.

    Blocks of whole batches for each process are computed as all images at once would be.

    Args:
        image_shape: Height, width and channels.
        n_processes: Among which a block is split.

    Example:
        >>> block_size((28, 28, 1)), block_size((64, 64, 3)), block_size((512, 512, 3))
        (4096, 1280, 256)
    """
    batches = _BLOCK_BYTES // (BATCH_SIZE * math.prod(image_shape))
    return BATCH_SIZE * min(max(batches, 1), 16) * n_processes


def apply_in_batches(
    function: Callable[..., tuple[Tensor, ...]],
    images: ImageArray,
    compute: Compute,
    progress: ProgressReport = no_progress,
    what: str = "applying the model",
    beside: np.ndarray | None = None,
    fill: bool = True,
) -> tuple[np.ndarray, ...]:
    """Apply `function` to all images and collect what it returns.

    Under `accelerate launch` every process takes a contiguous share, and all of them get the whole result.

    Args:
        function: From a batch (B, C, H, W) to tensors whose first dimension is B.
        images: uint8 or float, shape (N, H, W, C), N at least 1; may be memory-mapped.
        compute: Device and precision.
        progress: Told how many images of this process's share are done.
        what: What `progress` is told that is being done.
        beside: More numbers for each image, shape (N, D), which the function is given as a second tensor.
        fill: Give every batch the same size, so that what is found of an image does not hang on how many come with it,
            not in its last bit; False saves the time where few images cost much.

    Returns:
        One float32 array per tensor, first dimension N.

    Raises:
        TrainingError: out of memory.
    """

    def apply(share: range) -> tuple[np.ndarray, ...]:
        return _apply(function, images, share, beside, compute, fill, lambda done: progress(what, done, len(share)))

    state = compute.processes()
    if state.num_processes == 1:
        return apply(range(len(images)))
    n, rank, processes = len(images), state.process_index, state.num_processes
    share = range(n * rank // processes, n * (rank + 1) // processes)
    parts = gather_object([apply(share) if len(share) else None])
    return tuple(np.concatenate(arrays) for arrays in zip(*(part for part in parts if part), strict=True))


def _apply(
    function: Callable[..., tuple[Tensor, ...]],
    images: ImageArray,
    share: range,
    beside: np.ndarray | None,
    compute: Compute,
    fill: bool,
    tell: Callable[[int], None],
) -> tuple[np.ndarray, ...]:
    results: tuple[np.ndarray, ...] | None = None
    whole = filled_up if fill else np.asarray
    with (
        torch.inference_mode(),
        compute.autocast(),
        compute.deterministic(),
        products_by_onednn(),
        memory_errors_named(),
    ):
        for start in range(share.start, share.stop, BATCH_SIZE):
            rows = slice(start, min(start + BATCH_SIZE, share.stop))
            batch = images[rows]
            used = len(batch)
            more = [] if beside is None else [compute.on_device(whole(beside[rows]))]
            outputs = function(compute.batch(whole(batch)), *more)
            if results is None:
                results = tuple(np.empty((len(share), *o.shape[1:]), np.float32) for o in outputs)
            done = start - share.start
            for result, output in zip(results, outputs, strict=True):
                result[done : done + used] = output[:used].float().cpu().numpy()
            tell(done + used)
    assert results is not None, "callers check that there are images"
    return results


def filled_up(batch: np.ndarray) -> np.ndarray:
    """A batch of at most the one size, its first row repeated until it has that size."""
    missing = BATCH_SIZE - len(batch)
    return np.concatenate([batch, np.broadcast_to(batch[:1], (missing, *batch.shape[1:]))]) if missing else batch
