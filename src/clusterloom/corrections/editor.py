"""Edits with undo and redo, kept in a journal, and safe from several pages at once."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import Confirm, Edit, History, Step
from clusterloom.corrections.journal import Journal
from clusterloom.errors import ClusterloomError, DataError, printable

_STALE = "the clusters have been changed meanwhile, maybe in another window; look and try again"


class StaleError(ClusterloomError):
    """An edit was meant for a state that is no longer there."""


class Editor:
    """The current assignment of images to clusters, and the only way to change it.

    Args:
        labels: Cluster of each image as the model says, shape (N,).
        n_clusters: The model's number of clusters.
        journal: Where edits are kept; what is in it is taken at once.
        names: What the clusters are called in the model itself; none, or one for each.

    Attributes:
        assignment: The clusters as they are now.
        history: The edits that have led there, and those that were taken back.
        revision: Number of the last entry that was taken.

    Raises:
        DataError: the journal cannot be used.
        OSError: it cannot be read.
    """

    def __init__(self, labels: np.ndarray, n_clusters: int, journal: Journal, names: Sequence[str] = ()) -> None:
        self._start, self._journal = Assignment(labels, n_clusters, names), journal
        self._lock = threading.RLock()
        self.history = History()
        self.assignment = self._start.copy()
        self.revision = 0
        self.refresh()

    def refresh(self) -> None:
        """Take what other processes have written to the journal.

        Raises:
            DataError: the journal cannot be used, as long as it is not mended.
            OSError: it cannot be read.
        """
        with self._lock:
            self._refresh()

    @contextmanager
    def still(self) -> Iterator[None]:
        """While this is open no edit is taken, so that whatever is asked for belongs to one state."""
        with self._lock:
            yield

    def edit(self, entry: Edit | Step, revision: int) -> None:
        """Make an edit, or undo or redo one, and write it down.

        Args:
            entry: The edit.
            revision: Of the state that the user saw.

        Raises:
            StaleError: that is no longer the state.
            DataError: the edit is impossible.
            OSError: it cannot be written down; the state is as it was.
        """
        with self._lock:
            self._refresh()
            if revision != self.revision:
                raise StaleError(_STALE)
            after = self._after(entry)  # before the journal is touched: an impossible edit makes no file
            if isinstance(entry, Confirm) and entry.clusters is None:
                entry = entry.model_copy(update={"clusters": self.assignment.labels[entry.rows].tolist()})
            if not self._journal.append(entry, revision):
                self._refresh()
                raise StaleError(_STALE)
            self._accept(revision + 1, *after)

    def _refresh(self) -> None:
        for number, entry in self._journal.read(self.revision):
            try:
                after = self._after(entry, again=True)
            except DataError as error:  # what comes behind it is not taken, and nothing is written
                raise DataError(f"{printable(str(self._journal.path))}, edit {number}: {error}") from error
            self._accept(number, *after)

    def _after(self, entry: Edit | Step, again: bool = False) -> tuple[History, Assignment]:
        history = self.history.after(entry)
        if len(history.done) > len(self.history.done):
            assignment, edits = self.assignment.copy(), history.done[-1:]
        else:
            assignment, edits = self._start.copy(), history.done
        for edit in edits:
            assignment.apply(edit, again or edit is not entry)
        return history, assignment

    def _accept(self, number: int, history: History, assignment: Assignment) -> None:
        self.history, self.assignment = history, assignment
        self.revision = number  # last, so that nobody takes an older state for this revision
