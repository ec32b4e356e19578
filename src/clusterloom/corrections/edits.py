"""Edits of the clusters, as the page sends them and as the journal holds them, and what undo and redo leave of them.

An edit is a JSON object::

    {"op": "name", "cluster": 3, "name": "sandals"}
    {"op": "merge", "clusters": [5, 2], "into": 5}
    {"op": "split", "cluster": 3, "parts": [[1, 8]], "new": 10}   each part becomes a cluster, numbered from `new` on
    {"op": "move", "rows": [4, 7], "to": 10}                      a number that nobody has yet makes a new cluster
    {"op": "confirm", "rows": [9], "clusters": [3]}               these images belong where they are
    {"op": "outlier", "rows": [6]}                                these belong to no cluster
    {"op": "undo", "times": 1}
    {"op": "redo", "times": 1}
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from clusterloom.corrections.forms import ClusterNumber, Form, Rows
from clusterloom.errors import DataError

_MOST_PARTS = 16


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
    """Make parts of a cluster's images clusters of their own."""

    op: Literal["split"]
    cluster: ClusterNumber
    parts: Annotated[list[Rows], Field(min_length=1, max_length=_MOST_PARTS)]
    new: ClusterNumber


class Move(Form):
    """Put images into a cluster, or into a new one."""

    op: Literal["move"]
    rows: Rows
    to: ClusterNumber


class Confirm(Form):
    """Say that images are in the cluster where they belong.

    The clusters, one for each row, are part of it: by another machine's rounding a model may put a doubtful image into
    another one when the journal is read again. In the journal there always are some.
    """

    op: Literal["confirm"]
    rows: Rows
    clusters: list[ClusterNumber] | None = None


class Outlier(Form):
    """Say that images belong to no cluster; they stay in the one where they are, and are marked."""

    op: Literal["outlier"]
    rows: Rows


class Step(Form):
    """Take the last edits back, or the last ones that were taken back again."""

    op: Literal["undo", "redo"]
    times: Annotated[int, Field(ge=1, le=1 << 31)] = 1


Edit: TypeAlias = Name | Merge | Split | Move | Confirm | Outlier
Entry: TypeAlias = Annotated[Edit | Step, Field(discriminator="op")]
ENTRY: TypeAdapter[Edit | Step] = TypeAdapter(Entry)


def described(edit: Edit, title: Callable[[int], str]) -> str:
    """What an edit has done, in a few words.

    Args:
        edit: The edit.
        title: What to call a cluster.

    Example:
        >>> described(Move(op="move", rows=[4, 7], to=1), "cluster {}".format)
        '2 images moved to cluster 1'
    """
    match edit:
        case Name():
            return f"cluster {edit.cluster} called “{edit.name}”" if edit.name else f"name of cluster {edit.cluster}"
        case Merge():
            others = sorted(set(edit.clusters) - {edit.into})
            return f"cluster {', '.join(map(str, others))} merged into {title(edit.into)}"
        case Split():
            return f"{title(edit.cluster)} split into {len(edit.parts) + 1}"
        case Move():
            return f"{_images(edit.rows)} moved to {title(edit.to)}"
        case Confirm():
            return f"{_images(edit.rows)} kept"
        case Outlier():
            return f"{_images(edit.rows)} marked as {'an outlier' if len(edit.rows) == 1 else 'outliers'}"


def _images(rows: list[int]) -> str:
    return "1 image" if len(rows) == 1 else f"{len(rows):,} images"


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
            DataError: there is nothing to undo or to redo, or not so much.
        """
        if not isinstance(entry, Step):
            return History((*self.done, entry))
        taken_from, times = (self.done if entry.op == "undo" else self.undone), entry.times
        if len(taken_from) < times:
            raise DataError(f"there is nothing to {entry.op}" if not taken_from else f"there is less to {entry.op}")
        moved = taken_from[-times:][::-1]
        if entry.op == "undo":
            return History(self.done[:-times], (*self.undone, *moved))
        return History((*self.done, *moved), self.undone[:-times])
