"""Encoded pictures decoded in threads, and what comes to light on the way: problems, steps, ids, notes."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.data.addresses import Address
from clusterloom.data.boundary import is_our_defect, reason
from clusterloom.data.ids import TileId
from clusterloom.data.one_picture import Read, Source, Target
from clusterloom.data.options import ReadOptions
from clusterloom.data.pixels import PixelRange, range_text
from clusterloom.data.planes import PERCENTILES
from clusterloom.errors import DataError, MissingPackageError, printable

_BLOCK, _BIG_BLOCK = 256, 8  # pictures
_BLOCK_BYTES, _BLOCK_PIXELS = 1 << 25, 1 << 24  # of encoded and of decoded ones, at most
_WAITING_THREADS = 16  # that wait for a network most of the time
_SHOWN_PROBLEMS = 10

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


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Between one and two times its limit Pillow only warns; `open_picture` refuses such pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


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
    # A block of pictures is in memory together, and those that are cut into tiles are large.
    height, width = options.image_size or (1, 1)
    n_block = min(_BLOCK, max(_BIG_BLOCK, _BLOCK_PIXELS // (height * width))) if options.tile is None else _BIG_BLOCK
    first = list(islice(remaining, 1))
    remaining = chain(first, remaining)
    is_remote = any(isinstance(picture, Picture) and isinstance(picture.source, Address) for picture in first)
    with ThreadPoolExecutor(_WAITING_THREADS if is_remote else min(8, os.cpu_count() or 1)) as pool:
        while block := list(_some(remaining, n_block)):
            yield list(zip(block, pool.map(attempt, block), strict=True))
            done += len(block)
            options.progress(what, done, total)


def _some(pictures: Iterator[Picture | Problem], most: int) -> Iterator[Picture | Problem]:
    """The next pictures, so many at most, and fewer where their bytes are many."""
    n_bytes = 0
    for picture in islice(pictures, most):
        yield picture
        n_bytes += len(picture.source) if isinstance(picture, Picture) and isinstance(picture.source, bytes) else 0
        if n_bytes >= _BLOCK_BYTES:
            return


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


def check_found(tally: Tally, n_good: int, options: ReadOptions, name: str) -> None:
    """Refuse a source of which a picture cannot be read and none may be skipped, or of which none can be read."""
    problems = tally.problems
    if problems and n_good and not options.skip_bad:
        raise DataError(
            f"{printable(name)}: {len(problems)} of {len(problems) + n_good} pictures cannot be read: "
            f"{_list_problems(problems)}. Remove them, or skip them with --skip-bad (skip_bad=True)"
        )
    if n_good:
        return
    if tally.ours and not problems:
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


def _range_note(pixel_range: PixelRange, options: ReadOptions) -> str:
    how = "the range given"
    if options.pixel_range is None:
        how = f"percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of a sample"
    return f"values of {range_text(pixel_range)} ({how}) became 0 to 255"
