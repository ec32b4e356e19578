"""Where every random stream of a run begins: a seed for each purpose, stage, epoch and batch.

Streams are told apart by their names and never by how much was drawn before. So an interrupted run goes on to the same
bits, the split of a batch over processes changes nothing, and no two stages draw the same numbers.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
import torch

Purpose: TypeAlias = Literal["order", "noise", "weights", "sample", "mixtures", "layout"]


def seed_for(seed: int, purpose: Purpose, stage: str = "", epoch: int = 0, batch: int = 0) -> int:
    """Seed of one stream, 63 bits, the same on every machine.

    Args:
        seed: Of the run.
        purpose: What is drawn.
        stage: Name of the stage of the run.
        epoch: Counted from 0 in its stage.
        batch: Counted from 0 in its epoch.

    Example:
        >>> seed_for(0, "noise", "represent") == seed_for(0, "noise", "fit-1")
        False
    """
    name = json.dumps([int(seed), purpose, stage, epoch, batch])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def torch_generator(seed: int, purpose: Purpose, stage: str = "", epoch: int = 0, batch: int = 0) -> torch.Generator:
    """PyTorch's generator of one stream, on the CPU; see `seed_for`."""
    return torch.Generator().manual_seed(seed_for(seed, purpose, stage, epoch, batch))


def numpy_generator(
    seed: int, purpose: Purpose, stage: str = "", epoch: int = 0, batch: int = 0
) -> np.random.Generator:
    """NumPy's generator of one stream; see `seed_for`."""
    return np.random.default_rng(seed_for(seed, purpose, stage, epoch, batch))


@contextlib.contextmanager
def fresh_weights(seed: int, stage: str = "") -> Iterator[None]:
    """Initial weights of modules that are made inside depend on seed and stage alone.

    PyTorch draws them from its global generator, which is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_for(seed, "weights", stage))  # those of other devices stay as they are
        yield
