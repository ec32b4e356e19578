"""A journal of edits: one JSON line each, only ever appended, on the disk before anybody is told.

The first line names the model and the images that the edits belong to. Several processes may share a journal: each
reads what others have written before it writes.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clusterloom.errors import DataError, printable
from clusterloom.files import fsync_directory

_VERSION = 1


class Journal:
    """The file, and how far it has been read.

    It is made with the first entry: looking leaves no trace.

    Args:
        path: The file.
        model_sha256: Hash of the model.
        data_sha256: Fingerprint of the images.
    """

    def __init__(self, path: Path, model_sha256: str, data_sha256: str) -> None:
        self.path = path
        self._header = {"clusterloom_journal": _VERSION, "model_sha256": model_sha256, "data_sha256": data_sha256}
        self._read_bytes = 0
        self._read_lines = 0

    def read_new(self) -> list[dict[str, Any]]:
        """Entries that have been written since the last call, by whomever.

        A last line that a crash cut off counts for nothing.

        Raises:
            DataError: the file is no journal, one of another model or other images, or was changed or cut short.
        """
        try:
            with self.path.open("rb") as file:
                return self._read(file)
        except FileNotFoundError:
            if self._read_bytes:
                raise DataError(f"{printable(str(self.path))} has gone; start explore again") from None
            return []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing; between `read_new` and `append` nothing can come in between.

        Raises:
            OSError: the file cannot be made or written.
        """
        with self.path.open("ab") as file, _exclusive(file.fileno()):
            yield

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write one entry; it is on the disk when this returns. Inside `locked`, and after `read_new`.

        Raises:
            OSError: the disk is full or not writable; the journal is as it was.
        """
        lines = [self._header, entry] if self._read_bytes == 0 else [entry]
        data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode("ascii")
        with self.path.open("r+b") as file:
            # What lies behind the last whole line is what a crash has left of another one.
            file.truncate(self._read_bytes)
            file.seek(self._read_bytes)
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(self._read_bytes)
                raise
        fsync_directory(self.path.parent)
        self._read_bytes += len(data)
        self._read_lines += len(lines)

    def _read(self, file: Any) -> list[dict[str, Any]]:
        name = printable(str(self.path))
        if os.fstat(file.fileno()).st_size < self._read_bytes:
            raise DataError(f"{name} has been cut short since it was read; start explore again")
        file.seek(self._read_bytes)
        data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        entries = []
        for number, line in enumerate(whole.splitlines(), self._read_lines + 1):
            entry = _parsed(line, f"{name}, line {number}")
            if number == 1:
                self._check_header(entry, name)
            else:
                entries.append(entry)
        self._read_bytes += len(whole)
        self._read_lines += whole.count(b"\n")
        return entries

    def _check_header(self, header: Mapping[str, Any], name: str) -> None:
        if header.get("clusterloom_journal") != _VERSION:
            raise DataError(f"{name} is not a journal that this release can read; move it away to begin a new one")
        for key, what in (("model_sha256", "another model"), ("data_sha256", "other images")):
            if header.get(key) != self._header[key]:
                raise DataError(f"{name} belongs to {what}; move it away to begin a new one")


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict):
        raise DataError(f"{where}: not a JSON object; repair the journal, or move it away to begin a new one")
    return entry


@contextlib.contextmanager
def _exclusive(handle: int) -> Iterator[None]:
    """A lock on an open file, where the system has one; the file's end is checked before every entry all the same."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    yield  # closing the file releases the lock
