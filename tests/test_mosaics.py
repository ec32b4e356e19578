"""Tiles in their place: pictures come together as they were, each tile in the colour of its cluster."""

import io

import numpy as np
import pytest
from data_helpers import random_pixels
from explore_helpers import served
from PIL import Image

from clusterloom import VAEClusterer, load_model
from clusterloom.cli.program import run
from clusterloom.data import ImageSet, load_images
from clusterloom.explore.session import Session
from clusterloom.mosaics import assembled, mosaics, outlined, tinted
from clusterloom.palette import COLOURS, styles


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_picture_comes_together_as_it_was(tmp_path):
    for i in range(2):
        Image.fromarray(random_pixels(35, 52, 3, seed=i)).save(tmp_path / f"p#{i},0.png")
    images = load_images(tmp_path, tile=16)
    first, second = mosaics(images.ids)
    assert (first.name, second.name) == ("p#0,0.png", "p#1,0.png")
    assert second.rows.tolist() == [[6, 7, 8], [9, 10, 11]]
    whole = assembled(images, second, 1000)
    np.testing.assert_array_equal(np.asarray(whole), random_pixels(35, 52, 3, seed=1)[:32, :48])
    assert assembled(images, second, 12).size == (12, 8)


def test_missing_tiles_are_grey_and_colours_are_those_of_clusters():
    images = ImageSet(np.zeros((2, 4, 4, 1), np.uint8), ["a#0,0", "a#1,2"], None, (), "two", ())
    (one,) = mosaics(images.ids)
    plain = assembled(images, one, 100)
    found = np.asarray(tinted(plain, one, np.array([1, 0]), styles(np.zeros((2, 2)))))
    assert found.shape == (8, 12, 3)
    for place, colour in (((0, 0), COLOURS[1]), ((5, 9), COLOURS[0]), ((0, 5), "#808080")):
        share = 1 if colour == "#808080" else 0.5
        expected = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) * share
        assert np.abs(found[place] - expected).max() <= 1
    framed = np.asarray(outlined(plain, one, 1))
    assert framed[4, 8:].min() == 255
    assert framed[0, 0].max() == 0


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    """A picture of nine rows of tiles, three rows of each kind, and a model of them."""
    root = tmp_path_factory.mktemp("textures")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 70, (216, 240, 3)).astype(np.uint8)
    for row in range(9):
        kind, top = row // 3, 24 * row
        pixels[top : top + 24, :, kind] += 170
        band = pixels[top + 4 + 4 * kind : top + 12 + 4 * kind].reshape(8, 10, 24, 3)
        band[:, :, 6:18] = 250 - 60 * kind
    (root / "slides").mkdir()
    Image.fromarray(pixels).save(root / "slides" / "<b>slide.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = VAEClusterer(3, hidden_dim=16, epochs=2, batch_size=16, random_state=0)
        model.fit(load_images(root / "slides", tile=24)).save(root / "model")
    return root


def test_the_report_shows_them_in_their_place(textures):
    out = textures / "report.html"
    assert run(["report", str(textures / "model"), str(textures / "slides"), "-o", str(out), "-q"]) == 0
    text = out.read_text()
    assert "The images are tiles of 1 picture," in text
    assert "&lt;b&gt;slide.png" in text
    assert "90 tiles; most in" in text
    assert "<b>slide" not in text


def test_the_page_shows_a_tile_in_its_picture(textures):
    model, folder = load_model(textures / "model"), textures / "slides"
    assert model.reading_ == {"tile": 24}
    images = load_images(folder, tile=24)
    session = Session(model, textures / "model", lambda model, progress: images, source=folder)
    session.start(lambda: None)
    assert session.wait(120)
    assert session.error is None
    with served(session) as client:
        assert client.get_json("/api/images/7")["is_tile"]
        assert not client.get_json("/api/state")["data"]["linkable"]  # tiles have no files of their own
        before = client.get("/place/7.png?r=0")
        assert before[0] == 200
        assert Image.open(io.BytesIO(before[2])).size == (240, 216)
        other = (int(session.collection.assignment.labels[59]) + 1) % 3
        client.edit({"op": "move", "rows": [59], "to": other})
        assert client.get("/place/7.png?r=1")[2] != before[2]
        assert client.get("/place/90.png")[0] == 404
        saved = client.post_json("/api/save/images", {"rows": [7, 8], "how": "copies"})
        assert saved["count"] == 2


def test_predict_cuts_and_sorts_tiles_by_itself(textures, tmp_path, capsys):
    arguments = [str(textures / "model"), str(textures / "slides")]
    assert run(["predict", *arguments, "-o", str(tmp_path / "t.csv"), "--sort-into", str(tmp_path / "s")]) == 0
    labels = load_model(textures / "model").labels_
    lines = (tmp_path / "t.csv").read_text().splitlines()[1:]
    assert lines[11].startswith('"<b>slide.png#1,1",')
    assert len(lines) == 90 == sum(1 for path in (tmp_path / "s").rglob("*.png"))
    assert [int(line.split('",')[1].split(",")[0]) for line in lines] == labels.tolist()
    capsys.readouterr()
    assert run(["predict", *arguments, "--sort-into", str(tmp_path / "l"), "--link"]) == 2
    assert "tiles have no files to link to" in capsys.readouterr().err
    assert not (tmp_path / "l").exists()
