"""Contours: which way edges run, in each cell of an image."""

import math

import pytest
import torch

from clusterloom.recipe.spaces.contours import DIRECTIONS, oriented_gradients


def stripes(degrees, size=(32, 32), shift=0.0):
    """An image (1, 1, H, W) of waves whose brightness changes in this direction."""
    down, across = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in size), indexing="ij")
    angle = math.radians(degrees)
    along = across * math.cos(angle) + down * math.sin(angle) + shift
    return (0.5 + 0.5 * torch.sin(along * 0.8))[None, None]


@pytest.mark.parametrize("direction", range(DIRECTIONS))
def test_edges_are_counted_under_the_direction_that_brightness_changes_in(direction):
    by_direction = oriented_gradients(stripes(180 * direction / DIRECTIONS)).view(DIRECTIONS, -1).mean(1)
    assert by_direction.argmax() == direction
    assert by_direction[direction] > 2 * by_direction[(direction + DIRECTIONS // 2) % DIRECTIONS]


def test_a_direction_between_two_is_shared_by_both():
    by_direction = oriented_gradients(stripes(180 * 2.5 / DIRECTIONS)).view(DIRECTIONS, -1).mean(1)
    assert by_direction.topk(2).indices.sort().values.tolist() == [2, 3]
    assert by_direction[2] == pytest.approx(by_direction[3].item(), rel=0.1)


def test_white_on_black_is_black_on_white():
    x = torch.rand(5, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(oriented_gradients(x), oriented_gradients(1 - x), atol=1e-4)


def test_weak_edges_count_as_much_as_strong_ones_unless_they_are_noise():
    x = stripes(30)
    strong, weak, noise = (oriented_gradients(x * share) for share in (1.0, 0.5, 0.001))
    assert torch.allclose(strong, weak, atol=0.05)
    assert noise.max() < 0.2 * strong.max()
    assert oriented_gradients(torch.full((1, 1, 9, 9), 0.7)).abs().max() == 0


def test_a_shift_by_a_pixel_changes_little():
    bar = torch.zeros(3, 1, 32, 32)
    for at, left in enumerate((10, 11, 20)):  # the same, a pixel and ten pixels to the right
        bar[at, :, 6:26, left : left + 4] = 1
    near, shifted, far = oriented_gradients(bar)
    assert (near - shifted).norm() < 0.5 * (near - far).norm()


@pytest.mark.parametrize("size", [(8, 8), (24, 48), (5, 3), (2, 2), (1, 1), (1, 30), (33, 17)])
def test_every_size_has_cells_of_at_least_two_pixels(size):
    x = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0))
    points = oriented_gradients(x)
    assert points.shape == (3, DIRECTIONS * math.prod(max(1, min(8, side // 2)) for side in size))
    assert points.isfinite().all()
    assert points.min() >= 0
    assert points.max() <= 0.6 + 1e-6
    assert torch.allclose(points[1:2], oriented_gradients(x[1:2]), atol=1e-5)  # of itself alone
