"""What a source is: told by its name and by what lies on this machine, before anything is opened or fetched."""

from pathlib import Path
from typing import Literal

from clusterloom.data import webdataset
from clusterloom.data.addresses import is_address, shown_address
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.builtin import BUILTIN
from clusterloom.data.folder import SHARD_SUFFIXES, has_suffix
from clusterloom.data.folder import SUFFIXES as PICTURES

LIST_SUFFIXES = (".txt", ".list")
_ARRAY_SUFFIXES = (".npy", ".npz", ".gz", ".idx", "-ubyte")

SourceKind = Literal["built-in", "folder", "parts", "remote file", "file", "nothing"]


def kind_of(source: str | Path) -> SourceKind:
    """What a source is.

    Text that is the name of a built-in data set means that data set. Of parts there are three kinds: a tar file, a
    list of addresses, and an address, unless it is that of a single file that is no shard: an array, a stack or a
    picture.

    Args:
        source: As for `clusterloom.data.load_images`.

    Returns:
        "nothing" is a path at which there is neither a folder nor a file.

    Raises:
        DataError: the path cannot be looked at.

    Example:
        >>> kind_of("digits"), kind_of(Path("digits")), kind_of("s3://bucket/cats"), kind_of("s3://bucket/cats.npy")
        ('built-in', 'nothing', 'parts', 'remote file')
    """
    if isinstance(source, str) and source in BUILTIN:
        return "built-in"
    path, shown = Path(source), shown_address(str(source))
    if is_address(source):
        is_shard = has_suffix(shown, SHARD_SUFFIXES)
        return "remote file" if has_suffix(shown, (*_ARRAY_SUFFIXES, *PICTURES)) and not is_shard else "parts"
    with only_data_errors(shown):
        if path.is_dir() and str(source):
            return "folder"
        if not path.is_file():
            return "nothing"
    return "parts" if has_suffix(path.name, (*webdataset.SUFFIXES, *LIST_SUFFIXES)) else "file"
