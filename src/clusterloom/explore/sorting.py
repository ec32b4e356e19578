"""Which cluster each image is in, and what the clusters are called, after a user's edits.

An edit is a JSON object, as it stands in the journal::

    {"op": "name", "cluster": 3, "name": "sandals"}
    {"op": "merge", "clusters": [5, 2], "into": 5}
    {"op": "split", "cluster": 3, "rows": [1, 8], "new": 10}      these rows become a cluster of their own
    {"op": "move", "rows": [4, 7], "to": 10}                      a number that nobody has yet makes a new cluster
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clusterloom.errors import DataError

MAX_CLUSTERS = 1000
MAX_NAME = 80
_NUMBERS = 1 << 16  # what the page's labels can hold


class Sorting:
    """The state that edits change.

    Args:
        labels: Cluster of each image as the model says, shape (N,).
        n_clusters: The model's number of clusters, K; they are numbered from 0.

    Attributes:
        labels: Cluster of each image now, shape (N,), int64.
        names: What a user calls each cluster that there is, by its number; "" where nobody has named it.
        next_number: What the next new cluster will be called.
    """

    def __init__(self, labels: np.ndarray, n_clusters: int) -> None:
        self.labels = labels.astype(np.int64)
        self.names = dict.fromkeys(range(n_clusters), "")
        self.next_number = n_clusters

    def copy(self) -> "Sorting":
        """A sorting that can be changed without this one changing."""
        new = Sorting(self.labels, 0)
        new.names, new.next_number = dict(self.names), self.next_number
        return new

    def title(self, cluster: int) -> str:
        """What to call a cluster: its name, or its number.

        Example:
            >>> Sorting(np.zeros(3), 2).title(1)
            'cluster 1'
        """
        return self.names[cluster] or f"cluster {cluster}"

    def members(self, cluster: int) -> np.ndarray:
        """Ascending rows of a cluster's images."""
        return np.flatnonzero(self.labels == self.checked(cluster))

    def apply(self, edit: Mapping[str, Any]) -> None:
        """Take one edit; see the module for their form.

        Raises:
            DataError: the edit has another form, or names clusters or images that there are not. Nothing has changed.
        """
        match edit:
            case {"op": "name", "cluster": cluster, "name": str(name), **rest} if not rest:
                self._name(self.checked(cluster), name)
            case {"op": "merge", "clusters": list(clusters), "into": into, **rest} if not rest:
                self._merge([self.checked(k) for k in clusters], self.checked(into))
            case {"op": "split", "cluster": cluster, "rows": list(rows), "new": new, **rest} if not rest:
                self._split(self.checked(cluster), self.rows(rows), new)
            case {"op": "move", "rows": list(rows), "to": to, **rest} if not rest:
                self._move(self.rows(rows), to)
            case _:
                raise DataError("expected an edit: name, merge, split or move, with its fields")

    def checked(self, cluster: Any) -> int:
        """A cluster's number, if there is such a cluster.

        Raises:
            DataError: there is none.
        """
        if not _is_whole(cluster) or cluster not in self.names:
            raise DataError(f"there is no cluster {_shown(cluster)}")
        return int(cluster)

    def rows(self, rows: Any) -> np.ndarray:
        """Row numbers as an array, ascending and each once.

        Raises:
            DataError: it is no list, an empty one, or one of the numbers is no image's.
        """
        if not isinstance(rows, list) or not rows:
            raise DataError("no images were chosen")
        wrong = next((row for row in rows if not _is_whole(row) or not 0 <= row < len(self.labels)), None)
        if wrong is not None:
            raise DataError(f"there is no image {_shown(wrong)}; they are numbered from 0 to {len(self.labels) - 1}")
        return np.unique(np.array(rows, np.int64))

    def _name(self, cluster: int, name: str) -> None:
        name = " ".join(name.split())
        if len(name) > MAX_NAME or not name.isprintable():
            raise DataError(f"a name has at most {MAX_NAME} characters, all of them printable")
        self.names[cluster] = name

    def _merge(self, clusters: list[int], into: int) -> None:
        others = sorted(set(clusters) - {into})
        if not others or into not in clusters:
            raise DataError("merging needs at least two clusters, one of them the one to merge into")
        self.labels[np.isin(self.labels, others)] = into
        for k in others:
            name = self.names.pop(k)
            self.names[into] = self.names[into] or name

    def _split(self, cluster: int, rows: np.ndarray, new: Any) -> None:
        if not (self.labels[rows] == cluster).all():
            raise DataError(f"some of these images are not in cluster {cluster}")
        if len(rows) == (self.labels == cluster).sum():
            raise DataError("a split leaves images on both sides")
        self._add(new)
        self.labels[rows] = new

    def _move(self, rows: np.ndarray, to: Any) -> None:
        if not _is_whole(to) or to not in self.names:
            self._add(to)
        self.labels[rows] = to

    def _add(self, number: Any) -> None:
        if not _is_whole(number) or number != self.next_number:
            raise DataError(f"there is no cluster {_shown(number)}; a new one would be {self.next_number}")
        if len(self.names) >= MAX_CLUSTERS or number >= _NUMBERS:
            raise DataError(f"there are {len(self.names)} clusters already; merge some first")
        self.names[self.next_number] = ""
        self.next_number += 1


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return repr(value)[:40]
