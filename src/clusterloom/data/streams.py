"""Unpacking of compressed files, bounded by what their headers claim."""

import shutil
from pathlib import Path
from typing import IO

from clusterloom.errors import DataError, printable

MAX_UNPACKED_BYTES = 1 << 36
_CHUNK_BYTES = 1 << 20


def unpack(stream: IO[bytes], target: Path, n_bytes: int, name: str) -> None:
    """Write a stream to a file, and refuse it if it is longer or shorter than it claimed.

    Args:
        stream: Decompresses while it is read.
        target: Where the bytes go.
        n_bytes: What the header claims; must be plausible already.
        name: What the user named, for messages.

    Raises:
        DataError: the stream is shorter or longer, or the disk has no room for it.

    Example:
        >>> import io, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unpack(io.BytesIO(b"abc"), Path(folder) / "raw", 4, "a.gz")
        Traceback (most recent call last):
        clusterloom.errors.DataError: a.gz ends after 3 of the 4 bytes that its header claims; it is incomplete
    """
    free = shutil.disk_usage(target.parent).free
    if n_bytes > free:
        raise DataError(f"{printable(name)} needs {n_bytes} bytes unpacked, but the cache's disk has {free} left")
    missing = n_bytes
    with target.open("wb") as file:
        while missing and (chunk := stream.read(min(_CHUNK_BYTES, missing))):
            file.write(chunk)
            missing -= len(chunk)
    if missing:
        raise DataError(
            f"{printable(name)} ends after {n_bytes - missing} of the {n_bytes} bytes that its header claims; "
            f"it is incomplete"
        )
    # Reading past the end also makes gzip and zip compare their checksums.
    if stream.read(1):
        raise DataError(f"{printable(name)} goes on after the {n_bytes} bytes that its header claims; it is damaged")
