"""Many encoded pictures to one cached set of images: survey the headers, choose a shape, decode in threads."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterloom.data.boundary import reason
from clusterloom.data.cache import Entry, finish_entry, load_entry, new_entry, write_images
from clusterloom.data.convert import Header, Source, read_header, read_pixels
from clusterloom.errors import DataError, SettingsError, printable

# Of sizes chosen here, and of sizes that a user may ask for, in pixels.
MIN_SIDE, MAX_SIDE, MAX_ASKED_SIDE = 8, 64, 4096
_BLOCK = 256
_SHOWN_PROBLEMS = 10

T = TypeVar("T")


class Picture(NamedTuple):
    """One encoded picture: its identifier, and its path or its bytes."""

    id: str
    source: Source


class Problem(NamedTuple):
    """A picture that cannot be read, and why."""

    id: str
    why: str


@dataclass(frozen=True)
class PictureOptions:
    """How pictures are read.

    Args:
        image_size: Height and width in pixels; None leaves the choice to `choose_size`.
        channels: 1 or 3; None takes 1 if all pictures are grey.
        skip_bad: Leave out pictures that cannot be read, instead of raising.
        limit: Read at most so many pictures, chosen at random; None for all.

    Raises:
        SettingsError: a value is out of range.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    skip_bad: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None and not _is_size(self.image_size):
            raise SettingsError(
                f"image_size is {self.image_size!r}; expected height and width from 1 to {MAX_ASKED_SIDE} pixels"
            )
        if self.channels not in (None, 1, 3):
            raise SettingsError(f"channels is {self.channels!r}; expected 1 for grey, 3 for colour, or nothing")

    def as_key(self) -> dict[str, Any]:
        """The options as JSON values, for a cache key."""
        return asdict(self)


@dataclass
class _Tally:
    """What comes to light while pictures are read."""

    ids: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    steps: Counter[str] = field(default_factory=Counter)


def read_pictures(
    pictures: Callable[[], Iterable[Picture]],
    folder: Path,
    options: PictureOptions,
    name: str,
    problems: Iterable[Problem] = (),
) -> Entry:
    """Decode pictures into a cache entry, or take the entry that an earlier call made.

    Args:
        pictures: Gives the pictures in order; called twice, so that they never have to be in memory together.
        folder: The cache entry, keyed by everything that the pictures and the options depend on.
        options: How pictures are read; its limit is the caller's to apply.
        name: What the user named, for messages.
        problems: Pictures that the caller already could not read.

    Returns:
        Images of shape (N, H, W, C) with the facts `ids` (N identifiers) and `notes`.

    Raises:
        DataError: a picture cannot be read and `options.skip_bad` is off, or none can.
    """
    if (entry := load_entry(folder)) is not None:
        return entry
    tally = _Tally(problems=list(problems))
    with warnings.catch_warnings():
        # Between one and two times its limit Pillow only warns; `open_picture` refuses such pictures.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        shape = _choose_shape(pictures, options, name, tally)
        with new_entry(folder) as scratch:
            n_images = write_images(scratch, _decode(pictures(), shape, tally), shape)
            _check_problems(tally.problems, n_images, options, name)
            finish_entry(scratch, {"ids": tally.ids, "notes": _notes(tally, shape)})
    entry = load_entry(folder)
    assert entry is not None
    return entry


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(side, int) and 1 <= side <= MAX_ASKED_SIDE for side in size)
    )


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


def _choose_shape(
    pictures: Callable[[], Iterable[Picture]], options: PictureOptions, name: str, tally: _Tally
) -> tuple[int, int, int]:
    if options.image_size is not None and options.channels is not None:
        return (*options.image_size, options.channels)
    headers: list[Header] = []
    problems = list(tally.problems)
    for block in _in_threads(read_header, pictures()):
        headers.extend(result for _, result in block if not isinstance(result, Problem))
        problems.extend(result for _, result in block if isinstance(result, Problem))
    # Refuse here what the headers give away, before anything is decoded; decoding meets the same problems again.
    _check_problems(problems, len(headers), options, name)
    channels = 1 if all(header.grey for header in headers) else 3
    return (*(options.image_size or choose_size(headers)), options.channels or channels)


def _decode(pictures: Iterable[Picture], shape: tuple[int, int, int], tally: _Tally) -> Iterator[NDArray[np.uint8]]:
    for block in _in_threads(lambda source: read_pixels(source, *shape), pictures):
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
    work: Callable[[Source], T], pictures: Iterable[Picture]
) -> Iterator[list[tuple[Picture, T | Problem]]]:
    """Blocks of pictures with what `work` made of each; Pillow decodes without the interpreter lock."""

    def attempt(picture: Picture) -> T | Problem:
        try:
            return work(picture.source)
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            return Problem(picture.id, reason(error))

    remaining = iter(pictures)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while block := list(islice(remaining, _BLOCK)):
            yield list(zip(block, pool.map(attempt, block), strict=True))


def _check_problems(problems: list[Problem], n_good: int, options: PictureOptions, name: str) -> None:
    if problems and not options.skip_bad:
        raise DataError(
            f"{printable(name)}: {len(problems)} of {len(problems) + n_good} pictures cannot be read: "
            f"{_list_problems(problems)}. Remove them, or skip them with --skip-bad (skip_bad=True)"
        )
    if not n_good:
        raise DataError(
            f"{printable(name)}: none of the {len(problems)} pictures can be read: {_list_problems(problems)}"
        )


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
    if tally.problems:
        notes.append(f"{len(tally.problems)} skipped: {_list_problems(tally.problems)}")
    return notes
