"""Sets of images that show one thing each, anywhere, and how it comes into the middle."""

import numpy as np
import pytest
import torch
from recipe_helpers import corners, digits, rng

from clusterloom import GuidedClusterer
from clusterloom.recipe.views import places
from clusterloom.recipe.views.angles import any_angle
from clusterloom.recipe.views.augment import SIGNS, widened
from clusterloom.recipe.views.backgrounds import from_background
from clusterloom.recipe.views.brightness import unit
from clusterloom.recipe.views.fair import choose_views
from clusterloom.recipe.views.places import any_place, frame_images, framed, frames


def test_places_do_not_count_where_a_set_has_all_of_them():
    shown = from_background(unit(corners(400)))
    assert any_place(shown)
    assert any_place(shown[:100])
    assert not any_place(shown[:50])  # of few nothing is said
    assert not any_place(from_background(unit(corners(400, anywhere=False))))
    assert not any_place(unit(digits()[..., None]))


@pytest.mark.parametrize(("reach", "anywhere"), [(2, False), (4, True)])
def test_drawings_need_less_than_all_places(reach, anywhere):
    """A hand begins somewhere near the middle. What has shades needs all places."""
    places_of = rng()
    ink, shades = np.zeros((2, 400, 40, 40, 1), np.float32)
    for of, drawn, digit in zip(ink, shades, digits(400), strict=True):
        row, column = 12 + places_of.integers(-reach, reach + 1, 2)
        place = np.s_[row : row + 16, column : column + 16, 0]
        of[place] = np.kron(digit > 127, np.ones((2, 2)))
        around = np.s_[row - 2 : row + 18, column - 2 : column + 18, 0]
        drawn[around] = np.maximum(of[around], 0.4)
    assert any_place(unit(ink)) == anywhere
    assert not any_place(unit(shades))


@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_views_are_of_framed_images_where_places_do_not_count(noise):
    views = choose_views(corners(400, noise=noise))
    assert views.framing == "middle"
    assert views.kind != "textures"  # which textures have
    assert views.any_background
    assert views.learned_slowly
    assert widened(views).framing == "middle"
    assert choose_views(corners(400, anywhere=False, noise=noise)) == SIGNS


def test_what_is_shown_comes_into_the_middle_and_half_as_far_from_one_size():
    images = unit(corners(2, sides=(8, 8), seed=3))
    thing = from_background(images)
    x = framed(images)
    assert x.shape == images.shape
    middles, sides = frames(from_background(x))
    assert middles.abs().max() < 0.06  # two pixels
    large = frames(from_background(unit(corners(2, sides=(16, 16), seed=3))))[1]
    torch.testing.assert_close(large / frames(thing)[1], torch.full((2,), 2**0.5), atol=0.12, rtol=0)
    assert (sides > frames(thing)[1]).all()  # it fills more of the image than before


def test_moved_images_are_framed_alike():
    x = from_background(unit(corners(8, sides=(9, 9))))
    moved = x.roll((2, -1), (2, 3))
    seen = frames(x)[0]
    inside = (seen.abs() < 0.5).all(1)
    torch.testing.assert_close(framed(x)[inside], framed(moved)[inside], atol=0.05, rtol=0)


def test_an_image_goes_on_as_its_background():
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    light = 0.5 + 0.2 * columns
    spot = ((rows + 0.8).abs() < 0.1) & ((columns - 0.8).abs() < 0.1)  # in a corner: half of its frame is beyond
    seen = framed(torch.where(spot, 0.0, light)[None, None])[0, 0]
    assert seen[12, 12] < 0.1
    torch.testing.assert_close(seen[:4].mean(0), seen[-4:].mean(0), atol=0.02, rtol=0)
    assert seen[0, -1] > seen[0, 0] + 0.05


def test_many_images_are_framed_when_they_are_asked_for(monkeypatch):
    images = corners(300)
    at_once = frame_images(images)
    monkeypatch.setattr(places, "_KEPT", images.size - 1)
    when_asked = frame_images(images)
    assert not isinstance(when_asked, np.ndarray)
    assert (when_asked.shape, when_asked.dtype, len(when_asked)) == (images.shape, at_once.dtype, 300)
    rows = np.array([299, 3])
    np.testing.assert_array_equal(when_asked[rows], at_once[rows])  # whatever it is asked for with
    np.testing.assert_array_equal(frame_images(images[:1])[0], at_once[0])
    monkeypatch.undo()
    np.testing.assert_allclose(frame_images((images / 255).astype(np.float32)), at_once, atol=1e-6)


def test_a_model_reads_framed_images_where_places_do_not_count(tmp_path):
    images = corners(240, sides=(8, 11))
    model = GuidedClusterer(2, hidden_dim=32, epochs=3, refine=False, precision="fp32", random_state=0).fit(images)
    assert model.framing_ == "middle"
    as_read = frame_images(images)
    with torch.inference_mode():
        latents = model.network_.latents(unit(as_read))
    np.testing.assert_allclose(model.transform(images), latents, atol=1e-4)
    rebuilt = model.reconstruct(images)
    assert np.square(rebuilt - as_read).mean() < np.square(rebuilt - images / 255).mean()
    model.save(tmp_path / "model")
    again = GuidedClusterer.load(tmp_path / "model")
    assert again.framing_ == "middle"
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
    assert not GuidedClusterer(2, hidden_dim=32, epochs=3, refine=False).fit(corners(240, anywhere=False)).framing_


def test_nothing_stays_nothing():
    blank = torch.full((2, 3, 12, 16), 0.4)
    torch.testing.assert_close(framed(blank), blank)
    assert not any_angle(blank[:, :1])


def cut_out(n):
    """Digits of 24 x 24 pixels in white on black, each cut out along its edges, uint8."""
    images = np.zeros((n, 24, 24, 1), np.uint8)
    for image, ink in zip(images, digits(n) > 180, strict=True):
        inside = ink[ink.any(1)][:, ink.any(0)]
        rows, columns = (np.arange(24) * side // 24 for side in inside.shape)
        image[..., 0] = 255 * inside[np.ix_(rows, columns)]
    return images


def test_signs_that_are_cut_out_get_a_margin_of_their_paper():
    images = cut_out(300)
    assert choose_views(images).framing == "dark margin"
    assert choose_views(255 - images).framing == "bright margin"
    either = np.where(np.arange(300)[:, None, None, None] % 2, images, 255 - images)
    assert choose_views(either).framing is None  # nobody knows what is paper
    assert choose_views(digits(300)[..., None]).framing is None  # no pixel to spare
    coloured = unit(np.stack(3 * [images[..., 0]], 3)) * torch.tensor([0.2, 0.5, 0.1])[:, None, None] + 0.3
    seen = framed(coloured, "dark margin")
    assert seen.shape == coloured.shape
    torch.testing.assert_close(seen[:, :, :2], torch.full_like(seen[:, :, :2], 0.3), atol=0.02, rtol=0)
    assert (seen[:, :, 5:-5, 5:-5] > 0.35).any((1, 2, 3)).all()


def test_a_model_reads_cut_out_signs_with_a_margin(tmp_path):
    images = cut_out(240)
    model = GuidedClusterer(3, hidden_dim=32, epochs=3, refine=False, precision="fp32", random_state=0).fit(images)
    with torch.inference_mode():
        latents = model.network_.latents(unit(frame_images(images, "dark margin")))
    np.testing.assert_allclose(model.transform(images), latents, atol=1e-4)
    model.save(tmp_path / "model")
    again = GuidedClusterer.load(tmp_path / "model")
    assert again.framing_ == "dark margin"
    np.testing.assert_array_equal(again.predict_proba(images), model.predict_proba(images))
