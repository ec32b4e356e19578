"""Brightness: what images show whatever their light and colour."""

import pytest
import torch

from clusterloom.recipe.views.brightness import evenly_lit, shaded_shares, stretched


def test_stretched_brightness_goes_from_dark_to_bright():
    ramp = torch.linspace(0.3, 0.5, 100).view(1, 1, 10, 10)
    x = torch.cat([0.2 * ramp, ramp, 0.7 * ramp], 1)
    seen = stretched(x)
    assert seen.shape == x.shape
    assert torch.equal(seen[:, 0], seen[:, 1])
    order = seen[0, 0].flatten()
    assert order[:3].tolist() == [0, 0, 0]  # the second percentile is the third pixel
    assert order[-3:].tolist() == [1, 1, 1]
    torch.testing.assert_close(order[2:98], torch.linspace(0, 1, 96), atol=1e-5, rtol=0)


@pytest.mark.parametrize("ink", [(1, 0, 0), (1, 0.9, 0), (0, 0.2, 0.9), (0, 0, 0)])
def test_ink_of_any_colour_stands_out_from_white_paper(ink):
    x = torch.ones(2, 3, 9, 8)
    x[:, :, :, 5:] = torch.tensor(ink, dtype=torch.float32)[:, None, None]
    torch.testing.assert_close(stretched(x), (torch.arange(8) < 5).float().expand_as(x), atol=1e-5, rtol=0)


def test_stretched_brightness_knows_no_light_and_keeps_noise_small():
    x = torch.rand(5, 3, 9, 7)
    torch.testing.assert_close(stretched(0.3 * x + 0.4), stretched(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(stretched(x[:, [2, 0, 1]]), stretched(x))
    assert stretched(torch.full((2, 1, 4, 4), 0.7)).abs().max() == 0
    noise = 0.5 + 0.003 * torch.rand(1, 1, 8, 8)
    assert stretched(noise).max() <= 0.11  # of a range of 0.03, which is the least


def test_what_is_small_stays_brighter_than_the_noise_around_it():
    noisy = 0.2 + 0.02 * torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    noisy[..., 10:14, 10:13] = 0.9  # 12 of 1,600 pixels
    for x in (noisy, 1 - noisy):
        seen = stretched(x)[0, 0]
        thing, around = seen[10:14, 10:13], seen[20:]
        assert (thing - thing[0, 0]).abs().max() == 0
        assert (around - thing[0, 0]).abs().min() > 0.6


def test_ink_on_paper_has_no_shades():
    assert shaded_shares(torch.tensor([[[0.0, 1.0], [0.05, 0.5]]])).tolist() == [0.25]


def test_light_that_changes_slowly_is_no_part_of_what_is_lit():
    pattern = 0.8 + 0.2 * torch.rand(2, 3, 24, 30, generator=torch.Generator().manual_seed(0))
    down, across = torch.linspace(-1, 1, 24)[:, None], torch.linspace(-1, 1, 30)
    light = torch.stack([0.7 + 0.2 * down - 0.1 * across**2, 0.3 + 0.1 * down * across])[:, None]
    lit = evenly_lit(pattern * light)
    assert lit.shape == pattern.shape
    torch.testing.assert_close(lit.mean((2, 3)), torch.full((2, 3), 0.9), atol=0.08, rtol=0)
    shown = [images.flatten(2).flatten(0, 1) for images in (pattern, pattern * light, lit)]
    for own, in_light, without in zip(*shown, strict=True):
        _, unlit, again = torch.corrcoef(torch.stack([own, in_light, without]))[0]
        assert again > 0.9
        assert unlit < 0.75
    assert not evenly_lit(torch.zeros(1, 1, 5, 5)).any()
