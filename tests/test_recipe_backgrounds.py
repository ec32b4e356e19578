"""Things in front of backgrounds: what is shown, whatever lies behind it."""

import torch

from clusterloom.recipe.views.backgrounds import any_background, from_background, have_backgrounds


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


def test_light_may_fall_off_to_one_side_and_what_reaches_the_edge_does_not_count():
    generator = torch.Generator().manual_seed(3)
    _, shape = squares(torch.ones(40, 1), torch.zeros(40, 1), side=24)
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 24)] * 2, indexing="ij")
    down, across = 0.15 * torch.randn(2, 40, 1, 1, 1, generator=generator).clamp(-1, 1)
    lit = 0.5 + down * rows + across * columns
    torch.testing.assert_close(from_background(lit + 0.2 * shape), shape, atol=0.01, rtol=0)
    band = torch.zeros(1, 1, 24, 24)
    band[..., 8:12] = 1  # over two edges
    torch.testing.assert_close(from_background(lit[:1] - 0.2 * band), band, atol=0.1, rtol=0)


def test_noise_is_no_thing_and_a_background_is_no_texture():
    generator = torch.Generator().manual_seed(4)
    middle = torch.full((200, 1), 0.5)
    side = torch.where(torch.arange(200)[:, None] % 2 == 0, -0.3, 0.3)
    images, _ = squares(middle + side, middle, side=24)
    noisy = images + 0.03 * torch.randn(images.shape, generator=generator)
    assert have_backgrounds(noisy)
    assert any_background(noisy)
    assert not have_backgrounds(torch.rand(50, 1, 24, 24, generator=generator))


def test_small_things_have_backgrounds():
    generator = torch.Generator().manual_seed(5)
    side = torch.where(torch.arange(200)[:, None] % 2 == 0, -0.3, 0.3)
    images, shape = squares(0.5 + side, torch.full((200, 1), 0.5), side=40)  # 16 of 1,600 pixels
    noisy = images + 0.03 * torch.randn(images.shape, generator=generator)
    assert have_backgrounds(noisy)
    assert any_background(noisy)
    seen = from_background(noisy)
    assert float(seen[shape == 1].mean()) > 0.8 > 0.3 > float(seen[shape == 0].mean())
