"""The paper's experiments: rows as printed, runs that are kept, resumed and never repeated."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from paper import ablations, baselines, figures, new_images, runs, table1
from paper.ablations import Setting
from paper.page import page
from paper.records import Records
from paper.runs import Extent
from paper.table1 import ROWS, Reading, chosen_rows
from PIL import Image

from clusterloom import ConvVAEClusterer, DataError, SettingsError
from clusterloom.cli import run as run_cli
from clusterloom.data import ImageSet


@pytest.fixture
def small_sets(monkeypatch):
    """In place of the real sets: 28 x 28 noise around ten patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 28, 28, 1))

    def load(source, limit=None):
        n, rng = limit or 120, np.random.default_rng(len(source))
        labels = rng.integers(0, 10, n)
        images = (patterns[labels] + rng.integers(0, 50, (n, 28, 28, 1))).astype(np.uint8)
        return ImageSet(images, [str(i) for i in range(n)], labels, tuple("0123456789"), source, ())

    monkeypatch.setattr(runs, "load_images", load)


def test_rows_are_those_of_the_paper():
    assert [row.latent_dim for row in ROWS] == [2, 5, 10, 20, 50, 60, 100, 10, 20, 30, 40, 60, 70, 100]
    assert [row.dataset for row in ROWS] == ["mnist"] * 7 + ["fashion-mnist"] * 7
    best = max((row for row in ROWS if row.dataset == "mnist"), key=lambda row: row.accuracies[1])
    assert (best.latent_dim, best.conv_depth, best.hidden_dim, best.losses) == (60, 1, 512, (50.13, 50.16))


def test_rows_are_chosen_by_number_and_set():
    assert chosen_rows("3,mnist,3")[:2] == (ROWS[2], ROWS[0])
    assert len(chosen_rows("3,mnist,3")) == 7
    for text in ("0", "15", "cifar", "", "1,,2", "²"):
        with pytest.raises(SettingsError, match="--rows"):
            chosen_rows(text)


def test_a_run_is_kept_and_not_repeated(small_sets, tmp_path, monkeypatch):
    records = Records(tmp_path / "results" / "table1.jsonl")
    extent, rows = Extent((0, 1), epochs=1, limit=60), ROWS[:2]
    table1.run(rows, Reading(), extent, records, "the command")
    lines = [json.loads(line) for line in records.path.read_text().splitlines()]
    assert [(r["latent_dim"], r["seed"]) for r in lines] == [(2, 0), (5, 0), (2, 1), (5, 1)]
    first = lines[0]
    assert first["command"] == "the command"
    assert first["reconstruction_weight"] == 2.5
    for part in ("train", "test"):
        assert 0 < first[f"accuracy_{part}"] <= first[f"purity_{part}"] <= 1
        assert first[f"loss_{part}"] > 1
    assert not any((tmp_path / "results" / "table1.partial").rglob("*.safetensors"))

    def never(*arguments):
        raise AssertionError("it is on file already")

    monkeypatch.setattr(table1, "fit_and_score", never)
    again = Records(records.path)
    table1.run(rows, Reading(), extent, again, "")
    with pytest.raises(AssertionError, match="on file"):
        table1.run(rows, Reading(kl="analytic"), extent, again, "")


def test_an_interrupted_run_goes_on(small_sets, tmp_path, monkeypatch):
    extent, row = Extent((0,), epochs=2, limit=60), ROWS[0]
    whole = Records(tmp_path / "whole.jsonl")
    table1.run([row], Reading(), extent, whole, "")
    cut = Records(tmp_path / "cut.jsonl")
    scores = runs.scores
    monkeypatch.setattr(runs, "scores", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        table1.run([row], Reading(), extent, cut, "")
    assert not cut.path.exists()
    assert any((tmp_path / "cut.partial").rglob("checkpoint.safetensors"))
    monkeypatch.setattr(runs, "scores", scores)
    # Another precision cannot go on with what is there, and leaves it alone; the same stem is the same scratch folder.
    other = Records(tmp_path / "cut.other")
    table1.run([row], Reading(), dataclasses.replace(extent, precision="bf16"), other, "")
    assert next(iter(other))["precision"] == "bf16"
    table1.run([row], Reading(), extent, cut, "")
    compared = ("loss_train", "loss_test", "accuracy_train", "nmi_test")
    assert [next(iter(whole))[name] for name in compared] == [next(iter(cut))[name] for name in compared]


def test_the_loss_is_the_training_objective(small_sets):
    images = runs.load_images("x", 60)
    model = ConvVAEClusterer(10, start="random", kl="analytic", epochs=30, batch_size=20, random_state=0).fit(images)
    assert runs.mean_loss(model, images) == pytest.approx(model.history_[-1]["loss"], rel=0.1)
    assert runs.mean_loss(model, images) == runs.mean_loss(model, images)


def test_the_table_sets_figures_beside_the_print(small_sets, tmp_path):
    from rich.console import Console

    records = Records(tmp_path / "t.jsonl")
    base = {**ROWS[0].settings, **Reading().of("mnist"), "epochs": 50, "limit": None}
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        scores = {f"{name}_{part}": accuracy for name in ("accuracy", "purity") for part in ("train", "test")}
        records.add({**base, "seed": seed, **scores, "loss_train": 40.0, "loss_test": 41.0})
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table1.table(ROWS[:1], Reading(), Extent(), records))
    text = console.export_text()
    assert "66.4 " in text
    assert "60.0 ± 14.1 (50.0 to 70.0)" in text
    assert "41.0 ± 0.0" in text


def test_a_cut_off_last_line_is_made_again_and_a_bad_one_named(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b')
    records = Records(path)
    assert list(records) == [{"a": 1}]
    records.add({"a": 3})
    assert list(Records(path)) == [{"a": 1}, {"a": 3}]
    for bad in (b'{"a": 1}\nnonsense\n{"a": 2}\n', b'{"a": 1}\n5\n', b'{"a": 1}\n5', b'{"a": 1}\n{"a": "\xff"}\n'):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="line 2"):
            Records(path)


def test_a_last_line_that_lacks_its_end_alone_is_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}')
    Records(path).add({"a": 3})
    assert list(Records(path)) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_command_line(small_sets, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli(["reproduce", "table1", "--rows", "1,8", "--smoke"]) == 0
    out = capsys.readouterr().out
    assert "Table 1" in out
    assert "154.2" in out
    assert not (tmp_path / "benchmarks").exists()
    assert run_cli(["reproduce", "table1", "--rows", "99"]) == 2
    assert "--rows 99" in capsys.readouterr().err
    assert run_cli(["reproduce", "table1", "--show"]) == 0
    for option in ("--kl", "--category-input"):
        assert run_cli(["reproduce", "table1", "--show", option, "foo"]) == 2
        assert f"{option} foo: expected" in capsys.readouterr().err
    assert run_cli(["reproduce", "table1", "--rows", "1", "--smoke", "--keep", "kept"]) == 0
    assert not (tmp_path / "kept").exists()


def test_baselines_are_those_of_the_paper_and_simpler_ones():
    some = baselines.chosen(None, None, grid=False)
    assert [(b.method, b.printed) for b in some if b.dataset == "mnist"] == [
        ("vae", 75.0), ("dec", 84.3), ("ae-kmeans", None), ("kmeans", None), ("gmm", None),
    ]  # fmt: skip
    peak = next(b for b in some if (b.method, b.dataset) == ("vae", "fashion-mnist"))
    assert (peak.latent_dim, peak.hidden_dim, peak.printed) == (25, 200, 55.0)
    assert len(baselines.chosen("vae", "mnist", grid=True)) == 9
    for methods, datasets in (("vae,som", None), (None, "cifar"), ("", None)):
        with pytest.raises(SettingsError, match=r"--methods|--datasets"):
            baselines.chosen(methods, datasets, grid=False)


def test_every_baseline_runs_and_is_kept(small_sets, tmp_path, capsys, monkeypatch):
    path = tmp_path / "b.jsonl"
    command = [
        "reproduce",
        "baselines",
        "--datasets",
        "mnist",
        "--epochs",
        "1",
        "--limit",
        "60",
        "--results",
        str(path),
    ]
    assert run_cli(command) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["method"] for r in lines] == ["vae", "dec", "ae-kmeans", "kmeans", "gmm"]
    for r in lines:
        assert 0 < r["accuracy_test"] <= r["purity_test"] <= 1
        assert r["command"].startswith("clusterloom reproduce baselines --datasets mnist")
        assert ("loss_test" in r) == (r["method"] == "vae")
    assert next(r for r in lines if r["method"] == "kmeans")["accuracy_train"] > 0.5  # ten patterns and noise
    assert "84.3" in capsys.readouterr().out
    assert run_cli(command) == 0
    assert len(path.read_text().splitlines()) == 5
    assert not any(path.with_name("b.partial").rglob("*.safetensors"))
    assert run_cli(["reproduce", "baselines", "--methods", "som"]) == 2


def test_figures_and_numbers_for_every_class(small_sets, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_images, "SAMPLES", 40)
    names = ("0", "1", "2", "3", "4", "5", "6", "Bag", "T-shirt/top", "Ankle boot")
    load = runs.load_images
    monkeypatch.setattr(runs, "load_images", lambda *a, **k: dataclasses.replace(load(*a, **k), class_names=names))
    command = ["reproduce", "figures", "--out", "f", "--conv-depth", "1", "--epochs", "3", "--limit", "300"]
    command += ["--latent-dim", "4", "--hidden-dim", "64"]
    assert run_cli([*command, "--smoke"]) == 0
    assert {path.name for path in (tmp_path / "f").iterdir()} == {f"figure-{figure}.png" for figure in range(1, 5)}
    assert run_cli(command) == 0
    out = capsys.readouterr().out
    assert "Ankle boot" in out
    for figure in range(1, 5):
        with Image.open(tmp_path / "f" / f"figure-{figure}.png") as picture:
            assert picture.width > 700
    path = tmp_path / "benchmarks" / "results" / "figures.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 30
    floor = [r for r in lines if r["images"] == "real"]
    assert np.mean([r["share_judged_right"] for r in floor]) > 0.5
    made = [r for r in lines if r["images"] == "ours" and r["clusters"]]
    assert made
    assert all(r["model"]["conv_depth"] == 1 and r["frechet_distance"] > 0 for r in made)
    # A second time nothing is trained, and nothing is added.
    monkeypatch.setattr(ConvVAEClusterer, "fit", lambda *a: pytest.fail("trained again"))
    assert run_cli(command) == 0
    assert len(path.read_text().splitlines()) == 30
    for option, value, name in (
        ("--epochs", "4", "epochs"),
        ("--seed", "1", "random_state"),
        ("--limit", "9", "images"),
    ):
        assert run_cli([*command, option, value]) == 2
        assert f"holds a model with other {name};" in capsys.readouterr().err
    fits = Path(__file__).parent / "models" / "format-3"
    assert run_cli([*command, "--ours", str(fits)]) == 2
    assert "makes new images" in capsys.readouterr().err
    assert run_cli(["reproduce", "figures", "--smoke", "--out", str(path)]) == 2
    assert "is a file" in capsys.readouterr().err


def test_means_are_over_the_classes_that_every_model_shows():
    names = ("share_judged_right", "frechet_distance", "density", "coverage", "recall", "vendi_over_real")

    def record(label, images, value):
        return {"class": label, "images": images, "clusters": 1, **(dict.fromkeys(names, value) if value else {})}

    values = {("a", "ours"): 1.0, ("a", "plain"): 2.0, ("b", "ours"): 2.0, ("b", "plain"): 4.0, ("c", "ours"): 9.0}
    records = [record(label, kind, values.get((label, kind))) for label in "abc" for kind in ("ours", "plain")]
    cells = [list(column.cells) for column in figures.table(records).columns]
    assert [column[-2:] for column in cells[:2]] == [["mean of 2"] * 2, ["ours", "plain"]]
    assert all(column[-2:] == ["1.50", "3.00"] for column in cells[3:])
    assert len(figures.table([r for r in records if r["class"] == "c"]).rows) == 2


def test_ablations_run_each_setting_once_and_answer_the_claims(small_sets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(new_images, "SAMPLES", 40)
    path, keep = tmp_path / "a.jsonl", ["--epochs", "2", "--limit", "300"]
    command = ["reproduce", "ablations", "--studies", "networks,diversity,formulas", *keep, "--results", str(path)]
    assert run_cli(command) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["networks"], r["literal"]) for r in lines] == [(0, False), (1, False), (2, False), (3, False), (2, True)]
    for r in lines:
        assert r["posterior_variance"] > 0
        assert 0 <= r["active_dims"] <= 20
        assert -0.5 < r["pixel_modularity"] < 1
        assert 1 <= r["classes_shown"] <= 10
        assert 0 <= r["new_recall"] <= 1 < 10 * r["new_vendi_over_real"]
    gain = 100 * (lines[2]["accuracy_test"] - lines[0]["accuracy_test"])
    out = " ".join(capsys.readouterr().out.split())
    verdict = "Yes" if gain >= 15 else "No"
    assert f"{verdict} (one seed each): two conv networks against none: {gain:+.1f} points." in out
    assert run_cli(command) == 0
    assert len(path.read_text().splitlines()) == 5
    capsys.readouterr()
    assert run_cli(["reproduce", "ablations", "--show", "--studies", "depth", "--results", str(path)]) == 0
    assert "Not answered yet" in capsys.readouterr().out
    assert run_cli(["reproduce", "ablations", "--studies", "colour"]) == 2


@pytest.mark.parametrize(
    ("study", "better", "verdict"),
    [
        ("networks", Setting(), "Yes"),
        ("networks", Setting(networks=0), "No"),
        ("latent-dim", Setting(latent_dim=60), "Yes"),
        ("latent-dim", Setting(latent_dim=100), "No"),
        ("depth", Setting(conv_depth=3, latent_dim=10), "Yes"),
        ("depth", Setting(conv_depth=3, latent_dim=50), "No"),
        ("generation", Setting(latent_dim=2), "Yes"),
        ("generation", Setting(latent_dim=100), "No"),
        ("diversity", Setting(), "Yes"),
        ("diversity", Setting(networks=0), "No"),
    ],
)
def test_answers_follow_the_runs(study, better, verdict, tmp_path):
    records = Records(tmp_path / "a.jsonl")
    scores = ("accuracy_test", "posterior_variance", "new_share_judged_right", "new_vendi_over_real", "new_recall")
    for setting in ablations.STUDIES[study].settings.values():
        identity = {"dataset": "mnist", **dataclasses.asdict(setting), "epochs": 10, "limit": None}
        for seed in range(3 if setting == better else 2):
            records.add(identity | {"seed": seed} | dict.fromkeys(scores, 0.9 if setting == better else 0.4))
    answer = ablations.answer(ablations.STUDIES[study], "mnist", Extent(epochs=10), records)
    assert f" {verdict} (at least 2 seeds each): " in answer


def test_the_page_is_what_the_results_say(tmp_path):
    root = Path(__file__).parent.parent
    assert (root / "docs" / "reproduction.md").read_text() == page(root / "benchmarks" / "results"), (
        "run `clusterloom reproduce page`"
    )
    empty = page(tmp_path)
    assert empty.count("run yet") == 4
    records = Records(tmp_path / "table1.jsonl")
    scores = {f"{name}_{part}": 0.5 for name in ("accuracy", "purity", "loss") for part in ("train", "test")}
    how = {"command": "the command", "date": "2026-11-24", "seconds": 60.0, "device": "cpu", "threads": 1}
    records.add({**ROWS[2].settings, **Reading().of("mnist"), "epochs": 50, "limit": None, "seed": 0, **scores, **how})
    text = page(tmp_path)
    assert (
        "mnist: q(y|z), sampled divergence, ReLU encoder, PyTorch weights, batches of 100, λ = 2.5, 50 epochs" in text
    )
    assert "| 10, 2, 128 | train | 1 | 32.0 | 0.5 | 85.7 | 50.0 | 50.0 |" in text
    assert "| 60, 1, 512 | train | not run |" in text
    assert "    the command" in text
    assert "### What the paper leaves open" not in text
    other = {**ROWS[3].settings, **Reading(category_input="features").of("mnist"), "epochs": 10, "limit": None}
    records.add({**other, "seed": 0, **scores, **how})
    text = page(tmp_path)
    assert "| mnist | 20, 1, 512 | q(y\\|x) | 10 | 1 | 37.7 | 0.5 | 85.1 | 50.0 | 50.0 |" in text
    elsewhere = {**ROWS[4].settings, **Reading(category_input="features").of("mnist"), "epochs": 50, "limit": None}
    records.add({**elsewhere, "seed": 0, **scores, **how})
    section = page(tmp_path).split("### mnist: q(y|x)")[1].split("###")[0]
    assert "| 50, 1, 512 |" in section
    assert "not run" not in section
