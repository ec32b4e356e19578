"""Whether a change leaves points distributed as they are: a two-sample test by nearest neighbours.

It counts how many points have their nearest one in the other sample (Schilling, 1986; Henze, 1988).
"""

import torch
from torch import Tensor

_LEAST_CHANGED = 0.4  # of the nearest points where a change leaves the distribution as it is: half of them
_FEWEST_TO_TELL, _FEW_TO_TELL = 60, 150
# Of few points the nearest ones are far away, whatever was changed, and how they were divided in thirds is a lottery.
_LEAST_CHANGED_OF_FEW, _MORE_ORDERS = 0.45, 7


def distributed_alike(as_they_are: Tensor, changed: Tensor, enough: float = _LEAST_CHANGED) -> bool:
    """Whether a change leaves points distributed as they are: half of the nearest ones are then changed ones.

    A third of the points looks for its nearest ones among another third as they are, and the last third changed, in
    turn. At least four of ten have to be changed ones, of fewer than 150 points 45 of a hundred, in eight orders. Of
    fewer than 60 nothing is said.

    Args:
        as_they_are: Points, shape (N, D), in random order.
        changed: The same points, changed.
        enough: The share that has to be changed ones, of 150 points and more.
    """
    n = len(as_they_are)
    if n < _FEWEST_TO_TELL:
        return False
    if n >= _FEW_TO_TELL:
        return _share_of_changed(as_they_are, changed) >= enough
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(n), *(torch.randperm(n, generator=generator) for _ in range(_MORE_ORDERS))]
    shares = [_share_of_changed(as_they_are[order], changed[order]) for order in orders]
    return sum(shares) / len(shares) >= _LEAST_CHANGED_OF_FEW


def _share_of_changed(as_they_are: Tensor, changed: Tensor) -> float:
    """How many of the nearest points are changed ones; see `distributed_alike`."""
    n = len(as_they_are) // 3
    shares = []
    for first in range(3):
        looking, plain, other = (slice(n * (k % 3), n * (k % 3 + 1)) for k in range(first, first + 3))
        nearest = [torch.cdist(as_they_are[looking], points).amin(1) for points in (as_they_are[plain], changed[other])]
        shares.append(float((nearest[1] < nearest[0]).float().mean()))
    return sum(shares) / len(shares)
