"""Guides for the number of clusters: numbers near each other share them, so that not each needs its own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.device import parallel_map
from clusterloom.recipe.pseudo_labels.confirmation import agreement
from clusterloom.recipe.pseudo_labels.guides import Guide, Search, seeds_from

_STARTS = 2


class SharedGuides:
    """Guides of some numbers of clusters, which serve for all numbers near them.

    Args:
        layouts: Of N images in each space, shape (n, N, d).
        generator: Draws starts.
    """

    def __init__(self, layouts: Mapping[str, np.ndarray], generator: np.random.Generator) -> None:
        self._layouts, self._generator = layouts, generator
        self._found: dict[tuple[int, int], list[Guide]] = {}  # by layout and number, in the order in which they came

    @property
    def numbers(self) -> list[int]:
        """Those that there are guides of, in ascending order."""
        return sorted({number for _, number in self._found})

    def look_on(self, fewest: int, most: int, progress: ProgressReport = no_progress) -> None:
        """Find guides in the first layouts for all numbers from one to another, in ever larger steps."""
        self.look(0, _ever_larger_steps(fewest, most), progress)

    def look(self, layout: int, numbers: Iterable[int], progress: ProgressReport = no_progress) -> None:
        """Find guides of some numbers in one layout of each space; those that were found there are kept."""
        missing = sorted({number for number in numbers if (layout, number) not in self._found})
        searches = [
            Search(space, of_space[layout], of_space[layout], k, seeds_from(self._generator, _STARTS), coarse=False)
            for k in missing
            for space, of_space in self._layouts.items()
        ]
        self._found |= {(layout, number): [] for number in missing}
        found = parallel_map(Search.guides, searches, partial(progress, "guides for the number of clusters"))
        for search, of_search in zip(searches, found, strict=True):
            self._found[layout, search.k] += of_search

    def agreement(self, k: int) -> float:
        """The share of pairs of spaces that find the same k clusters in their first layouts; 0 where k has no guides.

        See `clusterloom.recipe.pseudo_labels.confirmation.agreement`.
        """
        if (0, k) not in self._found:
            return 0.0
        found = self._found[0, k]
        return agreement({space: [g.labels for g in found if g.space == space] for space in self._layouts})

    def numbers_near(self, k: int, fineness: Sequence[float]) -> list[int]:
        """Those numbers of guides that are nearest to k and to multiples of it, in ascending order."""
        return sorted({min(self.numbers, key=lambda number: abs(number - times * k)) for times in fineness})

    def near(self, k: int, fineness: Sequence[float]) -> list[Guide]:
        """Guides whose number is nearest to k and to multiples of it.

        Args:
            k: Number of clusters; guides of the number nearest to it are coarse, and all others are not.
            fineness: The multiples, in ascending order from 1 on.
        """
        used = self.numbers_near(k, fineness)
        return [
            replace(guide, coarse=number == used[0])
            for number in used
            for (_, own), found in self._found.items()
            if own == number
            for guide in found
        ]


def _ever_larger_steps(fewest: int, most: int) -> list[int]:
    """Each number at first, and then ever larger steps: from 2 to 11, 12, 14, 16, 18, 21, 24, 28, ..."""
    numbers = [fewest]
    while numbers[-1] < most:
        numbers.append(min(most, numbers[-1] + max(1, numbers[-1] // 6)))
    return numbers
