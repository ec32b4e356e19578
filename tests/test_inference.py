"""Networks applied to many images: one answer for an image whatever it came with, in input order."""

import numpy as np
import pytest
import torch

from clusterloom.device import Compute
from clusterloom.errors import TrainingError
from clusterloom.inference import BATCH_SIZE, apply_in_batches

COMPUTE = Compute(torch.device("cpu"), "fp32")
IMAGES = np.random.default_rng(0).integers(0, 256, (2 * BATCH_SIZE + 7, 4, 4, 1)).astype(np.uint8)


def brightness(x):
    return x.flatten(1).sum(1), x.flatten(1)[:, :3]


@pytest.mark.parametrize("n", [1, BATCH_SIZE, len(IMAGES)])
def test_results_are_in_input_order_and_progress_counts_images(n):
    told = []
    sums, pixels = apply_in_batches(brightness, IMAGES[:n], COMPUTE, lambda *about: told.append(about), "predicting")
    np.testing.assert_allclose(sums, IMAGES[:n].reshape(n, -1).sum(1) / 255, rtol=1e-5)
    assert pixels.shape == (n, 3)
    assert told == [("predicting", min(i, n), n) for i in range(BATCH_SIZE, n + BATCH_SIZE, BATCH_SIZE)]


def test_too_little_memory_is_named():
    class Huge(np.ndarray):
        def __getitem__(self, at):
            raise MemoryError

    with pytest.raises(TrainingError, match="out of memory"):
        apply_in_batches(brightness, IMAGES.view(Huge), COMPUTE)
