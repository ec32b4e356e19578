"""Whether a picture looks unlike a set of images by the plainest measures: how bright, how varied, how grainy it is.

A model explains a black picture or noise of its own kind of colours well enough to pass its score's threshold. None of
the images looks like that, though, and these measures tell.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

_SAMPLE = 2000
_MARGIN = 0.25  # of the span that the images have, which a picture may go beyond it on either side
_WORDS = (("darker", "brighter"), ("plainer", "richer in contrast"), ("smoother", "grainier"))


@dataclass(frozen=True)
class Appearance:
    """The span of each measure over a set of images, widened by a quarter.

    Attributes:
        low: Lower ends, shape (3,).
        high: Upper ends, shape (3,).
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, images: np.ndarray) -> Self:
        """Measure images (N, H, W, C), uint8, or an evenly spaced sample of them."""
        measures = _measures(images[:: -(-len(images) // _SAMPLE)])
        low, high = measures.min(0), measures.max(0)
        return cls(low - _MARGIN * (high - low), high + _MARGIN * (high - low))

    def unlike(self, image: np.ndarray) -> list[str]:
        """In what an image (H, W, C), uint8, goes beyond the span, in words; nothing where it does not.

        Example:
            >>> images = np.random.default_rng(0).integers(90, 160, (50, 8, 8, 1)).astype(np.uint8)
            >>> Appearance.of(images).unlike(np.zeros((8, 8, 1), np.uint8))
            ['darker', 'plainer', 'smoother']
        """
        (found,) = _measures(image[None])
        words = []
        for (less, more), value, low, high in zip(_WORDS, found, self.low, self.high, strict=True):
            words += [less] if value < low else [more] if value > high else []
        return words


def _measures(images: np.ndarray) -> np.ndarray:
    """Brightness, and logarithms of contrast and of the mean step between neighbouring pixels, shape (N, 3)."""
    measures = np.empty((len(images), 3))
    for row, image in enumerate(images):  # one by one: large images need no second copy of them all
        pixels = image.astype(np.float32)
        steps = [np.abs(np.diff(pixels, axis=axis)) for axis in (0, 1)]
        grain = sum(float(step.mean()) for step in steps if step.size)
        measures[row] = pixels.mean(), np.log1p(pixels.std()), np.log1p(grain)
    return measures
