"""What several processes of one run must agree on."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

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
    """
    if processes.num_processes == 1:
        return compute()
    results = [compute() if processes.is_main_process else None]
    broadcast_object_list(results)
    return results[0]  # type: ignore[return-value]
