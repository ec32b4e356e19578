"""TIFF pictures by tifffile: any depth, strips and tiles, pages, BigTIFF, and axes as OME, ImageJ and others name them.

tifffile reads what it can of a damaged file, fills in zeros for the rest and says so in a log. Here such a file is
refused.
"""

import logging
import math
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.convert import LYING
from clusterloom.data.planes import Planes, check_claims, checked_values, whole
from clusterloom.errors import DataError, MissingPackageError

MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf8"})
_MISSING = "TIFF needs tifffile: pip install 'clusterloom[tiff]'"
_DAMAGE = re.compile(r"zeroed|offset|corrupt|out of range|missing|incomplete|fail", re.IGNORECASE)  # among warnings
_CHANNEL_AXES = "CS"
_UNNAMED_AXES = "IQ"  # what tifffile calls pages of which the file does not say what they are
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_JPEGS = (6, 7, 33007, 34892)  # codes of compressions
_ASSOCIATED = 1  # colours are multiplied by their alpha already
_ALPHAS = (_ASSOCIATED, 2)  # and unassociated
_AS_PAGES: dict[str, Any] = {"is_ome": False, "is_imagej": False, "is_shaped": False}  # whatever its description says
_PAGE_BYTES, _FILE_BYTES = 1024, 16384  # that a page's tags take, and what else there is in a file
_GDAL_NODATA = 42113  # code of a tag
_REDUCED, _MASK = 1, 4  # flags of pages that show another page smaller, or what of it is transparent
_TURNS = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1],
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


class _Complaints(logging.Filter):
    """What tifffile logs on a thread that reads a file, in place of its log; all else it logs goes where it would."""

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()  # pictures are read in several threads

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect what this thread logs meanwhile, and refuse the file if a part of it is not there.

        Raises:
            DataError: a part is missing; the text says which.
        """
        self._own.records = []
        try:
            yield
            self.check()
        finally:
            del self._own.records

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged: none that is collected."""
        if record.levelno < logging.WARNING or not hasattr(self._own, "records"):
            return True
        self._own.records.append((record.levelno, record.getMessage()))
        return False

    def forget(self) -> None:
        self._own.records.clear()

    def any_damage(self) -> str | None:
        """What was logged that means that a part of the file is not there."""
        for level, text in self._own.records:
            if level >= logging.ERROR or _DAMAGE.search(text):
                return str(text.split("> ", 1)[-1])
        return None

    def check(self) -> None:
        """Refuse the file if a part of it is not there."""
        if (damage := self.any_damage()) is not None:
            raise DataError(f"damaged or incomplete: {damage}")


_complaints = _Complaints()


@contextmanager
def open_tiff(file: IO[bytes], is_stack: bool) -> Iterator[Planes]:
    """Open a TIFF picture, or a stack of them; the first series of pages of one shape is read.

    Axes C (channel) and S (sample) are channels. Without these, so are pages of which the file does not say what they
    are, unless `is_stack`. All other axes, such as T (time) and Z (depth), count the frames of a stack.

    Args:
        file: The file, open for reading and seeking.
        is_stack: Whether the file may hold several pictures.

    Yields:
        The picture, not decoded yet.

    Raises:
        DataError: damaged, of a kind that is not read, or a stack where none is expected.
        MissingPackageError: tifffile is not installed.
    """
    try:
        import tifffile
    except ImportError:
        raise MissingPackageError(_MISSING) from None
    tifffile.logger().addFilter(_complaints)
    with ExitStack() as stack:
        with _complaints.collected():
            # One file is one input: OME metadata may name others, which are not opened.
            tiff = stack.enter_context(tifffile.TiffFile(file, _multifile=False))
            steps = []
            if _describes_others(tiff):
                file.seek(0)
                pages = stack.enter_context(tifffile.TiffFile(file, _multifile=False, **_AS_PAGES))
                if _is_all_of_the_file(pages):
                    _complaints.forget()
                    tiff, steps = pages, ["description of other pages than it has ignored"]
            if not tiff.series:
                raise DataError("holds no picture")
            planes = _planes(tiff, tiff.series[0], is_stack, steps)
        yield planes


def _describes_others(tiff: Any) -> bool:
    """Whether a description claims pages that are not there: programs that take a stack apart leave it in each part."""
    if not tiff.series or not (tiff.is_ome or tiff.is_imagej or tiff.is_shaped):
        return False
    series = tiff.series[0]
    claimed = math.prod(series.shape) * np.dtype(series.dtype).itemsize
    return (
        _complaints.any_damage() is not None
        or any(page is None for page in series.pages)
        or (series.dataoffset is not None and series.dataoffset + claimed > tiff.filehandle.size)
    )


def _is_all_of_the_file(tiff: Any) -> bool:
    """Whether its pages, and what describes them, are about all that a file holds: a part that was cut off had more."""
    data = sum(sum(map(whole, page.databytecounts)) for page in tiff.pages)
    described = sum(len(page.description) + _PAGE_BYTES for page in tiff.pages)
    return bool(tiff.filehandle.size <= data + described + _FILE_BYTES)


def _planes(tiff: Any, series: Any, is_stack: bool, said: Sequence[str]) -> Planes:
    axes, shape, page = series.axes, series.shape, series.keyframe
    if "Y" not in axes or "X" not in axes:
        raise DataError(f"its axes are {axes} of {shape}; expected pictures of rows Y and columns X")
    height, width = (shape[axes.index(axis)] for axis in "YX")
    lengths = dict(zip(axes, shape, strict=True))
    has_channels = any(lengths.get(axis, 1) > 1 for axis in _CHANNEL_AXES)
    channel_axes = _CHANNEL_AXES + ("" if is_stack or has_channels else _UNNAMED_AXES)
    channels = math.prod(n for axis, n in lengths.items() if axis in channel_axes)
    frames = math.prod(n for axis, n in lengths.items() if axis not in channel_axes + "YX")
    if frames > 1 and not is_stack:
        raise DataError(
            f"is a stack of {frames} pictures (axes {axes} of {shape}); save one file for each, or give the file "
            f"itself as DATA"
        )
    others = sum(1 for other in tiff.series[1:] if not whole(other.keyframe.subfiletype) & (_REDUCED | _MASK))
    if others and is_stack:
        raise DataError(f"holds {others + 1} pictures or stacks, each by itself; save one file for each")
    check_claims(height, width, channels, np.dtype(series.dtype))
    _check_extent(tiff, series)
    alphas = _alphas(page, channels)
    is_palette = whole(page.photometric) == _PALETTE
    if is_palette and channels == 1:
        channels = 3
    if _orientation(page) in LYING:
        height, width = width, height
    shown = channels - len(alphas)
    has_eight_bits = np.dtype(series.dtype) in (np.uint8, np.bool_) or is_palette
    is_plain = has_eight_bits and shown in (1, 3) and alphas in ([], [shown])

    frame_values, nodata = _reader(series, channel_axes), _nodata(page, np.dtype(series.dtype))

    @_complaints.collected()  # a stack is read in other threads than it was opened in
    def read(frame: int, steps: list[str], keep_alpha: bool) -> NDArray[Any]:
        values = frame_values(frame)
        _complaints.check()
        steps += said
        if nodata is not None:
            values = _filled(values, nodata, steps)
        if others:
            steps.append("first of several pictures in a file taken")
        if any(axis in channel_axes and axis in _UNNAMED_AXES and n > 1 for axis, n in lengths.items()):
            steps.append("pages of a file taken as its channels")
        values = _meant(page, values, alphas)
        turn = _TURNS.get(_orientation(page))
        if turn is not None:
            values = turn(values)
            steps.append("rotated or mirrored as its orientation says")
        if alphas and not keep_alpha and not is_plain:
            values = np.delete(values, alphas, 2)
            steps.append("transparency left out")
        elif alphas and is_plain and whole(page.extrasamples[-1]) == _ASSOCIATED:
            values = _unassociated(values)
        return checked_values(values, height, width)

    return Planes(height, width, shown, is_plain, frames, read)


def _alphas(page: Any, channels: int) -> list[int]:
    """The channels that are alpha: of each page's samples the first one that is said to be, wherever it stands."""
    kinds, samples = [whole(kind) for kind in page.extrasamples], whole(page.samplesperpixel)
    first = next((samples - len(kinds) + i for i, kind in enumerate(kinds) if kind in _ALPHAS), 0)
    return list(range(first, channels, samples)) if 0 < first < samples else []


def _unassociated(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """8-bit channels, alpha last, with the colours that were there before alpha was multiplied into them."""
    alpha = np.maximum(values[..., -1:], 1).astype(np.uint16)
    colours = np.minimum((values[..., :-1] * np.uint16(255) + alpha // 2) // alpha, 255)
    return np.concatenate([colours.astype(np.uint8), values[..., -1:]], 2)


def _orientation(page: Any) -> int:
    tag = page.tags.get("Orientation")
    return int(tag.value) if tag is not None and isinstance(tag.value, int) else 1


def _nodata(page: Any, dtype: np.dtype[Any]) -> float | None:
    """The number that stands for no data, as GDAL writes it; None where there is none, or no pixel can be it."""
    tag = page.tags.get(_GDAL_NODATA)
    try:
        number = float(str(tag.value).strip(" \x00")) if tag is not None else None
    except ValueError:
        return None
    if number is None or dtype.kind == "f":
        return number
    low, high = (0, 1) if dtype == np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return number if number.is_integer() and low <= number <= high else None


def _filled(values: NDArray[Any], nodata: float, steps: list[str]) -> NDArray[Any]:
    """Numbers in which what stands for no data is the smallest of the others: it would decide on the range of all.

    Raises:
        DataError: there are no others.
    """
    with np.errstate(over="ignore"):  # of a double in a file of single precision
        missing = np.isnan(values) if math.isnan(nodata) else values == np.float64(nodata).astype(values.dtype)
    if not missing.any():
        return values
    if missing.all():
        raise DataError("has no pixels with data")
    steps.append("pixels without data taken for its darkest")
    return np.where(missing, values[~missing].min(), values)


def _check_extent(tiff: Any, series: Any) -> None:
    """Refuse pages whose data would lie beyond the end of the file, or are fewer than the shape asks for."""
    size = tiff.filehandle.size
    for page in series.pages:
        if page is None:
            raise DataError("damaged or incomplete: a page is missing")
        ends = [whole(start) + whole(n) for start, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if len(page.dataoffsets) != len(page.databytecounts) or max(ends, default=0) > size:
            raise DataError(f"damaged or incomplete: its data should reach byte {max(ends, default=0)} of {size}")
        expected = math.prod(page.chunked)
        if len(ends) < expected:
            raise DataError(f"damaged or incomplete: {len(ends)} of {expected} strips or tiles are there")


def _reader(series: Any, channel_axes: str) -> Callable[[int], NDArray[Any]]:
    """From the number of a frame to its numbers (H, W, C); of files with pages, only its own pages are decoded."""
    own = series.keyframe.axes if len(series.pages) > 1 else series.axes
    n_outer = len(series.axes) - len(own)
    outer, outer_axes = series.shape[:n_outer], series.axes[:n_outer]
    if series.axes[n_outer:] != own or len(series.pages) not in (1, math.prod(outer)):
        own, outer, outer_axes, n_outer = series.axes, (), "", 0
    if n_outer == 0:
        whole_series = cache(lambda: series.asarray(maxworkers=1))
        return lambda frame: _last(whole_series(), own, frame, channel_axes)
    # Which page holds which frame and channel: counted through the outer axes, frames first.
    numbers = np.arange(math.prod(outer)).reshape(outer)
    frame_places = [i for i, axis in enumerate(outer_axes) if axis not in channel_axes]
    channel_places = [i for i, axis in enumerate(outer_axes) if axis in channel_axes]
    n_frames = math.prod(outer[i] for i in frame_places)
    table = numbers.transpose(*frame_places, *channel_places).reshape(n_frames, -1)
    inner = zip(own, series.shape[n_outer:], strict=True)
    per_page = math.prod(n for axis, n in inner if axis not in channel_axes + "YX")

    def read(frame: int) -> NDArray[Any]:
        pages = (series.pages[int(i)].asarray(maxworkers=1) for i in table[frame // per_page])
        return np.concatenate([_last(page, own, frame % per_page, channel_axes) for page in pages], 2)

    return read


def _last(values: NDArray[Any], axes: str, frame: int, channel_axes: str) -> NDArray[Any]:
    """One frame (H, W, C) of numbers with any axes."""
    if values.ndim != len(axes):
        raise DataError(f"its header claims the axes {axes}, but its data have the shape {values.shape}")
    frames = [i for i, axis in enumerate(axes) if axis not in channel_axes + "YX"]
    channels = [i for i, axis in enumerate(axes) if axis in channel_axes]
    ordered = values.transpose(*frames, axes.index("Y"), axes.index("X"), *channels)
    # The frame before its shape: of all frames, whose axes others may lie between, that would be a copy each time.
    one = ordered[np.unravel_index(frame, ordered.shape[: len(frames)])]
    return one.reshape(*one.shape[:2], math.prod(one.shape[2:]))


def _meant(page: Any, values: NDArray[Any], alphas: list[int]) -> NDArray[Any]:
    """What the stored numbers stand for: palettes looked up, white as 0 turned round, greys below 8 bits stretched.

    Of alpha, 0 is transparent whatever is white.
    """
    photometric, bits = whole(page.photometric), whole(page.bitspersample)
    # Of YCbCr, the JPEG decoder makes RGB and no other does.
    is_read = photometric in (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE)
    if not is_read and not (photometric == _YCBCR and whole(page.compression) in _JPEGS):
        name = getattr(page.photometric, "name", page.photometric)  # a plain number is one that TIFF does not know
        raise DataError(f"its colours are {name}; save it as grey or RGB")
    if photometric == _PALETTE and page.colormap is not None and values.shape[2] == 1:
        colours: NDArray[Any] = (page.colormap >> 8).astype(np.uint8).T[values[..., 0]]
        return colours
    if photometric == _MINISWHITE and values.dtype.kind in "bu":
        turned = (1 << bits) - 1 - values if values.dtype.kind == "u" else ~values
        turned[..., alphas] = values[..., alphas]
        values = turned
    if values.dtype == np.bool_ or (values.dtype == np.uint8 and bits < 8):
        return (values.astype(np.uint16) * 255 // ((1 << bits) - 1)).astype(np.uint8)
    return values
