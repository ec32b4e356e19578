"""Stage 2, first pseudo-labels: groups that guides keep together, divided by what ties them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from clusterloom.console import ProgressReport, no_progress
from clusterloom.recipe.points.neighbours import islands_of, nearest_neighbours
from clusterloom.recipe.points.partitions import adjusted_rand_index
from clusterloom.recipe.pseudo_labels.confirmation import better_confirmed, confirmations, weights_of
from clusterloom.recipe.pseudo_labels.consensus import GROUPS, groups_of, shares_of
from clusterloom.recipe.pseudo_labels.density import agreement_with_density
from clusterloom.recipe.pseudo_labels.division import Worth, divide_ties
from clusterloom.recipe.pseudo_labels.guides import Guide, guides_in
from clusterloom.recipe.pseudo_labels.modularity import LEAST_SHARE
from clusterloom.recipe.pseudo_labels.ties import between_groups, ties_of
from clusterloom.recipe.spaces.embeddings import Embeddings
from clusterloom.training.randomness import numpy_generator

_FEW_PER_CLUSTER = 10
_SAME = 0.95  # adjusted Rand index of clusters that are as good as the same
_MANY = 10_000  # images, of which more is learned than plain spaces know
_CLEAR = 0.9  # adjusted Rand index of clusters with the guides of a space in which the kinds lie apart
_WITHOUT_GAPS = 1.2  # resolution where kinds lie side by side: of divisions that are about as good the most equal one
_ISLANDS_OF, _ISLANDS_NEIGHBOURS = 5000, 20  # images among which islands are looked for, and how many are near one
_FOLLOWS, _GUIDES = "follows-", "guides-"  # before a space's name, among the arrays of a file


@dataclass(frozen=True)
class FirstPseudoLabels:
    """First clusters, and how each space stands to them; nothing by space for one cluster, which needs no guide.

    Attributes:
        q: Soft assignments, shape (N, K), float32; clusters are numbered by falling size.
        labels: Where each image was put, shape (N,). In `q` another cluster may be more likely: small ones have shares
            in what guides cut elsewhere.
        follows: How far the clusters are what the guides of a space find, by space: the mean adjusted Rand index, from
            about 0 to 1.
        guides: The clusters that those guides of a space find that look for K, by space, shape (M, N), int32.
        groups: Groups of images that were divided whole, from 0 to G - 1, shape (N,).
        ties: How strongly groups are tied, together 1, shape (G, G).
        others: The clusters of groups in other divisions, by ties that count otherwise, shape (M, G).
    """

    q: np.ndarray
    labels: np.ndarray
    follows: dict[str, float]
    guides: dict[str, np.ndarray]
    groups: np.ndarray
    ties: np.ndarray
    others: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays by name, for a file."""
        follows = {f"{_FOLLOWS}{space}": np.array(value) for space, value in self.follows.items()}
        guides = {f"{_GUIDES}{space}": found for space, found in self.guides.items()}
        own = {"q": self.q, "labels": self.labels, "groups": self.groups, "ties": self.ties, "others": self.others}
        return own | follows | guides

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FirstPseudoLabels":
        """What `arrays` was called on."""

        def those_of(prefix: str) -> dict[str, np.ndarray]:
            return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}

        follows = {space: a.item() for space, a in those_of(_FOLLOWS).items()}
        guides = those_of(_GUIDES)
        return cls(arrays["q"], arrays["labels"], follows, guides, arrays["groups"], arrays["ties"], arrays["others"])


def first_pseudo_labels(
    embeddings: Embeddings,
    n_clusters: int,
    seed: int,
    guides: Sequence[Guide] | None = None,
    progress: ProgressReport = no_progress,
    resolution: float | None = None,
    worth: Worth | None = None,
) -> FirstPseudoLabels:
    """Groups that guides keep together, divided into clusters by what ties them.

    Of many images much can be learned. Where no guides of a space find the clusters, the kinds lie apart in none of
    them, and the borders are drawn by the spaces that were learned, so that clusters are more equal; how sure an image
    is is still asked of all guides.

    Args:
        embeddings: Of N images.
        n_clusters: K, at most N.
        seed: Fixes everything.
        guides: Those that are heard; None looks for them, see `guides_in` and `better_confirmed`.
        progress: Told how far guides are.
        resolution: The higher, the more equal are clusters. None tries several, for up to 100 clusters; see
            `clusterloom.recipe.pseudo_labels.division.divide_ties`.
        worth: What clusters (N,) are worth, where that is known: of those found at several resolutions the best count,
            and there are no `others`. None takes clusters that are found again where ties count otherwise.
    """
    rules, n_images = embeddings.rules, len(embeddings)
    if n_clusters == 1:
        labels, groups = np.zeros(n_images, int), np.zeros(n_images, int)
        one, none = np.ones((1, 1)), np.empty((0, 1), int)
        return FirstPseudoLabels(np.ones((n_images, 1), np.float32), labels, {}, {}, groups, one, none)
    if guides is None:
        found_guides = guides_in(embeddings.layouts, n_clusters, numpy_generator(seed, "mixtures"), progress)
        guides = better_confirmed(found_guides, n_clusters, rules)
    coarse = {s: np.stack([g.labels for g in guides if g.space == s and g.coarse]) for s in embeddings.points}
    islands = _more_islands({s: of for s, of in embeddings.points.items() if s in rules.alone}, n_clusters, seed)
    divided = partial(_division, embeddings=embeddings, islands=islands, n_clusters=n_clusters, seed=seed, worth=worth)
    found = divided(guides, resolution=resolution)
    weights, follows = found.weights, _follows(coarse, found.labels)
    leading = [guide for guide in guides if guide.space not in rules.yielding]
    if n_images >= _MANY and leading and max(follows.values()) < _CLEAR:
        found = divided(leading, resolution=max(resolution or 0, _WITHOUT_GAPS))
        follows = _follows(coarse, found.labels)
    q = shares_of(guides, weights, found.labels, n_clusters)
    return FirstPseudoLabels(q, found.labels, follows, coarse, found.groups, found.ties, found.others)


class _Division(NamedTuple):
    """How groups of images were divided.

    Args:
        weights: How much each space of the guides counts.
        labels: Clusters by falling size, shape (N,).
        groups: Shape (N,).
        ties: How strongly groups are tied, shape (G, G).
        others: Clusters of groups in other divisions, shape (M, G).
    """

    weights: dict[str, float]
    labels: np.ndarray
    groups: np.ndarray
    ties: np.ndarray
    others: np.ndarray


def _division(
    guides: Sequence[Guide],
    embeddings: Embeddings,
    islands: Mapping[str, np.ndarray],
    n_clusters: int,
    seed: int,
    resolution: float | None,
    worth: Worth | None,
) -> _Division:
    """Clusters, by what guides keep together and their spaces tie."""
    rules = embeddings.rules
    confirmed = confirmations(guides, rules)
    weights = weights_of(confirmed, rules, islands)
    generator = numpy_generator(seed, "sample", "groups")
    groups = groups_of(guides, weights, GROUPS * n_clusters, generator)
    # Neighbours do not see how wide a gap is: where two spaces find the same clusters, these are heard as well. And a
    # handful of images has no neighbourhoods worth the name.
    few = len(groups) < _FEW_PER_CLUSTER * n_clusters
    tying = [g for g in guides if few or g.space in rules.alone or confirmed[g.space] >= _SAME]
    tying = [g for g in tying if g.space not in islands] + [
        Guide(s, islands[s], True) for s in islands if s in confirmed
    ]
    of_guides = replace(embeddings, layouts={space: embeddings.layouts[space] for space in confirmed})
    ties = between_groups(ties_of(of_guides, tying, n_clusters, generator), weights, groups)
    images = np.bincount(groups)
    k = min(n_clusters, len(images))
    looked_at = numpy_generator(seed, "sample", "density")
    judge = agreement_with_density(of_guides.layouts, weights, groups, k, looked_at)
    of_groups = None if worth is None else lambda labels: worth(labels[groups])
    division = divide_ties(ties, images, k, generator, resolution, judge, of_groups)
    labels = division.labels[groups]
    labels = np.argsort(np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable"))[labels]
    return _Division(weights, labels, groups, np.sum(ties, axis=0), division.others)


def _more_islands(spaces: Mapping[str, np.ndarray], n_clusters: int, seed: int) -> dict[str, np.ndarray]:
    """Which island each image lies on, (N,) by space, in spaces that have more islands than clusters are wanted.

    Guides of such a space join some of its islands, and agree on which for no other reason than where its layouts have
    put them. What the space knows is the islands; which of them belong together is for other spaces to say.
    """
    found = {}
    for space, points in spaces.items():
        some = numpy_generator(seed, "sample", "islands").permutation(len(points))[:_ISLANDS_OF]
        of_some = islands_of(points[some], _ISLANDS_NEIGHBOURS)
        least = LEAST_SHARE * len(some) / n_clusters
        if (np.bincount(of_some) >= least).sum() > n_clusters:
            found[space] = of_some[nearest_neighbours(points[some], 1, points)[0][:, 0]]
    return found


def _follows(coarse: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, float]:
    """The mean adjusted Rand index of clusters (N,) with guides (M, N), by space."""
    return {s: float(np.mean([adjusted_rand_index(guide, labels) for guide in of])) for s, of in coarse.items()}
