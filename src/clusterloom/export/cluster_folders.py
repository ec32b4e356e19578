"""One folder for each cluster, with the files that the images came from: what people look at and go on working with."""

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clusterloom.data.ids import encode_id
from clusterloom.data.images import ImageSet
from clusterloom.errors import DataError, printable
from clusterloom.files import new_directory
from clusterloom.marks import stranger_in, write_facts
from clusterloom.pictures import png_bytes, to_picture
from clusterloom.targets import check_folder

_KIND = "cluster-folders"
_LONGEST_NAME = 200  # bytes of an id in the name of a PNG file; file systems take 255


def check_sort_target(folder: Path, source: Path | None, overwrite: bool, link: bool = False) -> None:
    """Refuse what `sorting_into` cannot or should not do, before any work is done for it.

    Args:
        folder: As for `sorting_into`, and so are all others.
        source: Where the images come from.
        overwrite: Whether an earlier result may be replaced.
        link: Whether links are wanted.

    Raises:
        DataError: see `sorting_into`.
    """
    if link and source is None:
        raise DataError("there are no files to link to, for the images did not come from a folder; sort copies")
    if source is not None:
        _check_apart(folder, [source.resolve()])
    check_folder(folder, overwrite, lambda target: stranger_in(target, [_KIND]), "--sort-into")


@contextmanager
def sorting_into(
    folder: Path, source: Path | None, *, link: bool = False, overwrite: bool = False
) -> "Iterator[ClusterFolders]":
    """Make a folder with one sub-folder for each cluster that has images, `cluster-0` and so on, block by block.

    Images that came from a folder keep their names and their sub-folders, `cluster-3/2019/may/tom.jpg`: the path tells
    where an image was taken from, and no two of them collide. Other images become PNG files that are named by their
    ids. The folder appears whole or not at all.

    Args:
        folder: The folder to make. The folder around it is there, and it lies apart from the images.
        source: The folder that the images are read from; None where they come from elsewhere.
        link: Make symbolic links instead of copies.
        overwrite: Replace what an earlier call made, as long as there is nothing else.

    Yields:
        What takes the blocks. The folder appears when all are there.

    Raises:
        DataError: the folder is, holds or lies in the folder of the images, or it holds something that may not be
            replaced; links are wanted and there are no files; an original is no longer there.
        OSError: the disk is full or not writable; what was in the folder is intact.
    """
    check_sort_target(folder, source, overwrite, link)
    with new_directory(folder) as scratch:
        sort = ClusterFolders(folder, scratch, source and source.resolve(), link)
        yield sort
        write_facts(scratch, _KIND, {"images": len(sort.names)})


@dataclass
class ClusterFolders:
    """Folders of clusters while they are made.

    Attributes:
        folder: Where they will be.
        scratch: Where they are made.
        source: The folder of the originals; None where there are none.
        link: Whether originals are linked to and not copied.
        names: Of the files so far, inside the folder.
        clusters: Those that have images so far.
    """

    folder: Path
    scratch: Path
    source: Path | None
    link: bool
    names: list[str] = field(default_factory=list)
    clusters: set[int] = field(default_factory=set)
    _homes: set[Path] = field(default_factory=set)

    def add(self, images: ImageSet, labels: np.ndarray) -> None:
        """Put images into the folders of their clusters, `labels` of shape (N,)."""
        if images.reading.get("tile") and self.link:
            raise DataError("tiles have no files to link to; sort copies")
        has_originals = self.source is not None and not images.reading.get("tile")
        for row, cluster in enumerate(labels.tolist()):
            inside, number = self.scratch / f"cluster-{cluster}", len(self.names)
            if has_originals and self.source is not None:
                original = self.source / _checked(images.ids[row])
                if original.parent not in self._homes:  # which a link may have led elsewhere
                    _check_apart(self.folder, {original.parent})
                    self._homes.add(original.parent)
                target = _free(inside / images.ids[row], number)
                _place(original, target, self.link)
            else:
                target = _free(inside / _png_name(images.ids[row]), number)
                target.write_bytes(png_bytes(to_picture(images.shown(row)), made=False))
            self.names.append(target.relative_to(self.scratch).as_posix())
            self.clusters.add(cluster)


def _check_apart(folder: Path, homes: Iterable[Path]) -> None:
    target = folder.resolve()
    for home in {home.resolve() for home in homes}:
        if target == home or target in home.parents or home in target.parents:
            raise DataError(
                f"--sort-into {printable(str(folder))} is, holds or lies in the folder of the images, "
                f"{printable(str(home))}; choose another"
            )


def _free(target: Path, row: int) -> Path:
    """The target, or one beside it where a file system takes two names for one; the folder around it is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_stem(f"{target.stem}~{row}") if target.exists() else target


def _checked(identifier: str) -> str:
    if {"", ".", ".."} & set(identifier.split("/")):
        raise DataError(f"{encode_id(identifier)!r} is no path inside a folder")
    return identifier


def _png_name(identifier: str) -> str:
    r"""An id as the name of one file on any system.

    Example:
        >>> _png_name("17"), _png_name("../cats/tom.jpg")
        ('17.png', '%2E.%2Fcats%2Ftom.jpg.png')
    """
    text = encode_id(identifier.removesuffix(".png"))
    text = re.sub(r'[<>:"/\\|?*%]|^\.', lambda match: f"%{ord(match[0]):02X}", text)
    return text.encode()[:_LONGEST_NAME].decode("utf-8", "ignore") + ".png"


def _place(original: Path, target: Path, link: bool) -> None:
    if not original.is_file():  # opening a pipe would wait for ever
        raise DataError(f"{printable(str(original))} is no longer in the folder that was read")
    if not link:
        shutil.copy2(original, target)
        return
    try:
        target.symlink_to(original)
    except (OSError, NotImplementedError) as error:
        raise DataError(f"no links can be made where {printable(str(target))} would be; sort copies") from error
