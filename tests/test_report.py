"""The report: what it says, what it needs (nothing), and what a hostile file name can do (nothing)."""

import base64
import io
import json
import os
import re
import shutil
from dataclasses import replace

import html5lib
import numpy as np
import pytest
from PIL import Image

from clusterloom import AutoencoderClusterer, ConvVAEClusterer, DECClusterer, VAEClusterer, load_model
from clusterloom.cli.program import run
from clusterloom.errors import printable
from clusterloom.metrics import calibration_bins, expected_calibration_error
from clusterloom.palette import COLOURS, MARKERS, styles
from clusterloom.pictures import png_bytes
from clusterloom.predictions import Predictions
from clusterloom.recipe.cluster_count.evidence import Evidence
from clusterloom.report import charts, map_picture
from clusterloom.report.clusters import new_images
from clusterloom.report.contents import Subject, contents
from clusterloom.report.model_pictures import model_pictures
from clusterloom.report.numbers import percent
from clusterloom.report.origin import about_rows
from clusterloom.report.thumbnails import thumbnail

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
ESTIMATORS = {
    "convvae": ConvVAEClusterer(
        2,
        conv_kernels=(3,),
        latent_dim=3,
        hidden_dim=16,
        conv_filters=(4,),
        epochs=20,
        batch_size=8,
        learning_rate=0.01,
    ),
    "vae": VAEClusterer(2, latent_dim=3, hidden_dim=16, epochs=20, batch_size=8, learning_rate=0.01),
    "dec": DECClusterer(2, hidden_dims=(16,), latent_dim=3, pretrain_epochs=1, finetune_epochs=2, epochs=2),
    "ae-kmeans": AutoencoderClusterer(2, hidden_dims=(16,), latent_dim=3, pretrain_epochs=1, finetune_epochs=2),
}
HOSTILE = b"<img src=x onerror=alert(1)>\n\xff&\"'.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Colour pictures of two kinds in folders of their own; one has a name that is hard on pages."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(24):
        kind = ("red & <b>", "blue")[i % 2]
        (folder / kind).mkdir(exist_ok=True)
        pixels = rng.integers(0, 60, (16, 16, 3)).astype(np.uint8)
        pixels[..., 2 * (i % 2)] += 180
        Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    os.rename(folder / "blue" / "1.png", os.fsencode(folder / "blue") + b"/" + HOSTILE)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory, pictures):
    from clusterloom import load_images

    root = tmp_path_factory.mktemp("models")
    images = load_images(pictures)
    for name, estimator in ESTIMATORS.items():
        estimator.set_params(random_state=0).fit(images).save(root / name)
    return root


@pytest.fixture(scope="module")
def page(tmp_path_factory, models, pictures):
    """The text of a report with labels."""
    out = tmp_path_factory.mktemp("out") / "report.html"
    assert run(["report", str(models / "convvae"), str(pictures), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def parsed(text):
    """The document, by a parser that refuses anything that is not well-formed HTML."""
    return html5lib.HTMLParser(strict=True).parse(text)


def words(element):
    return words_of("".join(element.itertext()))


def words_of(text):
    return " ".join(text.split())


def section(document, name):
    (found,) = [e for e in document.iter() if e.get("id") == name]
    return found


def fails(arguments, text, capsys):
    capsys.readouterr()
    assert run([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("clusterloom: error: ")]
    assert text in line
    assert out == ""


def test_the_page_is_well_formed_and_its_identifiers_are_unique(page):
    document = parsed(page)
    ids = [e.get("id") for e in document.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    targets = [e.get("href") for e in document.iter(f"{HTML}a")]
    assert {target[1:] for target in targets} <= set(ids)
    assert {"#map", "#clusters", "#outliers", "#labels", "#training", "#about"} <= set(targets)


def test_the_page_needs_nothing_but_itself(page):
    document = parsed(page)
    names = {e.tag.split("}")[-1] for e in document.iter() if isinstance(e.tag, str)}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base", "audio", "video"}
    for element in document.iter():
        for name, value in element.attrib.items():
            assert not str(name).lower().startswith("on")
            if str(name).split("}")[-1] in ("src", "href", "srcset", "data"):
                assert value.startswith(("data:image/", "#")), value
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_every_picture_has_a_text_and_can_be_opened(page):
    document = parsed(page)
    images = list(document.iter(f"{HTML}img"))
    assert len(images) > 30
    for image in images:
        assert image.get("alt").startswith(("image ", "new image "))
        data = base64.b64decode(image.get("src").split(",", 1)[1])
        assert Image.open(io.BytesIO(data)).size == (16, 16)
    for drawing in document.iter(f"{SVG}svg"):
        assert drawing.get("aria-hidden") == "true" or len(drawing.get("aria-label")) > 20


def test_names_of_files_and_classes_are_text_and_nothing_else(page):
    assert "<img src=x" not in page
    assert "<b>," not in page
    alts = [image.get("alt") for image in parsed(page).iter(f"{HTML}img")]
    assert any("<img src=x onerror=alert(1)>\\n\\udcff&\"'.png" in alt for alt in alts)
    assert any("red & <b>" in words(row) for row in parsed(page).iter(f"{HTML}th"))


def test_the_numbers_are_those_of_the_model(models, pictures, tmp_path):
    from clusterloom import load_images

    model, images = load_model(models / "ae-kmeans"), load_images(pictures)
    proba = model.predict_proba(images)
    out = tmp_path / "report.html"
    assert run(["report", str(models / "ae-kmeans"), str(pictures), "--out", str(out)]) == 0
    document = parsed(out.read_text(encoding="utf-8"))
    for k in range(2):
        members = proba.argmax(1) == k
        assert members.sum() > 1
        text = words(section(document, f"cluster-{k}"))
        assert f"Cluster {k} {members.sum()} images" in text
        assert words_of(f"mean probability {percent(float(proba[members, k].mean()))}") in text
    cells = [words(cell) for cell in section(document, "labels").iter(f"{HTML}td")]
    counts = [cell for cell in cells if cell.isdigit()]
    assert sum(map(int, counts[:4])) == 24
    assert "AutoencoderClusterer(" in words(section(document, "about"))


def test_of_very_many_images_a_sample_is_shown_and_all_are_counted(models, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clusterloom.report.files.MOST_SHOWN", 10)
    assert run(["report", str(models / "convvae"), str(pictures), "--out", str(tmp_path / "r.html")]) == 0
    assert run(["evaluate", str(models / "convvae"), str(pictures), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    text = (tmp_path / "r.html").read_text()
    document = parsed(text)
    summary = words_of(" ".join(document.itertext()))
    assert "24 images, sorted without labels" in summary
    assert "10 of 24 images chosen at random" in summary
    assert "outliers and scores against labels are of all images" in summary
    assert words_of(f"accuracy {percent(counted['accuracy'])}") in summary
    assert len(document.findall(f".//{SVG}title")) == 10  # the points of the map
    for row in counted["clusters"]:
        assert words(section(document, f"cluster-{row['cluster']}")).startswith(
            f"Cluster {row['cluster']} {row['images']} images"
        )


def test_points_of_the_map_name_their_image_where_it_lies(page, models, pictures):
    from clusterloom import load_images
    from clusterloom.predictions import predict_images

    images = load_images(pictures)
    said = predict_images(load_model(models / "convvae"), images)
    document = parsed(page)
    spots = [element for element in document.iter() if element.get("class") == "spot"]
    assert len(spots) == len(images)
    told = {words(spot): (int(spot.get("cx")), int(spot.get("cy"))) for spot in spots}
    by_row = [next(place for text, place in told.items() if f"image {printable(id_)}," in text) for id_ in images.ids]
    for axis, scale in ((0, 1352), (1, -1352)):  # 1,400 pixels with margins; pictures count rows downwards
        assert np.ptp([place[axis] for place in by_row] - scale * said.position[:, axis]) <= 1


def test_of_many_points_a_random_choice_names_its_image(monkeypatch):
    monkeypatch.setattr("clusterloom.report.map_picture._MOST_SPOTS", 7)
    position = np.random.default_rng(0).uniform(size=(60, 2)).astype(np.float32)
    said = Predictions(np.ones((60, 1), np.float32), position, np.zeros(60), np.zeros(60, bool), position)
    assert len({spot.row for spot in map_picture.draw(said, styles(said.middles)).spots}) == 7


def test_the_same_model_and_images_give_the_same_page(page, models, pictures, tmp_path):
    assert run(["report", str(models / "convvae"), str(pictures), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_method_has_a_report_with_images_and_without(name, models, pictures, tmp_path):
    out = tmp_path / "report.html"
    assert run(["report", str(models / name), str(pictures), "--out", str(out)]) == 0
    document = parsed(out.read_text(encoding="utf-8"))
    generates = name in ("convvae", "vae")
    assert ("makes no new images" in words(section(document, "clusters"))) != generates
    assert len(list(section(document, "training").iter(f"{SVG}svg"))) >= 1
    assert run(["report", str(models / name), "--out", str(out)]) == 0
    document = parsed(out.read_text(encoding="utf-8"))
    ids = {e.get("id") for e in document.iter()}
    assert not ids & {"map", "outliers", "labels"}
    assert {"cluster-0", "cluster-1", "training", "about"} <= ids
    new = [image for image in document.iter(f"{HTML}img") if image.get("alt").startswith("new image")]
    assert bool(new) == generates


def test_a_method_that_nobody_has_heard_of_has_a_report(models):
    class Own(VAEClusterer):
        description = "a method of one's own"

    model = load_model(models / "vae")
    model.__class__ = Own
    assert contents(Subject(model)).method == "a method of one's own"
    assert dict(about_rows(model))["method"] == "Own, a method of one's own"


def test_labels_come_from_a_file_where_one_is_given(models, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (24, 16, 16, 3)).astype(np.uint8))
    out, labels = tmp_path / "report.html", tmp_path / "labels.txt"
    base = ["report", str(models / "vae"), str(tmp_path / "images.npy"), "--out", str(out)]
    assert run(base) == 0
    assert 'id="labels"' not in out.read_text(encoding="utf-8")
    labels.write_text("cat\n</td>dog\n" * 12)
    assert run([*base, "--labels", str(labels)]) == 0
    heads = [words(e) for e in section(parsed(out.read_text(encoding="utf-8")), "labels").iter(f"{HTML}th")]
    assert {"cat", "</td>dog"} <= set(heads)


def test_an_empty_cluster_is_named_as_such(models, pictures, tmp_path):
    model = load_model(models / "convvae")
    with np.errstate(all="ignore"):
        bias = model.network_.category_output.bias
        bias.data[1] = -1e6
    model.labels_ = np.zeros(24, np.int64)
    model.cluster_sizes_ = np.array([24, 0])
    model.save(tmp_path / "empty")
    out = tmp_path / "report.html"
    assert run(["report", str(tmp_path / "empty"), str(pictures), "--out", str(out)]) == 0
    document = parsed(out.read_text(encoding="utf-8"))
    assert "No image is in this cluster" in words(section(document, "cluster-1"))
    assert not list(section(document, "cluster-1").iter(f"{HTML}img"))


def test_pictures_lie_beside_the_page_and_old_ones_are_gone(models, pictures, tmp_path):
    folder = tmp_path / "report-pictures"
    folder.mkdir()
    (folder / "cluster-77-new.png").write_bytes(png_bytes(Image.new("L", (4, 4))))
    (folder / "mine.txt").write_text("mine")
    Image.new("L", (4, 4)).save(folder / "cluster-of-stars.png")
    out = tmp_path / "report.html"
    assert run(["report", str(models / "convvae"), str(pictures), "--out", str(out), "--pictures"]) == 0
    names = {path.name for path in folder.iterdir()}
    k = load_model(models / "convvae").labels_[0]  # the other one may be empty
    assert {
        "map.png",
        *(f"cluster-{k}-{what}.png" for what in ("typical", "least-certain", "new")),
        "mine.txt",
    } <= names
    assert "cluster-of-stars.png" in names, "a picture of the user's was removed"
    assert "cluster-77-new.png" not in names
    assert Image.open(folder / "map.png").mode == "RGB"
    made = [Image.open(path) for path in folder.glob("*.png") if path.name != "cluster-of-stars.png"]
    assert {picture.info.get("Software") for picture in made} == {"clusterloom"}, "a reader would take them for data"


@pytest.mark.parametrize("name", ["map.png", "cluster-77-new.png"])
def test_a_picture_of_a_user_s_stays_whatever_its_name(name, models, tmp_path, capsys):
    folder, out = tmp_path / "report-pictures", tmp_path / "report.html"
    folder.mkdir()
    Image.new("L", (4, 4)).save(folder / name)
    before = (folder / name).read_bytes()
    fails(["report", models / "vae", "--out", out, "--pictures"], f"{name} would be lost", capsys)
    assert (folder / name).read_bytes() == before
    assert not out.exists()


def test_the_grid_beside_a_model_shows_the_same_members_as_the_page(models, pictures, monkeypatch):
    from clusterloom import load_images
    from clusterloom.predictions import predict_images

    model, images = load_model(models / "vae"), load_images(pictures)
    made = model_pictures(model, images)
    assert set(made) == {"clusters.png", "generated.png"}
    grid = np.asarray(Image.open(io.BytesIO(made["clusters.png"])))
    said = predict_images(model, images)
    for k in range(2):
        row = said.typical(k, 16).tolist()
        for place, i in enumerate(row):
            tile = grid[20 + 34 * k :, 74 + 34 * place :][:32, :32]  # 16 pixels a side, each drawn as 2 x 2
            np.testing.assert_array_equal(tile[::2, ::2], images.images[i])
    assert (grid[:18] < 255).any(), "it does not say which members these are"
    monkeypatch.setattr("clusterloom.report.model_pictures._MOST_IMAGES", 12)
    asked = []
    model_pictures(model, images, lambda what, done, total: asked.append(total))
    assert asked[-1] == 12
    assert set(model_pictures(load_model(models / "dec"), images)) == {"clusters.png"}


def test_new_images_are_shown_as_they_are_whatever_range_the_model_was_trained_on(pictures):
    from clusterloom import load_images

    images = load_images(pictures)
    plain, twelve_bit = (
        VAEClusterer(2, hidden_dim=16, epochs=2, batch_size=8, random_state=0).fit(replace(images, pixel_range=values))
        for values in (None, (100.0, 4095.0))
    )
    for k in range(2):
        np.testing.assert_allclose(new_images(twelve_bit, k), new_images(plain, k), atol=1e-4)
    made = [
        np.asarray(Image.open(io.BytesIO(model_pictures(m, s)["generated.png"])))
        for m, s in ((plain, images), (twelve_bit, replace(images, pixel_range=(100.0, 4095.0))))
    ]
    assert abs(made[0].astype(int) - made[1]).max() <= 1


def test_the_page_goes_beside_the_model_and_replaces_an_older_one(models):
    page = models / "vae.report.html"
    for _ in range(2):
        assert run(["report", str(models / "vae")]) == 0
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {path.name for path in models.iterdir()} == {*ESTIMATORS, "vae.report.html"}
    page.unlink()


def test_a_model_in_the_current_folder_gets_its_page_outside_of_itself(models, tmp_path, monkeypatch):
    shutil.copytree(models / "vae", tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert run(["report", "."]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "mine.report.html"}


def test_what_cannot_be_done_is_said_in_one_line(models, pictures, tmp_path, capsys):
    model = models / "vae"
    fails(["report", tmp_path / "none"], "no such model directory", capsys)
    fails(["report", model, "no-such-data"], "no file, folder or built-in data set", capsys)
    fails(["report", model, "--out", tmp_path], "is a folder", capsys)
    fails(["report", model, "--out", tmp_path / "missing" / "report.html"], "does not exist", capsys)
    (tmp_path / "own.html").write_text("<!doctype html><title>My own page</title>")
    fails(["report", model, "--out", tmp_path / "own.html"], "exists and is no report of clusterloom", capsys)
    assert "My own page" in (tmp_path / "own.html").read_text()
    fails(["report", model, "--out", tmp_path / "report.pdf"], "ends in .html", capsys)
    fails(["report", model, "--labels", tmp_path / "labels.txt"], "DATA", capsys)
    fails(["report", model, pictures, "--labels", tmp_path / "labels.txt"], "labels.txt", capsys)
    np.save(tmp_path / "other.npy", np.zeros((5, 9, 9), np.uint8))
    fails(["report", model, tmp_path / "other.npy", "--out", tmp_path / "r.html"], "9", capsys)
    (tmp_path / "r-pictures").write_text("a file")
    fails(["report", model, "--out", tmp_path / "r.html", "--pictures"], "a file of that name", capsys)
    fails(["report", "/"], "not a model directory", capsys)
    assert [path.name for path in tmp_path.glob("*.html")] == ["own.html"]


def test_the_map_shows_every_cluster_in_its_colour_at_its_place():
    position = np.array([[0.0, 0.0], [1.0, 0.5], [0.5, 0.25]], np.float32)
    proba = np.eye(3, dtype=np.float32)
    predictions = Predictions(proba, np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.zeros(3, bool), position)
    drawn = map_picture.draw(predictions, styles(position))
    picture = drawn.points.convert("RGBA")
    width, height = picture.size
    assert width == 1400
    assert height == pytest.approx(1400 / 2, abs=30)
    # The first cluster is at the lower left: y runs upwards on the map and downwards in a picture.
    for k, (x, y) in enumerate([(24, height - 25), (width - 25, 24), (width // 2, height // 2)]):
        assert picture.getpixel((x, y))[:3] == tuple(int(COLOURS[k][i : i + 2], 16) for i in (1, 3, 5))
        assert picture.getpixel((x, y))[3] > 0
    assert picture.getpixel((width // 4, 5))[3] == 0
    assert [label.cluster for label in drawn.labels] == [0, 1, 2]


def test_numbers_on_the_map_do_not_cover_each_other():
    predictions = Predictions(
        np.repeat(np.eye(8, dtype=np.float32), 5, 0),
        np.zeros((40, 2), np.float32),
        np.zeros(40, np.float32),
        np.zeros(40, bool),
        np.full((40, 2), 0.5, np.float32),
    )
    labels = map_picture.draw(predictions, styles(np.zeros((8, 2)))).labels
    places = np.array([(label.x, label.y) for label in labels])
    distance = np.linalg.norm(places[:, None] - places, axis=2) + 1e3 * np.eye(8)
    assert len(labels) == 8
    assert distance.min() > 20


@pytest.mark.parametrize("shape", MARKERS)
@pytest.mark.parametrize("radius", [1, 2, 7])
def test_markers_have_a_shape_and_stay_within_their_radius(shape, radius):
    stamp = map_picture._stamp(shape, radius)
    assert len(stamp) >= 4
    assert abs(stamp).max() <= radius


def test_a_cluster_in_two_parts_has_two_numbers():
    rng = np.random.default_rng(0)
    position = np.concatenate([rng.normal(0.1, 0.02, (50, 2)), rng.normal(0.9, 0.02, (50, 2))]).astype(np.float32)
    zeros = np.zeros(100, np.float32)
    predictions = Predictions(np.ones((100, 1), np.float32), np.zeros((100, 2), np.float32), zeros, zeros > 0, position)
    assert len(map_picture.draw(predictions, styles(np.zeros((1, 2)))).labels) == 2


def test_small_images_are_kept_to_the_last_bit_and_large_ones_made_smaller():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (28, 28, 1)).astype(np.uint8)
    data = base64.b64decode(thumbnail(small).split(",", 1)[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("L")), small[..., 0])
    large = rng.integers(0, 256, (300, 200, 3)).astype(np.uint8)
    data = base64.b64decode(thumbnail(large).split(",", 1)[1])
    assert Image.open(io.BytesIO(data)).size == (64, 96)


def test_curves_rise_where_values_do_and_break_between_stages():
    history = [
        {"epoch": 1, "stage": "a", "loss": 4.0, "kl": 1.0, "seconds": 1},
        {"epoch": 2, "stage": "a", "loss": 2.0, "kl": 2.0, "seconds": 2},
        {"epoch": 3, "stage": "b", "loss": 3.0, "match": 3.0, "seconds": 3},
    ]
    loss, kl, match = charts.loss_panels(history)
    assert [panel.name for panel in (loss, kl, match)] == ["loss", "kl", "match"]
    (first, second) = loss.lines
    assert first.points == f"0.0,0.0 160.0,{charts.HEIGHT}.0"  # the highest value at the top
    assert second.single
    assert not first.single
    assert loss.bounds == [240.0]
    assert (kl.first, kl.last, kl.low, kl.high) == (1, 2, 1, 2)
    assert charts.stage_rows(history) == [("a", 2, 4.0, 2.0), ("b", 1, 3.0, 3.0)]
    assert charts.loss_panels([{"loss": float("nan")}]) == []


def test_the_number_of_clusters_that_was_chosen_is_ringed():
    evidence = [Evidence(n_clusters=n, modularity=m, stability=0.5) for n, m in ((2, 0.3), (3, 0.9), (4, 0.5))]
    score, modularity, stability, agreement, coverage = charts.evidence_panels(evidence)
    assert score.ring == (charts.WIDTH / 2, 0.0)
    assert modularity.ring == (charts.WIDTH / 2, 0.0)
    assert (modularity.x_low, modularity.x_high) == (2, 4)
    assert stability.low == stability.high == 0.5
    assert agreement.low == agreement.high == coverage.low == 0


def test_calibration_bins_hold_all_images_and_make_up_the_error():
    rng = np.random.default_rng(0)
    proba = rng.dirichlet([0.4] * 3, 500)
    labels = np.array([rng.choice(3, p=p) for p in proba])
    bins = calibration_bins(labels, proba, bins=10)
    assert sum(b.images for b in bins) == 500
    for b in bins:
        assert b.images == 0 or b.low <= b.confidence <= b.high
    right = sum(b.images * b.accuracy for b in bins) / 500
    assert right == pytest.approx((proba.argmax(1) == labels).mean())
    gap = sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / 500
    assert expected_calibration_error(labels, proba, bins=10) == pytest.approx(gap)


def test_python_users_learn_how_to_make_the_model_again(models, tmp_path):
    out = tmp_path / "report.html"
    assert run(["report", str(models / "vae"), "--out", str(out)]) == 0
    about = words(section(parsed(out.read_text(encoding="utf-8")), "about"))
    (call,) = re.findall(r"VAEClusterer\((.*?)\)\.fit\(images\)", about)
    assert "n_clusters=2" in call
    assert "random_state=0" in call
    assert "category_weight" not in call  # a default
