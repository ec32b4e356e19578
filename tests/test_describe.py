"""What `describe` says of a network, against counts worked out by hand."""

import numpy as np
import torch
from PIL import Image

from clusterloom.networks.describe import describe
from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings, NetworkSettings


def paper(**changes):
    settings = {"conv_filters": (16, 32), "conv_kernels": (3, 5), "conv_downsample": "pool", "concatenate": True}
    settings |= {"latent_dim": 20, "hidden_dim": 512}
    return ClusterVAE(ConvNetworkSettings(**settings | changes), (28, 28, 1), n_clusters=10)


def test_the_papers_network():
    network = paper(category_input="features")
    parts = {part.name: part for part in describe(network)}
    assert list(parts) == ["Con_Layer1", "Con_Layer2", "encoder", "category encoder", "decoder", "TranCon_Layer1"]
    assert parts["Con_Layer1"].input_shape == (1, 28, 28)
    assert parts["Con_Layer1"].parameters == 9 * 16 + 16
    assert parts["Con_Layer2"].output_shape == (32, 7, 7)
    assert parts["Con_Layer2"].parameters == 25 * 16 * 32 + 32
    assert parts["Con_Layer2"].layers == ("conv 5x5, 32 filters", "ReLU", "max-pool 2x2")
    assert parts["encoder"].input_shape == (4704,)
    assert parts["encoder"].layers == ("dense 4704 -> 512", "ReLU", "dense 512 -> 40")
    assert parts["category encoder"].output_shape == (10,)
    assert parts["decoder"].output_shape == (3136,)
    assert parts["TranCon_Layer1"].output_shape == (1, 28, 28)
    assert sum(p.parameters for p in parts.values()) + network.class_means.numel() == sum(
        p.numel() for p in network.parameters()
    )


def test_the_second_decoder():
    network = ClusterVAE(ConvNetworkSettings(latent_dim=5, hidden_dim=16), (28, 28, 1), n_clusters=3, refines=True)
    *_, last = describe(network)
    assert (last.name, last.input_shape, last.output_shape) == ("refiner", (2, 28, 28), (1, 28, 28))
    assert last.parameters == sum(p.numel() for p in network.refiner.parameters())
    assert "conv 3x3, 4 filters" in last.layers[-1]  # four pixels of a square


def test_other_shapes_and_nothing_left_behind():
    linear = {part.name: part for part in describe(paper(encoder_activation="none"))}
    assert linear["encoder"].layers == ("dense 4704 -> 512", "dense 512 -> 40")
    network = ClusterVAE(NetworkSettings(latent_dim=20, hidden_dim=100), (28, 28, 1), n_clusters=10)
    parts = {part.name: part for part in describe(network)}
    assert list(parts) == ["encoder", "category encoder", "decoder"]
    assert (parts["encoder"].reads, parts["category encoder"].reads) == ("image", "z")
    conv = {"conv_filters": (4,), "conv_kernels": (3,), "conv_depth": 2, "conv_downsample": "stride"}
    deep = paper(**conv, batch_norm=True, concatenate=False).train()
    stats = deep.encoder_norm.running_mean.clone()
    first, *_ = describe(deep)
    half = ("conv 3x3, 4 filters, stride 2", "batch norm", "ReLU")
    assert first.layers == ("conv 3x3, 4 filters", "batch norm", "ReLU", *half)
    assert deep.training
    assert torch.equal(deep.encoder_norm.running_mean, stats)
    assert not any(m._forward_hooks for m in deep.modules())


def test_command_line(tmp_path, capsys):
    from clusterloom import ConvVAEClusterer
    from clusterloom.cli.program import run

    model = tmp_path / "model"
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)
    ConvVAEClusterer(3, latent_dim=2, hidden_dim=8, epochs=1, random_state=0).fit(images).save(model)
    assert run(["describe", str(model), "--out", str(tmp_path / "figure.png")]) == 0
    out = capsys.readouterr().out
    assert "Con_Layer2" in out
    assert "class means" in out
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 800
    assert run(["describe", str(model), "--out", str(tmp_path / "figure.txt")]) == 2
    assert "expected a name that ends in .png" in capsys.readouterr().err
    assert run(["describe", str(tmp_path / "none")]) == 2
