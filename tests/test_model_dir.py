"""Model directories: whole or absent, and never trusted."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from clusterloom import ConvVAEClusterer, ModelError, load_model
from clusterloom.model_dir.contents import ModelContents
from clusterloom.model_dir.format import sha256
from clusterloom.model_dir.read import read_model
from clusterloom.model_dir.write import check_target, write_model
from clusterloom.pictures import png_bytes

ABOUT = {
    **{"seed": 4, "processes": 1, "threads": 1, "images": 30, "seconds": 2.5, "training_seconds": 2},
    **{"device": "cpu", "precision": "fp32", "versions": {"python": "3.11"}},
}
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "saved"
    model = ConvVAEClusterer(3, latent_dim=3, hidden_dim=8, conv_filters=(2, 2), epochs=1, random_state=0)
    model.fit(IMAGES).save(path, {"grid.png": png_bytes(Image.new("L", (3, 3)))})
    return path


@pytest.fixture
def model_path(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def edit_config(path, change):
    file = path / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def test_contents(model_path):
    names = {file.name for file in model_path.iterdir()}
    assert names == {"model.safetensors", "config.json", "metrics.jsonl", "README.md", "grid.png"}
    card = (model_path / "README.md").read_text()
    for text in ("3 clusters", "30 images of 8 x 8 x 1", "![grid](grid.png)", "| seed | 0 |", "final loss", "torch"):
        assert text in card
    mask = os.umask(0)
    os.umask(mask)
    assert os.stat(model_path).st_mode & 0o077 == 0o777 & ~mask & 0o077


def test_the_card_says_which_spaces_the_clusters_follow(model_path):
    old = read_model(model_path)
    recipe = {"views": {"shear": 0.15, "gamma": 0.0}, "spaces": {"hidden": 0.5, "latent": 0.914}, "stage_seconds": {}}
    old.about["recipe"] = recipe
    shutil.rmtree(model_path)
    write_model(model_path, old)
    card = (model_path / "README.md").read_text()
    assert "| spaces that the first clusters follow (adjusted Rand index) | latent 0.91, hidden 0.50 |" in card
    assert "| views, chosen from the images | shear 0.15 |" in card
    assert load_model(model_path).about_["recipe"] == recipe


def test_text_that_is_not_utf_8_is_read_back_as_it_was(model_path):
    old = read_model(model_path)
    old.about["data"] = "photos/caf\udce9"
    shutil.rmtree(model_path)
    write_model(model_path, old)
    assert load_model(model_path).about_["data"] == "photos/caf\udce9"
    assert r"photos/caf\udce9" in (model_path / "README.md").read_text(encoding="utf-8")


def test_read_gives_back_what_was_written(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([0, 1, 1], np.int32)}
    tensors["confidences"] = np.array([0.5, 1, 0.8], np.float32)
    settings = {"method": "vae", "image_shape": [8, 8, 1], "n_clusters": 2, "parameters": {"latent_dim": 2}}
    written = ModelContents(settings, ABOUT, tensors, [{"epoch": 1, "loss": 0.1}])
    write_model(tmp_path / "m", written)
    got = read_model(tmp_path / "m")
    assert (got.settings, got.about, got.history) == (written.settings, written.about, written.history)
    assert all(np.array_equal(got.tensors[k], v) and got.tensors[k].shape == v.shape for k, v in tensors.items())


def _flip(path):
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 4
    file.write_bytes(data)


def _other_weights_with_matching_hash(path):
    file = path / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["network.class_means"] = np.zeros((3, 7), np.float32)
    with safetensors.safe_open(file, "numpy") as old:
        metadata = old.metadata()
    data = safetensors.numpy.save(tensors, metadata)
    file.write_bytes(data)
    edit_config(path, lambda c: c["sha256"].update({"model.safetensors": sha256(data)}))


TAMPERING = {
    "a flipped bit": (_flip, r"model.safetensors: damaged or changed"),
    "changed metrics": (lambda p: (p / "metrics.jsonl").write_text("{}\n"), r"metrics.jsonl: damaged or changed"),
    "a pickle": (lambda p: (p / "model.pt").write_bytes(pickle.dumps(print)), r"holds model.pt, .*never reads pickles"),
    "no weights": (lambda p: (p / "model.safetensors").unlink(), r"model.safetensors: not readable \(No such file"),
    "no config": (lambda p: (p / "config.json").unlink(), r"not a model directory, config.json is missing"),
    "cut config": (lambda p: (p / "config.json").write_text('{"format_version": 1,'), r"config.json: not readable"),
    "deep config": (lambda p: (p / "config.json").write_text("[" * 100_000), r"config.json: not readable"),
    "not a config": (lambda p: (p / "config.json").write_text("[]"), r"not a clusterloom configuration"),
    "newer format": (
        lambda p: edit_config(p, lambda c: c.update(format_version=99)),
        r"format version 99 is unknown; .* Update clusterloom",
    ),
    "a path in the configuration": (
        lambda p: edit_config(p, lambda c: c["sha256"].update({"../../etc/passwd": "0"})),
        r"hashes of model.safetensors and metrics.jsonl",
    ),
    "an unknown key": (lambda p: edit_config(p, lambda c: c.update(hook="os.system")), r"config.json: hook"),
    "changed settings": (
        lambda p: edit_config(p, lambda c: c["settings"]["parameters"].update(latent_dim=4)),
        r"the settings are not those that the model was saved with",
    ),
    "nothing about the run": (lambda p: edit_config(p, lambda c: c.update(about={})), r"config.json: seed is not what"),
    "a recipe of another type": (
        lambda p: edit_config(p, lambda c: c["about"].update(recipe=[])),
        r"recipe is not what",
    ),
    "stages of another type": (
        lambda p: edit_config(p, lambda c: c["about"].update(recipe={"stage_seconds": 3})),
        r"recipe.stage_seconds is not what",
    ),
    "spaces of another type": (
        lambda p: edit_config(p, lambda c: c["about"].update(recipe={"spaces": {"hidden": "all of it"}})),
        r"recipe.spaces.hidden is not what",
    ),
    "evidence without all that the report reads": (
        lambda p: edit_config(
            p, lambda c: c["about"].update(recipe={"count_evidence": [{"n_clusters": 2, "modularity": 0.4}]})
        ),
        r"recipe.count_evidence.0.stability is not what",
    ),
    "weights of another shape": (_other_weights_with_matching_hash, r"settings cannot be used .*class_means"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_damaged_or_tampered_models_are_refused(model_path, case):
    tamper, text = TAMPERING[case]
    assert load_model(model_path).predict(IMAGES).shape == (30,)
    tamper(model_path)
    with pytest.raises(ModelError, match=text):
        load_model(model_path)


def _resave(path, change):
    """A model whose every hash is right, by someone who can compute them."""
    old = read_model(path)
    change(old.settings)
    shutil.rmtree(path)
    write_model(path, old)


FORGED = {
    "unknown method": (lambda s: s.update(method="os.system"), r"does not know: 'os.system'"),
    "method is no text": (lambda s: s.update(method=["vae"]), r"does not know"),
    "huge network": (lambda s: s["parameters"].update(hidden_dim=10**12), r"settings cannot be used"),
    "network of other parameters": (lambda s: s["parameters"].update(hidden_dim=9), r"settings cannot be used"),
    "other clusters": (lambda s: s.update(n_clusters=4), r"number of clusters do not agree"),
    "huge image": (lambda s: s.update(image_shape=[10**9, 10**9, 1]), r"settings cannot be used"),
    "negative image": (lambda s: s.update(image_shape=[8, -8, 1]), r"positive whole numbers"),
    "unknown parameter": (lambda s: s["parameters"].update(code="x"), r"unknown or missing parameters"),
    "missing part": (lambda s: s.pop("pixel_range"), r"settings cannot be used"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_models_are_refused(model_path, case):
    change, text = FORGED[case]
    _resave(model_path, change)
    with pytest.raises(ModelError, match=text):
        load_model(model_path)


def test_another_estimators_model(model_path):
    from clusterloom import VAEClusterer

    with pytest.raises(ModelError, match="holds a model of method 'convvae', not of vae"):
        VAEClusterer.load(model_path)


def test_existing_things_are_not_overwritten(model_path, tmp_path):
    model = load_model(model_path)
    with pytest.raises(ModelError, match="holds a model already"):
        model.save(model_path)
    model.save(model_path, overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "only-copy.jpg").write_bytes(b"jpg")
    with pytest.raises(ModelError, match="not a model directory"):
        check_target(tmp_path / "photos", overwrite=True)
    (tmp_path / "photos" / "config.json").write_text('{"name": "a web application"}')
    with pytest.raises(ModelError, match="not a model directory"):
        check_target(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "only-copy.jpg").exists()
    (model_path / "notes.txt").write_text("years of work")
    with pytest.raises(ModelError, match=r"notes\.txt"):
        model.save(model_path, overwrite=True)
    (model_path / "notes.txt").unlink()
    (model_path / "holiday.png").write_bytes(b"a picture")
    with pytest.raises(ModelError, match=r"holiday\.png"):
        model.save(model_path, overwrite=True)
    (model_path / "holiday.png").unlink()


@pytest.mark.parametrize("fails_at", ["fsync", "replace"])
def test_full_disk_keeps_the_old_model(model_path, monkeypatch, fails_at):
    model = load_model(model_path)
    before = {file.name: file.read_bytes() for file in model_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    if fails_at == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(type(model_path), "replace", full)
    with pytest.raises(OSError, match="No space left"):
        model.save(model_path, overwrite=True)
    assert {file.name: file.read_bytes() for file in model_path.iterdir()} == before
    assert [file.name for file in model_path.parent.iterdir()] == ["model"]


def test_nothing_is_left_where_the_old_model_cannot_step_aside(model_path, monkeypatch):
    replace = type(model_path).replace

    def busy(self, target):
        if self == model_path:
            raise OSError(16, "Device or resource busy")
        return replace(self, target)

    model = load_model(model_path)
    monkeypatch.setattr(type(model_path), "replace", busy)
    with pytest.raises(OSError, match="busy"):
        model.save(model_path, overwrite=True)
    assert [file.name for file in model_path.parent.iterdir()] == ["model"]


def test_saving_makes_missing_folders(saved, tmp_path):
    load_model(saved).save(tmp_path / "a" / "b" / "model")
    assert load_model(tmp_path / "a" / "b" / "model").n_clusters == 3
