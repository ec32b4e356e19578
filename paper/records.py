"""Finished runs in a file, one JSON line each, so that an experiment can stop at any moment and go on later."""

import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clusterloom.errors import DataError


class Records:
    """The finished runs of one experiment.

    Args:
        path: The file; it and its folder are made with the first record.

    Raises:
        DataError: the file is not what `add` writes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = _read(path)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._records)

    def matching(self, **values: Any) -> list[dict[str, Any]]:
        """Records that have all of these values."""
        return [r for r in self._records if all(r.get(name) == value for name, value in values.items())]

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            # A line that a crash has cut off goes: its run is made again, and the next start would refuse the file.
            file.seek(0)
            last = file.read().rpartition(b"\n")[2]
            if _parsed(last) is None:
                file.truncate(file.tell() - len(last))
            else:
                file.write(b"\n")
            file.write(json.dumps(record).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._records.append(dict(record))

    def scratch(self, name: str) -> Path:
        """Where the run of that name keeps its checkpoint until it is finished."""
        return self.path.with_name(self.path.stem + ".partial") / name


def _read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    records = [_parsed(line) for line in lines]
    if records and records[-1] is None:  # empty, or cut off: that run is made again
        records.pop()
    for number, (line, record) in enumerate(zip(lines, records, strict=False), 1):
        if line.strip() and not isinstance(record, dict):
            raise DataError(f"{path}, line {number}: not a JSON object; repair or remove it")
    return [record for record in records if record is not None]


def _parsed(line: bytes) -> Any:
    """What a line of JSON holds; None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def count(runs: Sequence[Any]) -> str:
    """How many runs there are, in words where there are none."""
    return str(len(runs) or "not run")


def spread(runs: Sequence[Mapping[str, Any]], score: str, digits: int, factor: float = 1, ends: bool = False) -> str:
    """A score's mean, standard deviation where there are several runs, and the least and the greatest where asked for.

    Example:
        >>> spread([{"nmi": 0.1}, {"nmi": 0.2}], "nmi", 1, 10, ends=True), spread([{"nmi": 0.1}], "nmi", 2)
        ('1.5 ± 0.7 (1.0 to 2.0)', '0.10')
        >>> spread([], "nmi", 2)
        ''
    """
    values = [factor * run[score] for run in runs]
    if not values:
        return ""
    text = f"{statistics.mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
        if ends:
            text += f" ({min(values):.{digits}f} to {max(values):.{digits}f})"
    return text
