"""The network that knows strokes: what it reads, and that its weights know made-up signs from one another."""

import strokes
import torch

from clusterloom.networks.strokes import SIDE, StrokeNetwork, as_drawn, pretrained_strokes


def test_drawings_of_a_sign_are_nearest_to_each_other():
    """Signs that it has not learned from, among two hundred; and random weights know little of them."""
    chance = strokes.Chance(1)
    signs = strokes.signs(200, chance)
    both = [strokes.drawings(*signs, chance) for _ in range(2)]

    def share_found(network):
        nearest = torch.cdist(*(network(images).sqrt() for images in both)).argmin(1)
        return (nearest == torch.arange(200)).float().mean()

    torch.manual_seed(0)
    assert share_found(pretrained_strokes()) > 0.55
    assert share_found(StrokeNetwork()) < 0.25


def test_reading_the_weights_uses_up_no_random_numbers():
    pretrained_strokes.cache_clear()
    before = torch.get_rng_state()
    pretrained_strokes()
    assert torch.equal(torch.get_rng_state(), before)


def test_half_of_the_signs_come_in_pairs_that_differ_in_one_stroke():
    chance = strokes.Chance(0)
    curves, there = strokes.signs_and_siblings(400, chance)
    assert (curves.shape, there.shape) == ((400, 4, 4, 2), (400, 4))
    same = (curves[::2] == curves[1::2]).flatten(2).all(2) & (there[::2] == there[1::2])  # (200 pairs, 4 strokes)
    alike = (~same).sum(1) == 1
    assert alike[:100].float().mean() > 0.6  # of the others the change would hardly show
    assert not alike[100:].any()
    plain = strokes.drawn_plainly(curves, there)
    assert (plain[:200:2] - plain[1:200:2]).abs().sum(1).min() > 1


def test_drawings_are_bright_strokes_on_a_dark_square():
    chance = strokes.Chance(0)
    images = strokes.drawings(*strokes.signs(100, chance), chance)
    assert images.shape == (100, 1, SIDE, SIDE)
    assert 0 <= images.min() < images.max() <= 1
    assert images.mean() < 0.3
    assert (images.amax((1, 2, 3)) > 0.5).all()


def test_ink_on_paper_of_any_size_is_brought_to_a_dark_square():
    image = torch.zeros(1, 1, 40, 20)
    image[..., 10:30, 5:15] = 1
    drawn = as_drawn(image)
    assert drawn.shape == (1, 1, SIDE, SIDE)
    assert drawn[..., 16, 16] == 1
    assert drawn[..., :, 0].max() == 0  # what is added at the sides of a narrow image
    torch.testing.assert_close(as_drawn(1 - image), drawn)
    assert as_drawn(torch.zeros(2, 1, 3, 5)).shape == (2, 1, SIDE, SIDE)


def test_learning_ends_with_a_network_that_reads_drawings():
    chance = strokes.Chance(0)
    pool = (torch.stack([strokes.drawings(*strokes.signs(256, chance), chance) for _ in range(2)], 1) * 255).byte()
    network = strokes.trained(pool, chance, 1)
    assert network.layers[-1](network.layers[:-1](pool[:3, 0].float() / 255)).shape == (3, strokes.FEATURES)
