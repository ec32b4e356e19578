"""What a model says of every image, the map, and the cache that keeps both."""

import os
from dataclasses import replace

import numpy as np
import pytest

from clusterloom import AutoencoderClusterer, ConvVAEClusterer, DECClusterer, VAEClusterer
from clusterloom.data import ImageSet
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError, SettingsError
from clusterloom.map_layout import _landmarks, _placed, draw_map
from clusterloom.metrics import sampled_silhouette_score, silhouette_of, silhouette_sample
from clusterloom.predictions import Predictions, joint_features, predict_images, predict_totals

ESTIMATORS = {
    "convvae": ConvVAEClusterer(3, latent_dim=3, hidden_dim=16, conv_filters=(4,), conv_kernels=(3,), epochs=2),
    "vae": VAEClusterer(3, latent_dim=3, hidden_dim=16, epochs=2),
    "dec": DECClusterer(3, hidden_dims=(16,), latent_dim=3, pretrain_epochs=1, finetune_epochs=1, epochs=2),
    "ae-kmeans": AutoencoderClusterer(3, hidden_dims=(16,), latent_dim=3, pretrain_epochs=1, finetune_epochs=1),
}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))


def image_set(n=60):
    pixels = np.random.default_rng(0).integers(0, 80, (n, 8, 8, 1)).astype(np.uint8)
    pixels[::2, :, :4] += 160
    return ImageSet(pixels, RowIds(range(n)), None, (), "bars", ())


def make(proba, latents=None, position=None):
    proba = np.array(proba, np.float32)
    n = len(proba)
    latents = np.zeros((n, 2), np.float32) if latents is None else np.array(latents, np.float32)
    position = np.zeros((n, 2), np.float32) if position is None else position
    return Predictions(proba, latents, np.zeros(n, np.float32), np.zeros(n, bool), position)


def blobs(n, n_blobs=3, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_blobs
    return (8 * np.eye(dim)[labels] + rng.standard_normal((n, dim))).astype(np.float32), labels


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_can_be_asked(name):
    images = image_set()
    model = ESTIMATORS[name].set_params(random_state=0).fit(images)
    made = predict_images(model, images)
    said = model.predictions(images)
    for field in ("proba", "latents", "score", "outlier"):
        np.testing.assert_array_equal(getattr(made, field), said[field])
    assert made.position.shape == (60, 2)
    assert made.position.dtype == np.float32
    assert np.isfinite(made.position).all()
    assert made.position.std() > 0.1
    np.testing.assert_array_equal(made.labels, model.labels_)
    np.testing.assert_array_equal(made.sizes, model.cluster_sizes_)


def test_totals_are_what_all_predictions_at_once_come_to(monkeypatch):
    """In blocks of 16, the last one with 12; latents in the order in which they are asked for."""
    monkeypatch.setattr("clusterloom.predictions._BLOCK", 16)
    images = image_set()
    model = ESTIMATORS["convvae"].set_params(random_state=0).fit(images)
    said, rows = model.predictions(images), silhouette_sample(60, 25)
    totals = predict_totals(model, images, rows)
    np.testing.assert_array_equal(totals.labels, said["proba"].argmax(1))
    np.testing.assert_array_equal(totals.confidence, said["proba"].max(1))
    for name in ("score", "outlier"):
        np.testing.assert_array_equal(getattr(totals, name), said[name])
    np.testing.assert_array_equal(totals.latents, said["latents"][rows])
    assert silhouette_of(totals.latents, totals.labels[rows]) == sampled_silhouette_score(
        said["latents"], said["proba"].argmax(1), 25
    )
    assert len(predict_totals(model, images, rows[:0]).latents) == 0


def test_labels_confidence_and_sizes_come_from_the_probabilities():
    made = make([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.7, 0.3, 0.0]])
    np.testing.assert_array_equal(made.labels, [0, 1, 0])
    np.testing.assert_allclose(made.confidence, [0.9, 0.8, 0.7])
    np.testing.assert_array_equal(made.sizes, [2, 1, 0])
    assert made.labels.dtype == np.int64
    assert len(made) == 3
    assert made.n_clusters == 3


def test_the_typical_are_near_the_middle_and_the_doubtful_least_certain():
    latents = [[0, 0], [1, 0], [-1, 0], [5, 0], [-5, 0.1], [50, 50]]
    made = make([[0.9, 0.1], [0.8, 0.2], [0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]], latents)
    # The surer half comes first, the nearest to the middle first; then the other half.
    np.testing.assert_array_equal(made.typical(0), [0, 2, 4, 1, 3])
    np.testing.assert_array_equal(made.typical(0, 3), [0, 2, 4])
    # After the two uncertain ones the certain ones follow, the least typical first.
    np.testing.assert_array_equal(made.doubtful(0), [3, 1, 4, 2, 0])
    np.testing.assert_array_equal(made.typical(1), [5])
    np.testing.assert_array_equal(made.by_doubt, [3, 1, 4, 2, 0, 5])


def test_no_image_is_in_the_first_half_of_both_orders():
    features, _ = blobs(200)
    made = make(np.random.default_rng(0).dirichlet([1, 1, 1], 200), features)
    for k in range(3):
        half = made.sizes[k] // 2
        assert not set(made.typical(k, half)) & set(made.doubtful(k, half))
        assert sorted(made.typical(k)) == sorted(made.doubtful(k)) == np.flatnonzero(made.labels == k).tolist()


def test_dimensions_count_by_the_deviation_of_the_cluster():
    latents = [[0, 0], [0, 1], [40, 0], [-40, 0], [0, -1], [80, 0], [-80, 0]]
    made = make([[1.0, 0.0]] * 7, latents)
    assert made.typical(0)[0] == 0
    # 40 along the wide axis is nearer than 1 along the narrow one.
    assert set(made.typical(0, 3)) == {0, 2, 3}


def test_an_empty_cluster_has_no_images_and_no_neighbour():
    made = make([[0.9, 0.0, 0.1], [0.3, 0.0, 0.7]])
    assert len(made.typical(1)) == len(made.doubtful(1)) == 0
    np.testing.assert_array_equal(made.nearest_clusters(), [2, -1, 0])


def test_nearest_clusters_follow_the_mean_probability():
    made = make([[0.6, 0.3, 0.1], [0.6, 0.0, 0.4], [0.0, 1.0, 0.0], [0.1, 0.2, 0.7]])
    np.testing.assert_array_equal(made.nearest_clusters(), [2, -1, 1])
    np.testing.assert_array_equal(make([[1.0], [1.0]]).nearest_clusters(), [-1])


def test_similar_images_are_the_nearest_and_never_the_ones_asked_about():
    latents = np.array([[0, 0], [1, 0], [3, 0], [9, 0], [2, 0]])
    made = make([[1.0, 0.0]] * 5, latents)
    np.testing.assert_array_equal(made.similar([0], 3)[0], [1, 4, 2])
    np.testing.assert_array_equal(made.similar([0, 2], 2)[0], [1, 4])
    np.testing.assert_array_equal(made.similar([4], 99)[0], [1, 2, 0, 3])
    np.testing.assert_array_equal(made.similar([0], 9, np.array([True, False, True, True, False]))[0], [2, 3])
    assert len(made.similar([0, 1, 2, 3, 4], 3)[0]) == 0
    with pytest.raises(SettingsError, match="at least one"):
        made.similar([], 3)


def test_similar_agrees_with_distances_worked_out_one_by_one():
    features, labels = blobs(200)
    made = make(np.eye(3)[labels] * 0.7 + 0.1, features)
    rows = np.array([3, 10])
    distance = np.linalg.norm(made.features - made.features[rows].mean(0), axis=1)
    distance[rows] = np.inf
    found, distances = made.similar(rows, 20)
    np.testing.assert_array_equal(found, np.argsort(distance)[:20])
    np.testing.assert_allclose(distances, np.sort(distance)[:20], atol=1e-3)


def test_joint_features_weigh_latents_by_their_total_variance():
    latents = np.random.default_rng(0).normal(3, [10, 1, 0.1], (500, 3)).astype(np.float32)
    proba = np.array([[0.25, 0.75]] * 500, np.float32)
    features = joint_features(latents, proba)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[:, :3].var(0).sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(features[:, 3:], 0.5 * np.sqrt(proba))
    assert np.isfinite(joint_features(np.ones((4, 2), np.float32), proba[:4])).all()


@pytest.fixture
def few_landmarks(monkeypatch):
    """So that most images are placed among others, in a second instead of several."""
    monkeypatch.setattr("clusterloom.map_layout._LANDMARKS", 200)


@pytest.mark.parametrize("n", [150, 2000])
def test_the_map_keeps_groups_together_and_apart(n, few_landmarks):
    features, labels = blobs(n)
    position = draw_map(features, labels)
    assert position.shape == (n, 2)
    middles = np.stack([position[labels == k].mean(0) for k in range(3)])
    nearest = np.linalg.norm(position[:, None] - middles, axis=2).argmin(1)
    assert (nearest == labels).mean() > 0.99


def test_images_that_are_no_landmarks_neither_pile_up_nor_leave_the_group(few_landmarks):
    rng = np.random.default_rng(1)
    features = rng.standard_normal((3000, 5)).astype(np.float32)
    position = draw_map(features, np.zeros(3000, np.int64))
    assert len(np.unique(position.round(4), axis=0)) > 2950
    # One round group is drawn as one: its middle is not empty, and neighbours in space are neighbours on the map.
    central = np.linalg.norm(features, axis=1) < 1
    assert np.linalg.norm(position[central] - position.mean(0), axis=1).mean() < 0.3


def test_the_map_is_the_same_every_time(few_landmarks):
    features, labels = blobs(1000)
    np.testing.assert_array_equal(draw_map(features, labels), draw_map(features, labels))


def test_both_axes_have_one_scale_and_the_longer_fills_the_square():
    features, labels = blobs(9, n_blobs=2, dim=2)
    features[:, 0] *= 10
    position = draw_map(features, labels)
    span = np.ptp(position, axis=0)
    np.testing.assert_allclose(span.max(), 1, atol=1e-6)
    np.testing.assert_allclose(position.max(0) + position.min(0), 1, atol=1e-6)
    # Nine images are laid out by their principal axes: distances on the map are those of the features.
    ratio = np.linalg.norm(position[1:] - position[0], axis=1) / np.linalg.norm(features[1:] - features[0], axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 11, 2600])
def test_equal_images_lie_at_one_point_in_the_middle(n):
    position = draw_map(np.ones((n, 4), np.float32), np.zeros(n, np.int64))
    np.testing.assert_allclose(position, 0.5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, 9, 10, 12, 40])
def test_few_images_and_duplicates_have_a_map_without_nan(n):
    features, labels = blobs(n)
    features[n // 2 :] = features[: n - n // 2]
    position = draw_map(features, labels)
    assert np.isfinite(position).all()
    assert position.min() >= 0
    assert position.max() <= 1


def test_every_cluster_has_landmarks_however_small_it_is(few_landmarks):
    labels = np.zeros(5000, np.int64)
    labels[::500] = 1
    rows = _landmarks(labels)
    assert len(rows) == len(set(rows.tolist()))
    assert (labels[rows] == 1).sum() == 10
    assert 190 <= (labels[rows] == 0).sum() <= 200


def test_images_between_two_parts_of_the_map_go_to_one_of_them():
    landmarks = np.concatenate([np.zeros((20, 3)), np.full((20, 3), 1.0)]) + 0.01 * np.arange(40)[:, None]
    layout = np.concatenate([np.zeros((20, 2)), np.full((20, 2), 100.0)]) + np.arange(40)[:, None] / 40
    between = np.linspace(0, 1.4, 41)[:, None] * np.ones((1, 3))
    position = _placed(between.astype(np.float32), landmarks.astype(np.float32), layout)
    assert ((abs(position) < 20) | (abs(position - 100) < 20)).all()


def test_features_along_one_line_or_in_one_dimension_have_a_map():
    line = np.linspace(0, 1, 50, dtype=np.float32)
    for features in (line[:, None], line[:, None] * np.ones((1, 4), np.float32)):
        position = draw_map(features, np.zeros(50, np.int64))
        assert np.isfinite(position).all()
        assert np.ptp(position) > 0.9


def asked(model, images):
    """Predictions, and whether the model was asked for them."""
    said = []
    made = predict_images(model, images, lambda what, done, total: said.append((what, done, total)))
    return made, (len(images), len(images)) in {(done, total) for _, done, total in said}


def test_predictions_are_found_again_and_damaged_ones_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path))
    images = image_set()
    model = ESTIMATORS["vae"].set_params(random_state=0).fit(images)
    first, was_asked = asked(model, images)
    assert was_asked
    second, was_asked = asked(model, images)
    assert not was_asked
    np.testing.assert_array_equal(first.position, second.position)
    (file,) = (tmp_path / "predictions").iterdir()
    whole = file.read_bytes()
    for contents in (b"", whole[:-1], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b"x" * 400):
        file.write_bytes(contents)
        again, was_asked = asked(model, images)
        assert was_asked
        np.testing.assert_array_equal(again.position, first.position)
        assert file.read_bytes() == whole


def test_other_images_and_another_model_have_predictions_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path))
    images = image_set()
    model = ESTIMATORS["vae"].set_params(random_state=0).fit(images)
    predict_images(model, images)
    predict_images(model, image_set(50))
    predict_images(ESTIMATORS["vae"].set_params(random_state=1).fit(images), images)
    assert len(list((tmp_path / "predictions").iterdir())) == 3


def test_equal_pixels_that_stand_for_other_values_have_predictions_of_their_own():
    """Reading scales every file to 8 bits: what 0 and 255 stand for is part of what the model is asked."""
    trained, brighter = (replace(image_set(), pixel_range=(0.0, high)) for high in (1000.0, 4000.0))
    model = ESTIMATORS["vae"].set_params(random_state=0).fit(trained)
    predict_images(model, trained)
    found = predict_images(model, brighter)
    np.testing.assert_array_equal(found.score, model.predictions(brighter)["score"])
    assert not np.array_equal(found.score, predict_images(model, trained).score)
    with pytest.raises(DataError, match="convert them the same way"):
        predict_images(model, image_set())


def test_a_full_disk_costs_only_the_cache(monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clusterloom.data.array_cache.write_atomically", full)
    images = image_set()
    assert len(predict_images(ESTIMATORS["vae"].set_params(random_state=0).fit(images), images)) == 60


def test_predictions_that_were_not_used_for_long_make_room(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path))
    model = ESTIMATORS["vae"].set_params(random_state=0).fit(image_set())
    folder, sets, files = tmp_path / "predictions", [image_set(n) for n in (57, 58, 59, 60)], []
    for age, images in enumerate(sets[:3]):
        predict_images(model, images)
        (new,) = set(folder.iterdir()) - set(files)
        files.append(new)
        os.utime(new, (1000 + age, 1000 + age))
    predict_images(model, sets[0])  # now the second is the one that was not used for the longest time
    fresh, stale = folder / ".a.safetensors.clusterloom-0123abcd", folder / ".b.safetensors.clusterloom-4567cdef"
    for file in (fresh, stale):
        file.write_bytes(b"what a killed process left")
    os.utime(stale, (1000, 1000))
    size = files[2].stat().st_size
    monkeypatch.setattr("clusterloom.predictions._MOST_BYTES", 3 * size + size // 2)
    predict_images(model, sets[3])
    assert not files[1].exists()
    assert files[0].exists()
    assert files[2].exists()
    assert len(list(folder.glob("[!.]*"))) == 3
    assert fresh.exists()
    assert not stale.exists()
    # One alone that is larger than the limit is kept all the same.
    monkeypatch.setattr("clusterloom.predictions._MOST_BYTES", 1)
    predict_images(model, sets[1])
    assert not asked(model, sets[1])[1]
    assert len(list(folder.glob("[!.]*"))) == 1


def test_predictions_that_cannot_be_removed_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr("clusterloom.predictions._MOST_BYTES", 1)
    monkeypatch.setattr("pathlib.Path.unlink", lambda self, missing_ok=False: (_ for _ in ()).throw(PermissionError()))
    model = ESTIMATORS["vae"].set_params(random_state=0).fit(image_set())
    for n in (60, 50):
        assert len(predict_images(model, image_set(n))) == n
    assert len(list((tmp_path / "predictions").iterdir())) == 2
