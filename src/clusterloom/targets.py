"""Where a command may write: nothing of a user's is replaced without leave, and nothing of others at all."""

from collections.abc import Callable, Sequence
from pathlib import Path

from clusterloom.errors import DataError, printable


def check_file(path: Path, suffixes: Sequence[str], overwrite: bool, or_else: str = "") -> None:
    """Refuse a name where a file cannot or should not be written, before any work is done for it.

    Args:
        path: The file, or a link to it.
        suffixes: What its name may end in, in lower case.
        overwrite: Whether one that is there may be replaced.
        or_else: What could be given in place of such a name.

    Raises:
        DataError: the name ends in something else, is a folder's, its folder is missing, or a file is there.
    """
    shown = f"--out {printable(str(path))}"
    if path.is_dir():
        raise DataError(f"{shown} is a folder; give the name of a file")
    if path.suffix.lower() not in suffixes:
        raise DataError(f"{shown}: expected a name that ends in {' or '.join(suffixes)}{or_else}")
    _check_parent(shown, path.resolve())
    if path.exists() and not overwrite:
        raise DataError(f"{shown} exists; choose another, or pass --overwrite")


def check_folder(
    folder: Path, overwrite: bool, stranger_in: Callable[[Path], str | None], option: str = "--out"
) -> None:
    """Refuse a name where a folder cannot or should not be made, before any work is done for it.

    Args:
        folder: The folder, or a link to it.
        overwrite: Whether one that is there, and that the same command has made, may be replaced.
        stranger_in: Finds the name of something in it that the command has not made, if there is any.
        option: What the name was given with.

    Raises:
        DataError: a file is there, the folder around it is missing, it is or holds the current folder, or it holds
            something that may not be replaced.
    """
    shown, target, here = f"{option} {printable(str(folder))}", folder.resolve(), Path.cwd()
    _check_parent(shown, target)
    if target.exists() and not target.is_dir():
        raise DataError(f"{shown} is a file; give the name of a folder")
    if target == here or target in here.parents:
        raise DataError(f"{shown} is or holds the current folder; choose another")
    if not target.exists() or not any(target.iterdir()):
        return
    if stranger := stranger_in(target):
        raise DataError(
            f"{shown} holds {printable(stranger)}, which this command has not made; move it away, or choose another"
        )
    if not overwrite:
        raise DataError(f"{shown} exists and is not an empty folder; choose another, or pass --overwrite")


def in_the_way(folder: Path) -> Path | None:
    """What is there and no folder where a folder is to be made: the path itself, or one above it; None if nothing."""
    folder = folder.resolve()
    above = next(path for path in (folder, *folder.parents) if path.exists())
    return None if above.is_dir() else above


def _check_parent(shown: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise DataError(f"{shown}: the folder {printable(str(path.parent))} does not exist")
