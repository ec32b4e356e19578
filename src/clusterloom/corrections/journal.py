"""A journal of edits beside a model: an SQLite file, in which each edit is on the disk before anybody is told.

It holds the edits of any number of models and sets of images, told apart by their hashes. Several processes may share
it: an edit is written only if nobody has written one meanwhile. The file is opened anew each time, so that one that was
mended or put back is used at once.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from clusterloom.corrections.edits import ENTRY, Edit, History, Step
from clusterloom.errors import DataError, printable

_APPLICATION_ID = 0x636C6F6A  # "cloj", where SQLite files say what they are
_VERSION = 1
_BUSY_SECONDS = 10.0
_TABLE = """CREATE TABLE IF NOT EXISTS edits (
    model_sha256 TEXT NOT NULL, data_sha256 TEXT NOT NULL, number INTEGER NOT NULL, edit TEXT NOT NULL,
    PRIMARY KEY (model_sha256, data_sha256, number)
)"""
_OURS = "FROM edits WHERE model_sha256 = ? AND data_sha256 = ? AND number"


def corrections(path: Path, model_sha256: str, data_sha256: str) -> list[Edit]:
    """What a user has changed about a model's clusters of a set of images; edits that were taken back are left out.

    `clusterloom.corrections.assignment.Assignment` applies them to the model's labels.

    Args:
        path: The journal; no edits where there is none.
        model_sha256: Hash of the model's weights.
        data_sha256: Fingerprint of the images.

    Raises:
        DataError: the file is no journal.
        OSError: it cannot be read.
    """
    return _done(Journal(path, model_sha256, data_sha256))


def corrections_of_others(path: Path, model_sha256: str, data_sha256: str) -> int:
    """How many corrections of the model's clusters there are of other images than these; see `corrections`."""
    others = Journal(path, model_sha256, data_sha256).other_images()
    return sum(len(_done(Journal(path, model_sha256, other))) for other in others)


def _done(journal: "Journal") -> list[Edit]:
    history = History()
    for _, entry in journal.read():
        history = history.after(entry)
    return list(history.done)


class Journal:
    """The edits of one model and one set of images; the file is made with the first one.

    Args:
        path: The file.
        model_sha256: Hash of the model's weights.
        data_sha256: Fingerprint of the images.
    """

    def __init__(self, path: Path, model_sha256: str, data_sha256: str) -> None:
        self.path = path
        self._key = (model_sha256, data_sha256)

    def read(self, since: int = 0) -> list[tuple[int, Edit | Step]]:
        """Entries and their numbers, in their order, by whomever they were written.

        Args:
            since: Only those after this number.

        Raises:
            DataError: the file is no journal, holds something that is no edit, or no longer holds number `since`.
            OSError: it cannot be read.
        """
        rows = []
        if self.path.exists():
            with self._opened("rw") as database:  # not "ro": what a killed process has left half done is rolled back
                if not _is_empty(database):
                    query = f"SELECT number, edit {_OURS} >= ? ORDER BY number"
                    rows = database.execute(query, (*self._key, since)).fetchall()
        if since and (not rows or rows.pop(0)[0] != since):
            raise DataError(f"{self._name} has lost edits since it was read; put it back, or start explore again")
        return [(number, self._parsed(number, text)) for number, text in rows]

    def other_images(self) -> list[str]:
        """Fingerprints of the other sets of images of which this model has entries.

        Raises:
            DataError: the file is no journal.
            OSError: it cannot be read.
        """
        if not self.path.exists():
            return []
        with self._opened("rw") as database:
            if _is_empty(database):
                return []
            query = "SELECT DISTINCT data_sha256 FROM edits WHERE model_sha256 = ? AND data_sha256 != ?"
            return [row[0] for row in database.execute(query, self._key)]

    def append(self, entry: Edit | Step, since: int) -> bool:
        """Write an entry; it is on the disk when this returns True.

        Args:
            entry: What is written.
            since: The last number that is known; the entry gets the next one.

        Returns:
            Whether it was written; it is not where there are entries after `since`.

        Raises:
            DataError: the file is no journal.
            OSError: it cannot be written; the journal is as it was.
        """
        with self._opened("rwc") as database, database:
            database.execute("BEGIN IMMEDIATE")  # from here on nobody else writes
            if _is_empty(database):
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {_VERSION}")
                database.execute(_TABLE)
            if database.execute(f"SELECT 1 {_OURS} > ?", (*self._key, since)).fetchone():
                return False
            row = (*self._key, since + 1, entry.model_dump_json())
            database.execute("INSERT INTO edits VALUES (?, ?, ?, ?)", row)
        return True

    @property
    def _name(self) -> str:
        return printable(str(self.path))

    def _parsed(self, number: int, text: str) -> Edit | Step:
        try:
            return ENTRY.validate_json(text)
        except ValidationError:
            raise DataError(f"{self._name}, edit {number}: not an edit that this release knows") from None

    @contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(address, _BUSY_SECONDS, isolation_level=None, uri=True)) as database:
                # With FULL, a power cut right after the last edit could still roll it back.
                database.execute("PRAGMA synchronous = EXTRA")
                self._check_kind(database)
                yield database
        except sqlite3.OperationalError as error:  # locked, read-only, full, or on a disk that cannot lock
            raise OSError(errno.EIO, f"the journal cannot be used ({error})", str(self.path)) from None
        except sqlite3.DatabaseError as error:
            why = f"is damaged, or no journal ({error})"
            raise DataError(f"{self._name} {why}; move it away to begin a new one") from None

    def _check_kind(self, database: sqlite3.Connection) -> None:
        if _is_empty(database):  # or is being made: the table and its kind come at once
            return
        (kind,), (version,) = (database.execute(f"PRAGMA {p}").fetchone() for p in ("application_id", "user_version"))
        if kind != _APPLICATION_ID:
            raise DataError(f"{self._name} is no journal; move it away to begin a new one")
        if version > _VERSION:
            raise DataError(f"{self._name} was written by a newer release of clusterloom; update to use it")


def _is_empty(database: sqlite3.Connection) -> bool:
    return database.execute("SELECT 1 FROM sqlite_master").fetchone() is None
