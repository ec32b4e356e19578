"""Pictures one block at a time, for those who know already what pictures are to become: nothing is kept of them."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from clusterloom.data.addresses import shown_address
from clusterloom.data.boundary import only_data_errors
from clusterloom.data.convert import SIXTEEN_BITS
from clusterloom.data.decoding import Picture, Problem, Tally, check_found, decoded, in_threads, notes_on, quiet_pillow
from clusterloom.data.find_parts import parts_of, shards_in_folder
from clusterloom.data.folder import NoPicturesError, stream_folder
from clusterloom.data.images import ImageSet
from clusterloom.data.one_picture import Read, Target, read_picture
from clusterloom.data.options import ReadOptions, check_shown
from clusterloom.data.parts import Parts
from clusterloom.data.planes import check_range_fits
from clusterloom.data.source_kind import kind_of
from clusterloom.errors import DataError, printable

_BLOCKS_AHEAD = 2

T = TypeVar("T")


@dataclass
class ImageStream:
    """Images that are read while they are asked for; they can be asked for once.

    Memory does not grow with their number. The pictures of the next blocks are read on another thread meanwhile, and
    each picture is opened once.

    Args:
        name: What the user named, for messages.
        pictures: The pictures, or problems in their place.
        target: What they become.
        options: How they are read.
        problems: Gets what the source could not read while it was looking for pictures.
        skip_ours: Leave out pictures that clusterloom made.
        left_out: Sentences on what the source left out.
        is_part: Whether there is more of the source, which others read.
    """

    name: str
    pictures: Iterable[Picture | Problem]
    target: Target
    options: ReadOptions
    problems: list[Problem] = field(default_factory=list)
    skip_ours: bool = False
    left_out: tuple[str, ...] = ()
    is_part: bool = False

    def __post_init__(self) -> None:
        self._tally = Tally([], [], self.problems, tiled=self.options.tile is not None, skip_ours=self.skip_ours)

    @property
    def n_images(self) -> int:
        """How many images there have been so far."""
        return self._tally.images

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was converted or left out so far."""
        return (*notes_on(self._tally, self.target, self.options), *self.left_out)

    def blocks(self, size: int) -> Iterator[ImageSet]:
        """The images in blocks of a size; the last one may be smaller.

        Raises:
            DataError: a picture cannot be read and `skip_bad` is off, all of a source are of 8 bits where the range is
                for others, or there are none.
        """
        return ahead(self._blocks(size), _BLOCKS_AHEAD)

    def _blocks(self, size: int) -> Iterator[ImageSet]:
        tally, images, ids = self._tally, np.empty((0, *self.target[:3]), np.uint8), list[str]()
        with only_data_errors(self.name), quiet_pillow():
            for more in decoded(in_threads(self._read, self.pictures, "", 0, self.options), tally):
                self._check()
                images, ids = np.concatenate([images, more]), ids + tally.ids
                tally.ids.clear()
                tally.labels.clear()
                whole = len(ids) - len(ids) % size
                for start in range(0, whole, size):
                    yield self._set(images[start : start + size], ids[start : start + size])
                images, ids = images[whole:], ids[whole:]
            self._check(at_end=True)
            if ids:
                yield self._set(images, ids)

    def _read(self, picture: Picture) -> Read:
        read = read_picture(picture.source, self.target, self.options.tile, self.skip_ours)
        if read.header.is_deep and self.options.pixel_range is None:
            raise DataError("its pixels are not of 8 bits, as all were that the model has learned from; convert it")
        return read

    def _check(self, at_end: bool = False) -> None:
        tally = self._tally
        if (tally.problems and not self.options.skip_bad) or at_end:
            check_found(tally, tally.images, self.options, self.name)
        # Eight bits have no values of their own; a set may mix them with others, so one of these is enough. Of a part
        # of a set nobody knows whether the rest has one.
        is_plain = at_end and tally.images and not tally.deep and not self.is_part
        if is_plain and self.options.pixel_range is not None:
            raise DataError(
                f"{printable(self.name)} holds pixels of 8 bits, and the range given is for others; convert them the "
                f"same way"
            )

    def _set(self, images: np.ndarray, ids: list[str]) -> ImageSet:
        return ImageSet(images, ids, None, (), self.name, (), self.options.pixel_range, self.options.reading)


def stream_pictures(
    source: str | Path | Parts, image_shape: tuple[int, int, int], options: ReadOptions
) -> ImageStream | None:
    """Pictures of a source, to be read block by block into a shape and a range that are known.

    Args:
        source: As for `clusterloom.data.load_images`, or some parts of a source.
        image_shape: Height, width and channels that pictures are brought to, where the options name no others.
        options: How pictures are read.

    Returns:
        The stream; None where the source holds arrays, which are memory-mapped anyway, or where a random choice is
        wanted, for which all pictures have to be known.
    """
    kind = "given" if isinstance(source, Parts) else kind_of(source)
    if options.limit is not None or kind not in ("given", "folder", "parts"):
        return None
    size = options.image_size or image_shape[:2]
    channels = len(options.picks) if options.picks else options.kind or image_shape[2]
    name = source.name if isinstance(source, Parts) else shown_address(str(source))
    if options.pixel_range is not None:
        check_range_fits(options.pixel_range, channels, name)
    check_shown(options.show, channels)
    target = Target(*size, channels, options.pixel_range or SIXTEEN_BITS, options.picks)
    if isinstance(source, Parts):
        return ImageStream(name, source.pictures(), target, options, [], True, source.notes, is_part=True)
    if kind == "folder":
        path, problems = Path(source), list[Problem]()
        name = f"folder {printable(path.resolve().name)}"
        try:
            return ImageStream(name, stream_folder(path, name, problems), target, options, problems, True)
        except NoPicturesError as error:
            if not error.shards:
                raise
            parts = shards_in_folder(path, error.shards, name)
    else:
        parts = parts_of(source, name, options.cache_dir)
    return ImageStream(name, parts.pictures(), target, options, [], True, parts.notes)


def blocks_ahead(images: ImageSet, size: int) -> Iterator[ImageSet]:
    """The images of a set in blocks of a size, which another thread reads into memory before they are asked for."""
    copies = (replace(block, images=np.array(block.images)) for block in images.blocks(size))
    return ahead(copies, _BLOCKS_AHEAD)


def ahead(items: Iterator[T], n: int) -> Iterator[T]:
    """Items that another thread makes, up to `n` of them before they are asked for; what it raises is raised here.

    Example:
        >>> list(ahead(iter("abc"), 2))
        ['a', 'b', 'c']
    """
    made: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(n)
    stopped = threading.Event()

    def put(is_item: bool, what: "T | BaseException | None") -> bool:
        while not stopped.is_set():
            try:
                made.put((is_item, what), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # whatever it is, the one who asks for items has to know
            put(False, error)
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=make, name="reading ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_item, what = made.get()
            if is_item:
                yield what  # type: ignore[misc]
            elif isinstance(what, BaseException):
                raise what
            else:
                return
    finally:
        stopped.set()
        thread.join()
