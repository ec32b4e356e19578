"""Addresses such as s3://bucket/folder and https://host/file, opened by fsspec.

What they need to get in, keys and tokens, is the business of fsspec's packages and of their own settings. Here nothing
of it is asked for, stored or said: an address is shown without its user and its query, where both may stand.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from clusterloom.data.boundary import reason, without_secrets
from clusterloom.data.cache import cache_root, make_room, use_entry
from clusterloom.errors import DataError, MissingPackageError, printable
from clusterloom.files import new_file

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
# Each names a version of a file; which of them there are is the protocol's business.
_VALIDATORS = ("ETag", "etag", "LastModified", "Last-Modified", "mtime", "updated", "generation", "md5", "md5Hash")
_MAX_PICTURE_BYTES = 1 << 30
_COPY_BYTES = 1 << 20


class Address(NamedTuple):
    """Where something lies that is no file of this machine."""

    url: str

    def __str__(self) -> str:
        return shown_address(self.url)


class Listed(NamedTuple):
    """A file that was found at an address: its path below it, its own address, and what changes when it changes."""

    path: str
    address: Address
    stamp: list[str]


def is_address(source: str | Path) -> bool:
    """Whether a text names an address and not a path of this machine.

    Example:
        >>> is_address("s3://bucket/cats"), is_address("cats"), is_address("C:/cats")
        (True, False, False)
    """
    return isinstance(source, str) and _SCHEME.match(source) is not None


def shown_address(url: str) -> str:
    """An address that may be shown and stored: without user, password, query and fragment.

    Example:
        >>> shown_address("https://me:secret@host/a.png?token=1")
        'https://host/a.png'
    """
    return printable(without_secrets(url))


@contextmanager
def open_address(address: Address) -> Iterator[IO[bytes]]:
    """A file at an address, for reading.

    Yields:
        The file; where the protocol can, with seeking.

    Raises:
        DataError: it cannot be opened; the text names it.
        MissingPackageError: its protocol needs a package that is not installed.
    """
    system, path = _system(address)
    try:
        file = system.open(path, "rb")
    except Exception as error:
        raise DataError(_refusal(address, error)) from None
    with file:
        yield file


def read_address(address: Address) -> bytes:
    """All of a picture at an address.

    Raises:
        DataError: as `open_address`, or it has more than 1 GB.
    """
    system, path = _system(address)
    try:
        if _is_http(address):
            with system.open(path, "rb", block_size=0) as file:  # a stream: a web server may send without end
                content: bytes = file.read(_MAX_PICTURE_BYTES + 1)
        else:
            content = system.cat_file(path, end=_MAX_PICTURE_BYTES + 1)
    except Exception as error:
        raise DataError("there is nothing" if isinstance(error, FileNotFoundError) else reason(error)) from None
    if len(content) > _MAX_PICTURE_BYTES:
        raise DataError("has more than 1 GB")
    return content


def list_address(address: Address) -> list[Listed]:
    """All files at an address and below it, in the order of their paths; one alone where it is a file.

    Raises:
        DataError: there is nothing, or it cannot be listed.
        MissingPackageError: as `open_address`.
    """
    system, root = _system(address)
    try:
        if not address.url.endswith("/") and system.isfile(root) and not _is_index(system, root):
            found = {root: system.info(root)}
            base = without_secrets(root).rpartition("/")[0]
        else:
            found = _below(system, root, address)
            base = root.rstrip("/")
    except Exception as error:
        raise DataError(_refusal(address, error)) from None
    scheme = address.url[: len(_SCHEME.match(address.url)[0])]  # type: ignore[index]
    listed = []
    for path, info in sorted(found.items()):
        url = path if is_address(path) else scheme + path
        below = without_secrets(path).removeprefix(without_secrets(base))
        listed.append(Listed(below.lstrip("/"), Address(url), _stamp(info)))
    if not listed:
        raise DataError(f"there is nothing at {address}")
    return sorted(listed)


def names_below(address: Address) -> set[str]:
    """Paths of all files below an address, as it is now; none where there is nothing yet.

    Raises:
        DataError: it cannot be listed.
        MissingPackageError: as `open_address`.
    """
    system, root = _system(address)
    try:
        system.invalidate_cache()
        found = system.find(root)
    except FileNotFoundError:
        return set()
    except Exception as error:
        raise DataError(_refusal(address, error)) from None
    return {path.removeprefix(root.rstrip("/")).lstrip("/") for path in found}


def write_address(address: Address, content: IO[bytes]) -> None:
    """Write a file at an address: it appears whole or not at all, in place of one that is there.

    Object stores put whole objects; elsewhere fsspec writes under another name and renames.

    Args:
        address: Where to.
        content: Read from where it stands to its end.

    Raises:
        DataError: it cannot be written; the text names it.
        MissingPackageError: as `open_address`.
    """
    system, path = _system(address)
    try:
        system.makedirs(system._parent(path), exist_ok=True)
        with system.transaction, system.open(path, "wb") as file:
            shutil.copyfileobj(content, file, _COPY_BYTES)
    except Exception as error:
        raise DataError(f"{address} cannot be written: {reason(error)}") from None


def remove_address(address: Address) -> None:
    """Remove a file at an address; nothing is done where there is none.

    Raises:
        DataError: it cannot be removed.
        MissingPackageError: as `open_address`.
    """
    system, path = _system(address)
    try:
        system.rm_file(path)
    except FileNotFoundError:
        return
    except Exception as error:
        raise DataError(f"{address} cannot be removed: {reason(error)}") from None


def fetched(address: Address, stamp: list[str], cache_dir: Path | None = None) -> Path:
    """A copy of a file at an address in the cache, made where there is none of that version.

    Copies that were not used for the longest time go when there are too many, as converted images do.

    Args:
        address: Of the file.
        stamp: What tells its versions apart, see `list_address`.
        cache_dir: See `clusterloom.data.cache.cache_root`.

    Raises:
        DataError: as `open_address`, or the connection broke off.
        SettingsError: $CLUSTERLOOM_CACHE_GB is no number.
    """
    key = hashlib.sha256(repr([address.url, *stamp]).encode("utf-8", "surrogatepass")).hexdigest()
    name = str(address).rpartition("/")[2][-100:]
    target = cache_root(cache_dir) / "fetched" / key / re.sub(r"[^\w.-]", "_", name)
    if target.exists():
        use_entry(target.parent)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_address(address) as source, new_file(target) as file:
        try:
            shutil.copyfileobj(source, file, _COPY_BYTES)
        except OSError:
            raise
        except Exception as error:
            raise DataError(_refusal(address, error)) from None
    use_entry(target.parent)
    make_room(target.parent.parent)
    return target


def _refusal(address: Address, error: Exception) -> str:
    why = "there is nothing" if isinstance(error, FileNotFoundError) else reason(error)
    return f"{address} cannot be read: {why}"


def _is_http(address: Address) -> bool:
    return address.url.lower().startswith("http")


def _below(system: Any, root: str, address: Address) -> dict[str, dict[str, Any]]:
    if not _is_http(address):
        found: dict[str, dict[str, Any]] = system.find(root, detail=True)
        return found
    # `find` of web servers leaves out what it cannot list, and so would lose images without a word.
    levels = system.walk(root, detail=True, on_error="raise")
    return {info["name"]: info for _, _, files in levels for info in files.values()}


def _is_index(system: Any, path: str) -> bool:
    """Whether a web server gives a page at an address, which then lists a folder."""
    return "html" in str(system.info(path).get("mimetype", ""))


def _stamp(info: dict[str, Any]) -> list[str]:
    return [str(info.get("size")), *(f"{name} {info[name]}" for name in _VALIDATORS if info.get(name))]


def _system(address: Address) -> tuple[Any, str]:
    protocol = _SCHEME.match(address.url)
    try:
        import fsspec
    except ImportError:
        raise MissingPackageError("addresses need fsspec: pip install 'clusterloom[remote]'") from None
    try:
        return fsspec.core.url_to_fs(address.url)  # type: ignore[no-any-return]
    except ImportError as error:
        name = protocol[1] if protocol else ""
        raise MissingPackageError(
            f"{name}:// addresses need another package ({reason(error)}): pip install 'clusterloom[remote]'"
        ) from None
    except Exception as error:
        raise DataError(_refusal(address, error)) from None
