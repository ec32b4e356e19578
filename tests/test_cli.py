"""The command line, as users meet it: exit statuses, one-line errors, files whole or absent."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clusterloom
from clusterloom import load_model
from clusterloom.cli.evaluate import _print
from clusterloom.cli.program import run
from clusterloom.cli.runs import tell
from clusterloom.console import Output
from clusterloom.errors import DataError
from clusterloom.files import new_directory, write_atomically
from clusterloom.ownership import owned
from clusterloom.tables import read_labels


def knobs(**values):
    """Options that set knobs of the paper's method."""
    return ["--method", "convvae", *(part for name, value in values.items() for part in ("--set", f"{name}={value}"))]


_BARE = {**os.environ, "PYTHONPATH": str(Path(clusterloom.__file__).parents[1])}  # an interpreter without packages
SMALL = {"latent_dim": 3, "hidden_dim": 16, "conv_filters": "4,4"}
FIT = [*knobs(**SMALL, epochs=2), "-k", "3"]


def make_pictures(folder, n=24):
    """Colour pictures of mixed sizes in two class folders, some with names that are hard on terminals and CSV."""
    rng = np.random.default_rng(0)
    for i in range(n):
        kind = ("red", "blau, größer")[i % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (rng.integers(20, 40), rng.integers(20, 40), 3)).astype(np.uint8)
        pixels[..., 2 * (i % 2)] += 180
        Image.fromarray(pixels).save(folder / kind / f"picture {i}.png")
    os.rename(folder / "red" / "picture 0.png", os.fsencode(folder / "red") + b"/<img src=x>\n\xff.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("Bilder mit Ümlaut"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("models") / "mein Modell"
    assert run(["fit", str(pictures), "--out", str(path), "--image-size", "16", *FIT]) == 0
    return path


@pytest.fixture
def sizes(monkeypatch):
    """Called with numbers of images by cluster: what models have that are loaded from then on."""

    def has(*numbers):
        def with_these(path):
            fitted = load_model(path)
            fitted.cluster_sizes_ = np.array(numbers)
            return fitted

        monkeypatch.setattr("clusterloom.estimators.methods.load_model", with_these)

    return has


def fails(arguments, text, capsys, status=2):
    """The command ends with one line on standard error that has `text` in it, and prints nothing else."""
    capsys.readouterr()
    assert run([str(a) for a in arguments]) == status
    out, err = capsys.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("clusterloom: error: ")]
    assert text in line
    assert "Traceback" not in err
    assert out == ""


def test_fit_leaves_a_model_with_pictures_and_nothing_else(model):
    names = {file.name for file in model.iterdir()}
    pictures = {"clusters.png", "generated.png"}
    assert names == {"model.safetensors", "config.json", "metrics.jsonl", "README.md", *pictures}
    assert not model.with_name(model.name + ".partial").exists()
    for name in pictures:
        assert Image.open(model / name).size[0] > 100
    card = (model / "README.md").read_text()
    assert "clusterloom fit" in card
    assert "clusterloom generate" in card
    assert "folder Bilder mit Ümlaut" in card
    assert len((model / "metrics.jsonl").read_text().splitlines()) == 2


def test_names_that_are_not_utf_8_cost_no_model(tmp_path, monkeypatch):
    """Neither of the data, nor of the model: both are part of the command that the model remembers."""
    monkeypatch.chdir(tmp_path)
    data, out = (os.fsdecode(name) for name in (b"caf\xe9.npy", b"mod\xe8le"))
    np.save(data, np.random.default_rng(0).integers(0, 256, (24, 16, 16)).astype(np.uint8))
    assert run(["fit", data, "--out", out, *FIT]) == 0
    about = load_model(out).about_
    assert about["command"].startswith(r"clusterloom fit 'caf\udce9.npy' --out 'mod\udce8le'")
    assert about["data"].endswith(r"caf\udce9.npy")
    assert r"caf\udce9.npy" in (tmp_path / out / "README.md").read_text(encoding="utf-8")


def test_predict_writes_a_row_per_image(model, pictures, tmp_path):
    """Names with markup, newlines and bytes that are not UTF-8 stay on one line each."""
    assert run(["predict", str(model), str(pictures), "--out", str(tmp_path / "labels.csv")]) == 0
    text = (tmp_path / "labels.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 24 == len(text.splitlines()) - 1
    columns = ["id", "cluster", "probability", "runner_up", "runner_up_probability", "score", "outlier"]
    assert list(rows[0]) == columns
    ids = {row["id"] for row in rows}
    assert "blau, größer/picture 1.png" in ids
    assert r"red/<img src=x>\n\udcff.png" in ids
    for row in rows:
        assert 0 < float(row["runner_up_probability"]) <= float(row["probability"]) < 1
        assert row["cluster"] != row["runner_up"]
        assert row["outlier"] in ("true", "false")


def test_predict_parquet_agrees_with_csv_and_with_python(model, pictures, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run(["predict", str(model), str(pictures), "--out", str(tmp_path / "labels.parquet")]) == 0
    capsys.readouterr()
    assert run(["predict", str(model), str(pictures)]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    table = parquet.read_table(tmp_path / "labels.parquet").to_pydict()
    assert table["id"] == [row["id"] for row in rows]
    assert table["cluster"] == [int(row["cluster"]) for row in rows] == load_model(model).labels_.tolist()
    np.testing.assert_allclose(table["score"], [float(row["score"]) for row in rows], rtol=1e-5)


def test_generate_plain_shows_what_the_decoder_makes_of_the_same_latents(sizes, tmp_path, capsys):
    sizes(60, 60)
    path = tmp_path / "model"
    quick = ["--set", "epochs=3", "--set", "hidden_dim=16", "--quiet"]
    assert run(["fit", "digits", "--limit", "120", "-k", "2", "--out", str(path), *quick]) == 0
    for name, option in (("sharp", []), ("soft", ["--plain"])):
        out = ["--out", str(tmp_path / name), "--cluster", "1", "-n", "3"]
        assert run(["generate", str(path), *out, *option]) == 0
        assert ("by the decoder alone" in capsys.readouterr().err) == (name == "soft")
    fitted = load_model(path)
    for name, plain in (("sharp", False), ("soft", True)):
        written = np.stack([np.asarray(Image.open(tmp_path / name / "cluster-1" / f"0000{i}.png")) for i in range(3)])
        expected = fitted.sample(3, 1, random_state=1, plain=plain)
        np.testing.assert_array_equal(written, np.rint(expected[..., 0] * 255))
    assert not np.array_equal(fitted.sample(3, 1, random_state=1), fitted.sample(3, 1, random_state=1, plain=True))


def test_generate_grid_and_folder(model, sizes, tmp_path, capsys, monkeypatch):
    sizes(8, 8, 8)
    assert run(["generate", str(model), "--out", str(tmp_path / "all.png"), "-n", "5"]) == 0
    assert run(["generate", str(model), "--out", str(tmp_path / "one.png"), "--cluster", "1", "-n", "9"]) == 0
    assert Image.open(tmp_path / "all.png").width > Image.open(tmp_path / "one.png").width
    assert run(["generate", str(model), "--out", str(tmp_path / "new"), "-n", "2"]) == 0
    files = sorted(path.relative_to(tmp_path / "new").as_posix() for path in (tmp_path / "new").rglob("*.png"))
    assert files == [f"cluster-{k}/0000{i}.png" for k in range(3) for i in range(2)]
    first = np.asarray(Image.open(tmp_path / "new" / "cluster-0" / "00000.png"))
    expected = load_model(model).sample(2, 0, random_state=0)[0]
    np.testing.assert_array_equal(first, np.rint(expected * 255))
    fails(["generate", model, "--out", tmp_path / "new"], "not an empty folder", capsys)
    fails(
        ["generate", model, "--out", tmp_path / "x.png", "-n", 3334], "one picture shows 10,000 images at most", capsys
    )
    monkeypatch.setattr("clusterloom.cli.generate._AT_ONCE", 2)  # some at a time, and all in one folder
    assert run(["generate", str(model), "--out", str(tmp_path / "parts"), "-n", "5", "--cluster", "1"]) == 0
    pictures = {p.name: p.read_bytes() for p in (tmp_path / "parts" / "cluster-1").iterdir()}
    assert sorted(pictures) == [f"0000{i}.png" for i in range(5)]
    assert len(set(pictures.values())) == 5
    assert pictures["00001.png"] == (tmp_path / "new" / "cluster-1" / "00001.png").read_bytes()
    fails(["generate", model, "--out", tmp_path / "x.png", "--cluster", 3], "clusters are 0 to 2", capsys)
    fails(["generate", model, "--out", tmp_path / "no" / "x.png"], "does not exist", capsys)
    fails(["generate", model, "--out", tmp_path / "x.jpg"], "pictures are written as PNG", capsys)


def test_generate_makes_nothing_of_clusters_without_images(model, sizes, tmp_path, capsys):
    sizes(9, 0, 15)
    assert run(["generate", str(model), "--out", str(tmp_path / "new"), "-n", "2"]) == 0
    assert "none of cluster 1, which has no images to learn from" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["cluster-0", "cluster-2"]
    fails(["generate", model, "--out", tmp_path / "x.png", "--cluster", 1], "1 has no images to learn from", capsys)


def test_generate_and_describe_replace_what_they_wrote_and_nothing_else(model, sizes, tmp_path, capsys):
    sizes(8, 8, 8)
    photo, new = tmp_path / "photo.png", tmp_path / "new"
    photo.write_bytes(b"the only copy")
    (tmp_path / "folder.png").mkdir()
    for command in ("generate", "describe"):
        fails([command, model, "--out", photo], "pass --overwrite", capsys)
        fails([command, model, "--out", tmp_path / "folder.png", "--overwrite"], "is a folder", capsys)
    assert photo.read_bytes() == b"the only copy"
    assert run(["generate", str(model), "--out", str(photo), "-n", "2", "--overwrite"]) == 0
    assert run(["describe", str(model), "--out", str(photo), "--overwrite"]) == 0
    (tmp_path / "notes").write_text("")
    fails(["generate", model, "--out", tmp_path / "notes", "--overwrite"], "is a file", capsys)
    for n in ("3", "1"):
        assert run(["generate", str(model), "--out", str(new), "-n", n, "--overwrite"]) == 0
    assert len(list(new.rglob("*.png"))) == 3
    (new / "cluster-1" / "mine.png").write_bytes(b"the only copy")
    fails(["generate", model, "--out", new, "--overwrite"], "mine.png", capsys)
    assert (new / "cluster-1" / "mine.png").exists()
    for path in (tmp_path / "notes" / "x", tmp_path / "notes" / "x.png"):  # a file is no folder
        fails(["generate", model, "--out", path], "notes does not exist", capsys)


def test_too_large_numbers_are_one_line(model, tmp_path, capsys, monkeypatch):
    out = ["--out", tmp_path / "out"]
    fails(["fit", "digits", *out, "--seed", 10**23], "--seed", capsys)
    fails(["sweep", "digits", *out, "--vary", "epochs=1", "--seeds", 2**32], "--seeds", capsys)
    fails(["generate", model, *out, "--seed", 2**32], "--seed", capsys)
    fails(["generate", model, *out, "-n", 10**11], "-n", capsys)

    def starved(*_, **options):
        raise MemoryError

    monkeypatch.setattr(type(load_model(model)), "sample", starved)
    fails(["generate", model, *out, "-n", 10**6], "-n 1000000: so many", capsys)


def test_evaluate_with_labels_and_without(model, pictures, tmp_path, capsys):
    capsys.readouterr()
    assert run(["evaluate", str(model), str(pictures), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 24
    assert {"accuracy", "purity", "nmi", "ari", "silhouette", "confidence", "outliers"} <= set(result)
    assert sum(row["images"] for row in result["clusters"]) == 24
    assert [row["name"] for row in result["classes"]] == ["blau, größer", "red"]
    flat = tmp_path / "flat.npy"
    np.save(flat, np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8))
    assert run(["evaluate", str(model), str(flat), "--json"]) == 0
    assert "accuracy" not in json.loads(capsys.readouterr().out)
    assert run(["evaluate", str(model), str(pictures)]) == 0
    assert "most confused with" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt"])
def test_evaluate_with_a_labels_file(model, tmp_path, capsys, suffix):
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3)).astype(np.uint8))
    labels = tmp_path / f"labels{suffix}"
    values = load_model(model).predict(np.load(images)).tolist()
    if suffix == ".npy":
        np.save(labels, np.array(values))
    else:
        rows = [f"{i},{v}" for i, v in enumerate(values)][::-1] if suffix == ".csv" else [str(v) for v in values]
        labels.write_text("\n".join(["id,label", *rows] if suffix == ".csv" else rows) + "\n")
    capsys.readouterr()
    assert run(["evaluate", str(model), str(images), "--labels", str(labels), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1
    labels.write_text("id,label\n0,1\n" if suffix == ".csv" else "1\n2\n")
    fails(["evaluate", model, images, "--labels", labels], "labels", capsys)


def test_labels_files_are_read_as_they_are_or_refused(tmp_path):
    table, numbers = tmp_path / "labels.csv", tmp_path / "labels.npy"
    table.write_text("id,label\na,cat\nb,dog\n", encoding="utf-8-sig")  # as Excel writes it
    found, names = read_labels(table, ["b", "a"])
    assert (found.tolist(), names) == ([1, 0], ("cat", "dog"))
    for text, why in (("a\nb,dog\n", "'a' has no label"), ("a,cat\nb,dog\na,dog\n", "'a' has two labels")):
        table.write_text("id,label\n" + text)
        with pytest.raises(DataError, match=why):
            read_labels(table, ["a", "b"])
    table.write_text("label,id\n3\n")
    with pytest.raises(DataError, match="line 2 has no id"):
        read_labels(table, ["a"])
    np.savez(tmp_path / "several.npz", a=[1])
    (tmp_path / "several.npz").rename(numbers)
    with pytest.raises(DataError, match="several arrays"):
        read_labels(numbers, ["a"])
    for values in ([0.2, 1.7], [np.nan, 1.0]):
        np.save(numbers, np.array(values))
        with pytest.raises(DataError, match="whole numbers or text"):
            read_labels(numbers, ["a", "b"])
    np.save(numbers, np.array(["größer".encode(), b"red"]))
    assert read_labels(numbers, ["a", "b"])[1] == ("größer", "red")
    np.save(numbers, np.array([True, False]))
    assert read_labels(numbers, ["a", "b"])[0].tolist() == [1, 0]


def test_names_of_classes_are_no_markup(capsys):
    row = {"label": 0, "images": 1, "cluster": 0, "recall": 1.0, "precision": 1.0, "confused_with": 1, "name": "[/b]"}
    classes = [row, {**row, "label": 1, "confused_with": None, "name": "[bold]b:cat:"}]
    _print({"clusters": [], "classes": classes, "images": 2, "score": 0.0, "outliers": 0}, Output())
    shown = capsys.readouterr().out
    assert "[/b]" in shown
    assert shown.count("[bold]b:cat:") == 2


def test_predict_keeps_its_own_input(model, tmp_path, capsys):
    pytest.importorskip("pyarrow")
    table, link = tmp_path / "images.parquet", tmp_path / "link.parquet"
    table.write_bytes(b"PAR1 and the only copy")
    link.symlink_to(table)
    for out in (table, link):
        fails(["predict", model, table, "--out", out], "is DATA itself", capsys)
    assert table.read_bytes() == b"PAR1 and the only copy"


def test_a_link_to_a_folder_is_that_folder(tmp_path, capsys, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    fit = ["fit", "digits", "--limit", "40", *FIT, "--out"]
    assert run([*fit, str(tmp_path / "link")]) == 0
    assert (tmp_path / "link").is_symlink()
    assert load_model(tmp_path / "real").n_clusters == 3
    fails([*fit, "/"], "not a model directory", capsys)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for here in (".", "", tmp_path / "empty"):
        fails([*fit, here], "is the current folder", capsys)


def test_settings_and_places_are_checked_before_images_are_read(model, tmp_path, capsys):
    """The images are nowhere: whoever complains of something else has not looked for them."""
    fit = ["fit", tmp_path / "nowhere", "--out", tmp_path / "out"]
    fails([*fit, "--device", "gpu"], "unknown device 'gpu'", capsys)
    fails([*fit, "--set", "precision=fp64"], "precision must be", capsys)
    fails([*fit, "--set", "tracker=paper"], "tracker must be", capsys)
    fails([*fit, "--set", "epochs=2"], "epochs must be a whole number of at least 3, or auto; got '2'", capsys)
    fails([*fit, "-k", "5-2"], "got 5 to 2", capsys)
    fails([*fit, "-k", "2-5", "--method", "convvae"], "-k 2-5: expected a whole number of at least 1;", capsys)
    fails([*fit, "--clusters", "auto", "--method", "dec"], "method guided alone finds the number", capsys)
    (tmp_path / "file").write_text("")
    (tmp_path / "labels.csv").mkdir()
    fails(["fit", tmp_path / "nowhere", "--out", tmp_path / "file" / "m"], "is not a folder", capsys)
    fails(["predict", model, tmp_path / "nowhere", "--out", tmp_path / "labels.csv"], "is a folder", capsys)


def test_same_command_same_model(tmp_path):
    for name in ("a", "b"):
        assert run(["fit", "digits", "--limit", "100", "--out", str(tmp_path / name), *FIT]) == 0
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_bad_input_is_one_line_and_status_2(model, tmp_path, capsys):
    out = ["--out", tmp_path / "out"]
    (tmp_path / "empty").mkdir()
    fails(["fit", tmp_path / "nowhere", *out], "there is no file, folder or built-in data set", capsys)
    fails(["fit", "digitz", *out], "Did you mean digits?", capsys)
    fails(["fit", tmp_path / "empty", *out], "empty", capsys)
    fails(
        ["fit", "digits", *out, "--method", "magic"], "unknown method 'magic'; expected one of guided, convvae", capsys
    )
    fails(["fit", "digits", *out, "--method", "vae", "--set", "conv_depth=2"], "there is no knob 'conv_depth'", capsys)
    fails(["fit", "digits", *out, "--set", "latent-dims=2"], "did you mean latent_dim?", capsys)
    fails(["fit", "digits", *out, "--set", "latent_dim"], "--set latent_dim: expected NAME=VALUE", capsys)
    fails(["fit", "digits", *out, "--set", "n_clusters=3"], "--set n_clusters=3: use -k for that", capsys)
    fails(["fit", "digits", *out, "--set", "conv_filters=4;4"], "conv_filters must be whole numbers", capsys)
    fails(["fit", "digits", *out, *knobs(conv_filters="4,4,4")], "one number per conv network", capsys)
    fails(["fit", "digits", *out, "--set", "k=3"], "--set k=3: use -k for that", capsys)
    fails(["fit", "digits", *out, "--set", "zzz=3"], "the knobs are latent_dim, hidden_dim", capsys)
    fails(["fit", "digits", *out, "--set", "conv-filter=4,4"], "did you mean conv_filters?", capsys)
    fails(["fit", "digits", *out, "-k", "5-2"], "error: -k must be a range that rises", capsys)
    fails(["fit", "digits", *out, "--set", "batch-size=0"], "batch_size must be a whole number", capsys)
    four = ["--set", "conv_filters=4,4,4,4", "--set", "conv_kernels=3,3,3,3"]
    fails(["fit", "digits", *out, *four], "the smallest size is 16 x 16", capsys)
    fails(["fit", "digits", *out, "--set", "epochs=many"], "epochs must be a whole number of at least 3", capsys)
    for number in ("0", "3.0", "few", "-2"):
        fails(["fit", "digits", *out, f"-k{number}"], f"-k {number}: expected a whole number of at least 1", capsys)
    fails(["fit", "digits", *out, "-k", 10, "--limit", 5], "5 samples are too few for -k 10", capsys)
    fails(["fit", "digits", *out, "--limit", 1], "1 sample is too few for 2 clusters", capsys)
    fails(["fit", "digits", *out, "--limit", 0], "limit", capsys)
    fails(["fit", "digits", *out, "--device", "cuda:7"], "cuda:7", capsys)
    fails(["fit", "digits", *out, *knobs(prior="flat")], "prior must be class or standard; got 'flat'", capsys)
    fails(["fit", "digits", *out, "--seed", -1], "seed", capsys)
    fails(["fit", "digits"], "--out", capsys)
    fails(["fly"], "No such command 'fly'; see clusterloom --help", capsys)
    fails(["predict", model], "Missing argument 'DATA'; see clusterloom predict --help", capsys)
    fails(["predict", tmp_path / "nowhere", "digits"], "no such model directory", capsys)
    fails(["predict", tmp_path / "empty", "digits"], "config.json is missing", capsys)
    fails(["predict", model, "digits"], "expects (16, 16, 3)", capsys)
    fails(["predict", model, "digits", "--link"], "--link needs --sort-into FOLDER", capsys)
    fails(["predict", model, "digits", "--out", "labels.xls"], ".csv or .parquet", capsys)
    fails(["predict", model, "digits", "--out", tmp_path / "no" / "labels.csv"], "does not exist", capsys)
    fails(["data", "fetch", "imagenet"], "imagenet", capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_nothing_is_lost(model, tmp_path, capsys):
    fails(["fit", "digits", "--out", model], "holds a model already", capsys)
    (tmp_path / "thesis.txt").write_text("years of work")
    fails(["fit", "digits", "--out", tmp_path, "--overwrite"], "not a model directory", capsys)
    fails(["fit", "digits", "--out", tmp_path / "thesis.txt", "--overwrite"], "not a model directory", capsys)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_bad_pictures_are_named_or_skipped(pictures, tmp_path, capsys):
    folder = make_pictures(tmp_path / "folder", 8)
    jpeg = folder / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)).save(jpeg)
    jpeg.write_bytes(jpeg.read_bytes()[:500])
    fails(["fit", folder, "--out", tmp_path / "m", *FIT], "cut.jpg", capsys)
    assert run(["fit", str(folder), "--out", str(tmp_path / "m"), "--skip-bad", *FIT]) == 0
    said = capsys.readouterr().err
    assert "cut.jpg" in said
    assert f"{folder.name} --skip-bad --out clusters.csv" in said
    jpeg.unlink()
    other = folder / "photoshop.png"
    other.write_bytes(b"8BPS\0\1")
    fails(["predict", tmp_path / "m", folder], "photoshop.png", capsys)
    other.unlink()
    bomb = folder / "bomb.png"
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(bomb)
    data = bytearray(bomb.read_bytes())
    data[16:24] = (20000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    bomb.write_bytes(data)
    start = time.process_time()
    fails(["predict", tmp_path / "m", folder], "bomb.png", capsys)
    assert time.process_time() - start < 2


def test_nan_keeps_the_last_good_model(tmp_path, capsys, monkeypatch):
    """Status 2, a line that says what to try, and a model that works."""
    from clusterloom.training import loop

    check, calls = loop.Trainer._check_finite, []

    def fails_later(self, sums):
        calls.append(1)
        if len(calls) == 2:
            raise FloatingPointError("kl became NaN or infinite")
        check(self, sums)

    monkeypatch.setattr(loop.Trainer, "_check_finite", fails_later)
    assert run(["fit", "digits", "--limit", "60", "--out", str(tmp_path / "m"), *FIT]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "training stopped in epoch 2" in line
    assert "Try --set learning_rate=" in line
    assert len(load_model(tmp_path / "m").history_) == 1
    assert "became NaN" in json.loads((tmp_path / "m" / "config.json").read_text())["about"]["stopped"]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["predict", "MODEL", "PICTURES", "--out"], "labels.csv"),
        (["predict", "MODEL", "PICTURES", "--sort-into"], "sorted"),
        (["generate", "MODEL", "--out"], "new.png"),
        (["report", "MODEL", "--out"], "report.html"),
        (["describe", "MODEL", "--out"], "networks.png"),
        (["export", "MODEL", "PICTURES", "--to", "huggingface-folder", "--out"], "export"),
    ],
)
def test_one_at_a_time_writes_and_what_a_killed_one_left_goes(command, name, model, pictures, tmp_path, capsys):
    places = {"MODEL": str(model), "PICTURES": str(pictures)}
    command = [*(places.get(word, word) for word in command), str(tmp_path / name)]
    with owned(tmp_path / name):
        fails(command, f"{name} is being written by process {os.getpid()}", capsys)
    left = tmp_path / f".{name}.clusterloom-0123abcd"
    left.write_text("half of it")
    os.utime(left, (0, 0))
    (tmp_path / f".{name}.lock").write_text("")
    (tmp_path / name).unlink(missing_ok=True)
    assert run(command) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nan_at_once_leaves_nothing_behind(tmp_path, capsys):
    settings = knobs(**SMALL, epochs=2, batch_size=16, learning_rate="1e30")
    command = ["fit", "digits", "--limit", "60", "-k", "3", "--out", tmp_path / "m", *settings]
    fails(command, "there is no model with clusters to keep. Try --set learning_rate=1e+29 or --set precision", capsys)
    assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path, capsys, monkeypatch):
    """Status 1, and no half-written model."""

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    fails(["fit", "digits", "--limit", "60", "--out", tmp_path / "m", *FIT], "free some space", capsys, status=1)
    assert not (tmp_path / "m").exists()


def test_out_of_memory(tmp_path, capsys, monkeypatch):
    from clusterloom.training.loop import Trainer

    def starved(*_):
        raise MemoryError

    monkeypatch.setattr(Trainer, "_step", starved)
    fails(["fit", "digits", "--limit", "60", "--out", tmp_path / "m", *FIT], "try --set batch_size=50", capsys)
    assert not (tmp_path / "m").exists()


def test_errors_of_files_name_the_one_that_was_wanted(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(tmp_path / "labels.csv", b"")
    assert raised.value.filename == str(tmp_path / "labels.csv")
    with pytest.raises(OSError, match="No space left") as raised, new_directory(tmp_path / "model") as folder:
        write_atomically(folder / "README.md", b"")
    assert raised.value.filename == str(tmp_path / "model" / "README.md")
    with pytest.raises(FileNotFoundError) as raised:
        write_atomically(tmp_path / "no" / "labels.csv", b"")
    assert raised.value.filename == str(tmp_path / "no" / "labels.csv")


def start(arguments, **options):
    command = [sys.executable, "-m", "clusterloom", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_for(path, process):
    for _ in range(600):
        if path.exists():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


LONG = [*knobs(**SMALL), "--limit", "200"]


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_fit_resumes_to_the_same_bits(tmp_path, signal_number, capsys):
    """A kill, or Ctrl-C, which says how to go on."""
    process = start(["fit", "digits", "--out", tmp_path / "m", *LONG, "--set", "epochs=4000"])
    checkpoint = tmp_path / "m.partial" / "clusterloom-checkpoint.safetensors"
    wait_for(checkpoint, process)
    process.send_signal(signal_number)
    _, err = process.communicate(timeout=60)
    assert not (tmp_path / "m").exists()
    assert checkpoint.exists()
    if signal_number == signal.SIGINT:
        assert process.returncode == 130
        assert err.splitlines()[-1].startswith("clusterloom: error: interrupted; --resume goes on with it")
        assert "Traceback" not in err
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        done = json.loads(file.metadata()["position"])["epoch"]
    # As many epochs more as make the comparison quick.
    epochs = [*LONG, "--set", f"epochs={done + 3}"]
    fails(["fit", "digits", "--out", tmp_path / "m", *epochs], "--resume goes on with it", capsys)
    other = ["--out", tmp_path / "m", "--resume", *epochs, "--set", "kl_weight=2"]
    fails(["fit", "digits", *other], "use the same ones, or begin again with --overwrite in place of --resume", capsys)
    (checkpoint.parent / f".{checkpoint.name}.clusterloom-0123abcd").write_bytes(b"killed while it was written")
    assert run(["fit", "digits", "--out", str(tmp_path / "m"), "--resume", *epochs]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert run(["fit", "digits", "--out", str(tmp_path / "whole"), *epochs]) == 0
    resumed, whole = (load_model(tmp_path / name) for name in ("m", "whole"))
    assert len(resumed.history_) == done + 3
    for name, tensor in whole.network_.state_dict().items():
        assert tensor.equal(resumed.network_.state_dict()[name]), name


def test_a_place_for_checkpoints_keeps_the_files_of_others(model, tmp_path, capsys):
    """Those of a model that is there, and whatever else a user has in a folder."""
    place = shutil.copytree(model, tmp_path / "place")
    (place / "mine.safetensors").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    kept = ["--checkpoints", str(place), "--out", str(tmp_path / "m"), *LONG, "--set", "epochs=2"]
    for flags in ([], ["--overwrite"], ["--overwrite", "--resume"]):
        assert run(["fit", "digits", *kept, *flags]) == 0
        assert ("no unfinished run to go on with" in capsys.readouterr().err) is ("--resume" in flags)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    shutil.rmtree(tmp_path / "m")
    with owned(place):
        fails(["fit", "digits", *kept], "place is being written by process", capsys)
    (tmp_path / "file").write_bytes(b"")
    for bad, why in (("file", "is not a folder"), ("file/run", "is not a folder"), ("m/run", "--out holds a model")):
        kept[1] = str(tmp_path / bad)
        fails(["fit", "none.npy", *kept], why, capsys)


def test_closed_pipe_is_quiet(model, tmp_path):
    images = tmp_path / "many.npy"
    np.save(images, np.random.default_rng(0).integers(0, 256, (20_000, 16, 16, 3)).astype(np.uint8))
    process = start(["predict", model, images])
    assert process.stdout.readline().startswith("id,cluster")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert "Traceback" not in err
    assert "Exception" not in err


@pytest.mark.parametrize(
    ("sizes", "named"), [((40, 40, 2), "cluster 2"), ((40, 0, 1), "cluster 1, cluster 2"), ((9, 8, 2), "")]
)
def test_clusters_of_images_that_fit_nowhere_are_named(model, capsys, sizes, named):
    fitted = load_model(model)
    fitted.cluster_sizes_, fitted.cluster_names_, fitted.labelled_rows_ = np.array(sizes), ("",) * 3, None
    fitted.labels_ = np.repeat(np.arange(3), sizes)
    fitted.confidences_ = np.where(fitted.labels_ == 2, 0.4, 0.95)
    tell(fitted, model, ["images"], Output())
    said = f"fewer clusters may do: few images, and none for sure, in {named}"
    assert (said in capsys.readouterr().err) == bool(named)
    fitted.corrected_ = np.arange(len(fitted.labels_))  # a user has placed them all
    tell(fitted, model, ["images"], Output())
    assert "cluster 2" not in capsys.readouterr().err


def test_closed_pipe_of_a_table_is_quiet_too(model):
    """Rich would end the program by itself, with another status."""
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "clusterloom", "describe", str(model)], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (141, b"")


def test_closed_output_and_narrow_encodings(model, tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 16, 16, 3), np.uint8), ids=np.array(["😀.png"]))
    predict = [sys.executable, "-m", "clusterloom", "predict", str(model), str(tmp_path / "a.npz")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(predict, env=ascii_only, capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[1].startswith(r"\U0001f600.png,")
    closed = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *predict], capture_output=True, check=False)
    assert closed.returncode == 0


def test_help_and_version_load_nothing_heavy():
    heavy = "{'torch', 'numpy', 'rich'} & set(sys.modules)"
    code = f"import sys; from clusterloom.cli.program import run; run(sys.argv[1:]); print({heavy})"
    for argument in ("--help", "--version"):
        result = subprocess.run([sys.executable, "-c", code, argument], capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "set()"
        assert "clusterloom" in result.stdout


def test_only_what_trains_says_more(model, capsys):
    for command in ("predict", "generate", "evaluate", "report", "explore", "export", "describe"):
        fails([command, model, "-v"], "No such option: -v", capsys)


def test_help_has_whole_sentences(capsys):
    for command in (["--help"], ["data", "--help"]):
        assert run(command) == 0
        listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
        assert listed
        assert all(len(line) < 80 and line.endswith(".") and not line.endswith("...") for line in listed)


def test_ctrl_c_in_the_first_moments_leaves_no_traceback():
    """Before the program can say anything itself, the signal alone ends it; and little happens before that."""
    code = "import sys; import clusterloom; print('importlib.metadata' in sys.modules, 'typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=_BARE)
    assert done.stdout == "False False\n"
    interrupted = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'typer': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from clusterloom.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_without_a_command_there_is_help(capsys):
    for command in ([], ["data"]):
        assert run(command) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(" ".join(["Usage: clusterloom", *command]))
        assert len(lines) > 5


def test_shells_complete_commands_and_options():
    for words, word in (("clusterloom fi", "fit"), ("clusterloom predict --sort", "--sort-into")):
        asked = {"_CLUSTERLOOM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [sys.executable, "-m", "clusterloom"]
        done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [word]


def test_data_list(capsys):
    assert run(["data", "list"]) == 0
    assert {"digits", "mnist", "mnist:train", "fashion-mnist:test"} <= set(capsys.readouterr().out.split())


RUN_AND_NAME_GLOO = """\
import sys
from pathlib import Path
from clusterloom.cli.program import run
status = run(sys.argv[1:])
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
print("threads:", [name for name in threads if "gloo" in name])
sys.exit(status)
"""


def test_two_processes_on_the_command_line(tmp_path):
    """One of two processes talks and writes; both share the work, and neither leaves a thread that the end kills."""
    # In 32 bits: sums over two halves of a batch round otherwise in 16, and "auto" is bf16 on some machines.
    arguments = ["fit", "digits", "--limit", "101", "--out", str(tmp_path / "two"), "--set", "precision=fp32", *FIT]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}  # the launcher leaves its logs there
    (tmp_path / "program.py").write_text(RUN_AND_NAME_GLOO)
    command = [*launch, str(tmp_path / "program.py"), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("[]") == 2, result.stdout  # two processes may write between each other's words
    assert result.stderr.count("model: ") == 1
    arguments[arguments.index(str(tmp_path / "two"))] = str(tmp_path / "one")
    assert run(arguments) == 0
    one, two = load_model(tmp_path / "one"), load_model(tmp_path / "two")
    assert two.about_["processes"] == 2
    for name, tensor in one.network_.state_dict().items():
        np.testing.assert_allclose(tensor.numpy(), two.network_.state_dict()[name].numpy(), atol=1e-6, err_msg=name)
    assert np.array_equal(one.labels_, two.labels_)


def test_model_card_keeps_names_harmless(tmp_path):
    folder = make_pictures(tmp_path / "<b>x|y", 8)
    assert run(["fit", str(folder), "--out", str(tmp_path / "m"), *FIT]) == 0
    assert "<b>" not in Path(tmp_path / "m" / "README.md").read_text()


def test_fit_finds_the_number_of_clusters_and_shows_why(pictures, tmp_path, capsys):
    quick = ["--set", "hidden_dim=16", "--set", "epochs=4", "--image-size", "12"]
    out = tmp_path / "model"
    assert run(["fit", str(pictures), "--out", str(out), "--clusters", "2-3", *quick]) == 0
    said = capsys.readouterr().err
    assert "2 clusters: modularity" in said
    found = load_model(out).n_clusters_
    assert f"number of clusters: {found}, chosen among 2 to 3" in said
    assert f"next best: {5 - found}" in said.replace("\n", " ")
    assert run(["report", str(out), "--out", str(tmp_path / "report.html")]) == 0
    for page in (out / "README.md", tmp_path / "report.html"):  # both give the rule in the same words
        assert f"Found from the images: {found}" in page.read_text()
        assert "an agreement above 0.6 and a coverage above 0.995 go first" in page.read_text()
    with Image.open(out / "number-of-clusters.png") as plot:
        assert plot.width > 500
    fails(["fit", str(pictures), "--out", str(tmp_path / "m"), "--clusters", "3-2"], "got 3 to 2", capsys)
    fails(["fit", str(pictures), "--out", str(tmp_path / "m"), "--clusters", "few"], "FROM-TO or auto", capsys)
