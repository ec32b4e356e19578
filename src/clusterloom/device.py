"""Where and in which precision to compute: decided here and nowhere else."""

import contextlib
import ctypes
import os
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from threadpoolctl import threadpool_limits
from torch import Tensor

from clusterloom.errors import SettingsError, TrainingError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_AT_ONCE = 8  # threads at most: each has memory of its own
_within = threading.local()  # whether this is such a thread
_one_at_a_time = threading.Lock()  # what is set is set for the whole process
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_PATIENCE = timedelta(hours=12)  # NCCL's are ten minutes, and the first process may lay images out for longer


@dataclass(frozen=True)
class Compute:
    """A device and a precision.

    Attributes:
        device: Where models and batches live.
        precision: "fp32", or "bf16" for autocast to bfloat16 (weights, heads and losses stay float32).
    """

    device: torch.device
    precision: str

    @classmethod
    def choose(cls, device: str = "auto", precision: str = "auto", bears_rounding: bool = False) -> "Compute":
        """Resolve "auto": CUDA, then MPS, then CPU; bf16 where the hardware multiplies it faster than float32.

        Args:
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            precision: "auto", "fp32" or "bf16".
            bears_rounding: "auto" may take bf16 for a small gain too, which CPUs with AVX-512 BF16 have.

        Raises:
            SettingsError: the name is unknown, or the device is not there.
        """
        chosen = _choose_device(device)
        if precision not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"precision must be auto, fp32 or bf16; got {precision!r}")
        if precision == "auto":
            precision = "bf16" if _bf16_is_faster(chosen, bears_rounding) else "fp32"
        return cls(chosen, precision)

    def autocast(self) -> torch.autocast:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def processes(self) -> PartialState:
        """The processes that `accelerate launch`, torchrun or Slurm started; one where nothing did."""
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            # Its functions' default group is the one there is when it is imported. DistributedDataParallel imports it
            # later, and then gloo's threads outlive the group, see `training.processes.leave_together`.
            import_module("torch.distributed.nn")
        return PartialState(cpu=self.device.type == "cpu", timeout=_PATIENCE)

    def on_device(self, values: np.ndarray | Tensor) -> Tensor:
        """Values of a batch, on the device.

        CUDA copies from pinned memory while the host goes on, and so gathers the next batch while this one is computed.
        The CPU does both itself, and a thread that gathers ahead only gets in the way of the step.
        """
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(np.require(values, requirements=["C", "W"]))
        if self.device.type == "cuda":
            return values.pin_memory().to(self.device, non_blocking=True)
        return values.to(self.device)

    def batch(self, images: np.ndarray) -> Tensor:
        """A batch for the networks, on the device: float32 (B, C, H, W), channels_last, values in [0, 1].

        Args:
            images: uint8 (0 to 255) or float (0 to 1), shape (B, H, W, C).
        """
        # Channels come last in memory already, so this is a view, in the memory format that the conv networks want.
        x = self.on_device(images).permute(0, 3, 1, 2)
        return x.float().div_(255) if images.dtype == np.uint8 else x.float()

    @contextlib.contextmanager
    def deterministic(self) -> Iterator[None]:
        """On CUDA, kernels that give the same bits every time; PyTorch warns where it has none.

        Afterwards PyTorch's flags and the environment are as they were. Other devices are left alone.
        """
        if self.device.type != "cuda":
            yield
            return
        asked = torch.are_deterministic_algorithms_enabled()
        warns, workspace = torch.is_deterministic_algorithms_warn_only_enabled(), os.environ.get(_WORKSPACE)
        torch.use_deterministic_algorithms(True, warn_only=warns or not asked)
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS repeats itself only in a workspace of a fixed size
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(asked, warn_only=warns)
            if workspace is None:
                os.environ.pop(_WORKSPACE, None)


@contextlib.contextmanager
def freed_memory_reused() -> Iterator[None]:
    """Keep freed memory for the next training step instead of handing it back to the system.

    A step frees and asks again for the same large blocks. glibc returns those above 32 MB at once and trims the rest,
    and the system then clears every page anew. The paper's network on 64 x 64 colour images in batches of 128 takes
    1.42 times the processor time without this. On 28 x 28 grey ones the blocks are smaller: 1.00 times in batches of
    100, 1.02 in batches of 512 (`python benchmarks/freed_memory.py`, one thread, medians of 8 pairs).

    Other C libraries are left as they are. Afterwards the limits are the highest that glibc's own adaptation reaches.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)


def products_by_onednn() -> contextlib.AbstractContextManager[None]:
    """Have oneDNN multiply float32 matrices where that takes half the time and loses no digit.

    PyTorch leaves them to MKL, which keeps AVX-512 from AMD's processors: 105 against 230 billion operations per second
    on one core of a Zen 5, 0.8 times the processor time for a training step on 28 x 28 pixels. The only switch that
    PyTorch has for it allows bfloat16 inside, of which oneDNN makes use on AMX and on Arm, so there it stays off.
    Afterwards it is as it was.
    """
    return _products("bf16")


def products_by_mkl() -> contextlib.AbstractContextManager[None]:
    """Leave float32 products to MKL, as without `products_by_onednn`, which adds 8 microseconds to small ones."""
    return _products("ieee")


@contextlib.contextmanager
def _products(precision: str) -> Iterator[None]:
    if not _onednn_is_exact():
        yield
        return
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = precision
    try:
        yield
    finally:
        matmul.fp32_precision = before


@cache
def _onednn_is_exact() -> bool:
    """Whether oneDNN's matrix products keep all of float32's digits though they may do without."""
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not _cpu_has("avx512") or _cpu_has("amx_tile") or not hasattr(matmul, "fp32_precision"):
        return False
    before, a = matmul.fp32_precision, torch.linspace(-1, 1, 64 * 64).view(64, 64).sin()
    matmul.fp32_precision = "bf16"
    try:
        error = (a @ a.T - a.double() @ a.T.double()).abs().max()  # 1e-6; some 1e-2 in bfloat16
    finally:
        matmul.fp32_precision = before
    return bool(error < 1e-4)


def _cpu_has(instructions: str) -> bool:
    return bool(getattr(torch.cpu, f"_is_{instructions}_supported", bool)())


# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def parallel_map(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    done: Callable[[int, int], object] = lambda finished, total: None,
) -> list[_Result]:
    """What a function makes of each item, in their order, computed by as many threads as PyTorch has, eight at most.

    For many small computations: a thread for each of them is worth more than several threads for one after the other.
    What computes one item has no further threads, so that results are the same with any number of them; what is random
    should have been drawn before. An interruption waits for those that are being computed.

    Args:
        function: Computes one.
        items: For what.
        done: Told after each of them, in their order, how many there are and of how many.
    """
    if getattr(_within, "thread", False):  # which has settled all of this
        return [function(item) for item in items]
    threads = min(torch.get_num_threads(), _AT_ONCE)
    results: list[_Result] = []
    done(0, len(items))
    with (
        _one_at_a_time,
        products_by_onednn(),
        threads_kept(),
        threadpool_limits(1),
        ThreadPoolExecutor(threads, initializer=_one_thread) as pool,
    ):
        for result in pool.map(function, items):
            results.append(result)
            done(len(results), len(items))
    return results


def _one_thread() -> None:
    """Let this thread compute without others."""
    _within.thread = True
    torch.set_num_threads(1)
    threadpool_limits(1, user_api="openmp")  # these libraries keep a number for each thread, others have one for all


@contextlib.contextmanager
def threads_kept() -> Iterator[None]:
    """Leave PyTorch with as many threads as it had: numba's thread pool sets the number that both share."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SettingsError(f"unknown device {name!r}; use auto, cpu, cuda, cuda:N or mps") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        raise SettingsError(f"device {name!r} is not available on this machine; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SettingsError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _bf16_is_faster(device: torch.device, for_a_small_gain: bool) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # On one core of a Zen 5 a training step takes 0.78 times as long on 28 x 28 pixels, and as long on 8 x 8.
        return _cpu_has("amx_tile") or (for_a_small_gain and _cpu_has("avx512_bf16"))
    return False


@contextlib.contextmanager
def memory_errors_named(batch_size: int | None = None) -> Iterator[None]:
    """Turn an allocation failure of NumPy, PyTorch or CUDA into a `TrainingError` that says what to lower.

    Args:
        batch_size: Images per step, where the user may choose another number.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(batch_size) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise _out_of_memory(batch_size) from error
        raise


def _out_of_memory(batch_size: int | None) -> TrainingError:
    if batch_size is None:
        return TrainingError("out of memory; try smaller images or a smaller hidden_dim")
    return TrainingError(
        f"out of memory with batches of {batch_size} images; "
        f"try batch_size={max(1, batch_size // 2)}, smaller images or a smaller hidden_dim"
    )
