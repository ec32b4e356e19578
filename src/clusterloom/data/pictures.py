"""Many encoded pictures to one cached set of images: look at each, choose a shape and a range, decode in threads."""

import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.data.addresses import Address, read_address
from clusterloom.data.boundary import is_our_defect, reason
from clusterloom.data.cache import Entry, load_or_make, write_images
from clusterloom.data.convert import (
    SIXTEEN_BITS,
    Header,
    Read,
    Source,
    Target,
    check_tile,
    read_header,
    read_picture,
    read_values,
)
from clusterloom.data.ids import TileId
from clusterloom.data.images import PixelRange, range_text
from clusterloom.data.options import MAX_CHANNELS, ReadOptions
from clusterloom.data.planes import (
    PERCENTILES,
    SAMPLED_PICTURES,
    check_range_fits,
    percentile_range,
    sampled_rows,
    value_sample,
)
from clusterloom.errors import DataError, MissingPackageError, printable

# Of sizes chosen here, in pixels.
MIN_SIDE, MAX_SIDE = 8, 64
_BLOCK, _BIG_BLOCK = 256, 8
_WAITING_THREADS = 16  # that wait for a network most of the time
_SHOWN_PROBLEMS = 10
# Of small files, so many bytes are kept between the look at them and their decoding; all others are read twice.
_SMALL_BYTES = 1 << 18
_KEPT_BYTES = 1 << 28

T = TypeVar("T")


class Picture(NamedTuple):
    """One encoded picture: its identifier, where it is or its bytes, and its label if the source has one beside it."""

    id: str
    source: Source
    label: str | None = None


class Problem(NamedTuple):
    """A picture that cannot be read, and why."""

    id: str
    why: str


@dataclass
class Tally:
    """What comes to light while pictures are read: how many, what was done to them, and what else they are."""

    ids: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)
    labels: list[str | None] = field(default_factory=list)
    pictures: int = 0
    images: int = 0
    deep: int = 0
    tiled: bool = False
    skip_ours: bool = False


def read_pictures(
    pictures: Callable[[], Iterable[Picture | Problem]],
    n_pictures: int,
    folder: Path,
    options: ReadOptions,
    name: str,
    problems: Iterable[Problem] = (),
    skip_ours: bool = False,
) -> Entry:
    """Decode pictures into a cache entry, or take the entry that an earlier call made.

    All are looked at before any is decoded, for together they decide on a size, on channels and on a range. Up to
    256 MB of small files are kept meanwhile, as bytes: open pictures would cost the garbage collector more time than
    they save. All other files are opened twice. Of pictures that are not of 8 bits, a sample is decoded twice.

    Args:
        pictures: Gives the pictures in order, or problems in their place; may be called twice, so that they never have
            to be in memory together.
        n_pictures: How many these are.
        folder: The cache entry, keyed by everything that the pictures and the options depend on.
        options: How pictures are read; its limit is the caller's to apply.
        name: What the user named, for messages.
        problems: Pictures that the caller already could not read.
        skip_ours: Leave out pictures that clusterloom made.

    Returns:
        Images of shape (N, H, W, C) with the facts `ids` (N identifiers), `labels` (N texts or None; empty where no
        picture has one), `ours` (identifiers of pictures left out), `notes` and `pixel_range`.

    Raises:
        DataError: a picture cannot be read and `options.skip_bad` is off, none can, or they have different channels.
    """

    def make(scratch: Path) -> dict[str, Any]:
        tally = Tally(problems=list(problems), tiled=options.tile is not None)
        with quiet_pillow():
            look = _look_at_all(pictures(), n_pictures, options, skip_ours, tally)
            check_found(tally, len(look.headers), options, name)
            target = _choose_target(look, options, name)

            def read(picture: Picture) -> Read:
                return read_picture(picture.source, target, options.tile)

            blocks = in_threads(read, _chosen(pictures(), look.kept), "reading pictures", len(look.headers), options)
            n_images = write_images(scratch, decoded(blocks, tally), target[:3])
            check_found(tally, n_images, options, name)
        pixel_range = target.pixel_range if tally.deep else None
        notes = notes_on(tally, target, options)
        facts = {"ids": tally.ids, "ours": tally.ours, "notes": notes, "pixel_range": pixel_range}
        return facts | {"labels": tally.labels if any(label is not None for label in tally.labels) else []}

    return load_or_make(folder, make)


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Between one and two times its limit Pillow only warns; `open_picture` refuses such pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def choose_size(headers: list[Header]) -> tuple[int, int]:
    """The common height and width when the user names none.

    Args:
        headers: Of all pictures, at least one.

    Returns:
        The size of the pictures if they all have the same and no side exceeds 64 pixels; otherwise a square whose
        side is the median of the longer sides, at least 8 and at most 64 pixels.

    Example:
        >>> choose_size([Header(28, 20, 1), Header(28, 20, 1)])
        (20, 28)
        >>> choose_size([Header(640, 480, 3), Header(10, 30, 3), Header(40, 20, 3)])
        (40, 40)
    """
    sizes = {(header.height, header.width) for header in headers}
    if len(sizes) == 1 and max(next(iter(sizes))) <= MAX_SIDE:
        return sizes.pop()
    longer = float(np.median([max(header.width, header.height) for header in headers]))
    side = round(min(MAX_SIDE, max(MIN_SIDE, longer)))
    return side, side


def _choose_target(look: "_Look", options: ReadOptions, name: str) -> Target:
    """The shape that all pictures get, and the range of those that are not of 8 bits."""
    side = options.tile
    size = options.image_size or ((side, side) if side else choose_size(look.headers))
    channels = len(options.picks) if options.picks else options.kind or _common_channels(look.headers, name)
    if options.pixel_range is not None:
        check_range_fits(options.pixel_range, channels, name)
        pixel_range = options.pixel_range
    elif look.samples:
        shared = channels in (1, 3)
        values = np.concatenate([sample.reshape(-1, 1) if shared else sample for sample in look.samples])
        pixel_range = percentile_range(values)
    else:
        pixel_range = SIXTEEN_BITS
    return Target(*size, channels, pixel_range, options.picks)


def _common_channels(headers: list[Header], name: str) -> int:
    """One if all pictures are grey, three if some are colours; any other number if all have it."""
    counts = sorted({header.channels for header in headers})
    if counts[-1] > MAX_CHANNELS:
        raise DataError(
            f"{printable(name)}: pictures have {counts[-1]} channels; pick at most {MAX_CHANNELS} with "
            f"--channels 0,1,... (channels=(0, 1, ...))"
        )
    if len(counts) == 1 or counts == [1, 3]:
        return counts[-1]
    raise DataError(
        f"{printable(name)}: pictures have {' or '.join(map(str, counts))} channels; pick those that all have with "
        f"--channels 0,1,... (channels=(0, 1, ...))"
    )


def _range_note(pixel_range: PixelRange, options: ReadOptions) -> str:
    how = "the range given"
    if options.pixel_range is None:
        how = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of a sample"
    return f"values of {range_text(pixel_range)} ({how}) became 0 to 255"


@dataclass
class _Look:
    """What a first look at all pictures tells.

    Attributes:
        headers: Of the pictures that are to be decoded.
        kept: Of each picture its bytes, b"" to be read again, or None to be left out.
        samples: Numbers (n, C) of some pictures that are not of 8 bits.
    """

    headers: list[Header] = field(default_factory=list)
    kept: "deque[bytes | None]" = field(default_factory=deque)
    samples: list[NDArray[Any]] = field(default_factory=list)


def _look_at_all(
    pictures: Iterable[Picture | Problem], n_pictures: int, options: ReadOptions, skip_ours: bool, tally: Tally
) -> _Look:
    looked, kept_bytes = _Look(), 0
    # Where nobody knows how many there are, the first ones.
    known = sampled_rows(n_pictures) if n_pictures else np.arange(SAMPLED_PICTURES)
    rows = set(known.tolist()) if options.pixel_range is None else set()
    sampled: set[str] = set()

    def marked() -> Iterator[Picture | Problem]:
        for row, picture in enumerate(pictures):
            if row in rows:
                sampled.add(picture.id)
            yield picture

    def look(picture: Picture) -> tuple[Header, bytes, NDArray[Any] | None]:
        source, content = _kept_source(picture.source, keep=kept_bytes < _KEPT_BYTES)
        header = read_header(source)
        _check_header(header, options)
        sample = None
        if header.is_deep and picture.id in sampled:
            sample = value_sample(read_values(source, options.picks), len(rows))
        return header, content, sample

    for block in in_threads(look, marked(), "looking at pictures", n_pictures, options):
        for picture, found in block:
            if isinstance(found, Problem):
                tally.problems.append(found)
                looked.kept.append(None)
                continue
            header, content, sample = found
            if skip_ours and header.is_ours:
                tally.ours.append(picture.id)
                looked.kept.append(None)
                continue
            looked.headers.append(header)
            looked.kept.append(content)
            looked.samples += [] if sample is None else [sample]
            kept_bytes += len(content)
    return looked


def _check_header(header: Header, options: ReadOptions) -> None:
    if options.picks and max(options.picks) >= header.channels and not header.is_ours:
        raise DataError(f"has {header.channels} channels, numbered from 0; channel {max(options.picks)} was asked for")
    if options.tile:
        check_tile(header, options.tile)


def _kept_source(source: Source, keep: bool) -> tuple[Source, bytes]:
    """A source, read into memory if it is small, and the bytes to keep of it, b"" if none are."""
    if isinstance(source, Address):
        source = read_address(source)
    if keep and isinstance(source, str) and os.path.getsize(source) <= _SMALL_BYTES:  # noqa: PTH202 (as in convert)
        with open(source, "rb") as file:  # noqa: PTH123
            source = file.read()
    return source, source if keep and isinstance(source, bytes) and len(source) <= _SMALL_BYTES else b""


def _chosen(pictures: Iterable[Picture | Problem], kept: "deque[bytes | None]") -> Iterator[Picture | Problem]:
    """The pictures that are to be decoded; what was kept of them is forgotten on the way."""
    for picture in pictures:
        content = kept.popleft()
        if content is None:
            continue
        yield picture._replace(source=content or picture.source) if isinstance(picture, Picture) else picture


def decoded(
    blocks: Iterable[list[tuple[Picture | Problem, Read | Problem]]], tally: Tally
) -> Iterator[NDArray[np.uint8]]:
    """The pixels of each block, (any, H, W, C), and in the tally what else there is to say of it.

    A picture that is cut into tiles becomes as many images, row by row.
    """
    for block in blocks:
        images = []
        for picture, result in block:
            if isinstance(result, Problem):
                tally.problems.append(result)
                continue
            if tally.skip_ours and result.header.is_ours:
                tally.ours.append(picture.id)
                continue
            rows, columns = result.pixels.shape[:2]
            images.append(result.pixels.reshape(-1, *result.pixels.shape[2:]))
            tally.pictures += 1
            tally.images += rows * columns
            tally.deep += result.header.is_deep
            tally.steps.update(result.steps)
            tally.labels += [picture.label if isinstance(picture, Picture) else None] * (rows * columns)
            if tally.tiled:
                tally.ids += [str(TileId(picture.id, row, column)) for row in range(rows) for column in range(columns)]
            else:
                tally.ids.append(picture.id)
        if images:
            yield np.concatenate(images)


def in_threads(
    work: Callable[[Picture], T],
    pictures: Iterable[Picture | Problem],
    what: str,
    total: int,
    options: ReadOptions,
) -> Iterator[list[tuple[Picture | Problem, T | Problem]]]:
    """Blocks of pictures with what `work` made of each; decoders do without the interpreter lock."""

    def attempt(picture: Picture | Problem) -> T | Problem:
        if isinstance(picture, Problem):
            return picture
        try:
            return work(picture)
        except MissingPackageError:  # no picture's fault, and the same for all of them
            raise
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            if is_our_defect(error):
                raise
            return Problem(picture.id, reason(error))

    remaining, done = iter(pictures), 0
    # Pictures that are cut into tiles are large, and a block of them is in memory together.
    n_block = _BLOCK if options.tile is None else _BIG_BLOCK
    first = list(islice(remaining, 1))
    remaining = chain(first, remaining)
    is_remote = any(isinstance(picture, Picture) and isinstance(picture.source, Address) for picture in first)
    with ThreadPoolExecutor(_WAITING_THREADS if is_remote else min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(remaining, n_block)):
            yield list(zip(block, pool.map(attempt, block), strict=True))
            done += len(block)
            options.progress(what, done, total)


def check_found(tally: Tally, n_good: int, options: ReadOptions, name: str) -> None:
    """Refuse a source of which a picture cannot be read and none may be skipped, or of which none can be read."""
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
    first, rest = problems[:_SHOWN_PROBLEMS], len(problems) - _SHOWN_PROBLEMS
    names = [printable(problem.id) for problem in first]
    if len(problems) > 1 and len({problem.why for problem in problems}) == 1:
        shown = ", ".join(names)
        return f"{f'{shown} and {rest} more' if rest > 0 else shown}: {first[0].why}"
    shown = "; ".join(f"{name}: {problem.why}" for name, problem in zip(names, first, strict=True))
    return f"{shown}; and {rest} more" if rest > 0 else shown


def notes_on(tally: Tally, target: Target, options: ReadOptions) -> list[str]:
    """What to say of pictures that have been read."""
    height, width, channels = target[:3]
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels") if target.picks is None else "channels "
    kind += "" if target.picks is None else ", ".join(map(str, target.picks))
    notes = [f"{tally.pictures} pictures as {height} x {width} pixels, {kind}"]
    if options.tile:
        notes = [
            f"{tally.pictures} pictures cut into {tally.images} tiles of {options.tile} x {options.tile} pixels, "
            f"{kind}; what is left over at the right and at the bottom is not used"
        ]
    notes += [
        f"{count} {'picture' if count == 1 else 'pictures'}: {step}" for step, count in sorted(tally.steps.items())
    ]
    if tally.ours:
        notes.append(f"{len(tally.ours)} pictures that clusterloom itself wrote left out")
    if tally.problems:
        notes.append(f"{len(tally.problems)} skipped: {_list_problems(tally.problems)}")
    return [*notes, *([_range_note(target.pixel_range, options)] if tally.deep else options.unused_range_note())]
