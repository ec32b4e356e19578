"""What stage 1 has seen last: projections, among which some that are like an image's own are found.

Source: Dwibedi, Aytar, Tompson, Sermanet and Zisserman, "With a Little Help from My Friends: Nearest-Neighbor
Contrastive Learning of Visual Representations" (2021), who call it the support set.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SIZE = 4096
_NOBODY = -1
_NEAREST = 20  # of 4,096, that one is drawn from: the very nearest tell little that the image itself does not


class SupportSet(nn.Module):
    """Points of the images seen last, as many as the set has images, up to 4,096; the oldest make way.

    Its points are a part of its state, so that a run that is taken up goes on with the same ones. Of several processes
    each remembers its share of a batch, and before the next step all have what the first one does.

    Args:
        n_images: In the set.
        dimensions: Of a point, P.
        young_steps: For so many steps it finds nobody: the nearest point is often of another kind before much has been
            learned.
    """

    points: Tensor
    rows: Tensor
    steps: Tensor
    next: Tensor

    def __init__(self, n_images: int, dimensions: int, young_steps: int) -> None:
        super().__init__()
        size = min(n_images, _SIZE)
        self.young_steps = young_steps
        self.n_nearest = max(1, _NEAREST * size // _SIZE)
        self.register_buffer("points", torch.zeros(size, dimensions))
        self.register_buffer("rows", torch.full((size,), _NOBODY, dtype=torch.int32))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("next", torch.tensor(0))

    @property
    def is_young(self) -> bool:
        """Whether there is nobody to be found yet."""
        return bool(self.steps < self.young_steps)

    def lookalikes(self, points: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        """For each of some points that of another image, drawn from those with the highest cosines.

        Args:
            points: Shape (B, P).
            rows: Which image each is of, shape (B,), int32.
            numbers: Independent standard normal ones, which decide the draw, shape (B,).

        Returns:
            Shape (B, P), of unit length, without gradients.
        """
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            cosines = F.normalize(points.float(), dim=1) @ self.points.T
            unusable = (rows[:, None] == self.rows) | (self.rows == _NOBODY)
            near = cosines.masked_fill_(unusable, -torch.inf).topk(self.n_nearest, dim=1).indices
            choices = (len(self.rows) - unusable.sum(1)).clamp(1, self.n_nearest)
            uniform = (1 + torch.erf(numbers / math.sqrt(2))) / 2
            drawn = torch.minimum((uniform * choices).long(), choices - 1)
            return self.points[near.gather(1, drawn[:, None])[:, 0]]

    @torch.no_grad()
    def remember(self, points: Tensor, rows: Tensor) -> None:
        """Take in the points (B, P) of images that were seen in a step; `rows` says which, shape (B,), int32."""
        size = len(self.points)
        places = (self.next + torch.arange(min(len(points), size), device=points.device)) % size
        self.points[places] = F.normalize(points[:size].float(), dim=1)
        self.rows[places] = rows[:size]
        self.next.copy_((self.next + len(places)) % size)
        self.steps += 1
