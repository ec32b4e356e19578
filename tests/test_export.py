"""Hand-over to other tools: what they read back is what the model said, and nothing is ever half there."""

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clusterloom import (
    AutoencoderClusterer,
    ConvVAEClusterer,
    DECClusterer,
    GuidedClusterer,
    ImageSet,
    VAEClusterer,
    load_images,
    load_model,
)
from clusterloom.cli.program import run
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError, ModelError, SettingsError
from clusterloom.export import atlas, image_folder, onnx, projector
from clusterloom.export.formats import check_export, write_export
from clusterloom.marks import FACTS
from clusterloom.predictions import predict_images
from clusterloom.recipe.views.brightness import unit

HOSTILE_IDS = [
    "<img src=x onerror=alert(1)>",
    "a\nb\tc",
    "../../etc/passwd",
    os.fsdecode(b"\xff.png"),
    "007",
    "007.0",
    "NA",
]
N = 24
SMALL = {"epochs": 2, "batch_size": 8, "random_state": 0}
PAPER = {**SMALL, "latent_dim": 3, "hidden_dim": 16, "conv_filters": (4, 4)}
DENSE = {"hidden_dims": (16,), "latent_dim": 2, "pretrain_epochs": 1, "finetune_epochs": 1, "random_state": 0}
ESTIMATORS = {
    "guided": lambda: GuidedClusterer(3, hidden_dim=16, epochs=4, random_state=0),
    "paper": lambda: ConvVAEClusterer(3, **PAPER),
    "vae": lambda: VAEClusterer(3, hidden_dim=16, **SMALL),
    "dec": lambda: DECClusterer(3, **DENSE, epochs=2),
    "ae-kmeans": lambda: AutoencoderClusterer(3, **DENSE),
}


@pytest.fixture(autouse=True)
def hugging_face_offline(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))


def coloured(n=N, side=12, channels=3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 60, (n, side, side + 4, channels)).astype(np.uint8)
    pixels[np.arange(n), :, :, np.arange(n) % channels] += 180
    return pixels


@pytest.fixture(scope="module")
def images():
    ids = HOSTILE_IDS + [f"folder/{i}.png" for i in range(N - len(HOSTILE_IDS))]
    return ImageSet(coloured(), ids, np.arange(N) % 3, ("red\n", "green", "blue"), "coloured", ())


@pytest.fixture(scope="module")
def model_path(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("models") / "model"
    ESTIMATORS["paper"]().fit(images).save(path)
    return path


@pytest.fixture(scope="module")
def model(model_path):
    return ConvVAEClusterer.load(model_path)


@pytest.fixture(scope="module")
def predictions(model, images):
    return predict_images(model, images)


def hand_over(model_path, to, out, images, overwrite=False):
    lines = []
    check_export(to, out, True, overwrite)
    write_export(load_model(model_path), to, out, images, tell=lines.append)
    assert not [name for name in os.listdir(out.parent) if name.startswith(".")], "scratch is left"
    return lines


def agrees(column, predictions, images):
    """Columns of a table, read back, against the predictions."""
    np.testing.assert_array_equal(np.asarray(column["cluster"], int), predictions.labels)
    np.testing.assert_allclose(np.asarray(column["probability"], float), predictions.confidence, rtol=1e-5)
    runner_up = np.argsort(-predictions.proba, 1, kind="stable")[:, 1]
    np.testing.assert_array_equal(np.asarray(column["runner_up"], int), runner_up)
    np.testing.assert_allclose(np.asarray(column["score"], float), predictions.score, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(column["x"], float), predictions.position[:, 0], rtol=1e-5)
    np.testing.assert_allclose(np.asarray(column["y"], float), predictions.position[:, 1], rtol=1e-5)
    assert list(column["label"]) == [("red\\n", "green", "blue")[label] for label in images.labels]
    assert list(column["id"])[:4] == [HOSTILE_IDS[0], r"a\nb\tc", "../../etc/passwd", r"\udcff.png"]
    assert list(column["id"])[4:7] == ["007", "007.0", "NA"]


def test_atlas_has_every_image_and_what_the_model_says_of_it(model_path, images, predictions, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(atlas, "_ROWS_PER_GROUP", 10)
    lines = hand_over(model_path, "atlas", tmp_path / "my atlas.parquet", images)
    assert lines[-1] == f"open with: embedding-atlas '{tmp_path}/my atlas.parquet' --image image --x x --y y"
    assert parquet.ParquetFile(tmp_path / "my atlas.parquet").num_row_groups == 3
    table = parquet.read_table(tmp_path / "my atlas.parquet").to_pydict()
    assert list(table) == [
        "image",
        *["id", "cluster", "probability", "runner_up", "runner_up_probability", "score", "outlier", "x", "y", "label"],
    ]
    agrees(table, predictions, images)
    assert table["outlier"] == predictions.outlier.tolist()
    assert set(table["image"][0]) == {"bytes", "path"}
    again = load_images(tmp_path / "my atlas.parquet")
    np.testing.assert_array_equal(again.images, images.images)
    np.testing.assert_array_equal(again.ids, table["id"])


def test_projector_folder_is_served_by_tensorboard(model_path, images, predictions, tmp_path):
    """Asked of TensorBoard's own plugin, by the addresses that its page asks."""
    pytest.importorskip("tensorboard.plugins.projector")
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    out = tmp_path / "projector"
    hand_over(model_path, "tensorboard", out, images)
    plugin = ProjectorPlugin(TBContext(logdir=str(out), data_provider=None))
    assert plugin.get_plugin_apps()
    served = {route: Client(app) for route, app in plugin.get_plugin_apps().items()}
    assert served["/runs"].get("/").get_json() == ["."]
    info = {e["tensorName"]: e for e in served["/info"].get("/?run=.").get_json()["embeddings"]}
    assert info["latents"]["tensorShape"] == [N, 3]
    assert info["latents"]["sprite"]["singleImageDim"] == [16, 12]
    for name, expected in (("latents", predictions.latents), ("map", np.pad(predictions.position, ((0, 0), (0, 1))))):
        response = served["/tensor"].get(f"/?run=.&name={name}&num_rows=100000")
        tensor = np.frombuffer(response.data, np.float32).reshape(info[name]["tensorShape"])
        np.testing.assert_allclose(tensor, expected, rtol=1e-5, atol=1e-6)
    lines = served["/metadata"].get("/?run=.&name=latents&num_rows=100000").get_data(as_text=True).split("\n")
    rows = [line.split("\t") for line in lines[:-1]]
    assert {len(row) for row in rows} == {10}
    column = dict(zip(rows[0], zip(*rows[1:], strict=True), strict=True))
    assert rows[0][0] == "cluster"
    agrees({**column, "cluster": [text.removeprefix("cluster ") for text in column["cluster"]]}, predictions, images)
    sprite = served["/sprite_image"].get("/?run=.&name=latents")
    assert sprite.mimetype == "image/png"
    sheet = np.asarray(Image.open(out / "sprite.png"))
    assert sheet.shape == (5 * 12, 5 * 16, 3)
    np.testing.assert_array_equal(sheet[12:24, 32:48], images.images[7])


def as_set(images):
    return ImageSet(images, RowIds(range(len(images))), None, (), "some", ())


def test_sprite_sheet_keeps_within_the_pages_limit(monkeypatch):
    monkeypatch.setattr(projector, "MOST_PIXELS", 40)
    sheet, (width, height) = projector.sprite_sheet(as_set(coloured()), np.arange(N))
    assert (width, height) == (8, 6)
    assert sheet.size == (40, 30)
    first = np.asarray(sheet)[:6, :8]
    np.testing.assert_allclose(first, coloured()[0].reshape(6, 2, 8, 2, 3).mean((1, 3)), atol=1)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_sprite_sheet_shows_the_first_channels(channels):
    images = coloured(channels=channels)
    sheet, _ = projector.sprite_sheet(as_set(images), np.arange(1))
    np.testing.assert_array_equal(np.asarray(sheet), images[0, ..., :3] if channels >= 3 else images[0, ..., 0])


def test_projector_shows_a_choice_of_very_many_images(model_path, images, predictions, tmp_path, monkeypatch):
    monkeypatch.setattr(projector, "MOST_ROWS", 7)
    lines = hand_over(model_path, "tensorboard", tmp_path / "projector", images)
    assert "7 of the images, chosen at random" in " ".join(lines)
    table = (tmp_path / "projector" / "metadata.tsv").read_text().splitlines()
    latents = np.loadtxt(tmp_path / "projector" / "latents.tsv")
    assert len(table) - 1 == len(latents) == 7
    ids = [line.split("\t")[1] for line in table[1:]]
    rows = [[*map(str, images.ids)].index(id_) for id_ in ids if id_.startswith("folder")]
    chosen = [i for i, id_ in enumerate(ids) if id_.startswith("folder")]
    np.testing.assert_allclose(latents[chosen], predictions.latents[rows], rtol=1e-5, atol=1e-6)


def test_image_folder_is_read_by_datasets(model_path, images, predictions, tmp_path):
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "test of it's" / "train"
    out.parent.mkdir()
    hand_over(model_path, "huggingface-folder", out, images)
    (split,) = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache")).values()
    assert split.num_rows == N
    agrees({name: split[name] for name in split.column_names if name != "image"}, predictions, images)
    assert split["outlier"][:] == predictions.outlier.tolist()
    for row, picture in enumerate(split["image"]):
        np.testing.assert_array_equal(np.asarray(picture), images.images[row])


def test_image_folder_has_safe_names_in_folders_of_a_thousand(model_path, model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    many = ImageSet(np.tile(coloured(), (50, 1, 1, 1))[:1001], RowIds(range(1001)), None, (), "many", ())
    hand_over(model_path, "huggingface-folder", tmp_path / "many", many)
    table = parquet.read_table(tmp_path / "many" / "metadata.parquet").to_pydict()
    assert "label" not in table
    assert table["id"] == [str(i) for i in range(1001)]
    found = sorted(str(p.relative_to(tmp_path / "many")) for p in (tmp_path / "many").rglob("*.png"))
    assert found == table["file_name"]
    assert found[999:] == ["images/0000/0000999.png", "images/0001/0001000.png"]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_onnx_networks_agree_with_every_estimator(name, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = ESTIMATORS[name]().fit(images).set_params(precision="fp32")  # as the files; "auto" is bf16 on some machines
    model.save(tmp_path / "model")
    lines = hand_over(tmp_path / "model", "onnx", tmp_path / "onnx", images)
    assert sum("differs from the model by" in line for line in lines) == 3
    facts = json.loads((tmp_path / "onnx" / FACTS).read_text())
    assert facts["compared_on"] == "24 of the images given"
    assert all(network["largest_difference"] <= 1e-4 for network in facts["networks"])
    scaling = facts["image"]["from_bytes"]
    x = ((images.images.transpose(0, 3, 1, 2) - scaling["subtract"]) / scaling["divide"]).astype(np.float32)
    outputs = {}
    for network in facts["networks"]:
        session = onnxruntime.InferenceSession(tmp_path / "onnx" / network["file"])
        (read,) = session.get_inputs()
        assert (read.name, read.shape) == (network["input"]["name"], network["input"]["shape"])
        assert [(o.name, o.shape) for o in session.get_outputs()] == [
            (o["name"], o["shape"]) for o in network["outputs"]
        ]
        given = x if read.name == "image" else outputs["encoder"][0]
        outputs[network["file"].removesuffix(".onnx")] = session.run(None, {read.name: given})
    np.testing.assert_allclose(outputs["category_encoder"][0], model.predict_proba(images), atol=1e-5)
    np.testing.assert_allclose(outputs["encoder"][0], model.transform(images), atol=1e-4)
    np.testing.assert_allclose(outputs["decoder"][0].transpose(0, 2, 3, 1), model.reconstruct(images), atol=1e-5)
    names = ["latent"] if name in ("dec", "ae-kmeans") else ["mean", "log_variance"]
    assert [o["name"] for o in facts["networks"][0]["outputs"]] == names


@pytest.mark.parametrize("framing", ["middle", "dark margin", "bright margin"])
def test_onnx_networks_frame_images_where_the_model_does(images, tmp_path, framing):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = ESTIMATORS["guided"]().set_params(refine=False).fit(images).set_params(precision="fp32")
    as_given = model.predict_proba(images)
    model.framing_ = framing
    onnx.write_networks(tmp_path, model, images)
    session = onnxruntime.InferenceSession(tmp_path / "category_encoder.onnx")
    (found,) = session.run(None, {"image": unit(images.images).numpy()})
    np.testing.assert_allclose(found, model.predict_proba(images), atol=1e-4)
    assert np.abs(found - as_given).max() > 0.01


def test_onnx_without_images_and_with_other_pixel_ranges(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    pixels = coloured(channels=1).astype(np.float32) / 16 + 3
    ESTIMATORS["vae"]().fit(pixels).save(tmp_path / "model")
    out = tmp_path / os.fsdecode(b"mod\xe8le")  # no UTF-8
    write_export(load_model(tmp_path / "model"), "onnx", out, None, tell=print)
    facts = json.loads((out / FACTS).read_text())
    assert facts["compared_on"] == "images made by the model, and noise"
    scaling = facts["image"]["from_numbers"]
    np.testing.assert_allclose(
        [
            (pixels.min() - scaling["subtract"]) / scaling["divide"],
            (pixels.max() - scaling["subtract"]) / scaling["divide"],
        ],
        [0, 1],
        atol=1e-6,
    )


def test_networks_are_compared_on_images_as_they_read_them_whatever_their_range(images):
    twelve_bit = replace(images, pixel_range=(100.0, 4095.0))
    model = ESTIMATORS["vae"]().fit(twelve_bit)
    x = onnx._some_images(model, twelve_bit).numpy()
    np.testing.assert_allclose(x, images.images.transpose(0, 3, 1, 2) / 255, atol=1e-6)


@pytest.mark.parametrize("wrong", [1.0, np.nan])
def test_onnx_network_that_disagrees_is_refused(wrong, model_path, tmp_path, monkeypatch):
    """The file is right here and what it is compared with is not; either way round they disagree."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    real = onnx._export

    def spoiled(*arguments):
        first, *others = real(*arguments)
        first = first.clone()
        first[-1] += wrong
        return first, *others

    monkeypatch.setattr(onnx, "_export", spoiled)
    with pytest.raises(ModelError, match=r"encoder\.onnx differs from the model by"):
        write_export(load_model(model_path), "onnx", tmp_path / "onnx", None, tell=print)
    assert os.listdir(tmp_path) == []


def test_missing_packages_are_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(SettingsError, match=r"needs onnxscript: pip install 'clusterloom\[onnx\]'"):
        check_export("onnx", tmp_path / "out", False, False)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for to, out in (("atlas", "a.parquet"), ("huggingface-folder", "folder")):
        with pytest.raises(DataError, match=rf"--to {to} needs pyarrow.*'clusterloom\[parquet\]'"):
            check_export(to, tmp_path / out, True, False)


def test_what_is_there_is_replaced_on_request_and_only_if_it_is_an_export(model_path, images, tmp_path):
    pytest.importorskip("pyarrow.parquet")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "dear.png").write_bytes(b"")
    (tmp_path / "dear.parquet").write_bytes(b"")
    for to, out, why in (
        ("tensorboard", photos, r"holds dear\.png, which this command has not made"),
        ("huggingface-folder", photos, r"holds dear\.png"),
        ("atlas", tmp_path / "dear.parquet", "not an earlier export"),
    ):
        with pytest.raises(DataError, match=why):
            hand_over(model_path, to, out, images, overwrite=True)
    assert (photos / "dear.png").exists()
    for to, name in (("tensorboard", "t"), ("huggingface-folder", "h"), ("atlas", "a.parquet")):
        hand_over(model_path, to, tmp_path / name, images)
        with pytest.raises(DataError, match="pass --overwrite"):
            hand_over(model_path, to, tmp_path / name, images)
        fewer = images.head(9)
        hand_over(model_path, to, tmp_path / name, fewer, overwrite=True)
    assert len(list((tmp_path / "h").rglob("*.png"))) == 9
    assert len((tmp_path / "t" / "metadata.tsv").read_text().splitlines()) == 10


@pytest.mark.parametrize(("to", "name"), [("tensorboard", "notes.txt"), ("huggingface-folder", "images/0000/mine.png")])
def test_an_export_with_something_of_a_user_in_it_stays(to, name, model_path, images, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "out"
    hand_over(model_path, to, out, images)
    (out / name).write_bytes(b"mine")
    with pytest.raises(DataError, match=f"holds {name}, which this command has not made"):
        hand_over(model_path, to, out, images, overwrite=True)
    assert (out / name).read_bytes() == b"mine"
    (out / name).unlink()
    (out / ".DS_Store").write_bytes(b"")  # a file manager looked at it
    monkeypatch.chdir(out)
    with pytest.raises(DataError, match="is or holds the current folder"):
        hand_over(model_path, to, out, images, overwrite=True)
    monkeypatch.chdir(tmp_path)
    hand_over(model_path, to, out, images, overwrite=True)
    assert not (out / ".DS_Store").exists()


@pytest.mark.parametrize(("to", "name"), [("tensorboard", "t"), ("huggingface-folder", "h"), ("atlas", "a.parquet")])
def test_an_interruption_leaves_what_was_there(to, name, model_path, images, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow.parquet")
    out = tmp_path / name

    def interrupted(*_):
        raise KeyboardInterrupt

    for module in (atlas, projector, image_folder):
        monkeypatch.setattr(module, "to_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hand_over(model_path, to, out, images)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    hand_over(model_path, to, out, images)
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    for module in (atlas, projector, image_folder):
        monkeypatch.setattr(module, "to_picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hand_over(model_path, to, out, images, overwrite=True)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_command_line(model_path, tmp_path, capsys):
    np.save(tmp_path / "images.npy", coloured())
    out = tmp_path / "projector"
    arguments = ["export", str(model_path), str(tmp_path / "images.npy"), "--to", "tensorboard", "--out"]
    assert run([*arguments, str(out)]) == 0
    printed, told = capsys.readouterr()
    assert printed == ""
    assert "24 images" in told
    assert f"open with: tensorboard --logdir {out}" in " ".join(told.split())
    for bad, text in [
        ([*arguments, str(out)], "not an empty folder; choose another, or pass --overwrite"),
        ([*arguments, str(tmp_path / "no" / "x")], "does not exist"),
        (["export", str(model_path), "--to", "atlas", "--out", str(tmp_path / "x.parquet")], "--to atlas needs images"),
        (["export", str(model_path), "digits", "--to", "atlas", "--out", str(tmp_path / "x")], "ends in .parquet"),
        (["export", str(model_path), "digits", "--to", "pdf", "--out", str(tmp_path / "x")], "--to is one of atlas,"),
        (["export", str(tmp_path), "digits", "--to", "tensorboard", "--out", str(tmp_path / "x")], "not a model"),
        (
            ["export", str(model_path), "digits", "--to", "tensorboard", "--out", str(tmp_path / "x")],
            "images have shape",
        ),
    ]:
        assert run(bad) == 2, bad
        printed, told = capsys.readouterr()
        assert printed == ""
        (line,) = [line for line in told.splitlines() if line.startswith("clusterloom: error: ")]
        assert text in line
    assert sorted(os.listdir(tmp_path)) == ["images.npy", "projector"]
