"""What is predicted at once: a shard, or some of the pictures that a list names one by one."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from clusterloom.data.decoding import Problem
from clusterloom.data.parts import Part, Parts
from clusterloom.errors import DataError, SettingsError, printable

SUFFIX = ".parquet"
_PICTURES = 10_000  # of a list, in one table


class Unit(NamedTuple):
    """Parts of a source whose predictions go to one table.

    Args:
        table: Path of the table in the folder of tables.
        parts: A shard, or pictures.
    """

    table: str
    parts: tuple[Part | Problem, ...]

    def pictures(self) -> Parts:
        """The parts, as a source."""
        name = printable(self.parts[0].id) if len(self.parts) == 1 else self.table.removesuffix(SUFFIX)
        return Parts(name, lambda: iter(self.parts), [])


def units_of(source: Parts) -> Iterator[Unit]:
    """All units of a source, in its order: the same ones every time.

    The table of a shard has the shard's path, with .parquet at its end. Pictures that a list or an address names one by
    one are taken 10,000 at a time, in tables `pictures-00000.parquet` and so on.

    Raises:
        DataError: two shards would have the same table.
    """
    seen: dict[str, str] = {}
    pictures: list[Part | Problem] = []
    number = itertools.count()

    def unit(table: str, parts: tuple[Part | Problem, ...]) -> Unit:
        if other := seen.get(table):
            raise DataError(
                f"{printable(source.name)}: the tables of {printable(other)} and {printable(parts[0].id)} would both "
                f"be {printable(table)}; rename one of them"
            )
        seen[table] = parts[0].id
        return Unit(table, parts)

    def of_pictures() -> Unit:
        return unit(f"pictures-{next(number):05d}{SUFFIX}", tuple(pictures))

    for part in source.parts():
        if isinstance(part, Part) and part.is_shard:
            yield unit(table_of(part.id), (part,))
            continue
        pictures.append(part)
        if len(pictures) == _PICTURES:
            yield of_pictures()
            pictures.clear()
    if pictures:
        yield of_pictures()


def pictures_sha256(source: Parts) -> str | None:
    """Tells the pictures of a source that lie in no shard, and their order, from others; None where there are none."""
    digest = None
    for part in source.parts():
        if not (isinstance(part, Part) and part.is_shard):
            digest = digest or hashlib.sha256()
            digest.update(part.id.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest() if digest else None


def table_of(shard: str) -> str:
    """Where the table of a shard lies in the folder of tables, by the id of the shard: a path, or an address.

    Example:
        >>> table_of("more/a.tar"), table_of("s3://bucket/a.parquet"), table_of("../b.tar")
        ('more/a.tar.parquet', 'bucket/a.parquet', '_/b.tar.parquet')
    """
    steps = re.sub(r"^[a-z][a-z0-9+.-]*://", "", shard, flags=re.IGNORECASE).split("/")
    path = "/".join("_" if step == ".." else step for step in steps if step not in ("", "."))
    return path if path.endswith(SUFFIX) else path + SUFFIX


def read_share(text: str) -> tuple[int, int]:
    """Which share of how many, from text such as 0/8.

    Raises:
        SettingsError: it is none; shares are counted from 0.

    Example:
        >>> read_share("3/8")
        (3, 8)
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    number, of = map(int, found.groups()) if found else (0, 0)
    if number >= of:
        raise SettingsError(f"--shard {text}: expected I/N, I from 0 to N - 1, such as 0/8 for the first of eight")
    return number, of
