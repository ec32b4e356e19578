"""Shards that several processes read together, each its share, and that all of them have afterwards."""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from accelerate import PartialState
from accelerate.utils import gather_object

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data import ImageSet, load_images, stream_images
from clusterloom.data.cache import cache_root
from clusterloom.data.decoding import Problem
from clusterloom.data.ids import RowIds
from clusterloom.data.parts import Part, Parts
from clusterloom.errors import DataError, printable
from clusterloom.training.processes import from_each, from_main

_BLOCK_IMAGES = 4096
_SENT_BYTES = 1 << 26


@contextlib.contextmanager
def read_divided(
    parts: Parts, wanted: Mapping[str, Any], state: PartialState, progress: ProgressReport = no_progress
) -> Iterator[ImageSet]:
    """The images of shards that lie where every process can read them; every process calls it.

    What pictures become, their size, channels and range, is decided by the first shard and told to all. Process I of N
    then reads every N-th shard from the I-th on, and the pixels are sent to all machines, each of which keeps a copy on
    its own disk. So machines need no disk in common, and a shard is read and decoded once.

    Args:
        parts: The shards, the same on every process.
        wanted: How pictures are read, keyword arguments of `load_images`, without a limit.
        state: Knows the other processes.
        progress: Told how far it is.

    Yields:
        All images in the order of the shards, on the disk until the context ends. They are numbered through, and have
        no labels.

    Raises:
        DataError: a shard cannot be read, on whichever process.
        OSError: a disk is full, on whichever process.
    """
    every, rank = list(parts.parts()), state.process_index
    if len(set(from_each(lambda: tuple(part.id for part in every)))) > 1:
        raise DataError(f"{printable(parts.name)} has other shards on another machine; all must see the same ones")
    first = Parts(parts.name, lambda: iter(every[:1]), [*parts.stamp, "the first alone"])
    target = from_main(state, lambda: _Target.of(load_images(first, **wanted)))
    options = {k: v for k, v in wanted.items() if k not in ("image_size", "channels", "pixel_range")}
    options |= {"image_size": target.shape[:2], "channels": target.channels, "pixel_range": target.pixel_range}
    with tempfile.TemporaryDirectory(prefix="divided-", dir=cache_root()) as name:
        own = Path(name, "own")
        counts = from_each(lambda: _read(every[rank :: state.num_processes], target.shape, options, own, progress))
        sizes = [counts[i % len(counts)][i // len(counts)] for i in range(len(every))]
        # Processes of one machine share the copy of its first.
        writes = int(os.environ.get("LOCAL_RANK", "0")) == 0
        path = Path(name, "all") if writes else None
        _exchange(sizes, own, path, target.shape, rank, progress)
        own.unlink()
        machine = (socket.gethostname(), os.environ.get("GROUP_RANK", "0"))
        places = dict(found for found in gather_object([(machine, path)]) if found[1] is not None)
        images = np.memmap(places[machine], np.uint8, "r", shape=(sum(sizes), *target.shape))
        note = (
            f"{len(every)} shards read by {state.num_processes} processes; the first one decided on size and channels"
        )
        ids = RowIds(range(len(images)))
        yield ImageSet(np.asarray(images), ids, None, (), parts.name, (note,), target.pixel_range, target.reading)
        torch.distributed.barrier()  # nobody's copy goes while another one reads it


@dataclass(frozen=True)
class _Target:
    """What pictures become."""

    shape: tuple[int, int, int]
    pixel_range: Any
    reading: dict[str, Any]

    @classmethod
    def of(cls, images: ImageSet) -> "_Target":
        return cls(images.image_shape, images.pixel_range, dict(images.reading))

    @property
    def channels(self) -> Any:
        """Those that are picked, or their number where it is that of grey or of colours."""
        picked = self.reading.get("channels")
        return tuple(picked) if picked else self.shape[2] if self.shape[2] in (1, 3) else None


def _read(
    parts: Sequence[Part | Problem],
    shape: tuple[int, int, int],
    options: Mapping[str, Any],
    path: Path,
    progress: ProgressReport,
) -> list[int]:
    """Write the pixels of some shards to a file, one shard after the other; how many images each has."""
    counts = []
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            stream = stream_images(Parts(part.id, partial(iter, [part]), []), shape, **options)
            assert stream is not None, "parts are always streamed"
            try:
                for block in stream.blocks(_BLOCK_IMAGES):
                    file.write(np.ascontiguousarray(block.images).data)
            except DataError:
                if stream.n_images or (stream.problems and not options["skip_bad"]):
                    raise  # otherwise it is empty, or all of it is skipped
            counts.append(stream.n_images)
            progress("reading shards", number + 1, len(parts))
    return counts


def _exchange(
    sizes: list[int], own: Path, path: Path | None, shape: tuple[int, int, int], rank: int, progress: ProgressReport
) -> None:
    """Send this process's shards to all others, and write all shards to a file, if one is wanted, in their order."""
    group = torch.distributed.new_group(backend="gloo")  # pixels go from memory to memory, whatever computes
    processes = torch.distributed.get_world_size()
    at_once = max(1, _SENT_BYTES // int(np.prod(shape)))
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(own.open("rb"))
        file = None if path is None else stack.enter_context(path.open("wb"))
        for shard, size in enumerate(sizes):
            owner = shard % processes
            for start in range(0, size, at_once):
                n_bytes = min(at_once, size - start) * int(np.prod(shape))
                block = np.empty(n_bytes, np.uint8)
                if owner == rank:
                    block[:] = np.fromfile(source, np.uint8, n_bytes)
                torch.distributed.broadcast(torch.from_numpy(block), owner, group)
                if file is not None:
                    file.write(block.data)
            progress("exchanging shards", shard + 1, len(sizes))
    torch.distributed.destroy_process_group(group)
