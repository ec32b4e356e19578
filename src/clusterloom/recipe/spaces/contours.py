"""Contours: which way the edges run in each part of an image, whatever is light or dark about them.

Histograms of oriented gradients (Dalal and Triggs, 2005). Nothing is learned, so they are as good on a hundred images
as on a million.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS = 8
_CELLS = 8  # along each side
_LEAST_STRENGTH = 0.01  # of the edges around a cell, for brightness from 0 to 1; less is noise
_MOST = 0.6  # that one cell may show, in the strength of the edges around it: one strong edge is not all there is


def oriented_gradients(x: Tensor) -> Tensor:
    """How strong the edges of each direction are in each cell of images, beside all edges around the cell.

    An edge from dark to light has the direction of one from light to dark, so that neither a sign in white on black nor
    a light from the other side is another thing.

    Args:
        x: Shape (B, 1, H, W), values from 0 to 1.

    Returns:
        Shape (B, directions * cells down * cells across), values from 0 to 0.6. Cells are at least two pixels large.
    """
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    strength = torch.hypot(across, down)
    # Each gradient is shared by the two directions that it lies between.
    direction = torch.atan2(down, across) % math.pi / math.pi * DIRECTIONS
    lower = direction.floor()
    upper_share = direction - lower
    lower = lower.long() % DIRECTIONS
    edges = x.new_zeros(len(x), DIRECTIONS, height, width)
    edges.scatter_add_(1, lower, strength * (1 - upper_share))
    edges.scatter_add_(1, (lower + 1) % DIRECTIONS, strength * upper_share)
    down_cells, across_cells = (max(1, min(_CELLS, side // 2)) for side in (height, width))
    # A mean over one cell's size first, and cells reach into their neighbours: a shift by a pixel changes little.
    tall, wide = round(height / down_cells), round(width / across_cells)
    edges = F.pad(edges, (wide // 2, (wide - 1) // 2, tall // 2, (tall - 1) // 2), mode="replicate")
    histograms = F.adaptive_avg_pool2d(F.avg_pool2d(edges, (tall, wide), 1), (down_cells, across_cells))
    around = F.avg_pool2d(histograms.square().sum(1, keepdim=True), 3, 1, 1, count_include_pad=False).sqrt()
    return (histograms / (around + _LEAST_STRENGTH)).clamp(max=_MOST).flatten(1)
