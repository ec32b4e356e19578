"""Grids and PNG files: pixels at their places, any number of channels, and a mark on what clusterloom made."""

import io

import numpy as np
import pytest
from PIL import Image

from clusterloom.figures import cluster_count_plot
from clusterloom.pictures import image_grid, png_bytes, to_picture, to_uint8
from clusterloom.recipe.cluster_count.evidence import Evidence


def some(n, channels, side=6):
    return np.random.default_rng(0).integers(0, 256, (n, side, side + 2, channels)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_of_any_number_of_channels_have_a_picture_and_a_grid(channels):
    images = some(5, channels)
    shown = np.asarray(to_picture(images[0]))
    np.testing.assert_array_equal(shown, images[0, ..., 0] if channels < 3 else images[0, ..., :3])
    grid = np.asarray(image_grid([images[:3], images[3:]], smallest=6))
    assert grid.shape == (2 * 8 + 2, 3 * 10 + 2, 3)
    wanted = images[1, ..., :3] if channels >= 3 else np.repeat(images[1, ..., :1], 3, 2)
    np.testing.assert_array_equal(grid[2:8, 12:20], wanted)
    assert Image.open(io.BytesIO(png_bytes(to_picture(images[0])))).size == (8, 6)


def test_white_images_are_seen_on_white_paper():
    grid = np.asarray(image_grid([np.ones((1, 28, 28, 1))]))
    assert (grid[2:30, 2:30] == 255).all()
    around = np.concatenate([grid[1, 2:30], grid[30, 2:30], grid[2:30, 1], grid[2:30, 30]])
    assert (around < 255).all()


def test_numbers_between_0_and_1_are_rounded_and_cut():
    np.testing.assert_array_equal(to_uint8(np.array([-0.1, 0.0, 0.499, 1.0, 1.2])), [0, 0, 127, 255, 255])


def test_a_grid_has_rows_of_different_lengths_labels_and_a_title():
    images = some(3, 1, side=28)
    plain = image_grid([images, images[:0], images[:1]])
    assert plain.size == (3 * 32 + 2, 3 * 30 + 2)
    labelled = image_grid([images, images[:0], images[:1]], ["a", "b", "c"])
    assert labelled.width > plain.width
    titled = image_grid([images, images[:0], images[:1]], title="x")
    assert titled.height > plain.height
    np.testing.assert_array_equal(np.asarray(titled)[-plain.height :, : plain.width], np.asarray(plain))
    assert image_grid([images[:1]], title="longer than one image").width > 100


def test_what_clusterloom_made_is_marked_and_what_it_hands_on_is_not():
    picture = to_picture(some(1, 3)[0])
    evidence = [Evidence(n_clusters=n, modularity=0.5, stability=0.5) for n in (2, 3)]
    for made in (png_bytes(picture), cluster_count_plot(evidence)):
        assert Image.open(io.BytesIO(made)).info["Software"] == "clusterloom"
    assert "Software" not in Image.open(io.BytesIO(png_bytes(picture, made=False))).info
