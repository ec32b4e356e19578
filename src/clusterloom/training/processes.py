"""What several processes of one run must agree on."""

import contextlib
import pickle
from collections.abc import Callable
from typing import TypeVar

import torch.distributed
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object

from clusterloom.errors import ClusterloomError

T = TypeVar("T")


def leave_together() -> None:
    """Wait for the other processes of a launch, and end what they share.

    Left to the end of the interpreter, gloo's threads now and then abort a process whose neighbour was faster: its
    files are whole by then, but the launcher reports a failure.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def from_main(processes: Accelerator | PartialState, compute: Callable[[], T]) -> T:
    """What `compute` returns on the main process, on every process.

    Whether a file is there, and what it says, is the main process's to find out: processes on several machines may see
    different disks, and one that goes ahead leaves the others waiting for ever.

    Args:
        processes: Knows the others.
        compute: Called by the main process alone, so it must not take part in anything that processes do together.

    Raises:
        Exception: what `compute` raises, on every process: one that is left alone waits for ever.
    """
    if processes.num_processes == 1:
        return compute()
    outcomes = [_outcome(compute) if processes.is_main_process else (None, None)]
    broadcast_object_list(outcomes)
    return _of_all(outcomes)[0]


def from_each(compute: Callable[[], T]) -> list[T]:
    """What `compute` returns on each process, in their order, on all of them.

    Args:
        compute: Called by every process for itself, so it must not take part in anything that they do together.

    Raises:
        Exception: what `compute` raises on the first process that fails, on every process.
    """
    return _of_all(gather_object([_outcome(compute)]))


def _outcome(compute: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What `compute` returns, or raises."""
    try:
        return compute(), None
    except Exception as error:
        return None, _sendable(error)


def _of_all(outcomes: list[tuple[T | None, Exception | None]]) -> list[T]:
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]  # type: ignore[misc]


def _sendable(error: Exception) -> Exception:
    """An error as it is, or one that says the same where another process could not make it anew.

    Pickle calls the type with the error's text alone, which those cannot take that are made of several parts.
    """
    with contextlib.suppress(Exception):
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return error
    if isinstance(error, ClusterloomError):
        return ClusterloomError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")
