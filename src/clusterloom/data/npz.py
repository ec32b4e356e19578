"""NumPy's .npz archives: images, and labels and identifiers if they are there."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.arrays import DEFLATE_LIMIT, convert_array
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.images import ImageSet, RowIds, encode_labels
from clusterloom.data.npy import NpyHeader, map_npy, read_any_header
from clusterloom.data.streams import MAX_UNPACKED_BYTES, unpack
from clusterloom.errors import DataError, printable

IMAGE_NAMES = ("images", "x", "data", "x_train", "arr_0")
LABEL_NAMES = ("labels", "y", "y_train", "target")
ID_NAMES = ("ids", "paths")
_MAX_MEMBERS = 1000
_MAX_SIDE_ARRAY_BYTES = 1 << 30

Member = tuple[zipfile.ZipInfo, NpyHeader]


def read_npz(path: Path, name: str, cache_dir: Path | None = None) -> ImageSet:
    """Read images from a .npz archive, compressed or not, by way of the cache.

    The images are the first array there is of `images`, `x`, `data`, `x_train` and `arr_0`, otherwise the only one
    with two or more dimensions; labels, if any, the first of `labels`, `y`, `y_train` and `target`; identifiers the
    first of `ids` and `paths`. Labels that do not fit are left out with a note, for only `evaluate` wants any. Layouts
    and numbers are as for .npy files.

    Args:
        path: The file.
        name: What the user named, for messages.
        cache_dir: See `clusterloom.data.cache.cache_root`.

    Returns:
        The images.

    Raises:
        DataError: the archive is damaged, claims more than it can hold, or its arrays do not fit together.
    """
    with only_data_errors(name), zipfile.ZipFile(path) as archive:
        members = _list_members(archive, name)
        image_name = _find_images(members, name)

        def open_array(unpacked: Path) -> NDArray[Any]:
            return _open_member(archive, members[image_name], unpacked, name)

        images, notes = convert_array(open_array, entry_folder(cache_dir, npz=file_stamp(path)), name)
        labels, class_names, label_notes = _read_labels(archive, members, len(images), name)
        ids = _read_ids(archive, members, len(images), name)
        notes = (f"images from the array {printable(image_name)!r}", *notes, *label_notes)
    return ImageSet(images, ids, labels, class_names, name, notes)


def _list_members(archive: zipfile.ZipFile, name: str) -> dict[str, Member]:
    """Headers of all arrays, each found to agree with the sizes in the archive's directory."""
    infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    if len(infos) > _MAX_MEMBERS:
        raise DataError(
            f"{printable(name)} holds {len(infos)} arrays; expected one of images and perhaps one of labels"
        )
    members = {}
    for info in infos:
        _check_claim(info, name)
        with archive.open(info) as file:
            header = read_any_header(file, f"{name}: {info.filename}")
        if header.offset + header.data_bytes != info.file_size and not header.dtype.hasobject:
            raise DataError(
                f"{printable(name)}: {printable(info.filename)} claims {header.data_bytes} bytes in its header and "
                f"{info.file_size} in the archive's directory"
            )
        members[info.filename.removesuffix(".npy")] = (info, header)
    return members


def _check_claim(info: zipfile.ZipInfo, name: str) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise DataError(f"{printable(name)}: {printable(info.filename)} is encrypted or packed in an unusual way")
    if info.file_size > min(MAX_UNPACKED_BYTES, info.compress_size * DEFLATE_LIMIT + 1024):
        raise DataError(
            f"{printable(name)}: {printable(info.filename)} claims {info.file_size} bytes, "
            f"more than {info.compress_size} packed bytes should hold; use a .npy file for sets this large"
        )


def _find_images(members: dict[str, Member], name: str) -> str:
    for candidate in IMAGE_NAMES:
        if candidate in members:
            return candidate
    several_axes = [candidate for candidate, (_, header) in members.items() if len(header.shape) >= 2]
    if len(several_axes) == 1:
        return several_axes[0]
    found = ", ".join(f"{printable(key)} {header.shape}" for key, (_, header) in list(members.items())[:10])
    raise DataError(f"{printable(name)}: which array holds the images? Name it 'images'. Found: {found or 'no arrays'}")


def _open_member(archive: zipfile.ZipFile, member: Member, unpacked: Path, name: str) -> NDArray[Any]:
    info, _ = member
    target = unpacked / "member.npy"
    with archive.open(info) as stream:
        unpack(stream, target, info.file_size, name)
    return map_npy(target, name)


def _read_small(archive: zipfile.ZipFile, member: Member, n_images: int, name: str) -> NDArray[Any]:
    """An array with one value per image, small enough for memory."""
    info, header = member
    what = f"{printable(name)}: {printable(info.filename)}"
    if header.shape not in ((n_images,), (n_images, 1)):
        raise DataError(f"{what} has shape {header.shape}; expected ({n_images},), one value per image")
    if header.dtype.kind not in "buiUS" or info.file_size > _MAX_SIDE_ARRAY_BYTES:
        raise DataError(f"{what} holds {printable(str(header.dtype)[:80])}; expected whole numbers or text")
    with archive.open(info) as file:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    array = array.reshape(n_images)
    return np.array([text.decode("utf-8", "surrogateescape") for text in array]) if array.dtype.kind == "S" else array


def _read_labels(
    archive: zipfile.ZipFile, members: dict[str, Member], n_images: int, name: str
) -> tuple[NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    for candidate in LABEL_NAMES:
        if candidate in members:
            try:
                return *encode_labels(_read_small(archive, members[candidate], n_images, name)), []
            except DataError as error:
                if members[candidate][1].dtype.hasobject:
                    raise
                return None, (), [f"labels left out: {error}"]
    return None, (), []


def _read_ids(archive: zipfile.ZipFile, members: dict[str, Member], n_images: int, name: str) -> "list[str] | RowIds":
    for candidate in ID_NAMES:
        if candidate in members:
            return [str(value) for value in _read_small(archive, members[candidate], n_images, name).tolist()]
    return RowIds(range(n_images))
