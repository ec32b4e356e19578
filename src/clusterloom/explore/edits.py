"""Edits of the clusters, as the page sends them and as the journal holds them, and what undo and redo leave of them.

An edit is a JSON object::

    {"op": "name", "cluster": 3, "name": "sandals"}
    {"op": "merge", "clusters": [5, 2], "into": 5}
    {"op": "split", "cluster": 3, "rows": [1, 8], "new": 10}      these rows become a cluster of their own
    {"op": "move", "rows": [4, 7], "to": 10}                      a number that nobody has yet makes a new cluster
    {"op": "undo"}
    {"op": "redo"}
"""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from clusterloom.errors import DataError
from clusterloom.explore.requests import ClusterNumber, Form, Rows


class Name(Form):
    """Call a cluster something."""

    op: Literal["name"]
    cluster: ClusterNumber
    name: str


class Merge(Form):
    """Join clusters to one of them."""

    op: Literal["merge"]
    clusters: list[ClusterNumber]
    into: ClusterNumber


class Split(Form):
    """Make some of a cluster's images a cluster of their own."""

    op: Literal["split"]
    cluster: ClusterNumber
    rows: Rows
    new: ClusterNumber


class Move(Form):
    """Put images into a cluster, or into a new one."""

    op: Literal["move"]
    rows: Rows
    to: ClusterNumber


class Step(Form):
    """Take the last edit back, or the last one that was taken back again."""

    op: Literal["undo", "redo"]


Edit: TypeAlias = Name | Merge | Split | Move
Entry: TypeAlias = Annotated[Edit | Step, Field(discriminator="op")]
ENTRY: TypeAdapter[Edit | Step] = TypeAdapter(Entry)


@dataclass(frozen=True)
class History:
    """Edits that hold, and those that were taken back and can be made again.

    Attributes:
        done: In their order.
        undone: The one that was taken back last comes last.
    """

    done: tuple[Edit, ...] = ()
    undone: tuple[Edit, ...] = ()

    def after(self, entry: Edit | Step) -> "History":
        """What there is after one more entry.

        Raises:
            DataError: there is nothing to undo or to redo.
        """
        if not isinstance(entry, Step):
            return History((*self.done, entry))
        taken_from = self.done if entry.op == "undo" else self.undone
        if not taken_from:
            raise DataError(f"there is nothing to {entry.op}")
        if entry.op == "undo":
            return History(self.done[:-1], (*self.undone, self.done[-1]))
        return History((*self.done, self.undone[-1]), self.undone[:-1])
