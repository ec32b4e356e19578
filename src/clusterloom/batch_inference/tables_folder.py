"""The folder that tables of predictions go to, on this machine or at an address, and what says whose they are."""

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterloom.data.addresses import Address, is_address, names_below, read_address, write_address
from clusterloom.errors import DataError, printable
from clusterloom.files import scratch_directory, write_atomically
from clusterloom.targets import in_the_way

MANIFEST = "_manifest.json"
_VERSION = "clusterloom_predictions"


@dataclass(frozen=True)
class TablesFolder:
    """A folder of tables; one that is at an address, or on a disk that machines share, may be filled by many.

    Args:
        place: Path or address.
    """

    place: str

    def __str__(self) -> str:
        return str(Address(self.place)) if is_address(self.place) else printable(self.place)

    def claim(self, facts: dict[str, Any]) -> None:
        """Make the folder if there is none, and have its manifest say these facts.

        Args:
            facts: Whose predictions these are, JSON values; `model_sha256` among them.

        Raises:
            DataError: it is the folder of other predictions, or holds something else, or is no folder.
        """
        if not is_address(self.place) and (file := in_the_way(Path(self.place))):
            raise DataError(f"{self}: {printable(str(file))} is not a folder; choose another")
        manifest = {_VERSION: 1, **facts}
        known = self._manifest()
        if known is None:
            if others := sorted(self.tables()):
                raise DataError(f"{self} holds {printable(others[0])} and no {MANIFEST}; choose an empty folder")
            self._write_manifest(manifest)
            known = self._manifest()  # another process may have been faster
        if known == manifest:
            return
        if not isinstance(known, dict) or known.get(_VERSION) != 1:
            raise DataError(f"{self}/{MANIFEST} is not of this release; choose another folder")
        if known.get("model_sha256") != manifest["model_sha256"]:
            raise DataError(
                f"{self} holds predictions of another model (SHA-256 {str(known.get('model_sha256'))[:12]}, this one "
                f"has {manifest['model_sha256'][:12]}); choose another folder, or remove it"
            )
        other = next(name for name in {**known, **manifest} if known.get(name) != manifest.get(name))
        then, now = (printable(json.dumps(facts.get(other))) for facts in (known, manifest))
        raise DataError(
            f"{self} holds predictions with the {printable(other)} {then}, and now it is {now}; choose another folder"
        )

    def tables(self) -> set[str]:
        """Paths of all files that are whole, the manifest aside."""
        if is_address(self.place):
            names = names_below(Address(self.place))
        else:
            root = Path(self.place)
            names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        return {name for name in names if name != MANIFEST and not name.rpartition("/")[2].startswith(".")}

    @contextmanager
    def writing(self, table: str) -> Iterator[Path]:
        """Where to write a table: under its own name if whatever writes it does so at once, see `table_writer`.

        Yields:
            A path of this machine. What is there at the end becomes the table; if anything is raised, none does.
        """
        if not is_address(self.place):
            path = Path(self.place, table)
            path.parent.mkdir(parents=True, exist_ok=True)
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="clusterloom-") as scratch:
            path = Path(scratch, Path(table).name)
            yield path
            with path.open("rb") as file:
                write_address(self._address(table), file)

    def _address(self, name: str) -> Address:
        return Address(f"{self.place.rstrip('/')}/{name}")

    def _manifest(self) -> Any:
        path = Path(self.place, MANIFEST)
        try:
            if is_address(self.place):
                there = MANIFEST in names_below(Address(self.place))
                return json.loads(read_address(self._address(MANIFEST))) if there else None
            return json.loads(path.read_bytes()) if path.is_file() else None
        except ValueError as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{self}/{MANIFEST} cannot be read ({error}); choose another folder") from None

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        content = json.dumps(manifest, indent=2).encode()
        if is_address(self.place):
            write_address(self._address(MANIFEST), io.BytesIO(content))
            return
        folder = Path(self.place)
        folder.mkdir(parents=True, exist_ok=True)
        # Of processes that begin at one moment with two models, the first one's must stay: a link replaces nothing.
        with scratch_directory(folder / MANIFEST) as scratch:
            new = scratch / MANIFEST
            new.write_bytes(content)
            try:
                os.link(new, folder / MANIFEST)
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                write_atomically(folder / MANIFEST, content)
