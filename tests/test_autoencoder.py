"""Deep embedded clustering and autoencoder + k-means: formulas, stages, resume, files."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from clusterloom import AutoencoderClusterer, DECClusterer, SettingsError, load_model
from clusterloom.cli.program import run
from clusterloom.losses import student_t_assignments, target_distribution
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.networks.autoencoder import (
    AutoencoderNetworkSettings,
    ClusterAutoencoder,
    EmbeddedClustering,
    LayerPretraining,
    Reconstruction,
)

QUICK = {"hidden_dims": (64, 32), "latent_dim": 5, "pretrain_epochs": 3, "finetune_epochs": 10}
QUICK |= {"batch_size": 32, "learning_rate": 3e-3, "random_state": 0}


def digits(n=300):
    loaded = load_digits()
    return np.rint(loaded.images[:n] * 255 / 16).astype(np.uint8), loaded.target[:n]


def small():
    torch.manual_seed(0)
    return ClusterAutoencoder(AutoencoderNetworkSettings(hidden_dims=(8, 7), latent_dim=4), (5, 6, 2), 3)


def test_formulas_1_and_3_by_hand():
    z, means = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).double(), torch.tensor([[0.0, 1.0], [3.0, 4.0]]).double()
    kernel = np.array([[1 / 2, 1 / 26], [1 / 19, 1.0]])
    q = student_t_assignments(z, means)
    np.testing.assert_allclose(q, kernel / kernel.sum(1, keepdims=True))
    f = q.numpy() ** 2 / q.numpy().sum(0)
    np.testing.assert_allclose(target_distribution(q), f / f.sum(1, keepdims=True))
    assert (target_distribution(q).max(1).values > q.max(1).values).all()


def test_layers_are_trained_one_at_a_time():
    network = small()
    for index, (inputs, outputs) in enumerate([(60, 8), (8, 7), (7, 4)]):
        stage = LayerPretraining(network, index)
        assert sum(p.numel() for p in stage.parameters()) == 2 * inputs * outputs + inputs + outputs
        x = torch.rand(3, 2, 5, 6)
        noise = stage.draw_noise(3, torch.Generator().manual_seed(0))
        assert noise.shape == (3, inputs + outputs)
        stage(x, noise).terms["reconstruction"].sum().backward()
        assert all(p.grad is not None for p in stage.parameters())
        assert all(layer.weight.grad is None for layer in network.encoder[index + 1 :])


def test_a_fifth_of_the_units_is_dropped_and_the_rest_makes_up_for_it():
    from clusterloom.networks.autoencoder import _dropped

    kept = _dropped(torch.ones(200, 500), torch.randn(200, 500, generator=torch.Generator().manual_seed(0)))
    assert float((kept == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(kept.mean()) == pytest.approx(1, abs=0.01)


def test_the_objectives_of_the_whole_network():
    network = small()
    with torch.no_grad():
        network.class_means.normal_()
    network.scale_to(0.25)
    x = torch.rand(4, 2, 5, 6)
    whole = Reconstruction(network)
    loss = whole(x, whole.draw_noise(4, torch.Generator())).terms["reconstruction"]
    again = whole.decoder[0](network.latents(x)).relu()
    again = whole.decoder[2](whole.decoder[1](again).relu())
    inputs = 2 * x.permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(loss, 0.5 * ((inputs - again) ** 2).sum(1))
    clustering = EmbeddedClustering(network)
    q = network.assign(x).detach()
    target = target_distribution(q)
    terms = clustering(x, torch.empty(4, 0), target).terms["clustering"]
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(target), torch.distributions.Categorical(q)
    )
    torch.testing.assert_close(terms.detach(), expected)
    terms.sum().backward()
    assert network.class_means.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.decoder.parameters())
    assert (clustering(x, torch.empty(4, 0), q).terms["clustering"].abs() < 1e-6).all()


def test_bf16_leaves_latents_and_assignments_in_32_bits():
    network = small()
    x = torch.rand(64, 2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        z, q = network.latents(x), network.assign(x)
        loss = EmbeddedClustering(network)(x, torch.empty(64, 0), target_distribution(q)).terms["clustering"]
    for part in (z, q, loss):
        assert part.dtype == torch.float32
    assert (z != z.bfloat16().float()).float().mean() > 0.5
    torch.testing.assert_close(z, network.latents(x), rtol=0.02, atol=0.02)
    assert not torch.equal(z, network.latents(x))  # the layers before are in bfloat16


def test_k_means_is_on_the_latents_and_dec_goes_on_from_it():
    images, labels = digits()
    long_enough = {**QUICK, "finetune_epochs": 30}  # with 10 the accuracy is 0.3 to 0.6, as the seed falls
    plain = AutoencoderClusterer(10, **long_enough).fit(images)
    latents = plain.transform(images)
    distances = np.square(latents[:, None] - plain.network_.class_means.detach().numpy()).sum(2)
    assert np.mean(distances.argmin(1) == plain.labels_) > 0.99
    again = KMeans(10, n_init=20, random_state=0).fit(latents)  # from other starts, so only as good
    assert distances.min(1).sum() == pytest.approx(again.inertia_, rel=0.02)
    dec = DECClusterer(10, **long_enough, epochs=20).fit(images)
    stages = [record["stage"] for record in dec.history_]
    assert stages[:39] == ["layer-1"] * 3 + ["layer-2"] * 3 + ["layer-3"] * 3 + ["finetune"] * 30
    assert set(stages[39:]) == {"clustering"}
    assert float(dec.network_.input_scale) == pytest.approx(1 / np.sqrt(np.mean((images / 255) ** 2)), rel=1e-5)
    # Drawn to its own target it becomes surer than the start.
    assert dec.predict_proba(images).max(1).mean() > plain.predict_proba(images).max(1).mean() + 0.05
    assert clustering_accuracy_score(labels, dec.labels_) > 0.5


def test_it_stops_when_few_images_move():
    images, _ = digits(200)
    patient = DECClusterer(3, **QUICK, epochs=30, tolerance=0.0).fit(images)
    hasty = DECClusterer(3, **QUICK, epochs=30, tolerance=0.2).fit(images)
    assert len(patient.history_) == 9 + 10 + 30
    assert len(hasty.history_) < len(patient.history_)


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    from clusterloom.training.progress import MetricsFile

    images, _ = digits(200)
    settings = {**QUICK, "epochs": 4, "tolerance": 0.0}
    whole = DECClusterer(5, **settings).fit(images)
    on_epoch = MetricsFile.on_epoch

    def stop_in_clustering(self, record):
        on_epoch(self, record)
        if record["epoch"] == 21:
            raise KeyboardInterrupt

    monkeypatch.setattr(MetricsFile, "on_epoch", stop_in_clustering)
    with pytest.raises(KeyboardInterrupt):
        DECClusterer(5, **settings, run_dir=str(tmp_path)).fit(images)
    monkeypatch.setattr(MetricsFile, "on_epoch", on_epoch)
    resumed = DECClusterer(5, **settings, run_dir=str(tmp_path), resume=True).fit(images)
    assert np.array_equal(resumed.predict_proba(images), whole.predict_proba(images))
    assert len(resumed.history_) == len(whole.history_)


def test_saved_and_loaded(tmp_path):
    images, _ = digits(120)
    model = DECClusterer(4, **QUICK, epochs=2).fit(images)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    for name, values in model.predictions(images).items():
        assert np.array_equal(loaded.predictions(images)[name], values), name
    assert np.array_equal(loaded.reconstruct(images), model.reconstruct(images))
    assert "generate" not in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"tolerance": 1.0}, {"pretrain_epochs": 0}, {"hidden_dims": (0,)}, {"n_clusters": "auto"}],
)
def test_bad_parameters_are_refused(changes):
    with pytest.raises(SettingsError, match=f"{next(iter(changes))} must be"):
        DECClusterer(**{"n_clusters": 3, **QUICK, **changes}).fit(digits(50)[0])


def test_command_line(tmp_path, capsys):
    out = tmp_path / "model"
    assert run(["fit", "digits", "--limit", "200", "--method", "ae-kmeans", "--out", str(out)]) == 0
    assert (out / "clusters.png").exists()
    assert not (out / "generated.png").exists()
    assert run(["predict", str(out), "digits", "--limit", "20", "--out", str(tmp_path / "l.csv")]) == 0
    capsys.readouterr()
    for command, text in (
        (["generate", str(out), "--out", str(tmp_path / "g.png")], "makes no new images"),
        (["describe", str(out)], "describe knows variational models"),
        (["fit", "digits", "--method", "dec", "--set", "prior=class", "--out", str(tmp_path / "m")], "no knob 'prior'"),
    ):
        assert run(command) == 2
        assert text in capsys.readouterr().err
