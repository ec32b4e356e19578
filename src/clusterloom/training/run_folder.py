"""Where an unfinished run keeps its state: a folder of this machine, or an address, of which a folder is the copy."""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState

from clusterloom.data.addresses import Address, is_address, names_below, read_address, remove_address, write_address
from clusterloom.files import write_atomically
from clusterloom.training.processes import from_main

# Names of our own, for a user may keep a run where other files are.
CHECKPOINTS = "clusterloom-*.safetensors"  # pattern of the names of all files that only an unfinished run needs
METRICS = "clusterloom-metrics.jsonl"


@contextmanager
def run_folder(
    place: str, processes: PartialState, resume: bool
) -> Iterator[tuple[Path, Callable[[Path], None] | None]]:
    """A folder for the files of a run; every process calls it.

    Args:
        place: The folder, which is made, or an address; then the folder is a temporary one, with what lies there.
        processes: The main one of them reads and writes for all.
        resume: Whether what lies at the address is wanted; if not, it goes.

    Yields:
        The folder, and what is to be called with each file that was written; None where nothing is.

    Raises:
        DataError: the address cannot be read.
        OSError: the folder cannot be made.
    """
    if not is_address(place):
        folder = Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder, None
        return
    with tempfile.TemporaryDirectory(prefix="clusterloom-run-") as scratch:
        folder = Path(scratch)

        def prepare() -> None:
            if not resume:
                remove_checkpoints(place)
                return
            for name in checkpoints_in(place):
                write_atomically(folder / name, read_address(_inside(place, name)))

        from_main(processes, prepare)

        def keep(path: Path) -> None:
            write_address(_inside(place, path.name), io.BytesIO(path.read_bytes()))

        yield folder, keep


def checkpoint_name(name: str) -> str:
    """The name of a file that only an unfinished run needs."""
    return CHECKPOINTS.replace("*", name)


def checkpoints_in(place: str) -> list[str]:
    """Names of the files of an unfinished run at a place."""
    if is_address(place):
        return sorted(name for name in names_below(Address(place)) if Path(name).match(CHECKPOINTS) and "/" not in name)
    return sorted(path.name for path in Path(place).glob(CHECKPOINTS))


def remove_checkpoints(place: str) -> None:
    """Remove the files of an unfinished run from an address."""
    for name in checkpoints_in(place):
        remove_address(_inside(place, name))


def _inside(place: str, name: str) -> Address:
    return Address(f"{place.rstrip('/')}/{name}")
