"""Where bytes from outside come in: whatever a damaged or hostile file makes a library raise leaves as a DataError."""

from collections.abc import Iterator
from contextlib import contextmanager

from clusterloom.errors import ClusterloomError, DataError, printable


def reason(error: Exception) -> str:
    """The first line of an exception's own words, for use inside an error message.

    Args:
        error: What was raised.

    Returns:
        One printable line of at most 200 characters.

    Example:
        >>> reason(ValueError("too short"))
        'too short'
        >>> reason(EOFError())
        'EOFError'
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    lines = str(error).strip().splitlines()
    return printable(lines[0][:200]) if lines else type(error).__name__


@contextmanager
def only_data_errors(name: str) -> Iterator[None]:
    """Turn every exception raised inside into a DataError that names the file.

    numpy, zipfile, zlib, Pillow and pyarrow raise some twenty kinds of exception on damaged files, and add new ones;
    a list of them would never be complete.

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
        raise DataError(f"{printable(name)} cannot be read: {reason(error)}") from error
