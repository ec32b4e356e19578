"""A small frozen conv network that knows strokes, from signs made up at random that no data set has.

A few hundred letters are too few to learn from what hands and fonts do to one letter. But that is no secret of theirs:
the network has learned it from drawings of signs of one to four random strokes, of which it was told which drawings
show the same sign (`benchmarks/strokes.py` makes the signs, the drawings and the weights). It has seen no image of
anything, and no label of one.
"""

from functools import cache
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 32  # pixels
FEATURES = 256
WEIGHTS = Path(__file__).with_suffix(".safetensors")
_CHANNELS = (64, 128, 256)


class StrokeNetwork(nn.Module):
    """From brightness to features in which drawings of one sign lie together.

    Fresh ones have random weights; `pretrained_strokes` has those that were learned.

    Example:
        >>> import torch
        >>> StrokeNetwork()(torch.zeros(2, 1, 28, 20)).shape
        torch.Size([2, 256])
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _CHANNELS
        places = (SIDE // 8) ** 2
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, first, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(first, second, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(second, third, 3, 2, 1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(third * places, FEATURES), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Features, shape (B, 256), of brightness (B, 1, H, W) from 0 to 1."""
        features: Tensor = self.layers(as_drawn(x))
        return features


def as_drawn(x: Tensor) -> Tensor:
    """Brightness (B, 1, H, W) as drawings are: bright strokes on a dark square of 32 x 32 pixels."""
    edge = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], 2)
    x = torch.where(edge.median(2).values[..., None, None] > 0.5, 1 - x, x)
    height, width = x.shape[2:]
    side = max(height, width)
    down, across = side - height, side - width
    x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
    if side > SIDE:
        return F.adaptive_avg_pool2d(x, SIDE)
    return F.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False)


@cache
def pretrained_strokes() -> StrokeNetwork:
    """The network with the weights that come with clusterloom, for inference."""
    with torch.device("meta"):  # random weights would use up numbers of whoever calls
        network = StrokeNetwork()
    weights = {name: halves.float() for name, halves in safetensors.torch.load_file(WEIGHTS).items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)
