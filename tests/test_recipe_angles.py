"""Sets of images whose angle does not count, and what is read from them whatever it is."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from clusterloom.networks.strokes import pretrained_strokes
from clusterloom.recipe.spaces.contours import oriented_gradients
from clusterloom.recipe.spaces.plain import APPEARANCE, CONTOURS, STROKES, WAVES, plain_spaces
from clusterloom.recipe.spaces.rules import rules_of
from clusterloom.recipe.views.angles import any_angle, seen_around, waves_around
from clusterloom.recipe.views.augment import SIGNS, THINGS, widened
from clusterloom.recipe.views.fair import choose_views

SIDE = 32


def drawn(kind, angle, middle=(15.5, 15.5), height=SIDE, width=SIDE):
    """A soft bar (0), or a soft bar with another across its end (1), from 0 to 1."""
    rows, columns = np.indices((height, width)).astype(float)
    rows, columns = rows - middle[0], columns - middle[1]
    u = math.cos(angle) * columns + math.sin(angle) * rows
    v = math.cos(angle) * rows - math.sin(angle) * columns
    bar = np.minimum(8 - np.abs(u), 2 - np.abs(v))
    end = np.minimum(2 - np.abs(u - 7), 6 - np.abs(v))
    return 1 / (1 + np.exp(-2 * (np.maximum(bar, end) if kind else bar)))


def many(n, angle_of, kinds=2):
    """Images (n, SIDE, SIDE) of two kinds in turn, a little off the middle, with noise."""
    rng = np.random.default_rng(0)
    images = [drawn(k % kinds, angle_of(k, rng), 15.5 + rng.uniform(-1, 1, 2)) for k in range(n)]
    return np.clip(np.stack(images) + rng.normal(0, 0.03, (n, SIDE, SIDE)), 0, 1)


def shuffled(images):
    x = torch.from_numpy(np.asarray(images, np.float32))[:, None]
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]


@pytest.fixture(scope="module")
def turned():
    return many(400, lambda k, rng: rng.uniform(0, 2 * math.pi))


def test_angles_do_not_count_where_a_set_has_all_of_them(turned):
    assert any_angle(shuffled(turned))
    assert any_angle(shuffled(np.pad(turned, ((0, 0), (0, 0), (5, 5)))))
    assert not any_angle(shuffled(many(400, lambda k, rng: rng.normal(0, 0.1))))
    assert not any_angle(shuffled(load_digits().images / 16))


def test_kinds_that_are_each_other_turned_stay_kinds():
    assert not any_angle(shuffled(many(400, lambda k, rng: k % 4 * math.pi / 2 + rng.normal(0, 0.1), kinds=1)))


def test_of_few_images_nothing_is_said(turned):
    assert any_angle(shuffled(turned)[:100])
    assert not any_angle(shuffled(turned)[:50])


@pytest.mark.parametrize(("height", "width", "dark"), [(SIDE, SIDE, False), (SIDE, 48, False), (SIDE, SIDE, True)])
def test_waves_are_the_same_at_any_angle_and_place(height, width, dark):
    places = [(0.0, (15.5, 15.5)), (0.9, (15.5, 15.5)), (2.0, (14.0, 18.0)), (4.5, (17.0, 15.0))]
    both = (shuffled([drawn(kind, *place, height, width) for place in places]) for kind in (0, 1))
    bars, others = (waves_around(1 - x if dark else x) for x in both)
    within = max(float(torch.pdist(of).max()) for of in (bars, others))
    assert float(torch.cdist(bars, others).min()) > 1.5 * within


@pytest.mark.parametrize("look", [pretrained_strokes(), oriented_gradients])
@pytest.mark.parametrize("width", [SIDE, 48])
def test_what_is_seen_around_is_the_same_at_any_angle(look, width):
    middle = (SIDE - 1) / 2, (width - 1) / 2
    angles = [0.0, 0.3, 1.7, 4.0]
    bars, others = (shuffled([drawn(kind, angle, middle, SIDE, width) for angle in angles]) for kind in (0, 1))

    def farthest_and_nearest(see):
        of_bars, of_others = (see(x) for x in (bars, others))
        within = max(float(torch.pdist(of).max()) for of in (of_bars, of_others))
        return within, float(torch.cdist(of_bars, of_others).min())

    within, between = farthest_and_nearest(lambda x: seen_around(look, x))
    assert between > 1.5 * within
    within, between = farthest_and_nearest(look)
    assert between < within


def test_kinds_lie_apart_where_angles_do_not_count(turned):
    images = (255 * turned[..., None]).astype(np.uint8)
    spaces = plain_spaces(images, 0, choose_views(images))
    for name in (STROKES, CONTOURS, APPEARANCE):
        nearest = np.square(spaces[name][:, None] - spaces[name]).sum(2).argsort(1)[:, 1]
        assert np.mean(nearest % 2 == np.arange(len(images)) % 2) > 0.98, name
    assert STROKES in rules_of(len(images), spaces, [], of_signs=True).alone
    assert STROKES not in rules_of(len(images), plain_spaces(images, 0), [], of_signs=True).alone


@pytest.mark.parametrize("colour", [(1.0,), (0.9, 0.5, 0.7)])
def test_views_are_turned_where_angles_do_not_count(turned, colour):
    images = (255 * turned[..., None] * np.array(colour)).astype(np.uint8)
    views = choose_views(images)
    assert views.any_angle
    assert (views.brightness, views.gamma) == (THINGS.brightness, THINGS.gamma)
    assert widened(views).rotation_degrees == views.rotation_degrees
    assert not SIGNS.any_angle
    assert WAVES in plain_spaces(images, 0, views)
    assert WAVES not in plain_spaces(images, 0)


def test_textures_are_not_turned():
    noise = np.random.default_rng(0).integers(0, 256, (300, 24, 24, 1)).astype(np.uint8)
    assert any_angle(torch.from_numpy(noise / 255).float().permute(0, 3, 1, 2))
    assert not choose_views(noise).any_angle
