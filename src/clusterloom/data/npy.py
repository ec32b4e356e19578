"""NumPy's .npy and .npz files: headers are judged before anything is allocated, and nothing is ever unpickled.

`np.load` maps the arrays, but does not judge the headers. Where one claims more than the file holds, it overflows or
reports a failed memory map; it ignores surplus bytes; and it unpacks an array of an archive into memory at once.
"""

import math
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.arrays import check_kind, convert_array, use_in_place
from clusterloom.data.boundary import DEFLATE_LIMIT, MAX_UNPACKED_BYTES, only_data_errors, unpack
from clusterloom.data.cache import file_stamp
from clusterloom.data.ids import RowIds
from clusterloom.data.images import ImageSet, encode_labels
from clusterloom.data.options import ReadOptions
from clusterloom.errors import DataError, printable

IMAGE_NAMES = ("images", "x", "data", "x_train", "arr_0")
LABEL_NAMES = ("labels", "y", "y_train", "target")
ID_NAMES = ("ids", "paths")
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_MAX_MEMBERS = 1000
_MAX_SIDE_ARRAY_BYTES = 1 << 30


class NpyHeader(NamedTuple):
    """What the header of a .npy file claims: shape and number type, and where the data start, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def data_bytes(self) -> int:
        """Size of the data in bytes, in exact arithmetic: a claim may exceed any machine integer."""
        return math.prod(self.shape) * self.dtype.itemsize


Member = tuple[zipfile.ZipInfo, NpyHeader]


def read_npy(path: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read images from a .npy file.

    An array of uint8 is used where it lies, memory-mapped: a million images cost no memory. Other number types are
    converted, chunk by chunk, into the cache. `clusterloom.data.arrays` says which layouts and numbers are accepted.

    Args:
        path: The file.
        name: What the user named, for messages.
        options: For the range of pixels, the cache and the progress.

    Returns:
        The images, identified by their row numbers.

    Raises:
        DataError: the file is damaged, holds Python objects or no images, or has NaN or infinite pixels.
    """
    with only_data_errors(name):
        array = _map_npy(path, name)
        # In Fortran's order the pixels of an image lie all over the file.
        if array.dtype == np.uint8 and options.picks is None and array.flags.c_contiguous:
            pixels = use_in_place(array, name, options)
        else:
            pixels = convert_array(lambda _: array, name, options, npy=file_stamp(path))
    return ImageSet(pixels.images, RowIds(range(len(pixels.images))), None, (), name, pixels.notes, pixels.pixel_range)


def _map_npy(path: Path, name: str) -> NDArray[Any]:
    """Memory-map a .npy file whose header has been found to agree with its size."""
    with path.open("rb") as file:
        header = _read_header(file, name)
    check_kind(header.dtype, name)
    present = path.stat().st_size - header.offset
    if present != header.data_bytes:
        raise DataError(
            f"{printable(name)}: its header claims {header.data_bytes} bytes for shape {header.shape}, "
            f"but {present} follow; the file is damaged or incomplete"
        )
    if not header.data_bytes:
        raise DataError(f"{printable(name)} holds no images: its shape is {header.shape}")
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_header(file: IO[bytes], name: str) -> NpyHeader:
    version = np.lib.format.read_magic(file)
    if version not in _HEADER_READERS:
        raise DataError(f"{printable(name)}: version {version} of the npy format is for records, not for images")
    shape, _, dtype = _HEADER_READERS[version](file)
    if any(side < 0 for side in shape):
        raise DataError(f"{printable(name)}: its header claims the shape {shape}")
    return NpyHeader(shape, dtype, file.tell())


def read_npz(path: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read images from a .npz archive, compressed or not, by way of the cache.

    The images are the first array there is of `images`, `x`, `data`, `x_train` and `arr_0`, otherwise the only one
    with two or more dimensions; labels, if any, the first of `labels`, `y`, `y_train` and `target`; identifiers the
    first of `ids` and `paths`. Labels that do not fit are left out with a note, for only `evaluate` wants any. Layouts
    and numbers are as for .npy files.

    Args:
        path: The file.
        name: What the user named, for messages.
        options: For the range of pixels, the cache and the progress.

    Returns:
        The images.

    Raises:
        DataError: the archive is damaged, claims more than it can hold, or its arrays do not fit together.
    """
    with only_data_errors(name), zipfile.ZipFile(path) as archive:
        members = _list_members(archive, name)
        image_name = _find_images(members, name)

        def open_array(unpacked: Path) -> NDArray[Any]:
            info, _ = members[image_name]
            with archive.open(info) as stream:
                unpack(stream, unpacked / "member.npy", info.file_size, name)
            return _map_npy(unpacked / "member.npy", name)

        pixels = convert_array(open_array, name, options, npz=file_stamp(path))
        labels, class_names, label_notes = _read_labels(archive, members, len(pixels.images), name)
        ids = _read_ids(archive, members, len(pixels.images), name)
        notes = (f"images from the array {printable(image_name)!r}", *pixels.notes, *label_notes)
    return ImageSet(pixels.images, ids, labels, class_names, name, notes, pixels.pixel_range)


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
            header = _read_header(file, f"{name}: {info.filename}")
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


def _read_side_array(archive: zipfile.ZipFile, member: Member, n_images: int, name: str) -> NDArray[Any]:
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
                return *encode_labels(_read_side_array(archive, members[candidate], n_images, name)), []
            except DataError as error:
                if members[candidate][1].dtype.hasobject:
                    raise
                return None, (), [f"labels left out: {error}"]
    return None, (), []


def _read_ids(archive: zipfile.ZipFile, members: dict[str, Member], n_images: int, name: str) -> "list[str] | RowIds":
    for candidate in ID_NAMES:
        if candidate in members:
            return [str(value) for value in _read_side_array(archive, members[candidate], n_images, name).tolist()]
    return RowIds(range(n_images))
