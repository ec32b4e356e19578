"""Which views the images themselves allow."""

from dataclasses import replace

import numpy as np
import torch
from recipe_helpers import digits, hues, quarters, textures

from clusterloom.recipe.views import fair
from clusterloom.recipe.views.augment import SIGNS, TEXTURES, THINGS
from clusterloom.recipe.views.brightness import shaded_shares, unit
from clusterloom.recipe.views.fair import choose_views, filled_evenly, symmetric_shares


def grey(images):
    """Brightness (N, H, W) of images (N, H, W, 1) of dark to white."""
    return torch.from_numpy(images[..., 0] / 255)


def test_the_choice_of_views_sees_no_colour():
    """Shapes that are symmetric stay so whatever colours their halves have."""
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(60, 196, (60, 12, 6, 1)), 3, 3).astype(np.uint8)
    images = np.pad(np.concatenate([grey, grey[:, :, ::-1]], 2), ((0, 0), (3, 3), (0, 0), (0, 0)))
    coloured = images.copy()
    coloured[:, :, 3:9] += np.array([60, 226, 226], np.uint8)  # 60 more of red and 30 less of all else: the mean stays
    assert choose_views(coloured) == choose_views(images) == choose_views(images[..., :1])
    assert choose_views(coloured).mirror_horizontally
    assert not choose_views(coloured).changes_colour


def test_signs_in_any_colour_on_any_background_are_told_from_it():
    rng = np.random.default_rng(0)
    ink, paper = rng.integers(0, 256, (2, 300, 1, 1, 3))
    shape = np.pad(digits(300), ((0, 0), (2, 2), (2, 2)))[..., None] / 255
    images = np.rint(paper + (ink - paper) * shape).astype(np.uint8)
    assert choose_views(images) == replace(SIGNS, any_background=True)
    assert not choose_views((255 * shape).astype(np.uint8)).any_background


def test_the_images_alone_decide_on_views():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16] - 7.5
    balls = np.stack([255 * (1 - (rows**2 + columns**2) / r**2).clip(0) for r in rng.uniform(4, 9, 60)])
    discs = balls.astype(np.uint8)[..., None]  # which are brightest in the middle
    assert set(symmetric_shares(grey(discs)).values()) == {1.0}
    views = choose_views(discs)
    assert views.mirror_horizontally
    assert views.mirror_vertically
    assert views.quarter_turns
    assert views.window_area == THINGS.window_area
    half = discs.copy()
    half[:, :, :8] = 0  # right halves: up and down may be swapped, left and right may not
    shares = symmetric_shares(grey(half))
    assert (shares["mirror_horizontally"], shares["mirror_vertically"]) == (0.0, 1.0)
    assert choose_views(half) == SIGNS
    assert choose_views(digits()[..., None]) == SIGNS


def test_textures_are_neither_zoomed_nor_bent():
    views = choose_views(textures()[0])
    assert views.kind == "textures"
    assert views.window_area == (1, 1)
    assert views.shift == TEXTURES.shift
    assert views.bend == views.growth == views.aspect == views.rotation_degrees == 0


def test_symmetric_letters_stay_signs():
    """Ink on paper has no shades, and half of an H or an O is another letter."""
    rows, columns = np.abs(np.mgrid[:24, :24] - 11.5)
    letters = [(columns > 7) & (rows < 9) | (columns < 9) & (rows < width) for width in np.linspace(1, 3, 30)]  # H
    letters += [(np.hypot(rows, columns) < r) & (np.hypot(rows, columns) > r - 3) for r in np.linspace(7, 11, 30)]  # O
    images = 255 * np.stack(letters)[..., None].astype(np.uint8)
    assert symmetric_shares(grey(images))["mirror_horizontally"] == 1
    assert not shaded_shares(grey(images)).any()
    assert choose_views(images) == replace(SIGNS, framing="dark margin")  # they reach the edge
    lit = images * np.linspace(0.2, 1, 24)[:, None, None]  # from below
    assert choose_views(lit.astype(np.uint8)).mirror_horizontally


def test_of_few_images_more_have_to_stay_among_their_like_upside_down(monkeypatch):
    """As of 150 road signs: the nearest ones are far away, and most signs seem as near when they are upside down."""
    shares = {"mirror_horizontally": 0.4, "mirror_vertically": 0.6, "quarter_turns": 0.6}
    monkeypatch.setattr(fair, "symmetric_shares", lambda x: shares)
    rows, columns = np.mgrid[:16, :16] - 7.5
    balls = np.stack([255 * (1 - (rows**2 + columns**2) / r**2).clip(0) for r in np.linspace(4, 9, 300)])
    for n, upside_down in ((100, False), (300, True)):
        views = choose_views(balls[:n, ..., None].astype(np.uint8))
        assert views.mirror_horizontally
        assert views.mirror_vertically == views.quarter_turns == upside_down


def test_mirror_images_of_other_kinds_are_no_symmetry():
    assert max(symmetric_shares(grey(quarters()[0])).values()) == 0
    assert choose_views(np.zeros((2, 8, 10, 1), np.uint8)) == SIGNS


def test_textures_are_filled_evenly_and_digits_are_not():
    assert filled_evenly(unit(textures()[0]))
    assert not filled_evenly(unit(digits()[..., None]))  # too small for patches
    assert not filled_evenly(unit(digits().repeat(3, 1).repeat(3, 2)[..., None]))
    assert not filled_evenly(unit(hues()[0]))
    assert not filled_evenly(unit(np.full((20, 16, 16, 1), 7, np.uint8)))  # nothing varies
    assert not filled_evenly(unit(textures(1)[0]))
    ink, paper = np.random.default_rng(0).integers(0, 256, (2, 300, 1, 1, 1))
    on_any_paper = paper + (ink - paper) * (hues(300)[0].max(3, keepdims=True) > 60)
    assert not filled_evenly(unit(on_any_paper.astype(np.uint8)))


def test_signs_that_fill_their_frame_are_no_textures(monkeypatch):
    """As letters cut out along their edges: brightness varies everywhere, but a stroke has its place."""
    rng = np.random.default_rng(0)
    strokes = rng.random((10, 8, 8)) < 0.5  # ten signs
    ink = strokes[rng.integers(0, 10, 400)] ^ (rng.random((400, 8, 8)) < 0.1)
    polarity = rng.random((400, 1, 1)) < 0.5
    for signs in (ink, ink ^ polarity):
        images = (255 * signs).astype(np.uint8).repeat(3, 1).repeat(3, 2)[..., None]
        assert not filled_evenly(unit(images))
        assert choose_views(images).kind == "signs"
        with monkeypatch.context() as patched:
            patched.setattr(fair, "_EVEN_TOGETHER", 1.0)
            assert filled_evenly(unit(images))  # nothing else tells
