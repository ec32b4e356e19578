"""Many encoded pictures to one cached set of images: look at each, choose a shape and a range, decode in threads."""

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.console import ProgressReport
from clusterloom.data.boundary import is_our_defect, reason
from clusterloom.data.cache import Entry, load_or_make, write_images
from clusterloom.data.convert import SIXTEEN_BITS, Header, Source, read_header, read_pixels
from clusterloom.data.options import ReadOptions
from clusterloom.errors import DataError, printable

# Of sizes chosen here, in pixels.
MIN_SIDE, MAX_SIDE = 8, 64
_BLOCK = 256
_SHOWN_PROBLEMS = 10
# Of small files, so many bytes are kept between the look at them and their decoding; all others are read twice.
_SMALL_BYTES = 1 << 18
_KEPT_BYTES = 1 << 28

T = TypeVar("T")


class Picture(NamedTuple):
    """One encoded picture: its identifier, and its path or its bytes."""

    id: str
    source: Source


class Problem(NamedTuple):
    """A picture that cannot be read, and why."""

    id: str
    why: str


@dataclass
class _Tally:
    """What comes to light while pictures are read."""

    ids: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)


def read_pictures(
    pictures: Callable[[], Iterable[Picture]],
    n_pictures: int,
    folder: Path,
    options: ReadOptions,
    name: str,
    problems: Iterable[Problem] = (),
    skip_ours: bool = False,
) -> Entry:
    """Decode pictures into a cache entry, or take the entry that an earlier call made.

    All are looked at before any is decoded, for together they decide on a size and a range. Up to 256 MB of small files
    are kept meanwhile, as bytes: open pictures would cost the garbage collector more time than they save. All other
    files are opened twice, and 16-bit grey pictures are decoded twice.

    Args:
        pictures: Gives the pictures in order; may be called twice, so that they never have to be in memory together.
        n_pictures: How many these are.
        folder: The cache entry, keyed by everything that the pictures and the options depend on.
        options: How pictures are read; its limit is the caller's to apply.
        name: What the user named, for messages.
        problems: Pictures that the caller already could not read.
        skip_ours: Leave out pictures that clusterloom made.

    Returns:
        Images of shape (N, H, W, C) with the facts `ids` (N identifiers), `ours` (identifiers of pictures left out),
        `notes` and `pixel_range`.

    Raises:
        DataError: a picture cannot be read and `options.skip_bad` is off, or none can.
    """

    def make(scratch: Path) -> dict[str, Any]:
        tally = _Tally(problems=list(problems))
        with warnings.catch_warnings():
            # Between one and two times its limit Pillow only warns; `open_picture` refuses such pictures.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            headers, kept = _look_at_all(pictures(), n_pictures, options.progress, skip_ours, tally)
            _check_found(tally, len(headers), options, name)
            shape, deep_range = _choose_shape(headers, options), _choose_range(headers, options)

            def convert(source: Source) -> tuple[NDArray[np.uint8], list[str]]:
                return read_pixels(source, *shape, deep_range or SIXTEEN_BITS)

            chosen = _chosen(pictures(), kept)
            blocks = _in_threads(convert, chosen, "reading pictures", len(headers), options.progress)
            n_images = write_images(scratch, _decoded(blocks, tally), shape)
            _check_found(tally, n_images, options, name)
        notes = [*_notes(tally, shape), *([] if deep_range else options.unused_range_note())]
        return {"ids": tally.ids, "ours": tally.ours, "notes": notes, "pixel_range": deep_range}

    return load_or_make(folder, make)


def choose_size(headers: list[Header]) -> tuple[int, int]:
    """The common height and width when the user names none.

    Args:
        headers: Of all pictures, at least one.

    Returns:
        The size of the pictures if they all have the same and no side exceeds 64 pixels; otherwise a square whose
        side is the median of the longer sides, at least 8 and at most 64 pixels.

    Example:
        >>> choose_size([Header(28, 20, True), Header(28, 20, True)])
        (20, 28)
        >>> choose_size([Header(640, 480, False), Header(10, 30, False), Header(40, 20, False)])
        (40, 40)
    """
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and max(next(iter(sizes))) <= MAX_SIDE:
        return sizes.pop()
    longer = float(np.median([max(header.width, header.height) for header in headers]))
    side = round(min(MAX_SIDE, max(MIN_SIDE, longer)))
    return side, side


def _choose_shape(headers: list[Header], options: ReadOptions) -> tuple[int, int, int]:
    channels = 1 if all(header.grey for header in headers) else 3
    return (*(options.image_size or choose_size(headers)), options.channels or channels)


def _choose_range(headers: list[Header], options: ReadOptions) -> tuple[float, float] | None:
    """What becomes 0 and 255 in 16-bit grey pictures; None if there are none of these."""
    ranges = [header.deep_range for header in headers if header.deep_range is not None]
    if not ranges:
        return None
    return options.pixel_range or (min(low for low, _ in ranges), max(high for _, high in ranges))


def _look_at_all(
    pictures: Iterable[Picture], n_pictures: int, progress: ProgressReport, skip_ours: bool, tally: _Tally
) -> "tuple[list[Header], deque[bytes | None]]":
    """Headers of the pictures that are to be decoded; and of each picture its bytes, b"" to be read again, or None."""
    headers: list[Header] = []
    kept: deque[bytes | None] = deque()
    kept_bytes = 0

    def look(source: Source) -> tuple[Header, bytes]:
        return _look(source, keep=kept_bytes < _KEPT_BYTES)

    for block in _in_threads(look, pictures, "looking at pictures", n_pictures, progress):
        for picture, found in block:
            if isinstance(found, Problem):
                tally.problems.append(found)
                kept.append(None)
                continue
            header, content = found
            if skip_ours and header.is_ours:
                tally.ours.append(picture.id)
                kept.append(None)
                continue
            headers.append(header)
            kept.append(content)
            kept_bytes += len(content)
    return headers, kept


def _look(source: Source, keep: bool) -> tuple[Header, bytes]:
    if keep and isinstance(source, str) and os.path.getsize(source) <= _SMALL_BYTES:  # noqa: PTH202 (as in convert)
        with open(source, "rb") as file:  # noqa: PTH123
            source = file.read()
    content = source if keep and isinstance(source, bytes) and len(source) <= _SMALL_BYTES else b""
    return read_header(source), content


def _chosen(pictures: Iterable[Picture], kept: "deque[bytes | None]") -> Iterator[Picture]:
    """The pictures that are to be decoded; what was kept of them is forgotten on the way."""
    for picture in pictures:
        content = kept.popleft()
        if content is not None:
            yield Picture(picture.id, content or picture.source)


def _decoded(
    blocks: Iterable[list[tuple[Picture, tuple[NDArray[np.uint8], list[str]] | Problem]]], tally: _Tally
) -> Iterator[NDArray[np.uint8]]:
    """The pixels of each block, and in the tally what else there is to say of it."""
    for block in blocks:
        decoded = []
        for picture, result in block:
            if isinstance(result, Problem):
                tally.problems.append(result)
                continue
            pixels, steps = result
            decoded.append(pixels)
            tally.ids.append(picture.id)
            tally.steps.update(steps)
        if decoded:
            yield np.stack(decoded)


def _in_threads(
    work: Callable[[Source], T], pictures: Iterable[Picture], what: str, total: int, progress: ProgressReport
) -> Iterator[list[tuple[Picture, T | Problem]]]:
    """Blocks of pictures with what `work` made of each; Pillow decodes without the interpreter lock."""

    def attempt(picture: Picture) -> T | Problem:
        try:
            return work(picture.source)
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            if is_our_defect(error):
                raise
            return Problem(picture.id, reason(error))

    remaining, done = iter(pictures), 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(remaining, _BLOCK)):
            yield list(zip(block, pool.map(attempt, block), strict=True))
            done += len(block)
            progress(what, done, total)


def _check_found(tally: _Tally, n_good: int, options: ReadOptions, name: str) -> None:
    problems = tally.problems
    if problems and not options.skip_bad:
        raise DataError(
            f"{printable(name)}: {len(problems)} of {len(problems) + n_good} pictures cannot be read: "
            f"{_list_problems(problems)}. Remove them, or skip them with --skip-bad (skip_bad=True)"
        )
    if n_good:
        return
    if tally.ours:
        raise DataError(
            f"{printable(name)} holds no pictures but {len(tally.ours)} that clusterloom itself wrote, which are not "
            f"read as data; name the folder of your own pictures"
        )
    raise DataError(f"{printable(name)}: none of the {len(problems)} pictures can be read: {_list_problems(problems)}")


def _list_problems(problems: list[Problem]) -> str:
    shown = "; ".join(f"{printable(problem.id)}: {problem.why}" for problem in problems[:_SHOWN_PROBLEMS])
    rest = len(problems) - _SHOWN_PROBLEMS
    return f"{shown}; and {rest} more" if rest > 0 else shown


def _notes(tally: _Tally, shape: tuple[int, int, int]) -> list[str]:
    height, width, channels = shape
    notes = [f"{len(tally.ids)} pictures as {height} x {width} pixels, {'grey' if channels == 1 else 'RGB'}"]
    notes += [
        f"{count} {'picture' if count == 1 else 'pictures'}: {step}" for step, count in sorted(tally.steps.items())
    ]
    if tally.ours:
        notes.append(f"{len(tally.ours)} pictures that clusterloom itself wrote left out")
    if tally.problems:
        notes.append(f"{len(tally.problems)} skipped: {_list_problems(tally.problems)}")
    return notes
