"""Stage 7: what it learns, what it leaves alone, and what new images gain by it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipe_helpers import QUICK, digits, fitted_digits, hues, textures
from test_recipe_objectives import small_vae

from clusterloom import GuidedClusterer, load_model
from clusterloom.networks.refiner import Refiner
from clusterloom.recipe.budget import Epochs
from clusterloom.recipe.learning.guidance import patch_distance
from clusterloom.recipe.learning.refine import FlowObjective, _measure
from clusterloom.training.loop import Trainer


@pytest.fixture(scope="module")
def fitted():
    return fitted_digits()


@pytest.fixture(scope="module")
def plain():
    return GuidedClusterer(10, refine=False, **QUICK).fit(digits())


def sharpness(images):
    """Mean squared Laplacian of images (N, H, W, C)."""
    around = images[:, :-2, 1:-1] + images[:, 2:, 1:-1] + images[:, 1:-1, :-2] + images[:, 1:-1, 2:]
    return np.square(4 * images[:, 1:-1, 1:-1] - around).mean()


def test_the_objective_is_the_error_of_the_velocity_and_trains_the_refiner_alone():
    vae = small_vae()
    refiner = Refiner((8, 8, 1), 2, 3)
    refiner.deviations.fill_(0.25)
    objective = FlowObjective(vae, refiner)
    x, noise = torch.rand(5, 1, 8, 8), objective.draw_noise(5, torch.Generator().manual_seed(0))
    posteriors = torch.cat([torch.randn(5, 2), torch.full((5, 2), -2.0)], 1)
    output = objective(x, noise, posteriors)
    time, of_latents, of_pixels = noise[:, 0], noise[:, 1:3], noise[:, 3:].reshape(5, 1, 8, 8)
    z = posteriors[:, :2] + np.exp(-1) * of_latents
    start = vae.decode(z) + 0.25 * of_pixels
    t = time[:, None, None, None]
    velocity = refiner((1 - t) * start + t * x, vae.decode(z), z, time)
    expected = ((velocity - x + start) ** 2).mean((1, 2, 3)) / 0.25**2
    torch.testing.assert_close(output.terms["flow"], expected)
    output.terms["flow"].sum().backward()
    assert all(p.grad is None for p in vae.parameters())
    assert refiner.last.weight.grad.abs().sum() > 0
    assert {id(p) for p in objective.parameters()} == {id(p) for p in refiner.parameters()}


def test_times_are_spread_evenly_and_latents_and_pixels_are_normal():
    objective = FlowObjective(small_vae(), Refiner((8, 8, 1), 2, 3))
    noise = objective.draw_noise(4000, torch.Generator().manual_seed(0))
    assert noise.shape == (4000, 1 + 2 + 64)
    assert noise[:, 0].min() >= 0
    assert noise[:, 0].max() <= 1
    np.testing.assert_allclose(np.quantile(noise[:, 0], [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    assert float(noise[:, 1:].std()) == pytest.approx(1, abs=0.01)


def test_clusters_do_not_depend_on_it(fitted, plain):
    assert np.array_equal(fitted.predict_proba(digits()), plain.predict_proba(digits()))
    assert np.array_equal(fitted.score_samples(digits()), plain.score_samples(digits()))
    assert np.array_equal(fitted.reconstruct(digits()), plain.reconstruct(digits()))
    assert [r["stage"] for r in plain.history_] == [r["stage"] for r in fitted.history_[:-1]]
    assert fitted.refines
    assert not plain.refines
    assert plain.network_.refiner is None


def test_it_is_a_stage_with_a_record_of_its_own(fitted):
    last = [record for record in fitted.history_ if record["stage"] == "refine"]
    assert len(last) == Epochs.split(8, 300, (8, 8, 1)).refine == 1
    assert [record["epoch"] for record in fitted.history_] == list(range(1, 10))
    assert set(last[0]) >= {"loss", "flow", "seconds"}
    assert {"refine", "latents"} <= set(fitted.about_["recipe"]["stage_seconds"])


def test_refined_images_are_sharper_and_plain_ones_are_the_decoders(fitted):
    """On textures, which a decoder blurs most."""
    images, _ = textures(240)
    model = GuidedClusterer(3, epochs=32, random_state=0).fit(images)
    soft, sharp = (
        np.concatenate([model.sample(40, k, random_state=k, plain=plain) for k in range(3)]) for plain in (True, False)
    )
    real = sharpness(images / 255.0)
    assert sharpness(soft) < 0.5 * real
    assert 0.5 * real < sharpness(sharp) < 2 * real
    rng = np.random.default_rng(3)
    latents = fitted.sample_latents(np.full(4, 2), 1.0, rng)
    np.testing.assert_array_equal(fitted.sample(4, 2, random_state=3, plain=True), fitted.decode(latents))


def test_a_model_without_it_has_no_plain_images_beside_its_own(plain):
    assert np.array_equal(plain.sample(4, 1, random_state=0), plain.sample(4, 1, random_state=0, plain=True))


def test_a_loaded_model_draws_the_same_images(fitted, plain, tmp_path):
    for name, model in (("refined", fitted), ("plain", plain)):
        model.save(tmp_path / name)
        loaded = load_model(tmp_path / name)
        assert loaded.refines == model.refines
        assert np.array_equal(loaded.sample(6, random_state=1), model.sample(6, random_state=1))
    card = (tmp_path / "refined" / "README.md").read_text()
    assert "generate --plain" in card
    fit = [record for record in fitted.history_ if record["stage"] == "fit-2"][-1]
    assert f"| final loss, nats per image | {fit['loss']:.3f} |" in card  # that of the model, not of the last stage
    assert "--plain" not in (tmp_path / "plain" / "README.md").read_text()


def test_an_interrupted_stage_goes_on_to_the_same_bits(fitted, tmp_path, monkeypatch):
    step, done = Trainer._step, []

    def stops(self, *arguments):
        if self.stage == "refine":
            done.append(1)
            if len(done) == 4:
                raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", stops)
    model = GuidedClusterer(10, **QUICK, run_dir=str(tmp_path), resume=True)
    with pytest.raises(KeyboardInterrupt):
        model.fit(digits())
    model.fit(digits())
    assert np.array_equal(model.sample(8, random_state=0), fitted.sample(8, random_state=0))
    assert [record["loss"] for record in model.history_] == [record["loss"] for record in fitted.history_]


def test_latents_of_a_cluster_with_two_parts_are_drawn_from_both(monkeypatch):
    """One Gaussian would put a third of them between."""
    from clusterloom.recipe.learning import refine as stage

    vae = small_vae(n_clusters=2)
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 400) * 20.0 - 10
    mu = np.stack([side, rng.standard_normal(400)], 1).astype(np.float32)
    posteriors = np.hstack([mu, np.full((400, 2), -4, np.float32)])
    labels = np.r_[np.zeros(390, int), np.ones(10, int)]  # the second has too few for more than its Gaussian

    class Run:
        def cached(self, name, compute):
            return compute()

        def progress(self, *_):
            pass

    mixtures = Refiner((8, 8, 1), 2, 2).latents
    with torch.no_grad():
        vae.class_means[1] = 3.0
    stage.fit_latents(mixtures, vae, Run(), labels, posteriors, 0)
    drawn = mixtures.draw(np.zeros(1000, int), rng)
    assert (np.abs(drawn[:, 0]) > 5).all()
    assert (drawn[:, 0] > 0).mean() == pytest.approx((side[:390] > 0).mean(), abs=0.05)
    np.testing.assert_allclose(mixtures.draw(np.ones(2000, int), rng).mean(0), [3, 3], atol=0.1)


def test_guidance_brings_patches_of_new_images_nearer_to_those_of_real_ones(fitted):
    """What is made and compared is the same both times but for it."""
    network, run = fitted.network_, SimpleNamespace(compute=GuidedClusterer().compute())
    images = digits()[..., None]
    posteriors = np.zeros((len(images), 2 * network.latent_dim), np.float32)
    posteriors[:, : network.latent_dim] = fitted.transform(images)
    chosen = float(network.refiner.guidance)

    measure = patch_distance(network, run, images, posteriors, 0)

    def distance(guidance):
        network.refiner.guidance.fill_(guidance)
        return measure(network.refined)

    assert 1 < chosen < 2
    try:
        assert distance(chosen) < distance(1.0)
    finally:
        network.refiner.guidance.fill_(chosen)


@pytest.mark.parametrize("n", [1, 12])
def test_a_cluster_of_few_images_has_new_ones(n):
    model = GuidedClusterer(1, hidden_dim=8, epochs=4, random_state=0).fit(digits(n))
    assert np.isfinite(model.sample(3, random_state=0)).all()


def test_a_spread_of_zero_is_one_image_and_more_is_more_varied(fitted):
    assert np.ptp(fitted.sample(3, 2, spread=0.0, random_state=0), axis=0).max() < 1e-5  # but for rounding
    spreads = [fitted.sample(64, 2, spread, random_state=0, checked=False).std(0).mean() for spread in (0.3, 1.0)]
    assert spreads[0] < spreads[1]


def test_refined_images_that_the_model_would_put_elsewhere_are_drawn_again(fitted, monkeypatch):
    def agree():
        clusters = np.arange(200) % 10
        return (fitted.predict(fitted.sample(200, clusters, random_state=0)) == clusters).mean()

    checked = agree()
    monkeypatch.setattr("clusterloom.estimators.variational._REFINED_REDRAWS", 0)
    assert agree() < checked


def test_where_it_would_leave_grain_the_decoder_is_left_alone(tmp_path):
    """Smooth pictures in many colours, too few to learn from."""
    images, _ = hues(60)
    model = GuidedClusterer(3, epochs=4, random_state=0).fit(images)
    assert not model.refines
    assert np.array_equal(model.sample(6, random_state=0), model.sample(6, random_state=0, plain=True))
    model.save(tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    assert not loaded.refines
    assert np.array_equal(loaded.sample(6, random_state=1), model.sample(6, random_state=1))
    assert "New images are soft" in (tmp_path / "m" / "README.md").read_text()
    model.network_.refiner.helps.fill_(True)  # as it would be otherwise
    grain = sharpness(model.sample(60, random_state=0)) / sharpness(model.sample(60, random_state=0, plain=True))
    assert grain > 2


def test_a_decoder_that_has_learned_nothing_is_not_asked():
    """Of a training that broke off, say; with weights of zero it would hand on the noise that it is given."""
    network = GuidedClusterer(3).new_network((8, 8, 1), 3)
    network.refiner = Refiner((8, 8, 1), network.latent_dim, 3)
    z, noise = torch.zeros(2, network.latent_dim), torch.ones(2, 1, 8, 8)
    assert network.refined(z, noise).equal(network.decode(z))


def network_that_decodes(decode):
    """As far as the measures look: 8 x 8 pixels, one channel, latents of two dimensions."""
    return SimpleNamespace(image_shape=(8, 8, 1), latent_dim=2, decode=decode)


def grey(z):
    return torch.full((len(z), 1, 8, 8), 0.5)


def test_where_squares_are_crowded_noise_is_alike_where_errors_are():
    """Vertical stripes at random, in 17 equal channels: errors are equal along a column, not in the one beside."""
    stripes = np.random.default_rng(0).integers(0, 2, (500, 1, 8, 1)).astype(np.float32)
    images = np.broadcast_to(stripes, (500, 8, 8, 17)).copy()
    run, refiner = SimpleNamespace(compute=GuidedClusterer().compute()), Refiner((8, 8, 17), 2, 3)
    _measure(refiner, network_that_decodes(grey), run, images, np.zeros((500, 4), np.float32), 0)
    noise = refiner.noise(torch.randn(2000, 17, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert float(noise.std()) == pytest.approx(0.5, abs=0.02)
    deviations = noise / 0.5
    assert float((deviations[:, 0, 0] * deviations[:, 0, 7]).mean()) == pytest.approx(1, abs=0.05)
    assert float((deviations[:, 0] * deviations[:, 16]).mean()) == pytest.approx(1, abs=0.05)
    assert float((deviations[:, 0, :, 0] * deviations[:, 0, :, 1]).mean()) == pytest.approx(0, abs=0.1)


def test_decoded_and_refined_images_are_compared_with_real_ones_by_their_patches():
    """Real images are stripes and decoded ones grey. Stripes of half the contrast are better, and grain is not."""
    images = np.zeros((40, 8, 8, 1), np.float32)
    images[:, ::2] = 1
    stripes = torch.from_numpy(images[:1]).permute(0, 3, 1, 2)
    run = SimpleNamespace(compute=GuidedClusterer().compute())

    distance = patch_distance(network_that_decodes(grey), run, images, np.zeros((40, 4), np.float32), 0)

    decoded = distance(lambda z, noise: grey(z))
    assert distance(lambda z, noise: (0.25 + stripes / 2).expand_as(noise)) == pytest.approx(decoded / 2, rel=0.01)
    assert distance(lambda z, noise: 0.5 + 2 * noise) > decoded
