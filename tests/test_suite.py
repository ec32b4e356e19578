"""The suite's scores, what it writes of them, and that its page is what the results file makes."""

import os
import re
from dataclasses import replace

import numpy as np
import pytest
import suite
import suite_page
import suite_plot
import suite_summary
from suite_methods import METHODS, Found, kmeans, mixture, rows, umap, umap_hdbscan
from suite_sets import SETS

from clusterloom.metrics import expected_calibration_error
from paper.records import Records

ROOT = suite.RESULTS.parents[1]
TWO_SETS = {"hues": SETS["hues"], "microscope": SETS["microscope"]}


def record(method, accuracy, dataset="hues", seed=0, state=None, **more):
    said = {
        "dataset": dataset,
        "sha256": suite.pinned(dataset),
        "method": method,
        "seed": seed,
        "state": state,
        "images": 1500,
        "clusters": 6,
    }
    said |= {"accuracy": accuracy, "purity": 0.9, "nmi": 0.5, "auroc": None, "ece": None, "outlier_auc": None}
    said |= {"cpu_seconds": 12.0, "peak_mb": 345, "date": "2026-11-26", "cores": 2, "cpu": "AVX2"}
    return said | {"versions": {"torch": "2.13.0"}} | more


def row(table, name):
    return next(line for line in table.splitlines() if line.startswith(f"| {name} "))


def cells(table, name):
    return [cell.strip() for cell in row(table, name).strip("|").split("|")][1:]


def test_scores_leave_out_images_that_are_no_part_of_the_set():
    labels = np.array([0, 0, 1, 1, -1, -1])
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5], [1.0, 0.0]])
    found = Found(proba.argmax(1), proba, score=np.array([5.0, 4.0, 3.0, 1.0, 0.0, 2.0]))
    scored = suite.scores(labels, found)
    assert scored["accuracy"] == 0.75
    # The wrong image has .6, all others more.
    assert scored["auroc"] == 1.0
    assert scored["mean_probability"] == pytest.approx(0.75)
    assert scored["ece"] == pytest.approx(expected_calibration_error(labels[:4], proba[:4]), abs=1e-5)
    # Of the eight pairs of one that belongs to the set and one that does not, the score has seven in order.
    assert scored["outlier_auc"] == 0.875


def test_the_auroc_counts_pairs_of_a_right_and_a_wrong_image():
    labels = np.array([0, 0, 0, 1, 1])
    confidence = np.array([0.9, 0.6, 0.7, 0.8, 0.65])
    wrong = np.array([False, False, True, False, True])
    first = np.where((labels == 0) ^ wrong, confidence, 1 - confidence)
    scored = suite.scores(labels, Found((first < 0.5).astype(int), np.stack([first, 1 - first], 1)))
    assert scored["accuracy"] == 0.6
    assert scored["auroc"] == pytest.approx(4 / 6, abs=1e-5)


def test_what_a_method_does_not_give_is_not_scored():
    labels = np.array([0, 0, 1, 1, -1])
    scored = suite.scores(labels, Found(np.array([1, 1, 0, 2, 2])))
    assert (scored["accuracy"], scored["purity"]) == (0.75, 1.0)
    assert scored["auroc"] is scored["ece"] is scored["mean_probability"] is scored["outlier_auc"] is None


def test_where_all_images_are_right_there_is_no_auroc():
    proba = np.array([[0.9, 0.1], [0.2, 0.8]])
    scored = suite.scores(np.array([1, 0]), Found(proba.argmax(1), proba))
    assert scored["auroc"] is None
    assert scored["ece"] == pytest.approx(0.15)


def three_heaps(dtype, most):
    """30 images of 4 x 3 pixels of each of three kinds, and the kinds."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(3), 30)
    brightness = np.array([0.1, 0.5, 0.9])[kinds, None, None, None] + rng.normal(0, 0.02, (90, 4, 3, 1))
    return (np.clip(brightness, 0, 1) * most).astype(dtype), kinds


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 255), (np.uint16, 4000)])
@pytest.mark.parametrize("method", [kmeans, METHODS["umap-gmm"]])
def test_peers_find_what_cannot_be_missed_in_8_and_in_16_bits(method, dtype, most):
    images, kinds = three_heaps(dtype, most)
    assert rows(images).shape == (90, 12)
    assert rows(images).max() == 1
    found = method(images, 3, 0)
    scored = suite.scores(kinds, found)
    assert scored["accuracy"] == 1
    assert (found.proba is None) == (method is kmeans)
    assert np.array_equal(method(images, 3, 0).labels, found.labels)


def test_noise_is_a_cluster_of_its_own(monkeypatch):
    rng = np.random.default_rng(0)
    heaps = 20 * np.repeat(np.eye(3), 30, 0) + rng.normal(size=(90, 3))
    scattered = 200 * np.array([[1, 1, 1], [-1, 1, 0], [0, -1, 1.0]])
    monkeypatch.setattr("suite_methods.umap", lambda points, seed: np.concatenate([heaps, scattered]))
    found = umap_hdbscan(np.ones((93, 4, 3, 1), np.uint8), 3, 0)
    assert found.labels[90:].tolist() == [3, 3, 3]
    assert found.details["noise"] == round((found.labels == 3).mean(), 4)
    assert suite.scores(np.repeat(np.arange(3), 30), Found(found.labels[:90]))["accuracy"] > 0.9


def test_the_mixture_gives_probabilities_of_the_clusters_that_it_gives():
    points = np.random.default_rng(0).normal(size=(60, 2)) + 20 * np.repeat(np.eye(2), 30, 0)
    found = mixture(points, 2, 0)
    assert found.proba.sum(1) == pytest.approx(1)
    assert np.array_equal(found.proba.argmax(1), found.labels)
    assert umap(points.astype(np.float32), 0).shape == (60, 10)


def test_a_table_has_mean_deviation_and_worst_and_the_best_in_bold():
    records = [record("guided", a, seed=seed) for seed, a in enumerate((0.9, 0.8, 1.0))] + [record("kmeans", 0.7)]
    made = suite_page.tables(records, TWO_SETS)
    assert row(made["scores-developing"], "set").split() == ["|", "set", "|", "guided", "|", "kmeans", "|"]
    assert cells(made["scores-developing"], "hues") == ["**90.0** ± 10.0 (80.0)", "70.0"]
    assert "hues" not in made["scores-held-out"]
    assert cells(made["costs"], "hues") == ["12 s, 345 MB"] * 2


def test_sets_that_are_judged_by_meaning_show_their_nmi():
    by_meaning = {"hues": replace(SETS["hues"], by_meaning=True)}
    made = suite_page.tables([record("kmeans", 0.7, nmi=0.31)], by_meaning)
    assert cells(made["scores-developing"], "hues (NMI)") == ["**31.0**"]


def said_of_hues(*accuracies, sets=TWO_SETS):
    """The verdict where `guided` has 60 and 64 % on hues, and its peers these."""
    ours = [record("guided", a, seed=seed) for seed, a in enumerate((0.60, 0.64))]
    peers = [record(method, a) for method, a in zip(("umap-gmm", "kmeans"), accuracies, strict=False)]
    return suite_page.verdict(list(sets.values()), suite_page.grouped([*ours, *peers]))


def test_the_verdict_names_the_peer_that_is_ahead_by_more_than_the_deviation():
    behind = said_of_hues(0.70, 0.5)
    assert behind.startswith("`guided` is first on 0 of 1 sets: 0 of 1 for developing and 0 of 0 held out. It is below")
    assert behind.endswith("a peer by more than the deviation on: hues (umap-gmm, by 8.0 points).")
    assert said_of_hues(0.64, 0.5).endswith("It is below no peer by more than the deviation.")


def test_the_verdict_counts_sets_for_developing_and_sets_held_out_apart():
    held_out = {"hues": replace(SETS["hues"], held_out=True)}
    assert "first on 1 of 1 sets: 0 of 0 for developing and 1 of 1 held out." in said_of_hues(0.5, 0.5, sets=held_out)


def test_sets_with_one_other_method_are_not_counted_but_what_is_lost_on_them_is_named():
    one = said_of_hues(0.70)
    assert "`guided` is first on 0 of 0 sets" in one
    assert "Not counted, since fewer than two other methods were run there: hues." in one
    assert one.endswith("hues (umap-gmm, by 8.0 points).")
    assert said_of_hues() == "`guided` has not been run yet."


def test_it_is_said_where_a_method_was_not_run_and_where_it_has_one_seed():
    runs = suite_page.grouped([record("ae-umap-gmm", 0.7)])
    said = suite_page.where_run(list(TWO_SETS.values()), runs, "ae-umap-gmm")
    assert said == "`ae-umap-gmm` was run on 1 of 2 sets, on 1 of them with one seed, and not on microscope"
    made = suite_page.tables([record("guided", 0.9), record("ae-umap-gmm", 0.7)], TWO_SETS)
    assert said in made["verdict"]


def test_weights_that_have_seen_labels_are_not_among_the_peers():
    records = [record("guided", 0.6), record("frozen-umap-gmm", 0.99), record("kmeans", 0.5)]
    made = suite_page.tables(records, TWO_SETS)
    assert "frozen" not in made["scores-developing"]
    assert cells(made["weights"], "hues") == ["**99.0**"]
    assert "than two other methods were run there: hues." in made["verdict"]


def test_runs_of_other_states_of_the_code_are_left_out():
    records = [record("guided", 0.5, state="before"), record("guided", 0.9, state="after"), record("kmeans", 0.7)]
    assert cells(suite_page.tables(records, TWO_SETS)["scores-developing"], "hues") == ["**90.0**", "70.0"]
    before = suite_page.tables(records, TWO_SETS, state="before")
    assert cells(before["scores-developing"], "hues") == ["50.0", "**70.0**"]
    # What was run again on some of the sets alone does not hide the others, and the page says so.
    records.append(record("guided", 0.6, dataset="digits", state="before"))
    made = suite_page.tables(records, {name: SETS[name] for name in ("digits", "hues")})
    assert cells(made["scores-developing"], "digits")[0] == "**60.0**"
    assert cells(made["scores-developing"], "hues")[0] == "**90.0**"
    assert "| after " in made["made"]
    assert "| before " in made["made"]


def test_probabilities_and_the_number_of_clusters_have_their_tables():
    said = [record("guided", 0.9, seed=s, auroc=a, ece=0.1) for s, a in enumerate((0.8, 0.9))]
    found = [record("guided-auto", 0.9, seed=s, n_clusters=n, purity=0.95) for s, n in enumerate((6, 8))]
    made = suite_page.tables([*said, *found], TWO_SETS)
    assert cells(made["probabilities"], "hues")[:2] == ["0.850 ± 0.071", "0.100 ± 0.000"]
    assert cells(made["probabilities"], "mean of the sets")[:2] == ["0.850", "0.100"]
    assert cells(made["auto"], "hues") == ["6", "6, 8", "95.0 ± 0.0 (95.0)"]
    often = [f"with seed {seed} exactly on {n} of 1 sets and within 15 % on {n}" for seed, n in ((0, 1), (1, 0))]
    assert made["auto"].startswith(f"It is found {', '.join(often)}.")


def test_a_method_that_took_too_long_says_so():
    stopped = {"dataset": "hues", "method": "vade", "seed": 0, "accuracy": None, "stopped_after_seconds": 3600}
    stopped |= {"date": "2026-11-26", "cores": 2, "cpu": "AVX2", "versions": {}}
    made = suite_page.tables([record("kmeans", 0.7), stopped], TWO_SETS)
    assert cells(made["scores-developing"], "hues") == ["**70.0**", "stopped"]
    assert suite.line(stopped) == "stopped after 3600 s"


def test_what_is_on_file_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "can_be_made", lambda dataset: dataset != "emoji")
    monkeypatch.setattr(
        "sys.argv", ["suite.py", "--sets", "hues", "digits", "--methods", "kmeans", "--seeds", "0", "1"]
    )
    options, records = suite.arguments(), Records(tmp_path / "suite.jsonl")
    assert len(suite.runs_wanted(options, records)) == 4
    records.add(record("kmeans", 0.7, seed=1))
    left = [("hues", "kmeans", 0), ("digits", "kmeans", 0), ("digits", "kmeans", 1)]
    assert suite.runs_wanted(options, records) == left
    records.add(record("kmeans", 0.7, seed=0, sha256="of other images"))
    records.add({k: v for k, v in record("vade", 0.7).items() if k != "state"})  # older runs name none
    assert suite.runs_wanted(options, records) == left
    options.state = "after"
    assert len(suite.runs_wanted(options, records)) == 4


def test_auto_is_for_sets_whose_kinds_are_distinct(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "can_be_made", lambda dataset: True)
    monkeypatch.setattr("sys.argv", ["suite.py", "--auto", "--seeds", "0"])
    wanted = suite.runs_wanted(suite.arguments(), Records(tmp_path / "suite.jsonl"))
    assert {method for _, method, _ in wanted} == {"guided-auto"}
    assert {dataset for dataset, _, _ in wanted} == {s.name for s in SETS.values() if s.distinct}


def test_a_page_without_a_place_for_a_table_is_refused():
    with pytest.raises(ValueError, match="the page has 0 places for sets-developing"):
        suite_page.filled("# A page\n", suite_page.tables([], TWO_SETS))


def test_a_text_in_the_middle_of_a_line_stays_there_and_a_table_has_lines_of_its_own():
    page = "It finds <!-- few -->3<!-- end --> of them.\n\n<!-- many -->\n\nold\n\n<!-- end -->\n"
    filled = suite_page.filled(page, {"few": "4", "many": "| a |\n| b |"})
    new = "It finds <!-- few -->4<!-- end --> of them.\n\n<!-- many -->\n\n| a |\n| b |\n\n<!-- end -->\n"
    assert filled == new
    assert suite_page.filled(new, {"few": "4", "many": "| a |\n| b |"}) == new


def test_no_marker_begins_a_line_of_text_where_it_would_end_the_paragraph():
    begun = re.findall(r"^ *<!-- (?!end)\S+ -->.+", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    assert begun == []


def test_the_pages_are_made_from_the_results():
    records = suite.of_these_images(Records(suite.RESULTS / "suite.jsonl"))
    for path, text in suite.pages(records, SETS).items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date; run: python benchmarks/suite.py --pages"


def test_what_is_short_says_who_is_first_and_what_was_to_be_reached():
    records = [
        *(record("guided", value, seed=seed, auroc=0.75, ece=0.05) for seed, value in enumerate([0.9, 0.8])),
        record("kmeans", 0.6),
        *(record("umap-gmm", 0.7, seed=seed) for seed in (0, 1)),
        record("frozen-umap-gmm", 0.95),
        *(record("guided-auto", 0.8, seed=seed, n_clusters=n) for seed, n in enumerate((7, 6))),
    ]
    made = suite_summary.summaries(records, TWO_SETS)
    shown = suite_summary.summary(list(TWO_SETS.values()), suite_page.grouped(records))
    assert cells(shown, "hues") == ["1,500", "6", "", "85.0 ± 7.1 (80.0)", "70.0, umap-gmm", "0.75"]
    assert "hues, accuracy in % " in made["docs/guided.md"]["suite-aims"]
    assert "0.750, below .80 on 1" in made["docs/guided.md"]["suite-aims"]
    assert "within 15 % on 0" in made["docs/guided.md"]["suite-aims"]
    readme = made["README.md"]
    assert suite_page.tables(records, TWO_SETS)["verdict"].startswith(readme["suite-verdict"])
    assert readme["suite-peer"] == "`ae-umap-gmm` was run on 0 of 2 sets"
    assert readme["suite-number"].endswith("with seed 1 exactly on 1 of 1 sets and within 15 % on 1")
    assert readme["suite-number-worst"] == "hues (7 and 6 for 6 kinds)"


def test_figures_in_the_text_of_the_readme_are_those_of_the_runs():
    sets = {name: SETS[name] for name in ("icons", "mnist-2000", "mnist-unequal", "fashion-2000")}
    records = [
        *(record("guided", 0.4, "icons", seed=seed, nmi=nmi) for seed, nmi in enumerate((0.2, 0.3))),
        *(record("kmeans", 0.9, "icons", seed=seed, nmi=nmi) for seed, nmi in enumerate((0.21, 0.22))),
        record("guided", 0.98, "mnist-2000", cpu_seconds=24.4),
        record("guided", 0.94, "mnist-unequal"),
        *(record("guided", 0.6, "fashion-2000", seed=s, mean_probability=p) for s, p in enumerate((0.7, 0.8))),
    ]
    readme = suite_summary.summaries(records, sets)["README.md"]
    assert readme["suite-folders"] == "icons 25.0 (21.5, kmeans (the only one))"
    assert readme["suite-seconds"] == "2,000 images of MNIST 24"
    assert readme["suite-mnist-unequal"] == "94.0"
    assert readme["suite-too-sure"] == "15"


@pytest.mark.parametrize(
    ("peers", "said"),
    [
        ([("kmeans", 0.7), ("umap-gmm", 0.6), ("umap-gmm", 0.9)], "75.0, umap-gmm"),
        ([("kmeans", 0.7), ("umap-gmm", 0.6), ("umap-gmm", 0.7)], "70.0, kmeans (one run)"),
        ([("kmeans", 0.7), ("kmeans", 0.6)], "65.0, kmeans (the only one)"),
        ([("frozen-umap-gmm", 0.7)], ""),
    ],
)
def test_the_best_of_the_others_says_when_it_is_one_run_or_the_only_one(peers, said):
    records = [record(method, accuracy, seed=seed) for seed, (method, accuracy) in enumerate(peers)]
    assert suite_summary.best_peer(SETS["hues"], suite_page.grouped(records)) == said


def test_the_plot_has_a_row_for_each_set_and_a_colour_for_each_method():
    records = [record("guided", 0.9), record("guided", 0.7, seed=1), record("kmeans", 0.6)]
    upper, lower = suite_plot.drawn(records, TWO_SETS).axes
    assert [label.get_text() for label in upper.get_yticklabels()] == ["hues"]
    assert [label.get_text() for label in lower.get_yticklabels()] == ["microscope"]
    dots = [line for line in upper.lines if line.get_marker() == "o" and len(line.get_xdata())]
    means = [np.ravel(line.get_xdata()).item() for line in dots]
    assert means == pytest.approx([80, 60])
    assert len({line.get_color() for line in dots}) == 2
    assert len({suite_plot.style(m)["color"] for m in suite_page.ORDER}) == len(suite_page.ORDER)


def test_a_method_whose_package_is_missing_is_left_out_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "can_be_made", lambda dataset: True)
    monkeypatch.setattr("suite_methods.find_spec", lambda module: None)
    monkeypatch.setattr("sys.argv", ["suite.py", "--sets", "hues", "--seeds", "0"])
    wanted = suite.runs_wanted(suite.arguments(), Records(tmp_path / "suite.jsonl"))
    assert [method for _, method, _ in wanted] == ["guided", "kmeans", "umap-gmm", "umap-hdbscan", "ae-umap-gmm"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["guided-backbone", "dec", "vade", "frozen-umap-gmm"]
    assert lines[1].endswith("left out: pip install clustpy==0.0.3 brings it")


def test_a_run_is_a_process_of_its_own_with_costs_of_its_own(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"), prepend=":")
    core = min(os.sched_getaffinity(0))
    result = suite.run_apart("digits", "kmeans", 0, smoke=True, core=core)
    assert result["command"] == "python benchmarks/suite.py --sets digits --methods kmeans --seeds 0 --smoke"
    assert (result["images"], result["k"], result["clusters"], result["threads"]) == (300, 10, 10, 1)
    assert result["held_out"] is False
    assert 0.5 < result["accuracy"] <= 1
    assert result["auroc"] is result["ece"] is None
    # Python with torch, and not this process, which has seen other tests.
    assert 0.5 < result["cpu_seconds"] < 60
    assert 100 < result["peak_mb"] < 1000


def test_a_run_that_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setitem(suite.LIMITS_SECONDS, "dec", 0.2)
    result = suite.run_apart("digits", "dec", 0)
    assert (result["accuracy"], result["stopped_after_seconds"], result["method"]) == (None, 0.2, "dec")
