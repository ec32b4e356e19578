"""Ids of images as text on one line, and back without loss."""

import re

from clusterloom.errors import printable

_ESCAPE = re.compile(r"\\(?:[\\tnr]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})")


def encode_id(identifier: str) -> str:
    r"""An id as printable text: a backslash is doubled, what cannot be printed becomes an escape, as Python writes it.

    Example:
        >>> print(encode_id("cats/tom.png"), encode_id("a\nb"), encode_id("a\\nb"))
        cats/tom.png a\nb a\\nb
    """
    return printable(identifier.replace("\\", "\\\\"))


def decode_id(text: str) -> str:
    r"""The id that `encode_id` made a text of; a backslash that begins no escape stands for itself.

    Example:
        >>> decode_id(encode_id("a\nb\\n\udcff.png")) == "a\nb\\n\udcff.png"
        True
    """
    return _ESCAPE.sub(lambda match: match[0].encode("ascii").decode("unicode_escape"), text)
