"""WebDataset tars: pictures as members of a tar file, read from front to back and never unpacked to disk."""

import gzip
import os
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from clusterloom.data.decoding import Picture, Problem
from clusterloom.data.folder import SUFFIXES as PICTURES
from clusterloom.data.folder import has_suffix

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAX_PICTURE_BYTES = 1 << 30
_MAX_LABEL_BYTES = 1000
_BLOCK_BYTES, _CHUNK_BYTES = 512, 1 << 20


def tar_pictures(file: IO[bytes], name: str) -> Iterator[Picture | Problem]:
    """The pictures of a tar file, in its order, identified by the file and the member: `name#member`.

    Members with one stem, `dog/7.jpg` and `dog/7.cls`, belong together; the text of `.cls` is a label. Other members
    are passed over, and so are those whose name begins with a dot. A second member of the same name is refused.

    Args:
        file: The file, open for reading.
        name: Of the file, as it is to stand in ids.

    Yields:
        The pictures, or problems in their place.
    """
    stem, waiting, label = "", list[Picture | Problem](), None
    seen: set[str] = set()
    watched: Any = _Watched(gzip.GzipFile(fileobj=file) if name.lower().endswith("gz") else file)
    # A stream, so that an address need not be able to seek; a member's bytes are read before the next header.
    with tarfile.open(fileobj=watched, mode="r|") as tar:
        for member in tar:
            folder, base = os.path.split(member.name)
            own, _, suffix = base.partition(".")
            if os.path.join(folder, own) != stem:  # noqa: PTH118 (names inside a tar are no paths)
                yield from _labelled(waiting, label)
                stem, waiting, label = os.path.join(folder, own), [], None  # noqa: PTH118
            if not _is_read(member):
                continue
            if suffix == "cls" and member.size <= _MAX_LABEL_BYTES:
                label = _content(tar, member).decode("utf-8", "replace").strip()
            elif _is_picture(member):
                waiting.append(_picture(tar, member, name, member.name in seen))
                seen.add(member.name)
        yield from _labelled(waiting, label)
    watched.check_end()


def n_pictures(file: IO[bytes]) -> int:
    """How many pictures a tar file has that can be sought in, by its headers alone."""
    with tarfile.open(fileobj=file, mode="r:*") as tar:
        return sum(1 for member in tar if _is_read(member) and _is_picture(member))


def _is_read(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not os.path.basename(member.name).startswith(".")  # noqa: PTH119


def _is_picture(member: tarfile.TarInfo) -> bool:
    return has_suffix(member.name, tuple(PICTURES))


class _Watched:
    """A tar file of which the last bytes that were read are known: tarfile takes one that is cut off for a shorter one.

    Args:
        file: The file, open for reading.
    """

    def __init__(self, file: Any) -> None:
        self._file, self._tail = file, b""

    def read(self, n_bytes: int) -> bytes:
        """As of any file."""
        data: bytes = self._file.read(n_bytes)
        if data:
            self._tail = (self._tail + data[-_BLOCK_BYTES:])[-_BLOCK_BYTES:]
        return data

    def check_end(self) -> None:
        """Read the rest, and refuse a file that does not end in zeros."""
        while self.read(_CHUNK_BYTES):
            pass
        if len(self._tail) < _BLOCK_BYTES or self._tail.strip(b"\0"):
            raise EOFError("it has no end mark, so it is incomplete")


def _picture(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, is_known: bool) -> Picture | Problem:
    identifier = f"{name}#{member.name}"
    if is_known:
        return Problem(identifier, "is in the tar file twice")
    if member.size > _MAX_PICTURE_BYTES:
        return Problem(identifier, "has more than 1 GB")
    return Picture(identifier, _content(tar, member))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise EOFError(f"{member.name} ends after {len(content)} of {member.size} bytes")
    return content


def _labelled(pictures: list[Picture | Problem], label: str | None) -> Iterator[Picture | Problem]:
    for picture in pictures:
        yield picture._replace(label=label) if isinstance(picture, Picture) else picture
