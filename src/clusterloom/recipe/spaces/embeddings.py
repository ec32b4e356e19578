"""What the recipe knows of the images once they are points: in every space where they lie, and how far it is heard.

From here on nothing sees an image or a network.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class SpaceRules:
    """What is known of spaces before their guides are heard.

    Attributes:
        learned: Spaces of one network.
        alone: Spaces that see what no other space can.
        yielding: Spaces that yield to the others where there are many images of no clear kinds.
        counts: How many spaces one is worth, by its name; 1 where nothing is said.
    """

    learned: Collection[str] = ()
    alone: Collection[str] = ()
    yielding: Collection[str] = ()
    counts: Mapping[str, float] = field(default_factory=dict)


NOTHING_KNOWN = SpaceRules()


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Where N images lie in each space, by the space's name.

    Attributes:
        points: In the space itself, shape (N, D).
        layouts: In its layouts, shape (n, N, d).
        view_pairs: Where two views of some images are, in some of the spaces, shape (2, M, D).
        rules: What is known of the spaces.
    """

    points: Mapping[str, np.ndarray]
    layouts: Mapping[str, np.ndarray]
    view_pairs: Mapping[str, np.ndarray] = field(default_factory=dict)
    rules: SpaceRules = NOTHING_KNOWN

    def __len__(self) -> int:
        return len(next(iter(self.points.values())))

    def some(self, rows: np.ndarray, n_layouts: int) -> "Embeddings":
        """Some of the images, (M,), in so many layouts of each space; views stay."""
        points = {space: of_space[rows] for space, of_space in self.points.items()}
        layouts = {space: of_space[:n_layouts, rows] for space, of_space in self.layouts.items()}
        return Embeddings(points, layouts, self.view_pairs, self.rules)
