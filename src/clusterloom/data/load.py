"""One way in for images from anywhere: a built-in name, a folder, or a file of any known format."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data import fits, tiff
from clusterloom.data.addresses import Address, fetched, list_address, shown_address
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.builtin import BUILTIN, load_builtin
from clusterloom.data.find_parts import parts_of, shards_in_folder
from clusterloom.data.folder import SUFFIXES, NoPicturesError, has_suffix, read_folder, shards_below
from clusterloom.data.idx import read_idx
from clusterloom.data.images import ImageSet
from clusterloom.data.npy import read_npy, read_npz
from clusterloom.data.options import ReadOptions, check_shown
from clusterloom.data.parquet import read_parquet
from clusterloom.data.parts import Parts, read_parts
from clusterloom.data.pixels import PixelRange, contrast_note
from clusterloom.data.source_kind import kind_of
from clusterloom.data.stack import read_stack
from clusterloom.data.stream import ImageStream, stream_pictures
from clusterloom.errors import DataError, printable

# gzip, and each number type of the IDX format
_IDX_STARTS = (b"\x1f\x8b", *(bytes([0, 0, code]) for code in (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)))
_STACK_STARTS = (*tiff.MAGIC, fits.MAGIC)
# Of names, from 0 to 1: "mnst" is 0.89 like "mnist", "nonexist" 0.62.
_LIKE = 0.7
_ACCEPTED = (
    "a folder of pictures or of shards (.parquet, .tar), an address (s3://, gs://, https://), a list of these (.txt), "
    "a webdataset .tar, a .npy, .npz, IDX (packed with gzip or not) or .parquet file, a TIFF or FITS stack, "
    f"or one of {', '.join(BUILTIN)}"
)


def load_images(
    source: str | Path | Parts,
    *,
    image_size: tuple[int, int] | int | None = None,
    channels: int | Sequence[int] | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
    pixel_range: PixelRange | None = None,
    tile: int | None = None,
    show: Sequence[int] | None = None,
    cache_dir: Path | None = None,
    progress: ProgressReport = no_progress,
) -> ImageSet:
    """Load images from a built-in data set, a folder of pictures or shards, a file or an address.

    Text that is the name of a built-in data set means that data set; `./digits` or a `Path` means a folder of that
    name. The format of a file is told by its first bytes, not by its name.

    Args:
        source: A name of `BUILTIN`, the path of a folder or file, or an address; or some parts of a source.
        image_size: Height and width of the result in pixels, or one number for both. Pictures in folders and
            parquet files are scaled to it; arrays and built-in data sets must have it already.
        channels: 1 for grey or 3 for RGB, likewise; or the numbers of the channels that are wanted, from 0, such as
            `(0, 2)`, which are picked from pictures and arrays alike. None keeps up to 16 channels as they are.
        skip_bad: Leave out pictures that cannot be read, and say so in the notes, instead of raising.
        limit: At most so many images, chosen at random without a look at labels, in their original order.
        pixel_range: The numbers that become 0 and 255, where the source's own are not 8-bit pixels: the `pixel_range`
            of the images that a model was trained on, so that later ones are scaled alike. Numbers outside are
            clipped, and the notes say in how many images. None chooses the range by what the source holds.
        tile: Cut each picture into square tiles of so many pixels a side, with ids `name#row,col`; rows and columns of
            tiles are counted from 0.
        show: The channels that pictures of these images show, and of those that a model makes after them: one, in
            grey, or three, as red, green and blue; numbered from 0 among the channels of the result. None shows the
            first three, or of fewer the first.
        cache_dir: See `clusterloom.data.cache.cache_root`.
        progress: Told how far reading has come.

    Returns:
        The images.

    Raises:
        DataError: there is no such source, or it cannot be used.
        SettingsError: `image_size`, `channels`, `limit`, `pixel_range`, `tile` or `show` is out of range.

    Example:
        >>> load_images("digits", limit=100)
        ImageSet('digits': 100 images of 8 x 8 x 1, 10 classes)
    """
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    picked = channels if channels is None or isinstance(channels, int) else tuple(channels)
    options = ReadOptions(size, picked, skip_bad, limit, pixel_range, cache_dir, progress, tile, _tuple(show))
    images = replace(_read(source, options), reading=options.reading)
    check_shown(options.show, images.image_shape[2])
    note = contrast_note(images.images)
    return replace(images, notes=(*images.notes, note)) if note else images


def stream_images(
    source: str | Path | Parts,
    image_shape: tuple[int, int, int],
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | Sequence[int] | None = None,
    skip_bad: bool = False,
    limit: int | None = None,
    pixel_range: PixelRange | None = None,
    tile: int | None = None,
    show: Sequence[int] | None = None,
) -> ImageStream | None:
    """Pictures of a source one block at a time, so that memory does not grow with their number; see `load_images`.

    Args:
        source: As for `load_images`, and so are all that follow; or some parts of a source.
        image_shape: Height, width and channels that pictures are brought to, where no others are asked for.

    Returns:
        The stream, or None where the source is better loaded: arrays, which are memory-mapped anyway, and a random
        choice by `limit`, for which all pictures have to be known.
    """
    picked = channels if channels is None or isinstance(channels, int) else tuple(channels)
    options = ReadOptions(image_size, picked, skip_bad, limit, pixel_range, tile=tile, show=_tuple(show))
    return stream_pictures(source, image_shape, options)


def _tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _read(source: str | Path | Parts, options: ReadOptions) -> ImageSet:
    if isinstance(source, Parts):
        return read_parts(source, options)
    if not isinstance(source, str | Path):
        raise DataError(
            f"expected a path or an address, got {type(source).__name__}; estimators take arrays as they are"
        )
    path, name, kind = Path(source), shown_address(str(source)), kind_of(source)
    if kind == "built-in":
        if options.picks is not None:
            raise DataError(f"the images of {source} are grey; no channels can be picked from them")
        return _limited(load_builtin(str(source), options.cache_dir), options)
    if kind == "remote file":
        return _read_file(_fetched(str(source), options.cache_dir), name, options)
    with only_data_errors(name):
        if kind == "folder":
            return _read_folder(path, f"folder {printable(path.resolve().name)}", options)
        if kind == "parts":
            return read_parts(parts_of(source, name, options.cache_dir), options)
        if kind == "nothing":
            raise DataError(_unknown(source))
        return _read_file(path, name, options)


def _read_folder(path: Path, name: str, options: ReadOptions) -> ImageSet:
    try:
        return read_folder(path, name, options)
    except NoPicturesError as error:
        if not error.shards:
            raise
        return read_parts(shards_in_folder(path, error.shards, name), options)


def _fetched(url: str, cache_dir: Path | None) -> Path:
    """A copy of the one file at an address."""
    address = Address(url)
    files = list_address(address)
    if len(files) != 1:
        raise DataError(f"{address} holds {len(files)} files; name one of them, or the folder by a slash at its end")
    return fetched(address, files[0].stamp, cache_dir)


def source_folder(source: str | Path) -> Path | None:
    """The folder whose files are the images of a source; None where it names something else."""
    path = Path(source)
    return path if kind_of(source) == "folder" and not shards_below(path) else None


def holds_pictures(source: str | Path) -> bool:
    """Whether a source holds encoded pictures, which `load_images` can bring to any size, and not arrays.

    Args:
        source: As for `load_images`.
    """
    path, kind = Path(shown_address(str(source))), kind_of(source)
    if kind != "file":
        return kind in ("folder", "parts") or (kind == "remote file" and _is_picture(path))
    with only_data_errors(printable(str(source))):
        return _start_of(Path(source)).startswith((b"PAR1", *_STACK_STARTS)) or _is_picture(path)


def _is_picture(path: Path) -> bool:
    return has_suffix(path.name, tuple(SUFFIXES))


def _start_of(path: Path) -> bytes:
    """The first bytes of a file; of FITS inside gzip those of FITS."""
    with path.open("rb") as file:
        return fits.MAGIC if fits.is_packed(file) else file.read(6)


def _read_file(path: Path, name: str, options: ReadOptions) -> ImageSet:
    start = _start_of(path)
    if start.startswith(b"PAR1"):
        return read_parquet(path, name, options)
    if start.startswith(_STACK_STARTS) or (_is_picture(path) and options.tile):
        return read_stack(path, name, options)
    if start == b"\x93NUMPY":
        images = read_npy(path, name, options)
    elif start.startswith(b"PK"):
        images = read_npz(path, name, options)
    elif start.startswith(_IDX_STARTS):
        images = read_idx(path, name, options)
    else:
        raise DataError(_unusable(path, name))
    return _limited(images, options)


def _limited(images: ImageSet, options: ReadOptions) -> ImageSet:
    height, width, channels = images.image_shape
    if options.tile:
        raise DataError(f"{printable(images.name)} holds an array, and tiles are cut from pictures; leave out --tile")
    wanted = (*(options.image_size or (height, width)), options.kind or channels)
    if wanted != images.image_shape:
        raise DataError(
            f"{printable(images.name)} holds images of {height} x {width} x {channels}, and arrays are not resized; "
            f"{wanted[0]} x {wanted[1]} x {wanted[2]} was asked for: resize them before saving, or give the pictures "
            f"as a folder"
        )
    return images.head(options.limit)


def _unusable(path: Path, name: str) -> str:
    if _is_picture(path):
        return f"{name} is a single picture; name the folder that holds the pictures, or cut it up with --tile 64"
    return f"{name} is of no known format, or damaged at its start; expected {_ACCEPTED}"


def _unknown(source: str | Path) -> str:
    near = difflib.get_close_matches(str(source).lower(), BUILTIN, n=3, cutoff=_LIKE) if isinstance(source, str) else []
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"there is no file, folder or built-in data set {printable(str(source))!r}.{hint} Accepted: {_ACCEPTED}"
