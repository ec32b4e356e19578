"""The data sets of the suite: those that need no package are made, the others' rules are tried on small data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clusterloom.errors import DataError

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import suite_sets  # noqa: E402
from suite_data import charts, drawn, glyphs, packages, pictures, sky  # noqa: E402


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path))


def test_half_of_the_sets_are_held_out_and_every_one_is_pinned():
    held_out = [s.held_out for s in suite_sets.SETS.values()]
    assert 2 * sum(held_out) + 1 >= len(held_out) >= 14
    assert set(json.loads(suite_sets.HASHES.read_text())) == {"versions", *suite_sets.SETS}


@pytest.mark.parametrize("name", ["digits", "shapes", "hues"])
def test_sets_are_what_the_hash_pins_when_made_and_when_loaded(name):
    made = suite_sets.load(name)
    loaded = suite_sets.load(name)
    assert set(loaded[1]) == set(range(suite_sets.SETS[name].k))
    assert all(np.array_equal(a, b) for a, b in zip(made, loaded, strict=True))


def test_a_damaged_file_and_other_pixels_are_refused(monkeypatch):
    images, labels = suite_sets.load("digits")
    sha256 = suite_sets.digest(images, labels)
    with suite_sets.cached("digits", sha256).open("wb") as file:
        np.savez(file, images=255 - images, labels=labels)
    with pytest.raises(DataError, match="damaged"):
        suite_sets.load("digits")
    suite_sets.cached("digits", sha256).unlink()
    monkeypatch.setattr(suite_sets, "made", lambda name: (255 - images, labels))
    with pytest.raises(DataError, match="made with numpy"):
        suite_sets.load("digits")


def test_the_hash_tells_types_and_shapes_apart():
    images, labels = np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int64)
    others = [images.reshape(4, 4, 1, 1), images.view(np.int8), images + 1]
    assert len({suite_sets.digest(x, labels) for x in [images, *others]}) == 4
    assert suite_sets.digest(images, labels) != suite_sets.digest(images, labels + 1)


def test_thinned_sets_keep_the_first_of_each_class(monkeypatch):
    labels = np.tile(np.arange(10), 5)
    monkeypatch.setattr(suite_sets, "builtin", lambda name: (np.arange(50), labels))
    rows, kept = suite_sets.thinned([1, 2, 3] + [0] * 7)
    assert rows.tolist() == [0, 1, 2, 11, 12, 22]
    assert kept.tolist() == [0, 1, 2, 1, 2, 2]
    assert (suite_sets.GEOMETRIC[0], suite_sets.GEOMETRIC[9], sum(suite_sets.TABULATED)) == (7000, 700, 17_600)


def test_images_of_another_set_are_a_twentieth_without_a_label(monkeypatch):
    sets = {"mnist": (np.zeros((9500, 1)), np.arange(9500) % 10), "fashion-mnist": (np.ones((500, 1)), None)}
    monkeypatch.setattr(suite_sets, "builtin", lambda name, limit: sets[name])
    images, labels = suite_sets.mnist_with_others()
    assert np.array_equal(images[:, 0] == 1, labels == -1)
    assert (labels == -1).mean() == 0.05


def test_an_unknown_name_ends_with_one_line():
    command = [sys.executable, ROOT / "benchmarks" / "suite_sets.py", "cats"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("'cats' is not a set of the suite")
    assert done.stderr.count("\n") == 1


def test_patches_come_from_their_photograph():
    photographs = [np.full((40, 50, 1), shade, np.uint8) for shade in (10, 20, 30)]
    images, labels = pictures.patches(photographs)
    assert images.shape == (3 * pictures.PATCHES, pictures.PATCH, pictures.PATCH, 1)
    assert np.array_equal(images, np.broadcast_to(10 * (labels + 1).reshape(-1, 1, 1, 1), images.shape))


def test_faces_that_no_other_package_confirms_are_dropped():
    rng = np.random.default_rng(0)
    alphabet = rng.integers(0, 256, (4, 8, 8))
    faces = np.clip(alphabet + rng.integers(-20, 21, (9, 4, 8, 8)), 0, 255)
    faces[7] = faces[8] = rng.integers(0, 256, (4, 8, 8))  # symbols, in two packages
    kept = glyphs.readable(faces.astype(np.uint8), np.array(list("aabbccdde")))
    assert kept.tolist() == [True] * 7 + [False] * 2


def test_letters_of_one_face_fill_the_square_and_differ():
    from matplotlib import get_data_path

    folder = Path(get_data_path()) / "fonts" / "ttf"
    drawn_letters = glyphs.in_face(folder / "DejaVuSans.ttf", ["A", "J"], (32, 32), 3)
    assert drawn_letters.dtype == np.uint8
    for letter in drawn_letters:
        rows, columns = np.nonzero(letter > 127)
        assert abs(rows.min() + rows.max() - 31) <= 1  # in the middle
        assert abs(columns.min() + columns.max() - 31) <= 1
    assert np.nonzero(drawn_letters.max((0, 2)) > 127)[0][[0, -1]].tolist() == [3, 28]
    assert (drawn_letters[0] != drawn_letters[1]).any()
    assert glyphs.in_face(folder / "DejaVuSans.ttf", ["\U000ffffd"], (32, 32), 3) is None


@pytest.mark.parametrize("kind", drawn.SOLIDS)
def test_solids_are_inside_where_they_should_be(kind):
    tube = kind == "ring"
    inside = np.array([[0.85, 0, 0]]) if tube else np.zeros((1, 3))
    outside = np.array([[0, 0, 0]]) if tube else np.array([[0, 0, 1.2]])
    assert drawn.DISTANCES[kind](inside) < 0 < drawn.DISTANCES[kind](outside)


@pytest.mark.parametrize("kind", drawn.SOLIDS)
def test_solids_stand_out_from_the_corners(kind):
    picture = drawn.solid(kind, np.random.default_rng(0)).astype(int)
    assert picture.shape == (drawn.SOLID_SIDE, drawn.SOLID_SIDE, 3)
    assert np.abs(np.diff(picture, axis=1)).max() > 40


@pytest.mark.parametrize("kind", drawn.CELLS)
def test_cells_are_brighter_than_their_corners_and_fit_twelve_bits(kind):
    rng = np.random.default_rng(0)
    pictures_of_kind = np.stack([drawn.cell(kind, rng) for _ in range(20)])
    assert pictures_of_kind.dtype == np.uint16
    assert pictures_of_kind.max() < 4096
    brightest = np.sort(pictures_of_kind.reshape(20, -1), 1)[:, -20:].mean(1)
    assert (brightest > 1.3 * pictures_of_kind[:, :4, :4].mean((1, 2, 3))).all()


@pytest.mark.parametrize("kind", sky.LIGHT)
def test_objects_of_the_sky_are_brighter_than_their_surroundings(kind):
    assert kind in {**sky.OBJECTS, **sky.OTHER_OBJECTS}
    rng = np.random.default_rng(0)
    of_kind = np.stack([sky.cut_out(kind, rng) for _ in range(20)])
    assert of_kind.dtype == np.uint16
    brightest = np.sort(of_kind.reshape(20, -1), 1)[:, -20:].mean(1)
    assert (brightest > 1.15 * np.median(of_kind, (1, 2, 3))).all()


@pytest.mark.parametrize("kind", charts.CHARTS)
def test_charts_have_a_margin_of_paper_and_ink_within(kind):
    rng = np.random.default_rng(0)
    for _ in range(5):
        picture = charts.chart(kind, rng).astype(int)
        margin, within = picture[:4], picture[8:-8, 8:-8]
        assert margin.reshape(-1, 3).std(0).max() < 5
        assert np.abs(within - margin.mean((0, 1))).max() > 40


def test_turned_images_keep_their_paper_and_their_labels():
    images, labels = np.full((6, 9, 9, 1), 255, np.uint8), np.arange(6)
    images[:, 4, :] = 0
    turned, kept = suite_sets.at_any_angle(lambda: (images, labels), 4)
    assert turned.shape == (4, 9, 9, 1)
    assert np.array_equal(kept, labels[:4])
    assert (turned[:, 4, 4] == 0).all()
    assert len(np.unique(turned.reshape(4, -1), axis=0)) == 4


def test_a_package_that_is_not_to_be_had_is_one_line(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no-such-client"):
        packages.run(["no-such-client", "x"], tmp_path)
    failing = [sys.executable, "-c", "import sys; print('looking'); sys.exit('Version 9 of x was not found')"]
    monkeypatch.setattr(packages, "run", lambda command, folder, run=packages.run: run(failing, folder))
    with pytest.raises(DataError, match=r"Version 9 of x was not found$") as caught:
        packages.unpacked("mate-icon-theme")
    assert "\n" not in str(caught.value)


@pytest.mark.network
@pytest.mark.parametrize("name", ["hundred", "three-hundred"])
def test_sets_from_packages_are_what_the_hash_pins(name):
    _, labels = suite_sets.load(name)
    assert set(labels) == set(range(suite_sets.SETS[name].k))
