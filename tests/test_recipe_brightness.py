"""Brightness: what images show whatever their light and colour."""

import torch

from clusterloom.recipe.brightness import any_background, from_background, shaded_share, stretched


def test_stretched_brightness_is_the_largest_channel_from_dark_to_bright():
    ramp = torch.linspace(0.3, 0.5, 100).view(1, 1, 10, 10)
    x = torch.cat([0.2 * ramp, ramp, 0.7 * ramp], 1)
    seen = stretched(x)
    assert seen.shape == x.shape
    assert torch.equal(seen[:, 0], seen[:, 1])
    order = seen[0, 0].flatten()
    assert order[:3].tolist() == [0, 0, 0]  # the second percentile is the third pixel
    assert order[-3:].tolist() == [1, 1, 1]
    torch.testing.assert_close(order[2:98], torch.linspace(0, 1, 96), atol=1e-5, rtol=0)


def test_stretched_brightness_knows_no_light_and_keeps_noise_small():
    x = torch.rand(5, 3, 9, 7)
    torch.testing.assert_close(stretched(0.3 * x + 0.4), stretched(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(stretched(x[:, [2, 0, 1]]), stretched(x))
    assert stretched(torch.full((2, 1, 4, 4), 0.7)).abs().max() == 0
    noise = 0.5 + 0.003 * torch.rand(1, 1, 8, 8)
    assert stretched(noise).max() <= 0.11  # of a range of 0.03, which is the least


def squares(ink, paper, side=12):
    """Squares of any place in the colours (N, C) of ink, on paper of other ones, and where they are."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(1, side - 5, (len(ink), 2), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = [(rows >= r) & (rows < r + 4) & (columns >= c) & (columns < c + 4) for r, c in places]
    shape = torch.stack(inside)[:, None].float()
    return paper[:, :, None, None] + (ink - paper)[:, :, None, None] * shape, shape


def test_what_is_shown_is_told_from_a_background_of_any_colour():
    generator = torch.Generator().manual_seed(1)
    images, shape = squares(*torch.rand(2, 50, 3, generator=generator))
    torch.testing.assert_close(from_background(images), shape.expand(-1, 3, -1, -1))
    assert from_background(torch.full((2, 3, 6, 6), 0.4)).abs().max() == 0
    green, red = torch.tensor([[0.0, 0.8, 0]]), torch.tensor([[0.8, 0.0, 0]])
    images, shape = squares(red, green)  # as bright
    torch.testing.assert_close(from_background(images)[:, :1], shape)


def test_backgrounds_count_that_are_even_and_now_dark_now_bright():
    generator = torch.Generator().manual_seed(2)
    dark, bright = 0.4 * torch.rand(2, 100, 1, generator=generator) + torch.tensor([[[0.0]], [[0.6]]])
    mixed, _ = squares(torch.cat([dark, bright]), torch.cat([bright, dark]))
    assert any_background(mixed)
    assert not any_background(squares(dark, bright)[0])
    assert not any_background(squares(bright, dark)[0])
    middle = torch.full((100, 1), 0.5)
    embossed = (squares(0.8 + 0 * middle, middle)[0] + squares(0.2 + 0 * middle, middle)[0].flip(2)) / 2
    assert not any_background(embossed)  # brighter and darker than one background
    assert not any_background(torch.rand(100, 3, 12, 12, generator=generator))  # no background
    assert not any_background(torch.full((5, 1, 6, 6), 0.4))


def test_ink_on_paper_has_no_shades():
    assert shaded_share(torch.tensor([[0.0, 1.0], [0.05, 0.5]])) == 0.25
