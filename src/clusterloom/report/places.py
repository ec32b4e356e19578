"""Tiles in their place: some of the big pictures, each beside itself in the colours of the clusters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from clusterloom.data.ids import encode_id
from clusterloom.mosaics import assembled, mosaics, tinted
from clusterloom.palette import Style
from clusterloom.report.clusters import Seen

_SHOWN = 6
_LONGEST = 640


@dataclass(frozen=True)
class Placed:
    """One big picture.

    Attributes:
        name: Its id.
        tiles: How many it was cut into.
        plain: Put together from its tiles.
        tinted: The same with the cluster of each tile.
        largest: The clusters with the most tiles in it, three at most, how many these are, and how they are drawn.
    """

    name: str
    tiles: int
    plain: Image.Image
    tinted: Image.Image
    largest: list[tuple[int, int, Style]]


@dataclass(frozen=True)
class Places:
    """The big pictures that are shown, evenly spaced among all of them.

    Attributes:
        pictures: How many there are in all.
        shown: Some of them.
    """

    pictures: int
    shown: list[Placed]


def places(seen: Seen, styles: Sequence[Style]) -> Places | None:
    """Tiles in their place; None where the images are no tiles."""
    if not seen.images.reading.get("tile"):
        return None
    every = mosaics(seen.images.ids)
    shown = []
    for index in np.unique(np.linspace(0, len(every) - 1, min(len(every), _SHOWN)).round().astype(int)):
        mosaic = every[index]
        plain = assembled(seen.images, mosaic, _LONGEST)
        labels = seen.predictions.labels
        counts = np.bincount(labels[mosaic.rows[mosaic.rows >= 0]], minlength=seen.predictions.n_clusters)
        most = np.argsort(-counts, kind="stable")[:3].tolist()
        largest = [(k, int(counts[k]), styles[k]) for k in most if counts[k]]
        name = encode_id(mosaic.name)
        shown.append(Placed(name, int(counts.sum()), plain, tinted(plain, mosaic, labels, styles), largest))
    return Places(len(every), shown)
