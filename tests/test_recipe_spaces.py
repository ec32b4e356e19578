"""What images show before anything is learned, and which of it a set of images has."""

import numpy as np
import pytest
from recipe_helpers import hues, quarters, textures
from sklearn.cluster import KMeans

from clusterloom.data.images import ImageRows
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.spaces import blocks
from clusterloom.recipe.spaces.plain import PLAIN_SPACES, appearance_space, plain_spaces, texture_space
from clusterloom.recipe.views.augment import SIGNS, TEXTURES, THINGS, turned_by_any_angle
from clusterloom.recipe.views.fair import choose_views


def clusters_of(points, n_clusters):
    return KMeans(n_clusters, n_init=5, random_state=0).fit_predict(points)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(4, 4), (8, 11), (40, 33)])
def test_every_kind_of_images_has_its_spaces(channels, size):
    images = np.random.default_rng(0).integers(0, 90, (30, *size, channels)).astype(np.uint8)
    spaces = plain_spaces(images, 0, choose_views(images))
    either = {"texture"} if min(size) > 9 else {"contours", "appearance"}  # noise is the same everywhere
    assert set(spaces) == {"brightness"} | either | ({"colours", "palette", "pixels"} if channels > 1 else set())
    assert set(spaces) <= set(PLAIN_SPACES)
    for points in spaces.values():
        assert points.dtype == np.float32
        assert len(points) == 30
        assert points.shape[1] <= 600
        assert np.isfinite(points).all()


def drawn(signs, n, seed):
    """Drawings of signs of straight strokes, (n, 28, 28, 1), uint8, bright on dark, each moved and in its own width."""
    rng = np.random.default_rng(seed)
    pixels = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 28)]), 2)[:, :, None]
    images = np.zeros((n, 28, 28, 1), np.uint8)
    for i, image in enumerate(images):
        ends = np.array(signs[i % len(signs)]) * rng.uniform(0.4, 0.9) + rng.normal(0, 0.06, (len(signs[0]), 2, 2))
        ends += rng.normal(0, 0.12, 2)
        start, way = ends[:, 0], ends[:, 1] - ends[:, 0]
        share = np.clip(((pixels - start) * way).sum(3) / (way**2).sum(1), 0, 1)
        far = np.linalg.norm(pixels - start - share[..., None] * way, axis=3).min(2)
        image[..., 0] = 255 * np.clip(1 - (far - rng.uniform(0.05, 0.15)) * 10, 0, 1)
    return images, np.arange(n) % len(signs)


# Two strokes each, as (start, end): L, T, X and V.
SIGNS_OF_TWO = [
    [((-0.5, -0.8), (-0.5, 0.8)), ((-0.5, 0.8), (0.5, 0.8))],
    [((-0.6, -0.8), (0.6, -0.8)), ((0.0, -0.8), (0.0, 0.8))],
    [((-0.6, -0.8), (0.6, 0.8)), ((0.6, -0.8), (-0.6, 0.8))],
    [((-0.6, -0.8), (0.0, 0.8)), ((0.6, -0.8), (0.0, 0.8))],
]


def test_strokes_tell_signs_apart_that_pixels_do_not():
    images, labels = drawn(SIGNS_OF_TWO, 80, 0)
    spaces = plain_spaces(images, 0)
    assert clustering_accuracy_score(labels, clusters_of(spaces["strokes"], 4)) > 0.95
    assert clustering_accuracy_score(labels, clusters_of(spaces["brightness"], 4)) < 0.9


def test_strokes_are_the_same_in_ink_on_paper_and_in_any_colours():
    images, _ = drawn(SIGNS_OF_TWO, 40, 1)
    strokes = plain_spaces(images, 0)["strokes"]
    between = np.linalg.norm(strokes[:, None] - strokes, axis=2)
    blue_on_yellow = images * np.array([-0.8, -0.6, 0.4]) / 255 + np.array([0.9, 0.8, 0.3])
    for changed in (255 - images, blue_on_yellow.astype(np.float32)):
        others = plain_spaces(changed, 0)["strokes"]
        distances = np.linalg.norm(others[:, None] - others, axis=2)
        assert np.corrcoef(between.ravel(), distances.ravel())[0, 1] > 0.97


def test_strokes_are_of_few_signs_in_one_ink():
    images, _ = drawn(SIGNS_OF_TWO, 40, 2)
    assert "strokes" in plain_spaces(images, 0)
    assert "strokes" not in plain_spaces(images, 0, strokes=False)
    assert "strokes" in plain_spaces(images, 0, turned_by_any_angle(SIGNS))
    assert "strokes" not in plain_spaces(images, 0, THINGS)
    assert "strokes" not in plain_spaces(np.repeat(images, 250, 0), 0)
    colours = np.random.default_rng(0).random((40, 4, 4, 3)).repeat(7, 1).repeat(7, 2)
    assert "strokes" not in plain_spaces((images * colours).astype(np.uint8), 0)


def test_patches_are_no_larger_than_images():
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 8, 3)).astype(np.uint8)
    assert plain_spaces(images, 0)["palette"].shape[0] == 30


def test_colours_tell_hues_apart_and_brightness_does_not():
    images, labels = hues()
    spaces = plain_spaces(images, 0)
    assert clustering_accuracy_score(labels, clusters_of(spaces["colours"], 3)) > 0.95
    assert clustering_accuracy_score(labels, clusters_of(spaces["brightness"], 3)) < 0.6


def test_brightness_is_the_same_whatever_light_and_colour():
    """To the bit in pixels; principal components may turn, but keep all distances."""
    images = quarters(60)[0].astype(np.float32) / 255
    darker = images * np.array([0.2, 0.5, 0.3], np.float32)
    points, others = plain_spaces(images, 0)["brightness"], plain_spaces(darker, 0)["brightness"]
    between, between_others = (np.linalg.norm(p[:, None] - p, axis=2) for p in (points, others))
    np.testing.assert_allclose(between, between_others, atol=1e-3)


def bars(n):
    """Images (n, 20, 20, 1), uint8, of a short bar in one of three directions, black or white on grey."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    down, across = np.mgrid[:20, :20] - 9.5
    angles = labels * np.pi / 3 + rng.normal(0, 0.05, n)
    centre = rng.uniform(-1.5, 1.5, (2, n, 1, 1))
    cos, sin = (f(angles)[:, None, None] for f in (np.cos, np.sin))
    along = (across - centre[0]) * cos + (down - centre[1]) * sin
    beside = (across - centre[0]) * sin - (down - centre[1]) * cos
    shown = np.clip(2 - np.abs(beside), 0, 1) * np.clip(6 - np.abs(along), 0, 1)
    ink = np.where(rng.random(n) < 0.5, -90, 90)[:, None, None]
    return (128 + ink * shown)[..., None].astype(np.uint8), labels


def test_contours_tell_directions_apart_whatever_is_light_or_dark():
    images, labels = bars(150)
    spaces = plain_spaces(images, 0)
    assert spaces["contours"].shape == (150, 30)
    assert clustering_accuracy_score(labels, clusters_of(spaces["contours"], 3)) > 0.95
    assert clustering_accuracy_score(labels, clusters_of(spaces["brightness"], 3)) < 0.7


def test_appearance_tells_apart_what_neither_contours_nor_places_do():
    """Two shapes at two places are four kinds."""
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 4
    shape, place = np.eye(2)[labels % 2], np.eye(2)[labels // 2]
    contours, brightness = (9 * part + generator.normal(0, 0.1, (80, 2)) for part in (shape, 0.1 * place))
    spaces = {"contours": contours, "brightness": brightness}
    assert max(clustering_accuracy_score(labels, clusters_of(points, 4)) for points in spaces.values()) < 0.7
    found = appearance_space(spaces)
    assert found.dtype == np.float32
    assert clustering_accuracy_score(labels, clusters_of(found, 4)) == 1
    flat = appearance_space({"contours": np.zeros((5, 9)), "brightness": np.zeros((5, 9)), "pixels": np.zeros((5, 3))})
    assert flat.shape == (5, 21)
    assert not flat.any()


def test_textons_tell_textures_apart_and_pixels_do_not():
    images, labels = textures()
    spaces = plain_spaces(images, 0, TEXTURES)
    assert clustering_accuracy_score(labels, clusters_of(spaces["texture"], 3)) > 0.95
    assert clustering_accuracy_score(labels, clusters_of(spaces["brightness"], 3)) < 0.7
    np.testing.assert_allclose((spaces["texture"] ** 2).sum(1), 3, rtol=1e-5)  # roots of shares, of three sorts


def test_textons_are_the_same_in_any_light():
    images, labels = textures()
    rng, across = np.random.default_rng(1), np.linspace(-1, 1, images.shape[2])
    light = 0.75 + rng.uniform(-0.25, 0.25, (len(images), 1, 1, 1)) * across[:, None]
    points = texture_space(np.rint((images // 2 + 60) * light).astype(np.uint8), 0)
    assert clustering_accuracy_score(labels, clusters_of(points, 3)) > 0.95


def test_textons_know_colours_unless_these_may_not_tell():
    # Spots that are brighter than what is around them in the first channel, or in the last one; all means are alike.
    rng, labels = np.random.default_rng(0), np.arange(60) % 2
    spots = rng.uniform(0.2, 1, (60, 8, 8)).repeat(3, 1).repeat(3, 2)
    images = np.full((60, 24, 24, 3), 0.6, np.float32)
    images[np.arange(60), :, :, 2 * labels] = spots
    assert clustering_accuracy_score(labels, clusters_of(texture_space(images, 0), 2)) > 0.95
    assert clustering_accuracy_score(labels, clusters_of(texture_space(images, 0, colours=False), 2)) < 0.8


def figures_in_any_pose(n, seed=0):
    """Bars at any place, upright or not, in stripes of the two colours of their kinds: (n, 24, 24, 3), (n,)."""
    rng = np.random.default_rng(seed)
    colours = np.array([[[200, 30, 30], [30, 30, 200]], [[200, 30, 30], [30, 180, 30]], [[30, 180, 30], [30, 30, 200]]])
    kinds, images = rng.integers(0, 3, n), np.full((n, 24, 24, 3), 255, np.uint8)
    for image, kind in zip(images, kinds, strict=True):
        down, right = rng.integers(0, 12), rng.integers(0, 18)
        shape = (12, 6) if rng.random() < 0.5 else (6, 12)
        bar = colours[kind][(np.indices(shape).sum(0) // 2) % 2] + rng.integers(-20, 20, (*shape, 3))
        turned = image if rng.random() < 0.5 else image.swapaxes(0, 1)
        part = turned[down : down + shape[0], right : right + shape[1]]
        part[:] = bar[: part.shape[0], : part.shape[1]].clip(0, 255)
    return images, kinds


def test_the_palette_tells_figures_apart_in_any_pose_and_pixels_do_not():
    images, kinds = figures_in_any_pose(240)
    spaces = plain_spaces(images, 0)
    assert spaces["palette"].shape == (240, 400)
    assert spaces["palette"].dtype == np.float32
    assert clustering_accuracy_score(kinds, clusters_of(spaces["palette"], 3)) > 0.95
    assert clustering_accuracy_score(kinds, clusters_of(spaces["pixels"], 3)) < 0.6


def test_colours_without_kinds_make_no_islands_of_the_palette():
    reds = np.arange(256).repeat(64 * 3).reshape(256, 8, 8, 3) * (1, 0, 0)
    points = plain_spaces(reds.astype(np.uint8), 0)["palette"]
    from_next = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert from_next.max() < 1  # 2 is as far as can be, and what neighbours of two kinds would have
    assert np.linalg.norm(points[0] - points[-1]) > 1.9


def test_the_seed_gives_the_same_textons_and_blocks_change_nothing(monkeypatch):
    images = textures(40)[0]
    points = texture_space(images, 0)
    assert np.array_equal(points, texture_space(images, 0))
    assert not np.array_equal(points, texture_space(images, 1))
    whole = plain_spaces(images, 0, TEXTURES)
    monkeypatch.setattr(blocks, "_NUMBERS", 1)  # one image at a time
    for name, one_by_one in plain_spaces(images, 0, TEXTURES).items():
        np.testing.assert_allclose(one_by_one, whole[name], atol=1e-5)


def test_bytes_and_floats_are_the_same_images():
    images = hues()[0]
    as_floats = plain_spaces(images.astype(np.float32) / 255, 0)
    for name, points in plain_spaces(images, 0).items():
        np.testing.assert_allclose(np.abs(points), np.abs(as_floats[name]), atol=1e-3)


def test_images_on_disk_are_read_where_they_are_asked_for(tmp_path):
    images = textures(400)[0]
    np.save(tmp_path / "images.npy", images)
    on_disk = np.load(tmp_path / "images.npy", mmap_mode="r")
    rows = np.arange(0, 400, 2)
    expected = plain_spaces(images[rows], 0, TEXTURES)
    found = plain_spaces(ImageRows(on_disk, rows), 0, TEXTURES)
    assert expected.keys() == found.keys() == {"brightness", "texture"}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("images", [np.full((5, 12, 12, 3), 9, np.uint8), textures(2)[0], textures(1)[0]])
@pytest.mark.parametrize("views", [SIGNS, TEXTURES])
def test_a_few_or_equal_images_have_spaces(images, views):
    assert all(np.isfinite(points).all() for points in plain_spaces(images, 0, views).values())
