"""Muon: kernels step as matrices do in PyTorch's own, and all else as in AdamW."""

import pytest
import torch
from torch import nn

from clusterloom import device
from clusterloom.training import muon
from clusterloom.training.adamw import AdamW
from clusterloom.training.muon import Muon


def test_kernels_step_as_matrices_and_the_rest_as_in_adamw():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 20, generator=generator)
    kernel = nn.Parameter(matrix.view(6, 5, 2, 2).clone().contiguous(memory_format=torch.channels_last))
    bias, weight = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(4, 6))
    theirs, others = nn.Parameter(matrix.clone()), [nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(4, 6))]
    ours = Muon(
        [kernel, bias, weight, nn.Parameter(torch.ones(2, 2, 2, 2))], 0.01, 0.1, 0.8
    )  # the last has no gradient
    reference = torch.optim.Muon([theirs], 0.04, 0.1 / 4, adjust_lr_fn="match_rms_adamw")
    adam = AdamW(others, 0.01, 0.1)
    for _ in range(4):
        gradient = torch.randn(6, 20, generator=generator)
        kernel.grad, theirs.grad = gradient.view(6, 5, 2, 2), gradient
        for a, b in zip((bias, weight), others, strict=True):
            a.grad = b.grad = torch.randn(a.shape, generator=generator)
        for optimizer in (ours, reference, adam):
            optimizer.step()
    assert torch.equal(bias, others[0])
    assert torch.equal(weight, others[1])
    # PyTorch's own rounds to bfloat16 on the way.
    assert torch.allclose(kernel.detach().flatten(1), theirs.detach(), atol=2e-3)
    assert not torch.allclose(matrix, theirs.detach(), atol=2e-2)
    assert len(ours.state) == 3


@pytest.mark.parametrize(("rows", "by"), [(64, "ieee"), (65, "bf16")])
def test_small_squares_are_multiplied_by_mkl(monkeypatch, rows, by):
    if not device._onednn_is_exact():
        pytest.skip("oneDNN multiplies nothing here")
    seen, polynomial = set(), muon._polynomial

    def noting(square):
        seen.add(torch.backends.mkldnn.matmul.fp32_precision)
        return polynomial(square)

    monkeypatch.setattr(muon, "_polynomial", noting)
    with device.products_by_onednn():
        muon.orthogonal(torch.ones(rows, 70))
    assert seen == {by}
