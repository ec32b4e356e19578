"""Which cluster each image is in, and what the clusters are called, after a user's edits."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from clusterloom.corrections.edits import Confirm, Edit, Merge, Move, Name, Outlier, Split
from clusterloom.corrections.forms import MAX_CLUSTER_NUMBER
from clusterloom.errors import DataError

MAX_CLUSTERS = 1000
MAX_NAME = 80
UNSEEN, CONFIRMED, OUTLIER = 0, 1, 2
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet would work out


class Assignment:
    """The state that edits change.

    Args:
        labels: Cluster of each image as the model says, shape (N,).
        n_clusters: The model's number of clusters, K; they are numbered from 0.
        names: What they are called to begin with; none, or K.

    Attributes:
        labels: Cluster of each image now, shape (N,), int64.
        marks: What a user has said of each image, shape (N,), uint8: `UNSEEN` where nothing, `CONFIRMED` where it
            belongs into its cluster (also said by moving it there), `OUTLIER` where it belongs to none.
        parted: Whether an image is where a split has put it, shape (N,), bool.
        names: What a user calls each cluster that there is, by its number; "" where nobody has named it.
        founders: Ascending rows of the images that each cluster of the user's began with, by its number.
        merged_into: Of each cluster that was merged, which one took its images.
        next_number: What the next new cluster will be called.
    """

    def __init__(self, labels: np.ndarray, n_clusters: int, names: Sequence[str] = ()) -> None:
        self.labels = labels.astype(np.int64)
        self.marks = np.full(len(labels), UNSEEN, np.uint8)
        self.parted = np.zeros(len(labels), bool)
        self.names = dict(enumerate(names or [""] * n_clusters))
        self.founders: dict[int, np.ndarray] = {}
        self.merged_into: dict[int, int] = {}
        self.next_number = n_clusters

    def copy(self) -> "Assignment":
        """An assignment that can be changed without this one changing."""
        new = Assignment(self.labels, 0)
        new.marks, new.parted, new.names = self.marks.copy(), self.parted.copy(), dict(self.names)
        new.next_number = self.next_number
        new.founders, new.merged_into = dict(self.founders), dict(self.merged_into)
        return new

    def title(self, cluster: int) -> str:
        """What to call a cluster: its name, or its number.

        Example:
            >>> Assignment(np.zeros(3), 2).title(1)
            'cluster 1'
        """
        return self.names.get(cluster) or f"cluster {cluster}"

    def members(self, cluster: int) -> np.ndarray:
        """Ascending rows of a cluster's images."""
        return np.flatnonzero(self.labels == self.checked(cluster))

    def owner(self, cluster: int) -> int:
        """The cluster that a cluster's images went to by merging; itself where it was not merged.

        Example:
            >>> assignment = Assignment(np.zeros(3), 3)
            >>> assignment.merged_into.update({0: 1, 1: 2})
            >>> assignment.owner(0)
            2
        """
        while cluster in self.merged_into:
            cluster = self.merged_into[cluster]
        return cluster

    def apply(self, edit: Edit, again: bool = False) -> None:
        """Take one edit.

        Args:
            edit: What a user has said.
            again: It was taken before. The model may put a doubtful image elsewhere by now, and parts of a cluster are
                taken from wherever they are.

        Raises:
            DataError: the edit names clusters or images that there are not, or is impossible. Nothing has changed.
        """
        match edit:
            case Name():
                self._name(self.checked(edit.cluster), edit.name)
            case Merge():
                self._merge([self.checked(k) for k in edit.clusters], self.checked(edit.into))
            case Split():
                self._split(self.checked(edit.cluster), [self.rows(part) for part in edit.parts], edit.new, again)
            case Move():
                self._move(self.rows(edit.rows), edit.to)
            case Confirm():
                self._confirm(edit)
            case Outlier():
                self.marks[self.rows(edit.rows)] = OUTLIER

    def checked(self, cluster: int) -> int:
        """A cluster's number, if there is such a cluster.

        Raises:
            DataError: there is none.
        """
        if cluster not in self.names:
            raise DataError(f"there is no cluster {cluster}")
        return cluster

    def rows(self, rows: Sequence[int]) -> np.ndarray:
        """Row numbers, at least one and none negative, as an array, ascending and each once.

        Raises:
            DataError: one of the numbers is no image's.
        """
        if max(rows) >= len(self.labels):
            raise DataError(f"there is no image {max(rows)}; they are numbered from 0 to {len(self.labels) - 1}")
        return np.unique(np.array(rows, np.int64))

    def _name(self, cluster: int, name: str) -> None:
        name = " ".join(name.split())
        if len(name) > MAX_NAME or not name.isprintable():
            raise DataError(f"a name has at most {MAX_NAME} characters, all of them printable")
        if unicodedata.normalize("NFKC", name).startswith(_FORMULA):  # wide signs are signs too, in some spreadsheets
            raise DataError(f"a name cannot begin with {name[0]}: a spreadsheet would take it for a formula")
        others = {self.title(k).casefold() for k in self.names if k != cluster}
        if name.casefold() in others:
            raise DataError(f"another cluster is called {name!r} already; merge them, or choose another name")
        self.names[cluster] = name

    def _merge(self, clusters: list[int], into: int) -> None:
        others = sorted(set(clusters) - {into})
        if not others or into not in clusters:
            raise DataError("merging needs at least two clusters, one of them the one to merge into")
        self.labels[np.isin(self.labels, others)] = into
        for k in others:
            name = self.names.pop(k)
            self.names[into] = self.names[into] or name
            self.merged_into[k] = into

    def _confirm(self, edit: Confirm) -> None:
        self.rows(edit.rows)
        if edit.clusters is not None:
            if len(edit.clusters) != len(edit.rows):
                raise DataError("one cluster is wanted for each image")
            self.labels[edit.rows] = [self.checked(cluster) for cluster in edit.clusters]
        self.marks[edit.rows] = CONFIRMED

    def _split(self, cluster: int, parts: list[np.ndarray], new: int, again: bool) -> None:
        rows = np.concatenate(parts)
        if not again and not (self.labels[rows] == cluster).all():
            raise DataError(f"some of these images are not in cluster {cluster}")
        if len(np.unique(rows)) < len(rows):
            raise DataError("an image is in two parts")
        if not again and len(rows) == (self.labels == cluster).sum():
            raise DataError("a split leaves images on both sides")
        self._check_new(new, len(parts))
        for number, part in enumerate(parts, new):
            self._add(number, part)
            self.labels[part], self.parted[part] = number, True

    def _move(self, rows: np.ndarray, to: int) -> None:
        if to not in self.names:
            self._check_new(to, 1)
            self._add(to, rows)
        self.labels[rows], self.parted[rows] = to, False
        self.marks[rows] = CONFIRMED

    def _check_new(self, number: int, count: int) -> None:
        if number != self.next_number:
            raise DataError(f"there is no cluster {number}; a new one would be {self.next_number}")
        if len(self.names) + count > MAX_CLUSTERS or number + count - 1 > MAX_CLUSTER_NUMBER:
            raise DataError(f"there are {len(self.names)} clusters already; merge some first")

    def _add(self, number: int, founders: np.ndarray) -> None:
        self.names[number] = ""
        self.founders[number] = founders
        self.next_number = number + 1
