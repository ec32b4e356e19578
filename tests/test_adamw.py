"""AdamW: the same steps as PyTorch's own, and no compiler."""

import subprocess
import sys

import torch
from torch import nn

from clusterloom.training.adamw import AdamW


def test_every_step_is_that_of_torch_optim():
    x, y = torch.randn(2, 40, 6, generator=torch.Generator().manual_seed(0))
    networks = []
    for _ in range(2):
        torch.manual_seed(1)
        networks.append(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6), nn.Linear(6, 1)))
    ours = AdamW(networks[0].parameters(), 1e-2, 0.1)
    theirs = torch.optim.AdamW(networks[1].parameters(), 1e-2, weight_decay=0.1, fused=True)
    for step in range(5):
        rate = ours.learning_rate = 1e-2 / (step + 1)
        theirs.param_groups[0]["lr"] = rate
        for network, optimizer in zip(networks, (ours, theirs), strict=True):
            optimizer.zero_grad()
            ((network[:3](x) - y) ** 2).mean().backward()  # the last layer gets no gradient
            optimizer.step()
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)
    assert len(ours.state) == 4
    for a, b in zip(ours.state.values(), theirs.state.values(), strict=True):
        assert all(torch.equal(a[name], b[name]) for name in b)


def test_a_fit_imports_no_compiler():
    code = (
        "import sys, numpy as np; from clusterloom import GuidedClusterer;"
        "images = np.random.default_rng(0).integers(0, 256, (40, 8, 8)).astype(np.uint8);"
        "GuidedClusterer(2, hidden_dim=8, epochs=3, random_state=0).fit(images);"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
