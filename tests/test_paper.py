"""The paper's experiments: rows as printed, runs that are kept, resumed and never repeated."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusterloom import AutoencoderClusterer, ConvVAEClusterer, DataError, GuidedClusterer, load_images
from clusterloom.data import ImageSet
from clusterloom.networks.objective import Algorithm1
from paper import __main__ as program
from paper import ablations, baselines, figures, fixed_features, models, new_images, runs, systems, table1
from paper.__main__ import main
from paper.ablations import Setting
from paper.contrasts import Contrast, verdict
from paper.models import Reading
from paper.page import page, systems_table
from paper.records import Records
from paper.runs import Experiment
from paper.table1 import ROWS


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


def refused(arguments, capsys):
    """The one line that a command says to bad input."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_rows_are_those_of_the_paper():
    assert [row.latent_dim for row in ROWS] == [2, 5, 10, 20, 50, 60, 100, 10, 20, 30, 40, 60, 70, 100]
    assert [row.dataset for row in ROWS] == ["mnist"] * 7 + ["fashion-mnist"] * 7
    best = max((row for row in ROWS if row.dataset == "mnist"), key=lambda row: row.accuracies[1])
    assert (best.latent_dim, best.conv_depth, best.hidden_dim, best.losses) == (60, 1, 512, (50.13, 50.16))


def test_a_run_is_kept_and_not_repeated(small_sets, tmp_path, monkeypatch):
    records = Records(tmp_path / "results" / "table1.jsonl")
    experiment, rows = Experiment(records, (0, 1), epochs=1, limit=60, command="the command"), ROWS[:2]
    table1.run(rows, Reading(), experiment)
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

    monkeypatch.setattr(ConvVAEClusterer, "fit", never)
    again = dataclasses.replace(experiment, records=Records(records.path))
    table1.run(rows, Reading(), again)
    with pytest.raises(AssertionError, match="on file"):
        table1.run(rows, Reading(kl="analytic"), again)


def test_an_interrupted_run_goes_on(small_sets, tmp_path, monkeypatch):
    def run(records, precision="auto"):
        table1.run(ROWS[:1], Reading(), Experiment(records, epochs=2, limit=60, precision=precision))

    whole, cut = Records(tmp_path / "whole.jsonl"), Records(tmp_path / "cut.jsonl")
    run(whole)
    scores = runs.scores
    monkeypatch.setattr(runs, "scores", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(cut)
    assert not cut.path.exists()
    assert any((tmp_path / "cut.partial").rglob("clusterloom-checkpoint.safetensors"))
    monkeypatch.setattr(runs, "scores", scores)
    # Another precision cannot go on with what is there, and leaves it alone; the same stem is the same scratch folder.
    other = Records(tmp_path / "cut.other")
    run(other, "bf16")
    assert next(iter(other))["precision"] == "bf16"
    run(cut)
    compared = ("loss_train", "loss_test", "accuracy_train", "nmi_test")
    assert [next(iter(whole))[name] for name in compared] == [next(iter(cut))[name] for name in compared]


def test_the_loss_is_the_training_objective(small_sets):
    images = runs.load_images("x", 60)
    model = ConvVAEClusterer(latent_dim=16, kl="analytic", epochs=30, batch_size=20, random_state=0).fit(images)
    objective = Algorithm1(model.network_, model.settings)
    loss = models.mean_loss(objective, images.images, model.compute())
    assert loss == pytest.approx(model.history_[-1]["loss"], rel=0.1)
    assert loss == models.mean_loss(objective, images.images, model.compute())


def test_the_table_sets_figures_beside_the_print(small_sets, tmp_path):
    from rich.console import Console

    records = Records(tmp_path / "t.jsonl")
    base = {**ROWS[0].settings, **Reading().of("mnist"), "epochs": 50, "limit": None}
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        scores = {f"{name}_{part}": accuracy for name in ("accuracy", "purity") for part in ("train", "test")}
        records.add({**base, "seed": seed, **scores, "loss_train": 40.0, "loss_test": 41.0})
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table1.table(ROWS[:1], Reading(), Experiment(records)))
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
    main(["table1", "--rows", "1,8", "--smoke"])
    out = capsys.readouterr().out
    assert "Table 1" in out
    assert "154.2" in out
    assert not (tmp_path / "benchmarks").exists()
    main(["ablations", "--studies", "concatenation", "--smoke"])
    main(["baselines", "--datasets", "mnist", "--methods", "kmeans", "--smoke"])
    assert not (tmp_path / "benchmarks").exists()
    main(["table1", "--rows", "1", "--smoke", "--keep", "kept"])
    assert not (tmp_path / "kept").exists()
    capsys.readouterr()
    main(["table1", "--show", "--rows", "3,mnist,3"])
    lines = capsys.readouterr().out.splitlines()
    shown = [cells[1].strip() for line in lines if len(cells := line.split("│")) > 2 and "train" in cells[2]]
    assert shown == [row.title for row in (ROWS[2], ROWS[0], ROWS[1], *ROWS[3:7])]


def test_bad_input_is_one_line(tmp_path, capsys):
    for rows in ("0", "15", "99", "cifar", "", "1,,2", "²"):
        assert "--rows" in refused(["table1", "--show", "--rows", rows], capsys)
    for option in ("--kl", "--category-input", "--seeds", "--epochs", "--limit", "--batch-size"):
        line = refused(["table1", "--show", option, "foo"], capsys)
        assert option in line
        assert "foo" in line
    for seeds in ("-1", str(2**32), "0,", "1.5"):
        assert "--seeds" in refused(["table1", "--show", "--seeds", seeds], capsys)
    assert "--seed" in refused(["figures", "--out", tmp_path / "f", "--seed", "0,1"], capsys)
    for options in (["--methods", "vae,som"], ["--datasets", "cifar"], ["--methods", ""]):
        assert "is none of" in refused(["baselines", "--show", *options], capsys)
    assert "'colour' is none of" in refused(["ablations", "--studies", "colour"], capsys)
    (tmp_path / "torn.jsonl").write_text("nonsense\n{}\n")
    assert "line 1" in refused(["table1", "--show", "--results", tmp_path / "torn.jsonl"], capsys)
    assert "is a file" in refused(["figures", "--smoke", "--out", tmp_path / "torn.jsonl"], capsys)


def test_baselines_are_those_of_the_paper_and_simpler_ones():
    some = baselines.baselines(grid=False)
    assert [(b.method, b.printed) for b in some if b.dataset == "mnist"] == [
        ("vae", 75.0), ("dec", 84.3), ("ae-kmeans", None), ("kmeans", None), ("gmm", None),
    ]  # fmt: skip
    peak = next(b for b in some if (b.method, b.dataset) == ("vae", "fashion-mnist"))
    assert (peak.latent_dim, peak.hidden_dim, peak.printed) == (25, 200, 55.0)
    assert len(baselines.baselines(["vae"], ["mnist"])) == 9


def test_every_baseline_runs_and_is_kept(small_sets, tmp_path, capsys, monkeypatch):
    path = tmp_path / "b.jsonl"
    command = ["baselines", "--datasets", "mnist", "--epochs", "1", "--limit", "60", "--results", str(path)]
    main(command)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [r["method"] for r in lines] == ["vae", "dec", "ae-kmeans", "kmeans", "gmm"]
    for r in lines:
        assert 0 < r["accuracy_test"] <= r["purity_test"] <= 1
        assert r["command"].startswith("python -m paper baselines --datasets mnist")
        assert ("loss_test" in r) == (r["method"] == "vae")
    assert next(r for r in lines if r["method"] == "kmeans")["accuracy_train"] > 0.5  # ten patterns and noise
    assert "84.3" in capsys.readouterr().out
    main(command)
    assert len(path.read_text().splitlines()) == 5
    assert not any(path.with_name("b.partial").rglob("*.safetensors"))


def test_figures_and_numbers_for_every_class(small_sets, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(new_images, "SAMPLES", 40)
    names = ("0", "1", "2", "3", "4", "5", "6", "Bag", "T-shirt/top", "Ankle boot")
    load = runs.load_images
    monkeypatch.setattr(runs, "load_images", lambda *a, **k: dataclasses.replace(load(*a, **k), class_names=names))
    command = ["figures", "--out", "f", "--conv-depth", "1", "--epochs", "3", "--limit", "300"]
    command += ["--latent-dim", "4", "--hidden-dim", "64"]
    main([*command, "--smoke"])
    assert {path.name for path in (tmp_path / "f").iterdir()} == {f"figure-{figure}.png" for figure in range(1, 5)}
    main(command)
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
    # A second time nothing is trained, and nothing is added; models that would be others are.
    monkeypatch.setattr(ConvVAEClusterer, "fit", lambda *a: pytest.fail("trained again"))
    main(command)
    assert len(path.read_text().splitlines()) == 30
    for option, value in (("--epochs", "4"), ("--seed", "1"), ("--limit", "99"), ("--conv-depth", "2")):
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            main([*command, option, value])
    # A guided model makes a third column.
    settings = {"latent_dim": 4, "hidden_dim": 16, "epochs": 3, "refine": False, "random_state": 0}
    GuidedClusterer(10, **settings).fit(runs.load_images("fashion-mnist:train", limit=200)).save(tmp_path / "guided")
    main([*command, "--guided", str(tmp_path / "guided")])
    assert len(path.read_text().splitlines()) == 40
    with Image.open(tmp_path / "f" / "figure-2.png") as picture:
        assert picture.width > 1050


def test_figures_refuse_a_model_that_makes_no_new_images(tmp_path, capsys):
    model = tmp_path / "model"
    AutoencoderClusterer(pretrain_epochs=1, random_state=0).fit(load_images("digits", limit=50)).save(model)
    assert "makes new images" in refused(["figures", "--out", tmp_path / "f", "--ours", model], capsys)
    assert "no such model" in refused(["figures", "--out", tmp_path / "f", "--plain", tmp_path / "none"], capsys)
    assert not (tmp_path / "f").exists()


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
    path, extent = tmp_path / "a.jsonl", ["--epochs", "2", "--limit", "300"]
    command = ["ablations", "--studies", "networks,diversity,formulas", *extent, "--results", str(path)]
    main(command)
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
    assert f"Not decided (one seed each): two conv networks less none: {gain:+.1f} points, one seed." in out
    main(command)
    assert len(path.read_text().splitlines()) == 5
    capsys.readouterr()
    main(["ablations", "--show", "--studies", "depth", "--results", str(path)])
    assert "Not answered yet" in capsys.readouterr().out


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
            score = (0.9 if setting == better else 0.4) + 0.01 * seed
            records.add(identity | {"seed": seed} | dict.fromkeys(scores, score))
    answer = ablations.answer(ablations.STUDIES[study], "mnist", Experiment(records, epochs=10))
    assert f" {verdict} (at least 2 seeds each): " in answer


def test_a_claim_is_not_decided_where_seeds_differ_more_than_settings():
    runs = {name: [{"score": x + 10 * seed} for seed in range(3)] for name, x in (("a", 0.0), ("b", 5.0))}
    less = Contrast("b less a", "score", {"b": 1, "a": -1}, in_points=True)
    assert verdict([less], runs) == "Not decided"
    assert less.text(runs) == "b less a: +500.0 points (95 % interval -1767.0 to +2767.0)"
    assert verdict([less, Contrast("a less b", "score", {"a": 1, "b": -1}, above=99)], runs) == "No"


def test_interrupted_features_go_on(small_sets, tmp_path, monkeypatch):
    def run(records):
        fixed_features.run([fixed_features.Setting(latent_dim=4)], Experiment(records, epochs=2, limit=60))

    whole, cut = Records(tmp_path / "whole.jsonl"), Records(tmp_path / "cut.jsonl")
    run(whole)
    with monkeypatch.context() as patch:
        patch.setattr(fixed_features, "scores", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(cut)
    run(cut)
    assert next(iter(cut))["loss_train"] == next(iter(whole))["loss_train"]


def test_features_of_fixed_networks_are_reconstructed(small_sets, tmp_path, capsys):
    records = Records(tmp_path / "features.jsonl")
    for epochs in (1, 30):
        fixed_features.run([fixed_features.Setting(latent_dim=4)], Experiment(records, epochs=epochs, limit=60))
    first, last = records
    assert last["loss_train"] < 0.7 * first["loss_train"]  # of the features of images that are the same in both
    assert 0.1 <= last["accuracy_test"] <= 1
    assert not any((tmp_path / "features.partial").iterdir())
    before = records.path.read_bytes()
    fixed_features.run([fixed_features.Setting(latent_dim=4)], Experiment(records, epochs=1, limit=60))
    assert records.path.read_bytes() == before
    main(["features", "--smoke"])
    assert capsys.readouterr().out.count("│ 1     │") == len(fixed_features.SETTINGS)


@pytest.mark.filterwarnings("ignore::clusterloom.errors.CollapseWarning")  # sixty pictures of noise
def test_systems_are_guided_with_their_own_networks(small_sets, tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.recipe.budget._LEAST_STEPS", 60)
    monkeypatch.setattr("clusterloom.recipe.budget._REPRESENT_SEES", 600)
    monkeypatch.setattr("clusterloom.recipe.budget._FIRST_FIT_SEES", 600)
    best, vae, dec = systems.systems(("mnist",))
    assert best.of is ROWS[5]
    assert (best.printed, vae.printed, dec.printed) == (94.42, 75.0, 84.3)
    assert vae.guided is None
    assert dec.guided is None
    tiny = dataclasses.replace(best, of=dataclasses.replace(best.of, latent_dim=4, hidden_dim=16))
    experiment = Experiment(Records(tmp_path / "systems.jsonl"), limit=60)
    systems.run([tiny, vae, dec], experiment)
    (run,) = Records(tmp_path / "systems.jsonl")
    assert run["latent_dim"] == 4
    assert 0.1 <= run["accuracy_test"] <= 1
    assert "loss_test" not in run
    shown = systems.table([tiny], tmp_path, experiment)
    assert [next(iter(column.cells)) for column in shown.columns][-1] == "1"


def test_the_page_is_what_the_results_say(tmp_path):
    root = Path(__file__).parent.parent
    assert (root / "docs" / "reproduction.md").read_text() == page(root / "benchmarks" / "results"), (
        "run `python -m paper page`"
    )
    empty = page(tmp_path)
    assert empty.count("run yet") == 4
    assert "| DEC | 84.3 |  | not run |  |  |" in empty
    assert systems_table(root / "benchmarks" / "results") in (root / "README.md").read_text(), "copy it from the page"
    records = Records(tmp_path / "table1.jsonl")
    scores = {f"{name}_{part}": 0.5 for name in ("accuracy", "purity", "loss") for part in ("train", "test")}
    how = {
        "command": "clusterloom reproduce table1 --rows 3",
        "date": "2026-11-24",
        "seconds": 60.0,
        "device": "cpu",
        "threads": 1,
    }
    records.add({**ROWS[2].settings, **Reading().of("mnist"), "epochs": 50, "limit": None, "seed": 0, **scores, **how})
    text = page(tmp_path)
    assert (
        "mnist: q(y|z), sampled divergence, ReLU encoder, ReLU units, PyTorch weights, batches of 100, λ = 2.5, "
        "β = 1, 50 epochs" in text
    )
    assert "| 10, 2, 128 | train | 1 | 32.0 | 0.5 | 85.7 | 50.0 | 50.0 |" in text
    assert "| 60, 1, 512 | train | not run |" in text
    assert "    python -m paper table1 --rows 3\n" in text  # what repeats it today
    main(["page", "--results", str(tmp_path), "--out", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == text
    assert "### What the paper leaves open" not in text
    other = {**ROWS[3].settings, **Reading(category_input="features").of("mnist"), "epochs": 10, "limit": None}
    records.add({**other, "seed": 0, **scores, **how})
    text = page(tmp_path)
    assert "| mnist | 20, 1, 512 | q(y\\|x) | 10 | 1 | 37.7 | 0.5 | 85.1 | 50.0 | 50.0 |" in text
    elsewhere = {**ROWS[4].settings, **Reading(category_input="features").of("mnist"), "epochs": 50, "limit": None}
    records.add({**elsewhere, "seed": 0, **scores, **how})
    text = page(tmp_path)
    assert text.count("### mnist") == 1  # of the reading settled on alone
    assert "| mnist | 50, 1, 512 | q(y\\|x) | 50 | 1 | 47.2 | 0.5 | 94.0 | 50.0 | 50.0 |" in text


def test_everything_is_one_command_after_the_other(monkeypatch, capsys):
    """Each of them can be parsed, and leads to an experiment."""
    asked = []
    for name in ("_table1", "_systems", "_baselines", "_ablations", "_features", "_page"):
        monkeypatch.setattr(program, name, lambda options, *_, name=name: asked.append(name) or ())
    main(["everything"])
    assert len(asked) == len(program.EVERYTHING)
    assert asked[0] == "_table1"
    assert asked[-1] == "_page"
    assert "systems --seeds 0,1,2" in capsys.readouterr().out
