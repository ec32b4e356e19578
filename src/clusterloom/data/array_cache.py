"""Arrays kept in a folder under a key, checked when read; the least recently used ones make room for new ones."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from clusterloom.data.cache import keep_recent, mark_used
from clusterloom.files import write_atomically

_SUFFIX = ".safetensors"
_HASH_BYTES = 32


@dataclass(frozen=True)
class ArrayCache:
    """A folder of entries, each a file of named arrays after the hash of them.

    Readers hold all of an entry in memory, so none that is in use is lost when its file goes.

    Attributes:
        folder: Made when it is needed.
        most_bytes: Beyond so many, those that were not used for the longest time go; never the newest one.
    """

    folder: Path
    most_bytes: int

    def load(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays under a key, or None where there are none or they are damaged."""
        path = self._path(key)
        try:
            contents = path.read_bytes()
            digest, data = contents[:_HASH_BYTES], contents[_HASH_BYTES:]
            if hashlib.sha256(data).digest() != digest:
                return None
            mark_used(path)
            return safetensors.numpy.load(data)
        except (OSError, safetensors.SafetensorError):
            return None

    def store(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keep arrays under a key. Where there is no room, nothing is kept and nothing is raised."""
        data = safetensors.numpy.save(arrays)
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(key), hashlib.sha256(data).digest() + data)
            keep_recent(self.folder, self.most_bytes, {self._path(key)})

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"
