"""Muon for conv kernels, which takes fewer steps than AdamW where an epoch is dear."""

import math
from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from clusterloom.device import products_by_mkl
from clusterloom.training.adamw import AdamW

_MOMENTUM = 0.95
_POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of the singular values, odd; steep at 0, so that five times are enough
_TIMES = 5
_SMALL = 64  # rows of squares that MKL multiplies faster


class Muon(AdamW):
    """Gradient descent whose steps are orthogonal matrices: all directions of a kernel learn equally fast.

    Source: Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024), with the scale of
    steps of Liu and others, "Muon is Scalable for LLM Training" (2025). `torch.optim.Muon` takes no conv kernels, and
    would import what `AdamW` keeps out. A kernel is the matrix of its output channels and all else; parameters that are
    no kernels are left to AdamW.

    Args:
        parameters: To be trained, all on one device.
        learning_rate: Of AdamW; may be changed at any time.
        weight_decay: Share of the learning rate by which weights shrink in each step.
        kernel_step: Root mean square of a kernel's step at a learning rate of 1; AdamW's is about 0.2.

    Attributes:
        state: For every kernel that had a gradient its first moment, "exp_avg"; for the others what AdamW keeps.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float, kernel_step: float
    ) -> None:
        super().__init__(parameters, learning_rate, weight_decay)
        self.kernel_step = kernel_step

    @torch.no_grad()
    def step(self) -> None:
        """Change every parameter that has a gradient."""
        rate = self.learning_rate
        for kernel in self.parameters:
            gradient = kernel.grad
            if kernel.ndim != 4 or gradient is None:
                continue
            if kernel not in self.state:
                self.state[kernel] = {"exp_avg": torch.zeros_like(kernel)}
            moment = self.state[kernel]["exp_avg"].lerp_(gradient, 1 - _MOMENTUM)
            step = orthogonal(torch.lerp(gradient, moment, _MOMENTUM).flatten(1))
            kernel.mul_(1 - rate * self.weight_decay)
            kernel.sub_(rate * self.kernel_step * math.sqrt(max(step.shape)) * step.view(kernel.shape))
        self.adapt(p for p in self.parameters if p.ndim != 4)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal matrix nearest to one of shape (M, N): its singular values become 0.7 to 1.2.

    Example:
        >>> values = torch.linalg.svdvals(orthogonal(torch.diag(torch.tensor([10.0, 1.0, 0.1]))))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    # x becomes p x, time after time, with a polynomial p of x x'; so the small squares x x' are enough until the end.
    square = x @ x.T
    with products_by_mkl() if square.device.type == "cpu" and len(square) <= _SMALL else nullcontext():
        p = product = _polynomial(square)
        for _ in range(_TIMES - 1):
            square = p @ square @ p
            p = _polynomial(square)
            product = p @ product
    x = product @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


def _polynomial(square: Tensor) -> Tensor:
    """a + b s + c s^2 of a square matrix s."""
    a, b, c = _POLYNOMIAL
    result = torch.addmm(square, square, square, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result
