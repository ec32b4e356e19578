"""Identifiers of images: row numbers that cost nothing, and file names as text that goes through CSV without loss."""

import operator
import re
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

_TILE = re.compile(r"(.*)#(\d+),(\d+)", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:[\\tnr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})")


class RowIds(Sequence[str]):
    """Row numbers as text, made when asked for, so that the identifiers of a million images cost nothing.

    Args:
        rows: The row numbers, each once.

    Example:
        >>> ids = RowIds(range(1_000_000))
        >>> ids[999_999], list(ids[2:4])
        ('999999', ['2', '3'])
    """

    def __init__(self, rows: range | NDArray[np.int64]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "RowIds": ...
    def __getitem__(self, index: int | slice) -> "str | RowIds":
        if isinstance(index, slice):
            return RowIds(self.rows[index])
        return str(int(self.rows[operator.index(index)]))


def encode_id(text: str) -> str:
    r"""An identifier as printable text in which nothing is lost, for tables.

    A backslash becomes two, and every character that cannot be printed the backslash escape that Python writes for it:
    newlines, terminal escapes, marks of writing direction, and the surrogates that stand for bytes that are not UTF-8.
    All else, and so every ordinary file name, stays as it is. Two identifiers never become one text.

    Args:
        text: Any text.

    Returns:
        Printable text, from which `decode_id` gives `text` again.

    Example:
        >>> print(encode_id("cats/ü 1.png"), encode_id("new\nline.png"), encode_id("back\\slash.png"))
        cats/ü 1.png new\nline.png back\\slash.png
    """
    if text.isprintable() and "\\" not in text:  # nearly all, and ten million of them take their time
        return text
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode("ascii") for c in text)


def decode_id(text: str) -> str:
    r"""The identifier that `encode_id` made a text of.

    Args:
        text: As `encode_id` gives it; a backslash that begins no escape of its own stays as it is.

    Returns:
        The identifier.

    Example:
        >>> decode_id(encode_id("a\\\udcff\n")) == "a\\\udcff\n"
        True
    """
    return _ESCAPE.sub(lambda escape: escape.group().encode("ascii").decode("unicode_escape"), text)


class TileId(NamedTuple):
    """The identifier of a tile: that of the picture, and the tile's row and column in it, from 0."""

    picture: str
    row: int
    column: int

    def __str__(self) -> str:
        return f"{self.picture}#{self.row},{self.column}"


def parse_tile(identifier: str) -> TileId:
    """The parts of a tile's identifier, `name#row,col`; a picture that is no tile is one at 0,0.

    Example:
        >>> parse_tile(str(TileId("sky#2.tif", 3, 10)))
        TileId(picture='sky#2.tif', row=3, column=10)
    """
    found = _TILE.fullmatch(identifier)
    return TileId(found[1], int(found[2]), int(found[3])) if found else TileId(identifier, 0, 0)
