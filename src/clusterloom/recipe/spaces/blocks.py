"""What a function makes of many images, block by block."""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from clusterloom.data.images import ImageArray
from clusterloom.recipe.views.brightness import unit

_NUMBERS = 2**22  # in memory at once


def of_all(images: ImageArray, function: Callable[[Tensor], Tensor], numbers: int = 0) -> np.ndarray:
    """What a function makes of all images, shape (N, D), float32.

    Args:
        images: Shape (N, H, W, C).
        function: From images (B, C, H, W) to points (B, D).
        numbers: How many it has in memory for each image, beyond the image itself.
    """
    block = max(1, _NUMBERS // max(numbers, math.prod(images.shape[1:])))
    points = np.empty((len(images), 0), np.float32)
    for start in range(0, len(images), block):
        part = function(unit(images[start : start + block])).numpy()
        if start == 0:
            points = np.empty((len(images), part.shape[1]), np.float32)  # filled as it goes: a list would be a copy
        points[start : start + len(part)] = part
    return points
