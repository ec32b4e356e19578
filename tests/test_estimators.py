"""Estimators: scikit-learn's conventions, what they promise of themselves, and what they save."""

import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_clustering, parametrize_with_checks

from clusterloom import (
    AutoencoderClusterer,
    ConvVAEClusterer,
    DataError,
    DataWarning,
    DECClusterer,
    GuidedClusterer,
    ImageSet,
    SettingsError,
    VAEClusterer,
    load_model,
)
from clusterloom.data.ids import RowIds
from clusterloom.errors import CollapseWarning
from clusterloom.estimators.validation import images_from
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.training.loop import DivergedError

# scikit-learn's checks use tables of a few columns and 50 rows: small networks, and a reconstruction weight that makes
# two or three "pixels" count. `check_clustering` alone wants clusters that are right: only there training is long.
TABLES = {"latent_dim": 2, "hidden_dim": 32, "batch_size": 16, "reconstruction_weight": 1000.0, "epochs": 2}
LAYERS = {"hidden_dims": (32,), "latent_dim": 8, "pretrain_epochs": 2, "finetune_epochs": 2, "batch_size": 16}
FOR_CHECKS = [
    VAEClusterer(**TABLES),
    ConvVAEClusterer(**TABLES, conv_filters=(32,), conv_kernels=(3,), conv_downsample="stride"),
    GuidedClusterer(10, latent_dim=2, hidden_dim=32, epochs=3, refine=False),
    DECClusterer(**LAYERS),
    AutoencoderClusterer(**LAYERS),
]
LONG_ENOUGH = {
    "vae": {"epochs": 60, "learning_rate": 1e-2},
    "convvae": {"epochs": 60, "learning_rate": 1e-2, "category_weight": 0.3},
    "guided": {"epochs": 40},
    "dec": {"pretrain_epochs": 20, "finetune_epochs": 20},
    "ae-kmeans": {"pretrain_epochs": 20, "finetune_epochs": 20},
}
LITERAL = {"prior": "standard", "kl": "analytic", "category_formula": "printed", "category_input": "features"}
SMALL = {"latent_dim": 4, "hidden_dim": 24, "epochs": 2, "batch_size": 32, "random_state": 3}
ESTIMATORS = [
    pytest.param((GuidedClusterer, {"n_clusters": 10, "conv_filters": (4, 4), "epochs": 3}), id="guided"),
    pytest.param((ConvVAEClusterer, {"conv_filters": (4, 4)}), id="convvae"),
    pytest.param((VAEClusterer, {}), id="vae"),
]


@pytest.mark.filterwarnings("ignore::clusterloom.errors.CollapseWarning")
@pytest.mark.filterwarnings("ignore::clusterloom.errors.DataWarning")
@parametrize_with_checks(FOR_CHECKS)
def test_scikit_learn_conventions(estimator, check):
    if check.func is check_clustering:
        estimator = clone(estimator).set_params(**LONG_ENOUGH[estimator.method])
    check(estimator)


def digits(n=150):
    return np.rint(load_digits().images[:n] * 255 / 16).astype(np.uint8)


@pytest.fixture(params=ESTIMATORS, scope="module")
def make(request):
    cls, own = request.param
    return lambda **changes: cls(**{**SMALL, **own, **changes})


@pytest.fixture(scope="module")
def fitted(make):
    return make().fit(digits())


def stripes(n=240):
    """Four kinds of images that anyone can tell apart: a bright quarter each, with noise."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, n)
    images = rng.integers(0, 60, (n, 12, 12)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = 6 * (label // 2), 6 * (label % 2)
        image[top : top + 6, left : left + 6] += 180
    return images, labels


FOR_STRIPES = {
    "latent_dim": 8,
    "hidden_dim": 64,
    "epochs": 60,
    "learning_rate": 3e-3,
    "reconstruction_weight": 50.0,
    "random_state": 0,
}


def test_easy_images_are_sorted(make):
    images, labels = stripes()
    model = make(n_clusters=4, **FOR_STRIPES).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) > 0.95


def test_printed_formulas_do_not_sort_them():
    images, labels = stripes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        model = ConvVAEClusterer(4, **{**FOR_STRIPES, **LITERAL}).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) < 0.6


def test_predict_is_the_argmax_and_labels_are_predict(fitted):
    images = digits()
    proba = fitted.predict_proba(images)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    assert np.array_equal(fitted.predict(images), proba.argmax(1))
    assert np.array_equal(fitted.labels_, fitted.predict(images))
    assert fitted.cluster_sizes_.sum() == len(images)


def test_an_answer_does_not_depend_on_the_other_images(fitted):
    images = digits(600)
    together = fitted.predictions(images)
    for rows in ([5], [599, 0, 17]):
        alone = fitted.predictions(images[rows])
        for name, values in alone.items():
            assert np.array_equal(values, together[name][rows]), name


def test_the_seed_repeats_and_another_does_not(make, fitted):
    again, other = make().fit(digits()), make(random_state=4).fit(digits())
    assert np.array_equal(again.predict_proba(digits()), fitted.predict_proba(digits()))
    assert not np.array_equal(other.predict_proba(digits()), fitted.predict_proba(digits()))


def test_global_state_is_as_before(make):
    torch.manual_seed(11)
    np.random.seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()
    model = make(random_state=None).fit(digits())
    model.predict(digits(5))
    model.sample(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert torch.get_num_threads() == before[2]


def test_layouts_are_the_same_images(make, fitted):
    images = digits()
    expected = fitted.predict_proba(images)
    for layout in (images[..., None], images.reshape(150, 64), images.tolist()):
        model = make().fit(layout if not isinstance(layout, list) else np.array(layout, np.uint8))
        assert np.array_equal(model.predict_proba(np.asarray(layout, np.uint8)), expected)
    image_set = ImageSet(images[..., None], RowIds(range(150)), None, (), "digits", ())
    assert np.array_equal(make().fit(image_set).predict_proba(image_set), expected)


def test_floats_in_the_unit_interval_are_the_same_images(fitted):
    np.testing.assert_allclose(
        fitted.predict_proba(digits() / 255.0), fitted.predict_proba(digits()), rtol=1e-3, atol=1e-5
    )


def test_colour_and_odd_sizes(make):
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 13, 3)).astype(np.uint8)
    model = make(n_clusters=3).fit(images)
    assert model.reconstruct(images[:2]).shape == (2, 9, 13, 3)
    assert model.sample(4, cluster=1).shape == (4, 9, 13, 3)


def test_other_numbers_are_scaled_by_the_training_range(make):
    images = digits().astype(np.float32) * 10 - 500
    model = make().fit(images)
    assert model.pixel_range_ == (-500.0, 2050.0)
    np.testing.assert_allclose(model.predict_proba(images), make().fit(digits()).predict_proba(digits()), atol=1e-2)


def test_reconstructions_come_closer_with_training(make):
    images = digits()
    errors = [
        np.square(make(epochs=epochs, learning_rate=3e-3).fit(images).reconstruct(images)[..., 0] - images / 255).mean()
        for epochs in (3, 40)
    ]
    assert errors[1] < errors[0] * 0.8


def test_noise_variances_are_the_mean_squared_errors(make):
    images = digits()
    model = make().fit(images)
    errors = np.square(model.reconstruct(images) - images[..., None] / 255).mean(0)
    found = model.network_.pixel_variances.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, np.maximum(errors, 1e-4), rtol=1e-3)
    assert found.max() > 1e-3


def test_scores_rank_noise_below_the_training_images(make):
    images = digits()
    model = make(epochs=40, learning_rate=3e-3).fit(images)
    is_guided = make().method == "guided"  # whose decoder weighs little and is weak after 200 steps
    noise = np.random.default_rng(0).integers(0, 256, images.shape).astype(np.uint8)
    assert model.score_samples(noise).max() < np.median(model.score_samples(images))
    predicted = model.predictions(noise)
    assert predicted["outlier"].mean() > (0 if is_guided else 0.8)
    assert np.array_equal(predicted["outlier"], predicted["score"] < model.outlier_threshold_)
    assert model.predictions(images)["outlier"].mean() < 0.02


def test_samples(fitted):
    one, same, other = (fitted.sample(6, cluster=2, random_state=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1
    assert np.ptp(fitted.sample(3, cluster=2, spread=0.0), axis=0).max() < 1e-5  # but for rounding
    assert fitted.sample(7).shape == (7, 8, 8, 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"cluster": 10}, "no cluster 10; the clusters are 0 to 9"),
        ({"n_samples": 2, "cluster": np.array([9, -1])}, "no cluster -1; the clusters are 0 to 9"),
        ({"n_samples": 2, "cluster": np.array([9])}, r"one cluster is wanted, or 2; got shape \(1,\)"),
        ({"cluster": "ones"}, "clusters are whole numbers from 0 to 9, got 'ones'"),
        ({"cluster": 1.5}, "clusters are whole numbers from 0 to 9, got 1.5"),
        ({"n_samples": 0}, "n_samples must be a whole number from 1 on, got 0"),
        ({"n_samples": 2.0}, "n_samples must be a whole number from 1 on, got 2.0"),
        ({"spread": -1.0}, "spread must be a number from 0 on, got -1.0"),
        ({"spread": "wide"}, "spread must be a number from 0 on, got 'wide'"),
        ({"random_state": -1}, "random_state must be a whole number from 0 on or None, got -1"),
    ],
)
def test_sample_arguments_out_of_range(fitted, arguments, text):
    with pytest.raises(SettingsError, match=text):
        fitted.sample(**arguments)


def test_unfitted(make):
    for use in (lambda m: m.predict(digits()), lambda m: m.sample(1), lambda m: m.save("nowhere")):
        with pytest.raises(NotFittedError):
            use(make())


def test_save_and_load_are_exact(make, fitted, tmp_path):
    images = digits()
    fitted.save(tmp_path / "model")
    for loaded in (load_model(tmp_path / "model"), type(fitted).load(tmp_path / "model")):
        for name, values in fitted.predictions(images).items():
            assert np.array_equal(loaded.predictions(images)[name], values), name
        assert np.array_equal(loaded.labels_, fitted.labels_)
        assert loaded.history_ == fitted.history_
        assert loaded.get_params()["random_state"] == 3
        assert np.array_equal(loaded.sample(4, 1, random_state=0), fitted.sample(4, 1, random_state=0))
    assert np.array_equal(make(**loaded.get_params()).fit(images).predict_proba(images), fitted.predict_proba(images))


def test_not_a_number_names_the_first_image(make):
    for bad in (np.nan, np.inf):
        images = digits() / 255.0
        images[17, 3, 3] = images[40, 0, 0] = bad
        with pytest.raises(DataError, match=r"NaN or infinity.* number 17, from 0"):
            make().fit(images)


@pytest.mark.parametrize("n", [10, 33, 65])
def test_awkward_numbers_of_images(make, n):
    assert make().fit(digits(n)).labels_.shape == (n,)


def test_fewer_images_than_clusters(make):
    with pytest.raises(SettingsError, match="9 samples are too few for n_clusters=10"):
        make().fit(digits(9))
    assert make(n_clusters=1).fit(digits(1)).labels_.tolist() == [0]


def test_one_cluster_in_a_run_that_is_kept(make, tmp_path):
    model = make(n_clusters=1, run_dir=str(tmp_path)).fit(digits(60))
    assert model.labels_.tolist() == [0] * 60
    assert np.allclose(model.confidences_, 1)


def test_equal_and_duplicate_images_warn_and_finish(make):
    with pytest.warns(DataWarning, match="all images are equal"):
        model = make(n_clusters=3).fit(np.full((50, 8, 8), 77, np.uint8))
    assert np.isfinite(model.predict_proba(np.full((2, 8, 8), 77, np.uint8))).all()
    with pytest.warns(DataWarning, match="50% of the images repeat"):
        make().fit(np.concatenate([digits(75), digits(75)]))


def test_wrong_shapes_and_ranges_at_prediction(fitted, make):
    with pytest.raises(DataError, match=r"\(9, 8, 1\).*expects \(8, 8, 1\)"):
        fitted.predict(np.zeros((3, 9, 8), np.uint8))
    with pytest.raises(DataError, match="between 0 and 255"):
        fitted.predict(digits(3).astype(float))


def test_image_shape_of_tables():
    images = np.random.default_rng(0).integers(0, 256, (30, 6 * 8 * 3)).astype(np.uint8)
    model = ConvVAEClusterer(3, **SMALL, image_shape=(6, 8, 3)).fit(images)
    assert model.image_shape_ == (6, 8, 3)
    with pytest.raises(SettingsError, match="has 128 values per image, but the rows have 144"):
        ConvVAEClusterer(3, **SMALL, image_shape=(8, 16)).fit(images)
    with pytest.raises(SettingsError, match="image_shape must be"):
        ConvVAEClusterer(3, **SMALL, image_shape=(144,)).fit(images)


def test_settings_that_do_not_fit():
    with pytest.raises(SettingsError, match="smallest size is 4 x 4"):
        ConvVAEClusterer(**SMALL).fit(np.random.default_rng(0).random((20, 3, 9)))
    with pytest.raises(SettingsError, match="one number per conv network"):
        ConvVAEClusterer(**SMALL, conv_filters=(4, 4, 4), conv_kernels=(3, 3)).fit(digits())
    with pytest.raises(SettingsError, match="unknown device 'abacus'"):
        ConvVAEClusterer(**SMALL, device="abacus").fit(digits())
    with pytest.raises(SettingsError, match="tracker must be tensorboard or mlflow, or none; got 'foo'"):
        ConvVAEClusterer(**SMALL, tracker="foo").fit(digits())
    with pytest.raises(SettingsError, match="tracker needs run_dir"):
        ConvVAEClusterer(**SMALL, tracker="tensorboard").fit(digits())


def test_parameters_may_be_numbers_of_numpy(make, tmp_path):
    """As from a loop over `np.arange` or a grid of arrays."""
    model = make(n_clusters=np.int64(3), latent_dim=np.int64(4), run_dir=str(tmp_path / "run")).fit(digits())
    model.save(tmp_path / "model")
    assert np.array_equal(load_model(tmp_path / "model").predict(digits()), model.labels_)


@pytest.mark.parametrize("method", [ConvVAEClusterer, VAEClusterer])
def test_one_image_cannot_be_normalised(method):
    with pytest.raises(SettingsError, match="set batch_norm to false"):
        method(1, **SMALL, batch_norm=True).fit(digits()[:1])
    assert ConvVAEClusterer(1, **SMALL).fit(digits()[:1]).labels_.tolist() == [0]
    assert len(ConvVAEClusterer(2, **SMALL, batch_norm=True).fit(digits()[:33]).labels_) == 33


def test_a_second_fit_that_fails_leaves_the_first_as_it_was():
    model = VAEClusterer(3, **SMALL).fit(digits())
    before, said = vars(model).copy(), model.predict_proba(digits())
    with pytest.raises(SettingsError, match="too few"):
        model.fit(np.zeros((2, 9, 9), np.uint16))
    assert vars(model) == before
    np.testing.assert_array_equal(model.predict_proba(digits()), said)


def test_equal_images_are_no_outliers(make):
    for image in digits()[:4]:
        images = np.repeat(image[None], 40, 0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = make().fit(images)
        assert not model.predictions(images)["outlier"].any()


def test_divergence_keeps_the_last_good_epoch(make, monkeypatch):
    if make().method == "guided":
        pytest.skip("its learning rates depend on the number of epochs; see test_recipe_guided")
    good = make(epochs=1).fit(digits())
    model = make(epochs=5)
    from clusterloom.training import loop

    check, calls = loop.Trainer._check_finite, []

    def fails_later(self, sums):
        calls.append(1)
        if len(calls) == 2:
            raise FloatingPointError("kl became NaN or infinite")
        check(self, sums)

    monkeypatch.setattr(loop.Trainer, "_check_finite", fails_later)
    with pytest.raises(DivergedError, match="epoch 2"):
        model.fit(digits())
    assert np.array_equal(model.predict_proba(digits()), good.predict_proba(digits()))


def test_out_of_memory_suggests_the_batch_size(make, monkeypatch):
    from clusterloom.errors import TrainingError
    from clusterloom.training.loop import Trainer

    def starved(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    monkeypatch.setattr(Trainer, "_step", starved)
    with pytest.raises(TrainingError, match="batches of 32 images; try batch_size=16"):
        make().fit(digits())


def test_tensorboard_gets_every_epoch(make, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = make(tracker="tensorboard", run_dir=str(tmp_path), epochs=3).fit(digits())
    logs = [accumulator.EventAccumulator(str(path)) for path in tmp_path.rglob("events.out.tfevents*")]
    for log in logs:
        log.Reload()
    (log,) = [log for log in logs if "loss" in log.Tags()["scalars"]]
    assert [point.step for point in log.Scalars("loss")] == list(range(1, len(model.history_) + 1))


def test_mlflow_gets_every_epoch_and_the_settings(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # MLflow sets it
    import mlflow

    model = ConvVAEClusterer(3, **SMALL, conv_filters=(4, 4), tracker="mlflow", run_dir=str(tmp_path / "run"))
    model.fit(digits())
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert (run.info.status, run.data.params["n_clusters"]) == ("FINISHED", "3")
    logged = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in logged] == [(r["epoch"], r["loss"]) for r in model.history_]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_cuda_model_answers_alike_on_the_cpu(make, precision, tmp_path):
    make(device="cuda", precision=precision, epochs=5).fit(digits()).save(tmp_path / "model")
    on_gpu, on_cpu = (load_model(tmp_path / "model").set_params(device=device) for device in ("cuda", "cpu"))
    on_gpu.set_params(precision="fp32")
    on_gpu.network_.to("cuda")
    on_cpu.network_.to("cpu")
    np.testing.assert_allclose(on_gpu.predict_proba(digits()), on_cpu.predict_proba(digits()), atol=1e-2)


def test_whatever_is_no_knob_value_is_refused_by_name():
    for arguments, text in (
        ({"n_clusters": 3.0}, "n_clusters must be a whole number of at least 1.*; got 3.0"),
        ({"n_clusters": True}, "n_clusters must be"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0; got nan"),
        ({"random_state": -1}, "random_state must be a whole number of at least 0"),
    ):
        with pytest.raises(SettingsError, match=text):
            ConvVAEClusterer(**{**SMALL, **arguments}).fit(digits())
    with pytest.raises(SettingsError, match="n_clusters must be a range that rises from 2 or more; got 4 to 2"):
        GuidedClusterer((4, 2)).fit(digits())
    with pytest.raises(TypeError, match="latent_dims"):
        ConvVAEClusterer(latent_dims=3)


def test_generators_of_numpy_are_seeds(make):
    """The same generator gives the same model; the check of the parameters draws nothing from it."""
    for new in (np.random.RandomState, np.random.default_rng):
        model = make(random_state=new(5))
        model.check_parameters()
        again = make(random_state=new(5)).fit(digits())
        assert np.array_equal(model.fit(digits()).predict_proba(digits()), again.predict_proba(digits()))


def test_names_of_data_are_not_images(make):
    with pytest.raises(DataError, match="got the text 'digits'; load_images reads it"):
        make().fit("digits")
    with pytest.raises(DataError, match=r"\(N, H, W, C\) or \(N, D\); got \(1, 9, 8, 8, 1\)"):
        make().fit(digits(9)[None, ..., None])


def test_channels_may_come_first(make):
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 9)).astype(np.uint8)
    first, last = make(n_clusters=3).fit(images), make(n_clusters=3).fit(np.moveaxis(images, 1, 3))
    assert first.image_shape_ == (8, 9, 3)
    assert np.array_equal(first.predict_proba(images), last.predict_proba(np.moveaxis(images, 1, 3)))


def test_images_come_back_in_the_range_that_went_in(make):
    images = digits().astype(np.float32) * 10 - 500
    model = make().fit(images)
    for made in (model.reconstruct(images), model.sample(5, 1, random_state=0)):
        assert -500 <= made.min() < made.max() <= 2050
        assert np.ptp(made) > 50
        assert 0 <= model.to_unit(made).min() < model.to_unit(made).max() <= 1


def test_a_set_is_brought_to_the_range_that_training_saw(make):
    """A set of 8 bits knows which values became 0 and 255; another set may have had others."""
    images = digits()[..., None]
    twelve_bits = ImageSet(images, RowIds(range(150)), None, (), "a", (), (0.0, 4080.0))
    half = ImageSet(images // 2, RowIds(range(150)), None, (), "b", (), (0.0, 8160.0))  # the same values
    model = make(precision="fp32").fit(twelve_bits)  # 16 bits would round the two alike images apart
    assert model.pixel_range_ == (0.0, 4080.0)
    np.testing.assert_allclose(model.predict_proba(half), model.predict_proba(twelve_bits), atol=0.05)
    np.testing.assert_allclose(
        model.predict_proba(digits().astype(np.uint16) * 16), model.predict_proba(twelve_bits), atol=1e-3
    )
    with pytest.raises(DataError, match="trained on values from 0 to 4080, and c holds pixels of 8 bits"):
        model.predict(ImageSet(images, RowIds(range(150)), None, (), "c", ()))


def test_a_set_with_another_range_is_brought_to_it_in_little_memory():
    pixels = np.random.default_rng(0).integers(0, 256, (4096, 64, 64, 1)).astype(np.uint8)
    images = ImageSet(pixels, RowIds(range(len(pixels))), None, (), "a", (), (100.0, 610.0))
    estimator = SimpleNamespace(image_shape_=(64, 64, 1), pixel_range_=(0.0, 1000.0))
    tracemalloc.start()
    found = images_from(estimator, images, reset=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, (100 + 2.0 * pixels) / 1000, atol=1e-6)
    assert peak < 12 * pixels.nbytes


def test_dark_images_are_taken_with_a_warning():
    with pytest.warns(DataWarning, match="images use 0 to 15 of 255"):
        VAEClusterer(3, **SMALL).fit(digits() // 16)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        VAEClusterer(3, **SMALL).fit(digits())


def test_wide_numbers_far_from_zero_lose_nothing(make):
    images = digits(60)
    near, far = (make(random_state=0).fit(images.astype(np.float64) + offset) for offset in (300, 1e9))
    np.testing.assert_allclose(far.transform(images + 1e9), near.transform(images + 300.0), atol=1e-4)


def test_an_interrupt_after_training_leaves_the_estimator_as_it_was(make, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    model, fitted = make(), make().fit(digits(60))
    before = fitted.predict_proba(digits(20))
    monkeypatch.setattr(type(model), "_describe_training", interrupted)
    for estimator in (model, fitted):
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(digits(80)[::-1])
    with pytest.raises(NotFittedError):
        model.predictions(digits(2))
    np.testing.assert_array_equal(fitted.predict_proba(digits(20)), before)
    assert len(fitted.labels_) == 60


def test_names_of_columns_are_forgotten_with_the_table(make):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(digits(60).reshape(60, -1)).rename(columns=str)
    model = make(image_shape=(8, 8)).fit(table)
    assert len(model.feature_names_in_) == 64
    model.fit(digits(60))
    assert not hasattr(model, "feature_names_in_")


def test_a_model_that_diverged_is_kept_only_if_it_says_something():
    model = ConvVAEClusterer(3, latent_dim=3, hidden_dim=16, conv_filters=(4, 4), epochs=3, learning_rate=1e8)
    with pytest.raises(DivergedError, match="no model with clusters to keep"):
        model.fit(digits(100))
    assert not hasattr(model, "network_")
