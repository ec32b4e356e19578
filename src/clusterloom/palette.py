"""Colours and markers that tell clusters apart, also for people who cannot tell all colours apart.

Reports and the local page both take them from here: a cluster looks the same in both.
"""

from dataclasses import dataclass

import numpy as np

# Found by a search for the ten colours that are farthest apart (OKLab) as people with normal, red-, green- and
# blue-blind vision see them, that stand out from white and from near-black: see tests/test_palette.py.
COLOURS = (
    "#2d78a0",
    "#f0691e",
    "#00aa73",
    "#b9285f",
    "#6437af",
    "#dcb900",
    "#41beff",
    "#fa82be",
    "#0a6400",
    "#9673f0",
)
MARKERS = ("circle", "square", "triangle", "diamond", "cross", "ring", "wedge")


@dataclass(frozen=True)
class Style:
    """How a cluster is drawn.

    Attributes:
        colour: Index into `COLOURS`.
        marker: Index into `MARKERS`.
    """

    colour: int
    marker: int

    @property
    def hex(self) -> str:
        """The colour as CSS writes it."""
        return COLOURS[self.colour]

    @property
    def shape(self) -> str:
        """Name of the marker."""
        return MARKERS[self.marker]


def styles(places: np.ndarray) -> list[Style]:
    """A style for every cluster; where colours must be used again, clusters far apart share one.

    Args:
        places: Middle of each cluster on the map, shape (K, 2); all zero without a map.

    Returns:
        K styles, none of which depends on those after it. The first 70 differ in colour or in marker.
    """
    colours: list[int] = []
    for k in range(len(places)):
        colours.append(k if k < len(COLOURS) else _free_colour(places, colours, k))
    used = [colours[:k].count(colours[k]) for k in range(len(colours))]
    return [Style(colour, (colour + times) % len(MARKERS)) for colour, times in zip(colours, used, strict=True)]


def _free_colour(places: np.ndarray, colours: list[int], cluster: int) -> int:
    """Of the colours that were used least, the one whose clusters are farthest away."""
    times = np.bincount(colours, minlength=len(COLOURS))
    candidates = np.flatnonzero(times == times.min())
    distance = np.linalg.norm(places[: len(colours)] - places[cluster], axis=1)
    nearest = [distance[np.array(colours) == colour].min() for colour in candidates]
    return int(candidates[int(np.argmax(nearest))])
