"""What stays in 32 bits when the rest of a network is in bfloat16."""

import torch
from torch import Tensor, nn


def in_float32(head: nn.Module, x: Tensor) -> Tensor:
    """A small last layer in full precision also under autocast.

    Clusters tell their images apart by differences of z and of logits that bfloat16, with its eight binary digits,
    rounds away: clusters die of that.
    """
    with torch.autocast(x.device.type, enabled=False):
        return head(as_float32(x))


def as_float32(x: Tensor) -> Tensor:
    """The same numbers, in 32 bits if they were in 16."""
    return x.float() if x.dtype == torch.bfloat16 else x
