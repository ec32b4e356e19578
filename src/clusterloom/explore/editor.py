"""Edits with undo and redo, kept in a journal, and safe from several pages at once."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from clusterloom.errors import ClusterloomError, DataError
from clusterloom.explore.journal import Journal
from clusterloom.explore.sorting import Sorting

_UNDO = {"op": "undo"}
_REDO = {"op": "redo"}


class StaleError(ClusterloomError):
    """An edit was meant for a state that is no longer there."""


class Editor:
    """The current sorting of the images, and the only way to change it.

    Args:
        labels: Cluster of each image as the model says, shape (N,).
        n_clusters: The model's number of clusters.
        journal: Where edits are kept; what is in it is taken at once.

    Raises:
        DataError: the journal cannot be used.
    """

    def __init__(self, labels: np.ndarray, n_clusters: int, journal: Journal) -> None:
        self._labels, self._n_clusters, self._journal = labels, n_clusters, journal
        self._lock = threading.Lock()
        self._done: list[Mapping[str, Any]] = []
        self._undone: list[Mapping[str, Any]] = []
        self.sorting = Sorting(labels, n_clusters)
        self.revision = 0  # entries in the journal
        self._broken: DataError | None = None
        self.refresh()

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit that was taken back."""
        return bool(self._undone)

    @property
    def model_labels(self) -> np.ndarray:
        """Cluster of each image as the model says, shape (N,)."""
        return self._labels

    def refresh(self) -> None:
        """Take what other processes have written to the journal.

        Raises:
            DataError: the journal can no longer be used.
        """
        with self._lock:
            self._refresh()

    def edit(self, entry: Mapping[str, Any], revision: int) -> None:
        """Make an edit, or undo or redo one, and write it down.

        Args:
            entry: See `clusterloom.explore.sorting`; or {"op": "undo"} or {"op": "redo"}.
            revision: Of the state that the user saw.

        Raises:
            StaleError: that is no longer the state.
            DataError: the edit is impossible.
            OSError: it cannot be written down; the state is as it was.
        """
        with self._lock:
            self._check_revision(revision)
            after = self._after(entry)  # before the journal is touched: an impossible edit makes no file
            with self._journal.locked():
                self._refresh()
                self._check_revision(revision)
                self._journal.append(entry)
            self._accept(entry, after)

    def _check_revision(self, revision: int) -> None:
        if revision != self.revision:
            raise StaleError("the clusters have been changed meanwhile, maybe in another window; look and try again")

    def _refresh(self) -> None:
        if self._broken is not None:  # what lies behind the bad entry was never taken
            raise self._broken
        for number, entry in enumerate(self._journal.read_new(), self.revision + 2):
            try:
                after = self._after(entry)
            except DataError as error:
                self._broken = DataError(f"{self._journal.path}, line {number}: {error}")
                raise self._broken from error
            self._accept(entry, after)

    def _after(self, entry: Mapping[str, Any]) -> Sorting:
        """What the state would be after an entry."""
        if entry == _UNDO:
            if not self._done:
                raise DataError("there is nothing to undo")
            return self._replayed(self._done[:-1])
        if entry == _REDO:
            if not self._undone:
                raise DataError("there is nothing to redo")
            entry = self._undone[-1]
        sorting = self.sorting.copy()
        sorting.apply(entry)
        return sorting

    def _accept(self, entry: Mapping[str, Any], after: Sorting) -> None:
        if entry == _UNDO:
            self._undone.append(self._done.pop())
        elif entry == _REDO:
            self._done.append(self._undone.pop())
        else:
            self._done.append(entry)
            self._undone.clear()
        self.sorting = after
        self.revision += 1

    def _replayed(self, edits: list[Mapping[str, Any]]) -> Sorting:
        sorting = Sorting(self._labels, self._n_clusters)
        for edit in edits:
            sorting.apply(edit)
        return sorting
