"""Guides: mixtures of Gaussians in one layout of one space each, and clusters by density where kinds lie apart.

One guide alone is a lottery: it takes two forms of one kind for two, or two kinds for one, and which ones differs by
space, layout and start.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import parallel_map
from clusterloom.recipe.points.mixture import fit_mixtures, kmeans_labels, mixtures_to_start_from
from clusterloom.recipe.pseudo_labels.density import clusters_apart

FINENESS = (1.0, 1.5, 2.0)  # clusters of guides, in numbers of clusters wanted: finer ones tell where a kind has parts
_STARTS_OF = (12_000, 2, 6)  # starts of mixtures: as often as images go into so many, at least, at most
_STARTS_OF_SAMPLES = 4  # of mixtures that are fitted to a sample
FITTED_POINTS = 20_000  # that a mixture is fitted to
POINTS_PER_CLUSTER = 20  # below that covariances have nothing to stand on


@dataclass(frozen=True)
class Guide:
    """One partition of the images.

    Attributes:
        space: Name of the space that it comes from.
        labels: Clusters, numbered as they come, shape (N,), int32.
        coarse: It was to find as many clusters as are wanted, and not more.
        apart: Clusters that lie apart in the layout of a coarse one, about as many as are wanted, shape (N,), int32;
            None where none do. See `clusterloom.recipe.pseudo_labels.density.clusters_apart`.
    """

    space: str
    labels: np.ndarray
    coarse: bool
    apart: np.ndarray | None = None


class Search(NamedTuple):
    """For guides of one number of clusters in a layout. What is random in it has been drawn.

    Args:
        space: Name of the space that is laid out.
        layout: Shape (N, d).
        part: Those of its points that mixtures are fitted to, shape (M, d).
        k: Number of clusters.
        seeds: One for each guide.
        coarse: See `Guide`.
    """

    space: str
    layout: np.ndarray
    part: np.ndarray
    k: int
    seeds: Sequence[int]
    coarse: bool

    def guides(self) -> list[Guide]:
        """What is found."""
        found = partitions_of(self.layout, self.part, self.k, self.seeds)
        apart = clusters_apart(self.layout, self.k) if self.coarse else None
        return [Guide(self.space, labels, self.coarse, apart) for labels in found]


def guides_in(
    layouts: Mapping[str, np.ndarray],
    n_clusters: int,
    generator: np.random.Generator,
    progress: ProgressReport = no_progress,
) -> list[Guide]:
    """Mixtures in all layouts, with as many clusters as are wanted and with more; of a few points by k-means.

    Args:
        layouts: Of each space by its name, shape (n, N, d).
        n_clusters: K, at most N.
        generator: Draws the starts: for each number of clusters in each layout two to six, the more the fewer points
            there are. Two guides of a few points are a lottery, as are two of a sample of many, and six cost little.
        progress: Told how far it is.
    """
    searches = [
        search
        for space, of_space in layouts.items()
        for layout in of_space
        for search in _searches(space, layout, n_clusters, generator)
    ]
    found = parallel_map(Search.guides, searches, partial(progress, "guides"))
    return [guide for guides in found for guide in guides]


def _searches(space: str, layout: np.ndarray, n_clusters: int, generator: np.random.Generator) -> Iterator[Search]:
    n = len(layout)
    many, least, most = _STARTS_OF
    starts = min(max(many // n, least), most) if n <= FITTED_POINTS else _STARTS_OF_SAMPLES
    part = layout if n <= FITTED_POINTS else layout[generator.permutation(n)[:FITTED_POINTS]]
    for fineness in FINENESS:
        k = min(round(fineness * n_clusters), max(n_clusters, n // 4))
        yield Search(space, layout, part, k, seeds_from(generator, starts), k == n_clusters)


def seeds_from(generator: np.random.Generator, n: int) -> list[int]:
    """n seeds."""
    seeds: list[int] = generator.integers(2**31, size=n).tolist()
    return seeds


def partitions_of(layout: np.ndarray, part: np.ndarray, k: int, seeds: Sequence[int]) -> list[np.ndarray]:
    """Partitions of a layout into k clusters: by mixtures, or of few points by k-means.

    Args:
        layout: Shape (N, d).
        part: Those of its points that mixtures are fitted to, shape (M, d).
        k: At most N.
        seeds: One for each partition.

    Returns:
        Clusters, shape (N,) each, int32.
    """
    if len(layout) < POINTS_PER_CLUSTER * k:
        found = [kmeans_labels(layout, k, seed) for seed in seeds]
    else:
        starts = mixtures_to_start_from(part, k, seeds)
        found = [mixture.predict(layout) for mixture in fit_mixtures(part, starts)]
    return [labels.astype(np.int32) for labels in found]
