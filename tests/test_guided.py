"""The guided recipe: views, guide, stages, and the run around them."""

import itertools
import math

import numpy as np
import pytest
import torch
from clusterloom.guide import layout, make_guide, refined_guide, sampled_graph
from clusterloom.networks.guided import GuidedObjective, Representation
from sklearn.datasets import load_digits
from sklearn.metrics import mutual_info_score

from clusterloom import ConvVAEClusterer, ModelError, SettingsError, losses
from clusterloom import guide as guide_module
from clusterloom.estimators import guided
from clusterloom.metrics import clustering_accuracy_score, expected_calibration_error
from clusterloom.networks.conv import ConvNetwork, ConvSettings
from clusterloom.networks.vae import ClusterVAE, ConvNetworkSettings
from clusterloom.recipe.augment import (
    SIGNS,
    THINGS,
    ViewSettings,
    are_signs,
    choose_views,
    random_views,
    symmetric_shares,
    widened,
)
from clusterloom.training.loop import DivergedError, Trainer
from clusterloom.training.plan import one_cycle

QUICK = {"hidden_dim": 32, "epochs": 8, "random_state": 0}


def digits(n=300):
    return np.rint(load_digits().images[:n] * 255 / 16).astype(np.uint8)


def numbers(n, seed=0):
    return torch.randn(n, 11, generator=torch.Generator().manual_seed(seed))


# Views


def test_views_that_do_not_stray_are_the_image():
    x = torch.rand(5, 3, 9, 12)
    torch.testing.assert_close(random_views(x, numbers(5), ViewSettings()), x)


def test_mirrors_and_turns_move_pixels_where_they_belong():
    x = torch.rand(64, 1, 8, 8)
    mirrored = random_views(x, numbers(64), ViewSettings(mirror_horizontally=True))
    kinds = [torch.isclose(mirrored, y, atol=1e-5).flatten(1).all(1) for y in (x, x.flip(3))]
    assert (kinds[0] | kinds[1]).all()
    assert 16 < kinds[0].sum() < 48
    turned = random_views(x, numbers(64), ViewSettings(quarter_turns=True))
    same = torch.stack([torch.isclose(turned, x.rot90(k, (2, 3)), atol=1e-5).flatten(1).all(1) for k in range(4)])
    assert (same.sum(0) == 1).all()
    assert (same.sum(1) > 5).all()


def test_a_rotated_view_is_the_rotated_image():
    """A quarter turn by the angle alone, against torch's own."""
    x = torch.rand(1, 1, 8, 8)
    most = torch.full((1, 11), 9.0)  # erf(9 / sqrt 2) is 1: the largest change to one side
    turned = random_views(x, most, ViewSettings(rotation_degrees=90))
    assert any(torch.allclose(turned, x.rot90(k, (2, 3)), atol=1e-4) for k in (1, 3))


def test_windows_stay_inside_and_light_changes_pixels():
    x = torch.ones(40, 1, 10, 10)
    x[:, :, 0] = x[:, :, -1] = x[:, :, :, 0] = x[:, :, :, -1] = 0.5
    crop = random_views(x, numbers(40), ViewSettings(window_area=(0.2, 0.3)))
    assert crop.mean() > x.mean()  # less of the dark frame is seen
    light = random_views(torch.full((40, 1, 4, 4), 0.5), numbers(40), ViewSettings(brightness=0.4))
    assert light.min() >= 0.3 - 1e-6
    assert light.max() <= 0.7 + 1e-6
    assert light.std() > 0.05


def test_colour_views_turn_hues_and_leave_grey_and_brightness_alone():
    settings = ViewSettings(hue_degrees=60, saturation=1)
    assert settings.numbers == 13
    drawn = torch.randn(50, 13, generator=torch.Generator().manual_seed(0))
    grey = torch.rand(50, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(random_views(grey, drawn, settings), grey, atol=2e-3, rtol=0)
    colour = 0.5 + 0.05 * torch.tensor([1.0, -0.2, -0.6]).view(1, 3, 1, 1).expand(50, -1, 4, 4)
    seen = random_views(colour, drawn, settings)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((seen * luma).sum(1), (colour * luma).sum(1), atol=1e-4, rtol=0)
    assert (seen - seen.mean(1, keepdim=True)).abs().amax((1, 2, 3)).min() < 0.02  # some are almost grey
    assert len({tuple(v.argsort().tolist()) for v in seen[:, :, 0, 0]}) > 1  # in others the hue is another


def test_colour_images_get_colour_views():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 12, 12, 3)).astype(np.uint8)
    assert choose_views(images).changes_colour
    assert not choose_views(images[..., :1]).changes_colour
    assert are_signs(choose_views(images)) == are_signs(choose_views(images[..., :1]))


def test_places_beyond_the_edge_are_moved_onto_it_where_borders_are_unknown():
    from clusterloom.views import _onto_pixels

    x, grid = torch.rand(4, 2, 5, 7), 4 * torch.rand(4, 5, 7, 2) - 2
    expected = torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    moved = torch.nn.functional.grid_sample(x, _onto_pixels(grid, 5, 7), align_corners=False)
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_views_and_contrasts_are_not_rounded_under_bf16():
    x, settings = torch.rand(8, 3, 32, 32), ViewSettings(rotation_degrees=30, hue_degrees=60)
    drawn = torch.randn(8, settings.numbers)
    exact = random_views(x, drawn, settings)
    first, second = torch.randn(8, 16), torch.randn(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(random_views(x, drawn, settings), exact)
        contrast = losses.contrastive_loss(first, second, 0.3)
    assert torch.equal(contrast, losses.contrastive_loss(first, second, 0.3))


def test_views_are_a_function_of_their_numbers():
    x = torch.rand(6, 1, 8, 8)
    whole = random_views(x, numbers(6), SIGNS)
    torch.testing.assert_close(whole[2:4], random_views(x[2:4], numbers(6)[2:4], SIGNS), rtol=0, atol=0)
    assert not torch.equal(whole, random_views(x, numbers(6, seed=1), SIGNS))


def quarters(n=200):
    """Four kinds of images that are each other's mirror images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    images = rng.integers(0, 60, (n, 12, 12, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 6 * (label // 2), 6 * (label % 2)
        image[top : top + 6, left : left + 6] += 180
    return images, labels


def test_the_images_alone_decide_on_views():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16] - 7.5
    discs = np.stack([255 * (rows**2 + columns**2 < r**2) for r in rng.uniform(2, 7, 60)]).astype(np.uint8)[..., None]
    assert set(symmetric_shares(discs).values()) == {1.0}
    views = choose_views(discs)
    assert views.mirror_horizontally
    assert views.mirror_vertically
    assert views.quarter_turns
    assert views.window_area == THINGS.window_area
    half = discs.copy()
    half[:, :, :8] = 0  # right halves: up and down may be swapped, left and right may not
    shares = symmetric_shares(half)
    assert (shares["mirror_horizontally"], shares["mirror_vertically"]) == (0.0, 1.0)
    assert choose_views(half) == SIGNS
    assert choose_views(digits()[..., None]) == SIGNS


def test_mirror_images_of_other_kinds_are_no_symmetry():
    assert max(symmetric_shares(quarters()[0]).values()) == 0
    assert choose_views(np.zeros((2, 8, 10, 1), np.uint8)) == SIGNS


def test_widened_views_stray_farther_but_see_as_much():
    assert widened(SIGNS).rotation_degrees > SIGNS.rotation_degrees
    assert widened(THINGS) == THINGS


# Losses


def test_contrastive_loss_is_a_choice_among_all_other_views():
    a, b = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    points = [p / p.norm() for p in (*a, *b)]
    expected = []
    for i in range(6):
        partner = (i + 3) % 6
        others = sum(math.exp(float(points[i] @ points[j]) / 0.5) for j in range(6) if j != i)
        expected.append(-math.log(math.exp(float(points[i] @ points[partner]) / 0.5) / others))
    per_image = torch.tensor([(expected[i] + expected[i + 3]) / 2 for i in range(3)], dtype=torch.float64)
    torch.testing.assert_close(losses.contrastive_loss(a, b, 0.5), per_image)
    with pytest.raises(SettingsError, match="shapes"):
        losses.contrastive_loss(a, b[:2], 0.5)
    with pytest.raises(SettingsError, match="temperature"):
        losses.contrastive_loss(a, b, 0.0)


def test_cross_entropy_and_balance_equal_torch_distributions():
    q = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], dtype=torch.float64)
    p = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], dtype=torch.float64)
    own = torch.distributions.Categorical(p)
    divergence = torch.distributions.kl_divergence(own, torch.distributions.Categorical(q))
    torch.testing.assert_close(losses.cross_entropy(q.log(), p), divergence + own.entropy())
    shares = torch.tensor([0.2, 0.8, 0.0], dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(shares), torch.distributions.Categorical(q.mean(0))
    )
    torch.testing.assert_close(losses.balance_loss(q, shares), expected.expand(2))
    dead = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert losses.balance_loss(dead, torch.full((3,), 1 / 3, dtype=torch.float64)) > 5


def test_calibration_error_of_known_tables():
    proba = np.array([[0.9, 0.1]] * 10)
    assert expected_calibration_error([0] * 9 + [1], proba) == pytest.approx(0)
    assert expected_calibration_error([0] * 5 + [1] * 5, proba) == pytest.approx(0.4)


# Networks


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_strides_give_the_shape_that_pools_give(size):
    pooled, strided = (ConvNetwork(1, ConvSettings(4, 5, 2, kind, True)) for kind in ("pool", "stride"))
    x = torch.rand(2, 1, *size)
    assert pooled(x).shape == strided(x).shape == (2, 4, math.ceil(size[0] / 2), math.ceil(size[1] / 2))


def small_vae(n_clusters=3):
    conv = {"conv_filters": (4, 4), "conv_kernels": (3, 3), "batch_norm": True}
    settings = ConvNetworkSettings(latent_dim=2, hidden_dim=16, category_input="features", **conv)
    torch.manual_seed(0)
    return ClusterVAE(settings, (8, 8, 1), n_clusters)


def test_objectives_train_what_they_are_for():
    x, generator = torch.rand(6, 1, 8, 8), torch.Generator().manual_seed(0)
    vae = small_vae()
    representation = Representation(vae, SIGNS, reconstruct=False)
    sum(t.sum() for t in representation(x, representation.draw_noise(6, generator)).terms.values()).backward()
    assert vae.encoder.weight.grad is not None
    assert vae.decoder[0].weight.grad is None
    assert vae.category_encoder[0].weight.grad is None
    assert {id(p) for p in vae.parameters() if p.grad is None} == {id(p) for p in representation.left_alone()}
    objective = GuidedObjective(vae, SIGNS, torch.full((3,), 1 / 3))
    output = objective(x, objective.draw_noise(6, generator), torch.eye(3)[[0, 1, 2, 0, 1, 2]])
    assert set(output.terms) == {"reconstruction", "kl", "guidance", "agreement", "balance"}
    assert all(term.shape == (6,) for term in output.terms.values())
    sum(t.sum() for t in output.terms.values()).backward()
    assert all(p.grad is not None for p in vae.parameters())


def test_refitted_classes_are_the_latents_own_moments():
    vae, rng = small_vae(2), np.random.default_rng(0)
    q = torch.eye(2)[torch.arange(20_000) % 2]
    factor = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    mu = torch.from_numpy(rng.standard_normal((20_000, 2)).astype(np.float32)) @ factor.T + 5 * q
    vae.refit_classes(q, mu, torch.full((20_000, 2), math.log(0.25)))
    torch.testing.assert_close(vae.class_means.detach(), 5 * torch.eye(2), atol=0.05, rtol=0)
    covariance = vae.scale_tril[0] @ vae.scale_tril[0].T
    torch.testing.assert_close(covariance, factor @ factor.T + 0.25 * torch.eye(2), atol=0.05, rtol=0)


def test_a_cluster_without_images_keeps_its_mean_and_gets_the_common_covariance():
    vae = small_vae(2)
    q = torch.tensor([[1.0, 0.0]]).repeat(500, 1)
    mu = torch.from_numpy(np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32))
    vae.refit_classes(q, mu, torch.full((500, 2), -9.0))
    assert vae.class_means[1].tolist() == [0, 0]
    assert torch.isfinite(vae.scale_tril).all()


# Guide


def blobs(n=400, k=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    return (12 * np.eye(k, 16)[labels] + rng.standard_normal((n, 16))).astype(np.float32), labels


def guide_of(points, n_clusters, seed):
    views = tuple(points + np.random.default_rng(i).standard_normal(points.shape).astype(np.float32) for i in (1, 2))
    return make_guide(points, layout(points, seed), n_clusters, seed, views)


@pytest.mark.parametrize("n", [60, 400])
def test_a_guide_finds_blobs_and_repeats(n):
    points, labels = blobs(n)
    guide, again = guide_of(points, 4, seed=3), guide_of(points, 4, seed=3)
    assert clustering_accuracy_score(labels, guide.q.argmax(1)) > 0.98
    assert np.array_equal(guide.q, again.q)
    assert (np.diff(np.bincount(guide.q.argmax(1), minlength=4)) <= 0).all()  # numbered by falling size
    np.testing.assert_allclose(guide.q.sum(1), 1, rtol=1e-5)


def test_a_guide_refines_what_it_is_given_and_keeps_the_numbers():
    points, labels = blobs()
    q = np.eye(4, dtype=np.float32)[(labels + 1) % 4]
    q[:20] = 0.25
    refined = refined_guide(layout(points, 0), q, seed=0).q.argmax(1)
    assert np.array_equal(refined, (labels + 1) % 4)


@pytest.mark.parametrize("limit", [0, 0.1, math.inf])
def test_of_almost_equally_likely_mixtures_the_one_that_tells_most_of_views_is_taken(monkeypatch, limit):
    points = blobs(400, 6)[0]
    told = itertools.count()  # as if the less likely mixtures, which are judged later, told more
    monkeypatch.setattr(guide_module, "mutual_info_score", lambda *labels: float(next(told)))
    monkeypatch.setattr(guide_module, "_ALMOST_NATS", limit)
    finalists = guide_of(points, 4, 0).finalists
    assert len(finalists) > 1
    likeliest = max(likely for likely, _ in finalists)
    assert finalists[0][1] == max(shared for likely, shared in finalists if likely >= likeliest - limit)


def test_views_that_cross_a_border_speak_against_it(monkeypatch):
    """Six blobs, of which views swap three pairs: of mixtures of three clusters that with one pair each is taken."""
    monkeypatch.setattr(guide_module, "_ALMOST_NATS", math.inf)  # which mixtures are likely is the layout's to say
    points, labels = blobs(600, 6)
    partner = np.array([np.flatnonzero(labels == (label ^ 1))[i % 60] for i, label in enumerate(labels)])
    guide = make_guide(points, layout(points, 0), 3, 0, (points, points[partner]))
    best = max(shared for _, shared in guide.finalists)
    assert guide.finalists[0][1] == best
    pairs = guide.q.argmax(1)
    told = mutual_info_score(pairs, pairs[partner])
    assert told == pytest.approx(best, abs=0.02)


def test_what_views_share_is_in_nats():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 40_000)
    assert mutual_info_score(first, first) == pytest.approx(math.log(4), abs=1e-3)
    assert mutual_info_score(first, rng.integers(0, 4, 40_000)) == pytest.approx(0, abs=1e-3)
    assert mutual_info_score(first, np.zeros_like(first)) == pytest.approx(0, abs=1e-12)
    half = np.where(rng.random(40_000) < 0.5, first, first ^ 1)  # the pair is kept, which of the two is not
    assert mutual_info_score(first, half) == pytest.approx(math.log(2), abs=1e-3)


def test_nearest_points_of_many_are_almost_those_of_an_exact_search(monkeypatch):
    points, _ = blobs(900, 6)
    queries = blobs(300, 6, seed=1)[0]
    (exact,) = guide_module._nearest(points, (queries,), seed=0)
    monkeypatch.setattr(guide_module, "_GRAPH_POINTS", 100)
    threads = torch.get_num_threads()
    found, again = guide_module._nearest(points, (queries, queries), seed=0)
    assert torch.get_num_threads() == threads
    assert np.array_equal(found, again)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]) > 0.95
    assert np.array_equal(found, guide_module._nearest(points, (queries,), seed=0)[0])
    rows, graph = sampled_graph(points, 0)
    assert len(rows) == 100
    assert graph.diagonal().sum() == 0
    assert (graph != graph.T).nnz == 0


def test_one_cluster_and_one_point():
    assert guide_of(np.ones((1, 3), np.float32), 1, 0).q.tolist() == [[1.0]]
    assert guide_of(blobs(50)[0], 1, 0).q.shape == (50, 1)


# The recipe


@pytest.fixture(scope="module")
def fitted():
    return ConvVAEClusterer(**QUICK).fit(digits())


def test_the_guide_leaves_the_number_of_threads():
    """Hard case 15: numba's pool would change it."""
    before = torch.get_num_threads()
    assert len(digits()) > 200, "fewer have no graph"
    ConvVAEClusterer(**QUICK).fit(digits())
    assert torch.get_num_threads() == before


def test_stages_make_one_history(fitted):
    stages = [record["stage"] for record in fitted.history_]
    assert stages == ["represent"] * 4 + ["fit-1"] * 2 + ["fit-2"] * 2
    assert [record["epoch"] for record in fitted.history_] == list(range(1, 9))
    seconds = [record["seconds"] for record in fitted.history_]
    assert seconds == sorted(seconds)
    stages = {"represent", "layout", "guide-1", "fit-1", "guide-2", "fit-2"}
    assert set(fitted.about_["recipe"]["stage_seconds"]) == stages


def test_it_sorts_digits_and_new_images_look_like_their_clusters():
    loaded = load_digits()
    images = np.rint(loaded.images * 255 / 16).astype(np.uint8)
    model = ConvVAEClusterer(epochs=40, random_state=0).fit(images)
    assert clustering_accuracy_score(loaded.target, model.labels_) > 0.8
    right = []
    for cluster in range(10):
        new = (model.sample(40, cluster, random_state=0) * 255).astype(np.uint8)
        right.append((model.predict(new) == cluster).mean())
    assert np.mean(right) > 0.9


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, fitted):
    """Stopped once in every stage, and each time taken up again."""
    step, stop_at = Trainer._step, {"left": 0}

    def stops(self, *arguments):
        if stop_at["left"] == 0:
            raise KeyboardInterrupt
        stop_at["left"] -= 1
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", stops)
    model = ConvVAEClusterer(**QUICK, run_dir=str(tmp_path), resume=True)
    interruptions = 0
    for _ in range(40):
        stop_at["left"] = 17
        try:
            model.fit(digits())
            break
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions >= 2
    assert np.array_equal(model.predict_proba(digits()), fitted.predict_proba(digits()))
    assert [r["loss"] for r in model.history_] == [r["loss"] for r in fitted.history_]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 8


def test_guides_are_not_made_twice(tmp_path, monkeypatch):
    calls = []
    for name in ("make_guide", "refined_guide"):
        make = getattr(guided, name)
        monkeypatch.setattr(guided, name, lambda *a, make=make: (calls.append(1), make(*a))[1])
    for _ in range(2):
        ConvVAEClusterer(**QUICK, run_dir=str(tmp_path), resume=True).fit(digits())
    assert len(calls) == 2


def test_divergence_without_clusters_keeps_nothing_and_later_keeps_the_last_epoch(monkeypatch):
    """Hard case 8 for stages."""
    check = Trainer._check_finite
    for bad_epoch, kept in ((2, False), (6, True)):
        calls = []

        def fails(self, sums, calls=calls, bad_epoch=bad_epoch):
            calls.append(1)
            if len(calls) == bad_epoch:
                raise FloatingPointError("contrast became NaN or infinite")
            check(self, sums)

        monkeypatch.setattr(Trainer, "_check_finite", fails)
        model = ConvVAEClusterer(**QUICK)
        with pytest.raises(DivergedError, match="became NaN"):
            model.fit(digits())
        assert hasattr(model, "network_") is kept
        if kept:
            assert len(model.history_) == 5
            assert model.predict(digits()).shape == (300,)


def test_large_sets_are_guided_by_a_sample(monkeypatch):
    monkeypatch.setattr(guided, "MAX_POINTS", 250)
    images, labels = quarters(400)
    model = ConvVAEClusterer(4, epochs=40, random_state=0).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) > 0.95


@pytest.mark.parametrize("shape", [(8, 8), (13, 9, 3), (32, 40)])
def test_any_image_size_gets_networks_that_fit(shape):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8)
    model = ConvVAEClusterer(3, hidden_dim=8, epochs=4, random_state=0).fit(images)
    assert model.sample(2, 0).shape == (2, *shape, *(() if len(shape) == 3 else (1,)))


def test_one_cycle_rises_and_falls():
    values = [one_cycle(p) for p in np.linspace(0, 1, 101)]
    assert max(values) == values[30] == pytest.approx(1)
    assert values[:31] == sorted(values[:31])
    assert values[30:] == sorted(values[30:], reverse=True)


@pytest.mark.parametrize("change", [{"colour_views": False}, {"n_clusters": (2, 4)}, {"random_state": 1}])
def test_other_settings_do_not_go_on_with_a_run(tmp_path, monkeypatch, change):
    """Stages without training, such as the layout, depend on them too."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    common = {"n_clusters": (2, 3), "hidden_dim": 8, "epochs": 4, "random_state": 0, "run_dir": str(tmp_path)}

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(guided, "make_guide", killed)
    with pytest.raises(KeyboardInterrupt):
        ConvVAEClusterer(**common).fit(images)
    with pytest.raises(ModelError, match="other settings"):
        ConvVAEClusterer(**{**common, **change}, resume=True).fit(images)
    with pytest.raises(SettingsError, match="random_state"):
        ConvVAEClusterer(**{**common, "random_state": None}, resume=True).fit(images)


def test_unknown_start():
    with pytest.raises(SettingsError, match="start must be guided or random"):
        ConvVAEClusterer(start="magic").fit(digits())
