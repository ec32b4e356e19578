"""Where bytes from outside come in: what a damaged or hostile file makes a library raise leaves as a DataError."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clusterloom.errors import ClusterloomError, DataError, printable

# The most that deflate, the method of gzip and zip, can shrink its input.
DEFLATE_LIMIT = 1032
MAX_UNPACKED_BYTES = 1 << 36
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s'\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s'\"?#]*)[?#][^\s'\"]*", re.IGNORECASE)
_CHUNK_BYTES = 1 << 20
_KINDS_OF_DEFECT = (TypeError, AttributeError, NameError, AssertionError)


def reason(error: Exception) -> str:
    """The first line of an exception's own words, printable and at most 200 characters long, for error messages.

    Example:
        >>> reason(ValueError("too short"))
        'too short'
        >>> reason(EOFError())
        'EOFError'
    """
    if isinstance(error, OSError) and error.strerror:
        return printable(without_secrets(error.strerror))
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    lines = str(error).strip().splitlines()
    return printable(without_secrets(lines[0])[:200]) if lines else type(error).__name__


def without_secrets(text: str) -> str:
    """A text without what addresses in it say of those who may read them: user, password, query and fragment.

    Libraries quote addresses in their errors, and a signed one has its key in the query.

    Example:
        >>> without_secrets("404 for 'https://me:secret@host/a?key=1', again")
        "404 for 'https://host/a', again"
    """
    return _QUERY.sub(r"\1", _USER.sub(r"\1", text))


def is_our_defect(error: Exception) -> bool:
    """Whether an exception tells of a mistake in clusterloom and not in a file: a wrong type or name in our code."""
    if not isinstance(error, _KINDS_OF_DEFECT):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("clusterloom.")


@contextmanager
def only_data_errors(name: str) -> Iterator[None]:
    """Turn every exception that a library raises inside into a DataError that names the file.

    numpy, zipfile, zlib, Pillow and pyarrow raise some twenty kinds of exception on damaged files, and add new ones;
    a list of them would never be complete. What `is_our_defect` goes through as it is, with its traceback.

    Args:
        name: The file, as the user knows it.

    Raises:
        DataError: something was raised inside.

    Example:
        >>> with only_data_errors("a.npy"):
        ...     raise EOFError("no data left")
        Traceback (most recent call last):
        clusterloom.errors.DataError: a.npy cannot be read: no data left
    """
    try:
        yield
    except ClusterloomError:
        raise
    except Exception as error:
        if is_our_defect(error):
            raise
        raise DataError(f"{printable(name)} cannot be read: {reason(error)}") from error


def unpack(stream: IO[bytes], target: Path, n_bytes: int, name: str) -> None:
    """Write a stream that decompresses to a file, and refuse it if it has not the `n_bytes` that its header claims.

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
