"""Where and how it is computed, and what is put back afterwards."""

import os
import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from clusterloom import device
from clusterloom.device import Compute, memory_errors_named, parallel_map, products_by_onednn
from clusterloom.errors import TrainingError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def flags():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        os.environ.get(WORKSPACE),
    )


@pytest.mark.parametrize("before", [None, ":16:8"])
def test_cuda_is_asked_for_the_same_bits_and_its_flags_are_put_back(monkeypatch, before):
    """The device need not be there: nothing is computed on it."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    if before is not None:
        monkeypatch.setenv(WORKSPACE, before)
    compute = Compute(torch.device("cuda"), "fp32")
    with compute.deterministic():
        assert flags() == (True, True, before or ":4096:8")
    assert flags() == (False, False, before)
    with pytest.raises(RuntimeError, match="stopped"), compute.deterministic():
        raise RuntimeError("stopped")
    assert flags() == (False, False, before)


def test_who_asks_for_more_keeps_it():
    torch.use_deterministic_algorithms(True)
    try:
        with Compute(torch.device("cuda"), "fp32").deterministic():
            assert flags()[:2] == (True, False)  # what has no such kernel still raises
        assert flags()[:2] == (True, False)
    finally:
        torch.use_deterministic_algorithms(False)


def test_other_devices_are_left_as_they_are():
    before = flags()
    with Compute(torch.device("cpu"), "fp32").deterministic():
        assert flags() == before


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_are_images_from_0_to_1_with_channels_last(dtype):
    images = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).astype(dtype)
    scale = 255 if dtype == np.uint8 else 1
    compute = Compute(torch.device("cpu"), "fp32")
    x = compute.batch(images)
    assert x.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(x.numpy(), images.transpose(0, 3, 1, 2) / scale, rtol=1e-6)


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_too_little_memory_says_what_to_lower_in_the_words_of_parameters(error):
    text = r"out of memory with batches of 512 images; try batch_size=256, smaller images or a smaller hidden_dim"
    with pytest.raises(TrainingError, match=text), memory_errors_named(512):
        raise error
    text = r"out of memory; try smaller images or a smaller hidden_dim"
    with pytest.raises(TrainingError, match=text), memory_errors_named():
        raise error


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="size mismatch"), memory_errors_named(512):
        raise RuntimeError("size mismatch")


def test_products_by_onednn_keep_the_digits_and_the_switch_is_put_back():
    matmul = torch.backends.mkldnn.matmul
    before, (a, b) = matmul.fp32_precision, torch.randn(2, 200, 200, generator=torch.Generator().manual_seed(0))
    with products_by_onednn():
        assert (matmul.fp32_precision == "bf16") == device._onednn_is_exact()
        torch.testing.assert_close((a @ b).double(), a.double() @ b.double(), rtol=1e-5, atol=1e-4)
    assert matmul.fp32_precision == before


def settings_of_process():
    """How many threads torch, OpenMP and BLAS would take, and who multiplies matrices."""
    pools = sorted((pool["filepath"], pool["num_threads"]) for pool in threadpool_info())
    return torch.get_num_threads(), pools, torch.backends.mkldnn.matmul.fp32_precision


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_many_computations_are_made_side_by_side_and_results_come_in_order(threads):
    before, told, together = settings_of_process(), [], threading.Barrier(threads, timeout=20)

    def compute(item):
        together.wait()  # so many are made at the same time
        of_torch, pools, products = settings_of_process()
        inner = parallel_map(lambda x: (x, threading.current_thread()), [item, item])
        assert {thread for _, thread in inner} == {threading.current_thread()}
        return item, of_torch, {n for _, n in pools}, (products == "bf16") == device._onednn_is_exact()

    assert parallel_map(compute, range(6), lambda *report: told.append(report)) == [
        (item, 1, {1}, True) for item in range(6)
    ]
    assert told == [(done, 6) for done in range(7)]
    assert settings_of_process() == before
    with pytest.raises(ZeroDivisionError):
        parallel_map(lambda item: 1 // item, range(3))
    assert settings_of_process() == before


@pytest.mark.parametrize("cpu", [{"avx512", "amx_tile"}, {"avx2"}])
def test_products_are_left_to_mkl_where_onednn_would_round_or_gain_nothing(monkeypatch, cpu):
    monkeypatch.setattr(device, "_cpu_has", cpu.__contains__)
    assert not device._onednn_is_exact.__wrapped__()


@pytest.mark.parametrize(
    ("cpu", "bears_rounding", "precision"),
    [
        ({"amx_tile"}, False, "bf16"),
        ({"avx512_bf16"}, False, "fp32"),
        ({"avx512_bf16"}, True, "bf16"),
        ((), True, "fp32"),
    ],
)
def test_auto_takes_bf16_where_it_gains_much_or_the_method_bears_it(monkeypatch, cpu, bears_rounding, precision):
    monkeypatch.setattr(device, "_cpu_has", set(cpu).__contains__)
    assert Compute.choose("cpu", "auto", bears_rounding).precision == precision
    assert Compute.choose("cpu", "fp32", bears_rounding).precision == "fp32"
