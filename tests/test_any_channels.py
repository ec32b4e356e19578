"""Seven channels of 16 bits end to end: fit, predict, report and page take them as they are."""

import base64
import io
import json

import numpy as np
import pytest
from explore_helpers import served
from PIL import Image

from clusterloom.cli.options import Reading
from clusterloom.cli.program import run
from clusterloom.console import Output
from clusterloom.data import ImageSet, load_images
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError
from clusterloom.estimators.methods import load_model
from clusterloom.explore.session import Session
from clusterloom.predictions import predict_images
from clusterloom.report.thumbnails import thumbnail

tifffile = pytest.importorskip("tifffile")


def write(folder, n, seed, gain=1):
    """Discs that are bright in other channels for each of two kinds."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    disc = (np.hypot(y - 8, x - 8) < 5).astype(float)
    for i in range(n):
        weights = np.where(np.arange(7) % 2 == i % 2, 3000, 100) * np.logspace(0, 1, 7)
        values = disc * weights[:, None, None] + rng.normal(300, 30, (7, 16, 16))
        pixels = (gain * values).clip(0, 65535).astype(np.uint16)
        tifffile.imwrite(folder / f"{i:02d}.tif", pixels, photometric="minisblack")


@pytest.fixture(scope="module")
def seven(tmp_path_factory):
    root = tmp_path_factory.mktemp("seven")
    write(root / "cells", 40, seed=0)
    write(root / "later", 6, seed=1)
    arguments = ["-k", "2", "--set", "epochs=4", "--set", "batch_size=16", "-q"]
    assert run(["fit", str(root / "cells"), "-o", str(root / "all"), *arguments]) == 0
    arguments += ["--channels", "3,0", "--set", "refine=false"]
    assert run(["fit", str(root / "cells"), "-o", str(root / "two"), *arguments]) == 0
    return root


def test_a_model_keeps_channels_and_range(seven):
    every, two = load_model(seven / "all"), load_model(seven / "two")
    assert (every.image_shape_, two.image_shape_) == ((16, 16, 7), (16, 16, 2))
    assert (every.reading_, two.reading_) == ({}, {"channels": [3, 0]})
    low, high = every.pixel_range_
    assert len(low) == len(high) == 7
    assert high[6] > 5 * high[0]
    assert two.pixel_range_ == ((low[3], low[0]), (high[3], high[0]))
    images = load_images(seven / "cells")
    made = every.reconstruct(images)
    assert made.shape == (40, 16, 16, 7)
    assert made[..., 6].max() > 3 * made[..., 0].max()  # in the units of each channel
    assert 0 <= every.to_unit(made).min() <= every.to_unit(made).max() <= 1


@pytest.mark.parametrize("model", ["all", "two"])
def test_predict_reads_later_files_like_the_model(seven, model, capsys):
    assert run(["predict", str(seven / model), str(seven / "later")]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    fitted = load_model(seven / model)
    same = load_images(
        seven / "later",
        image_size=16,
        channels=fitted.reading_.get("channels"),
        pixel_range=fitted.pixel_range_,
    )
    assert [int(row[1]) for row in rows] == fitted.predict(same).tolist()
    assert same.pixel_range == fitted.pixel_range_
    np.testing.assert_allclose([float(row[2]) for row in rows], fitted.predict_proba(same).max(1), rtol=1e-5)


def test_report_shows_them(seven):
    assert run(["report", str(seven / "all"), str(seven / "cells"), "-o", str(seven / "report.html"), "-q"]) == 0
    text = (seven / "report.html").read_text()
    assert "7 channels" in text
    assert text.count("data:image/png") > 10


def test_the_page_shows_them_and_reads_what_is_dropped(seven):
    images, fitted = load_images(seven / "cells"), load_model(seven / "all")
    session = Session(fitted, seven / "all", lambda model, progress: images, source=seven / "cells")
    session.start(lambda _: None)
    assert session.wait(120)
    assert session.error is None
    with served(session) as client:
        shown = np.asarray(Image.open(io.BytesIO(client.get("/image/5.png")[2])))
        np.testing.assert_array_equal(shown, images.images[5, ..., :3])
        said = json.loads(client.request("POST", "/api/drop", (seven / "cells" / "05.tif").read_bytes())[2])
        assert said["cluster"] == fitted.labels_[5]
        grey = io.BytesIO()
        Image.fromarray(images.images[5, ..., 0]).save(grey, "PNG")
        status, _, answer = client.request("POST", "/api/drop", grey.getvalue())
        assert (status, json.loads(answer)["error"]) == (
            400,
            "this picture cannot be read: has 1 channel where 7 are wanted",
        )


def test_other_channels_are_refused_in_one_line(seven, tmp_path, capsys):
    folder = tmp_path / "four"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((4, 16, 16), np.uint16), photometric="minisblack")
    for model, text in (("all", "has 4 channels where 7 are wanted"), ("two", "")):
        status = run(["predict", str(seven / model), str(folder)])
        error = capsys.readouterr().err
        assert status == (2 if text else 0)
        assert text in error


@pytest.mark.parametrize("chosen", ["6", "6,0,3"])
def test_chosen_channels_are_shown_everywhere(seven, tmp_path, chosen):
    numbers = [int(part) for part in chosen.split(",")]
    model, folder, out = tmp_path / "m", seven / "cells", tmp_path / "r.html"
    arguments = ["--method", "vae", "-k", "2", "--set", "epochs=1", "--show-channels", chosen + ",", "-q"]
    assert run(["fit", str(folder), "-o", str(model), *arguments]) == 0
    fitted, images = load_model(model), load_images(folder, show=numbers)
    assert fitted.reading_ == images.reading == {"shown": numbers}
    assert fitted.image_shape_ == (16, 16, 7)
    expected = images.images[..., numbers]
    np.testing.assert_array_equal(images.shown(slice(None)), expected)
    assert run(["report", str(model), str(folder), "-o", str(out), "-q"]) == 0
    page = out.read_text()
    assert any(thumbnail(image) in page for image in expected)
    assert not any(thumbnail(image) in page for image in images.images)
    assert run(["generate", str(model), "-o", str(tmp_path / "new"), "-n", "1", "-q"]) == 0
    used = int(fitted.cluster_sizes_.argmax())
    made = fitted.to_unit(fitted.sample(1, used, random_state=used))[0]
    shown = np.asarray(Image.open(next((tmp_path / "new" / f"cluster-{used}").iterdir()))).reshape(16, 16, -1)
    np.testing.assert_array_equal(shown, np.rint(made[..., numbers] * 255))
    session = Session(fitted, model, lambda model, progress: images)
    session.start(lambda _: None)
    assert session.wait(120)
    with served(session) as client:
        seen = np.asarray(Image.open(io.BytesIO(client.get("/image/5.png")[2]))).reshape(16, 16, -1)
    np.testing.assert_array_equal(seen, expected[5])


def test_channels_that_are_asked_for_later_are_shown_of_new_images_too(seven):
    model = load_model(seven / "two")
    with Output(quiet=True) as output:
        Reading(show_channels="1").load(str(seven / "cells"), output, model)
    assert model.reading_ == {"channels": [3, 0], "shown": [1]}
    assert model.shown(np.zeros((2, 16, 16, 2))).shape == (2, 16, 16, 1)


def test_channels_that_are_not_there_cannot_be_shown(seven, tmp_path, capsys):
    report = ["report", str(seven / "all"), str(seven / "cells"), "-o", str(tmp_path / "r.html"), "--show-channels"]
    for text, words in (("7", "below 7"), ("1,2", "expected one channel"), ("x", "--show-channels x: expected")):
        assert run([*report, text]) == 2
        assert words in capsys.readouterr().err


def test_a_range_for_other_channels_is_refused_before_anything_is_read(seven, capsys):
    assert run(["predict", str(seven / "all"), str(seven / "later"), "--channels", "0,1"]) == 2
    assert "has 2 channels; the range given is for 7" in capsys.readouterr().err


def test_predictions_are_kept_by_model_and_pixels(seven):
    model, images = load_model(seven / "all"), load_images(seven / "cells")
    np.testing.assert_array_equal(predict_images(model, images).labels, model.labels_)


@pytest.mark.parametrize("kind", ["floats in [0, 1]", "masks of 16 bits"])
def test_a_range_of_0_to_1_is_a_range_and_not_pixels_of_8_bits(tmp_path, kind):
    def write_some(folder, n, high):
        folder.mkdir()
        for i in range(n):
            values = np.zeros((16, 16))
            values[3 : 8 + i % 2 * 5, 3:12] = high
            as_floats = kind == "floats in [0, 1]"
            tifffile.imwrite(folder / f"{i}.tif", values.astype(np.float32) if as_floats else values.astype(np.uint16))

    write_some(tmp_path / "first", 12, 1)
    write_some(tmp_path / "later", 4, 0.5 if kind == "floats in [0, 1]" else 1)
    model, first, later = (str(tmp_path / name) for name in ("model", "first", "later"))
    assert run(["fit", first, "-o", model, "--method", "vae", "-k", "2", "--set", "epochs=1", "-q"]) == 0
    fitted = load_model(model)
    assert fitted.pixel_range_ == (0, 1)
    assert run(["predict", model, first, "-o", str(tmp_path / "table.csv"), "-q"]) == 0
    assert run(["evaluate", model, later, "-q"]) == 0
    session = Session(fitted, tmp_path / "model", lambda model, progress: load_images(first), source=tmp_path / "first")
    session.start(lambda _: None)
    assert session.wait(120)
    with served(session) as client:
        said = json.loads(client.request("POST", "/api/drop", (tmp_path / "first" / "1.tif").read_bytes())[2])
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(said["seen"]))))
        np.testing.assert_array_equal(seen, session.collection.images.images[1, ..., 0])
        assert seen.max() == 255
    with pytest.raises(DataError, match="trained on values from 0 to 1, and b holds pixels of 8 bits"):
        fitted.predict(ImageSet(np.zeros((2, 16, 16, 1), np.uint8), RowIds(range(2)), None, (), "b", ()))
