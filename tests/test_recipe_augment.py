"""Random views: what each setting does to an image."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clusterloom import losses
from clusterloom.recipe.views.augment import (
    SIGNS,
    THINGS,
    ViewSettings,
    _onto_pixels,
    _places,
    random_views,
    recolouring,
    two_views,
    widened,
    without_colour,
)
from clusterloom.recipe.views.backgrounds import from_background
from clusterloom.recipe.views.brightness import stretched


def numbers(n, seed=0, each=11):
    return torch.randn(n, each, generator=torch.Generator().manual_seed(seed))


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


def line(height, width, horizontal):
    """A line of soft edges through the middle: its ends lie far inside, so that a turned one is whole."""
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    along, across = (columns, rows) if horizontal else (rows, columns)
    half = 0.35 * min(height, width)
    return (torch.sigmoid(half - along.abs()) * torch.exp(-(across**2) / 4))[None, None]


def degrees_from(image, horizontal):
    """By how much the axis of the brightest direction is tilted from across or from upright."""
    rows, columns = np.nonzero(image.numpy() > 1e-3)
    weights = image.numpy()[rows, columns]
    centred = np.stack([columns, rows]) - np.average([columns, rows], axis=1, weights=weights)[:, None]
    axis = np.linalg.eigh((weights * centred) @ centred.T)[1][:, -1]
    x, y = np.abs(axis) if horizontal else np.abs(axis[::-1])
    return math.degrees(math.atan2(y, x))


@pytest.mark.parametrize("size", [(200, 40), (40, 200), (32, 64), (48, 48)])
def test_a_turn_tilts_upright_and_level_lines_by_its_own_angle(size):
    """Turned by shares of the sides instead of pixels, 15 degrees at 32 x 64 would be 28 and 8."""
    most = torch.full((1, 11), 9.0)
    for horizontal in (False, True):
        turned = random_views(line(*size, horizontal), most, ViewSettings(rotation_degrees=15))
        assert degrees_from(turned[0, 0], horizontal) == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (48, 48)])
def test_shear_is_a_shift_across_per_unit_of_height_in_pixels(size):
    most = torch.full((1, 11), 9.0)
    tilted = random_views(line(*size, False), most, ViewSettings(shear=0.2))
    assert degrees_from(tilted[0, 0], False) == pytest.approx(math.degrees(math.atan(0.2)), abs=0.5)
    level = random_views(line(*size, True), most, ViewSettings(shear=0.2))
    assert degrees_from(level[0, 0], True) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("beyond", ["border", "reflection"])
def test_views_of_square_images_are_those_of_torch_affine_maps(beyond):
    """All that moves pixels at once, for one image, against the map written out."""
    x, drawn = torch.rand(1, 1, 16, 16), numbers(1, seed=5)
    settings = ViewSettings(
        rotation_degrees=30,
        shear=0.3,
        aspect=0.2,
        window_area=(0.7, 1.4),
        shift=0.1,
        reflected=beyond == "reflection",
    )
    turn, shear, aspect, area, across, down = torch.erf(drawn / math.sqrt(2))[0, :6].tolist()
    angle, slant = math.radians(30) * turn, 0.3 * shear
    smallest, largest = math.log(0.7) / 2, math.log(1.4) / 2
    side = math.exp((smallest + largest) / 2 + area * (largest - smallest) / 2)
    width, height = side * math.exp(aspect * 0.1), side / math.exp(aspect * 0.1)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = rotation @ torch.tensor([[1, slant], [0, 1]]) @ torch.tensor([[width, 0], [0, height]])
    offset = torch.tensor([[across * (max(0, 1 - width) + 0.2)], [down * (max(0, 1 - height) + 0.2)]])
    grid = torch.nn.functional.affine_grid(torch.cat([matrix, offset], 1)[None], [1, 1, 16, 16], align_corners=False)
    expected = torch.nn.functional.grid_sample(x, grid, padding_mode=beyond, align_corners=False)
    torch.testing.assert_close(random_views(x, drawn, settings), expected, atol=1e-5, rtol=0)


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


def test_recoloured_views_are_the_same_views_in_any_colour():
    views = recolouring(SIGNS)
    assert views.changes_colour
    drawn = numbers(20, each=views.numbers)
    assert replace(views, hue_degrees=0.0, saturation=0.0) == SIGNS
    x = torch.rand(20, 1, 8, 8).expand(-1, 3, -1, -1)  # grey stays grey, where it was
    as_signs = random_views(x, drawn[:, : SIGNS.numbers], SIGNS)
    torch.testing.assert_close(random_views(x, drawn, views), as_signs, atol=2e-3, rtol=0)


def test_colourless_views_are_views_of_stretched_brightness():
    x, drawn = torch.rand(6, 3, 8, 8), numbers(6, each=SIGNS.numbers)
    seen = random_views(x, drawn, replace(SIGNS, colourless=True))
    torch.testing.assert_close(seen, random_views(stretched(x), drawn, SIGNS))
    assert torch.equal(seen[:, 0], seen[:, 2])
    seen = random_views(x, drawn, replace(SIGNS, colourless=True, any_background=True))
    torch.testing.assert_close(seen, random_views(from_background(x), drawn, SIGNS))


def test_each_colourless_view_of_colours_sees_other_channels():
    views = without_colour(SIGNS, 3)
    assert views.numbers == SIGNS.numbers + 3
    assert without_colour(SIGNS, 1) == replace(SIGNS, colourless=True)
    assert not without_colour(replace(SIGNS, any_background=True), 3).any_channels
    drawn = numbers(60, each=views.numbers)
    red_on_white = torch.ones(60, 3, 12, 12)
    red_on_white[:, 1:, 4:8] = 0
    still = replace(ViewSettings(), colourless=True, any_channels=True)
    seen = random_views(red_on_white, drawn[:, -still.numbers :], still)
    torch.testing.assert_close(seen, stretched(red_on_white))  # whatever channels count, it is darker than its paper
    red_on_green = torch.zeros(60, 3, 12, 12)
    red_on_green[:, 1], red_on_green[:, :, 4:8] = 0.5, torch.tensor([0.5, 0.0, 0.0])[:, None, None]
    seen = random_views(red_on_green, drawn[:, -still.numbers :], still)
    brighter = seen[:, 0, 5, 5] > seen[:, 0, 0, 0]
    assert 0.3 < brighter.float().mean() < 0.7
    grey = torch.rand(60, 1, 12, 12).expand(-1, 3, -1, -1)
    as_signs = random_views(grey, drawn[:, : SIGNS.numbers], replace(SIGNS, colourless=True))
    torch.testing.assert_close(random_views(grey, drawn, views), as_signs, atol=1e-4, rtol=0)


def test_places_beyond_the_edge_are_moved_onto_it_where_borders_are_unknown():
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
    some, others = (numbers(6, seed, SIGNS.numbers) for seed in (0, 1))
    whole = random_views(x, some, SIGNS)
    torch.testing.assert_close(whole[2:4], random_views(x[2:4], some[2:4], SIGNS), rtol=0, atol=0)
    assert not torch.equal(whole, random_views(x, others, SIGNS))
    first, second = two_views(x, torch.cat([some, others, torch.ones(6, 3)], 1), SIGNS)
    assert torch.equal(first, whole)
    assert torch.equal(second, random_views(x, others, SIGNS))


def test_bends_that_are_all_the_same_shift_an_image():
    x, settings = torch.rand(1, 1, 8, 12), ViewSettings(bend=0.25)
    assert settings.numbers == 11 + 32
    most = torch.full((1, settings.numbers), 9.0)  # erf(9 / sqrt 2) is 1: the largest change to one side
    seen = random_views(x, most, settings)
    torch.testing.assert_close(seen[..., :6, :9], x[..., 2:, 3:])


def test_a_bend_moves_what_is_near_smoothly():
    x, settings = torch.linspace(0.1, 0.9, 16).expand(1, 1, 16, 16).contiguous(), ViewSettings(bend=0.1)
    drawn = torch.zeros(1, settings.numbers)
    drawn[:, 11] = 9  # the upper left place, across
    moved = (random_views(x, drawn, settings) - x)[0, 0]
    slope = 0.8 / 15
    assert moved[0, 0].item() == pytest.approx(0.1 * 16 * slope, rel=1e-4)
    assert moved[8:].abs().max() < 0.2 * moved[0, 0]
    assert moved[:, 8:].abs().max() < 0.2 * moved[0, 0]
    assert moved.diff(dim=0).abs().max() < moved[0, 0] / 3
    drawn[:, 11], drawn[:, 11 + 16] = 0, 9  # down, where all is the same
    torch.testing.assert_close(random_views(x, drawn, settings), x)


def test_what_is_bright_grows_or_what_is_dark():
    settings = ViewSettings(growth=0.1)
    assert settings.numbers == 12
    x = torch.zeros(3, 1, 20, 20)
    x[:, :, 8:12, 8:12] = 1
    drawn = torch.zeros(3, 12)
    drawn[:, 11] = torch.tensor([9.0, -9.0, 0.0])  # the most, the least, and none
    grown, shrunk, same = random_views(x, drawn, settings)
    assert grown.sum().item() == pytest.approx(8 * 8)
    assert grown[0, 6:14, 6:14].min() == 1
    assert shrunk.abs().max() == 0
    torch.testing.assert_close(same, x[2])


def test_growth_by_parts_of_a_pixel_is_as_far_at_any_size():
    settings = ViewSettings(growth=0.02)
    drawn = torch.zeros(1, 12)
    drawn[:, 11] = 9
    for side in (16, 28, 60):
        x = torch.zeros(1, 1, side, side)
        x[..., side // 2 :] = 1
        assert (random_views(x, drawn, settings) - x).sum().item() / side == pytest.approx(0.02 * side, rel=1e-4)
    x = torch.rand(1, 1, 12, 12)  # less than a quarter of a pixel
    torch.testing.assert_close(random_views(x, drawn, settings), x)


def test_widened_views_stray_farther_but_see_as_much():
    assert widened(SIGNS).rotation_degrees > SIGNS.rotation_degrees
    assert widened(SIGNS).bend > SIGNS.bend > 0
    assert widened(SIGNS).growth > SIGNS.growth > 0
    assert widened(THINGS) == THINGS


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 8)])
def test_pixels_are_read_where_affine_grid_says(height, width):
    transforms = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    expected = F.affine_grid(transforms, [3, 1, height, width], align_corners=False)
    torch.testing.assert_close(_places(transforms, None, height, width), expected)


def test_two_views_are_those_of_their_own_numbers():
    x, numbers = torch.rand(3, 1, 6, 6), torch.randn(3, 2 * SIGNS.numbers + 4)
    first, second = two_views(x, numbers, SIGNS)
    torch.testing.assert_close(first, random_views(x, numbers[:, : SIGNS.numbers], SIGNS))
    torch.testing.assert_close(second, random_views(x, numbers[:, SIGNS.numbers : 2 * SIGNS.numbers], SIGNS))
