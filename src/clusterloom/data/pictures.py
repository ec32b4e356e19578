"""Many encoded pictures to one cached set of images: look at each, choose a shape and a range, decode."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.addresses import Address, read_address
from clusterloom.data.cache import Entry, drop_repeated_channels, load_or_make, write_images
from clusterloom.data.convert import SIXTEEN_BITS
from clusterloom.data.decoding import (
    Picture,
    Problem,
    Tally,
    check_found,
    decoded,
    in_threads,
    notes_on,
    quiet_pillow,
)
from clusterloom.data.one_picture import (
    Header,
    Read,
    Source,
    Target,
    check_tile,
    read_header,
    read_picture,
    read_values,
)
from clusterloom.data.options import MAX_CHANNELS, ReadOptions
from clusterloom.data.planes import (
    SAMPLED_PICTURES,
    check_range_fits,
    percentile_range,
    sampled_rows,
    value_sample,
)
from clusterloom.errors import DataError, printable

# Of sizes chosen here, in pixels.
MIN_SIDE, MAX_SIDE = 8, 64
# Of small files, so many bytes are kept between the look at them and their decoding; all others are read twice.
_SMALL_BYTES = 1 << 18
_KEPT_BYTES = 1 << 28


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
        picture has one), `ours` (identifiers of pictures left out), `notes` and `pixel_range`. They have one channel
        if no picture shows a colour, unless the options name channels.

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
        # Many programs store grey as colours. A range for each channel would be left without its channels.
        may_be_grey = target.channels == 3 and options.channels is None and np.ndim(target.pixel_range[0]) == 0
        if may_be_grey and drop_repeated_channels(scratch):
            target = target._replace(channels=1)
            tally.steps["stored as colours, all of them grey"] = sum(header.channels == 3 for header in look.headers)
            del tally.steps["grey repeated in three channels"]
        pixel_range = target.pixel_range if tally.deep else None
        notes = notes_on(tally, target, options)
        facts = {"ids": tally.ids, "ours": tally.ours, "notes": notes, "pixel_range": pixel_range}
        return facts | {"labels": tally.labels if any(label is not None for label in tally.labels) else []}

    return load_or_make(folder, make)


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
    if header.is_ours:
        return
    if options.picks and max(options.picks) >= header.channels:
        raise DataError(f"has {header.channels} channels, numbered from 0; channel {max(options.picks)} was asked for")
    if options.tile:
        check_tile(header, options.tile)


def _kept_source(source: Source, keep: bool) -> tuple[Source, bytes]:
    """A source, read into memory if it is small, and the bytes to keep of it, b"" if none are."""
    if isinstance(source, Address):
        source = read_address(source)
    # Of what is no regular file, `open_picture` says so.
    if keep and isinstance(source, str) and os.path.isfile(source) and os.path.getsize(source) <= _SMALL_BYTES:  # noqa: PTH113, PTH202 (as in one_picture)
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
