"""What corrections are worth: a simulated user answers, `refit` fits again, and accuracy is held against the answers.

    python benchmarks/refit.py                                # three sets, seeds 0 to 2: half an hour of a processor
    python benchmarks/refit.py --sets digits --seeds 0 --models FOLDER    # some of it; fitted models are kept there
    python benchmarks/refit.py --table                        # only print what is on file
    python benchmarks/refit.py --plot docs/images/refit.png
    python benchmarks/refit.py --smoke                        # seconds, to see that it runs

The user knows what each cluster is for: the class that most of its images have, as one sees in its gallery. First he
joins clusters that are for the same class. Then he is asked about one image after the other and answers truly: the
image is where it belongs, or it goes into the cluster that is for its class; where there is none, it begins a new one.
Each of these is one correction, "it is where it belongs" too. The answers go the way that those of the local page go:
edits of an assignment, from there into `refit`. Images are asked about

    doubtful        in the order of the page's queue: of groups of like images, those with most doubt first
    random          in random order
    most-doubtful   the most doubtful of all first, as the queue was before

Accuracy is Hungarian, with one cluster for each class: a cluster too many counts as wrong. `accuracy_before` and
`accuracy_after` are of all images, `others_before` and `others_after` of those that were not asked about; they alone
say what a refit is worth. `seconds` and `fit_seconds` are processor seconds. `accuracy_corrected` and
`others_corrected` are those of the corrected clusters without a refit. Labels are read by the simulated user and by the
scores alone. Results go to benchmarks/results/refit.jsonl, one line per run.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from provenance import RESULTS, provenance
from suite_sets import SETS, load

from clusterloom import GuidedClusterer, load_model
from clusterloom.corrections.assignment import Assignment
from clusterloom.corrections.edits import ENTRY
from clusterloom.corrections.questions import question_order
from clusterloom.corrections.refit import answers_of
from clusterloom.metrics import clustering_accuracy_score, expected_calibration_error
from clusterloom.predictions import joint_features
from paper.records import Records

DATASETS = ("digits", "fashion-10000", "textures-colour")
STRATEGIES = ("doubtful", "random", "most-doubtful")
CORRECTIONS = (0, 10, 30, 100, 300)
COLOURS = {"doubtful": "#0072b2", "random": "#d55e00", "most-doubtful": "#999999"}


class User:
    """Answers truly about images whose classes (N,) it knows, which a model has put into clusters (N,)."""

    def __init__(self, classes, labels, n_clusters):
        self.classes, self.labels, self.n_clusters = classes, labels, n_clusters

    def corrected(self, order, n):
        """The clusters after n corrections, asked about images in an order."""
        assignment = Assignment(self.labels, self.n_clusters)
        cluster_for = {}  # class -> the cluster that is for it
        for k in np.argsort(-np.bincount(self.labels, minlength=self.n_clusters), kind="stable").tolist():
            members = self.classes[self.labels == k]
            if len(members) == 0:
                continue
            into = cluster_for.setdefault(int(np.bincount(members).argmax()), k)
            if into != k and n > 0:
                assignment.apply(ENTRY.validate_python({"op": "merge", "clusters": [k, into], "into": into}))
                n -= 1
        for row in order[:n].tolist():
            kind = int(self.classes[row])
            cluster = cluster_for.setdefault(kind, assignment.next_number)
            edit = {"op": "confirm", "rows": [row]}
            if assignment.labels[row] != cluster:
                edit = {"op": "move", "rows": [row], "to": cluster}
            assignment.apply(ENTRY.validate_python(edit))
        return assignment


def order_of(strategy, predicted, seed):
    doubt = 1 - predicted["proba"].max(1)
    if strategy == "random":
        return np.random.default_rng(seed).permutation(len(doubt))
    if strategy == "most-doubtful":
        return np.argsort(-doubt, kind="stable")
    return question_order(joint_features(predicted["latents"], predicted["proba"]), doubt)


def fitted(dataset, seed, images, folder, epochs):
    """A model of the set, and the processor seconds that its fit took; from the folder where it is there."""
    path = Path(folder) / f"{dataset}-{seed}"
    if path.exists():
        return load_model(path), json.loads(path.with_suffix(".json").read_text())
    started = time.process_time()
    model = GuidedClusterer(SETS[dataset].k, random_state=seed, epochs=epochs).fit(images)
    seconds = round(time.process_time() - started, 1)
    model.save(path)
    path.with_suffix(".json").write_text(json.dumps(seconds))
    return model, seconds


def run(dataset, seed, model, fit_seconds, images, classes, strategy, n):
    """One refit and its scores."""
    predicted = model.predictions(images)
    before = predicted["proba"].argmax(1)
    assignment = User(classes, before, model.n_clusters_).corrected(order_of(strategy, predicted, seed), n)
    others = assignment.marks == 0
    started = time.process_time()
    new = model.refit(images, answers_of(assignment, predicted["proba"]))
    seconds = time.process_time() - started
    proba = new.predict_proba(images)
    accuracy = {"before": before, "after": proba.argmax(1), "corrected": assignment.labels}
    return {
        "dataset": dataset,
        "seed": seed,
        "images": len(images),
        "strategy": strategy,
        "corrections": n,
        "asked_about": int((~others).sum()),
        "merged": len(assignment.merged_into),
        "made": len(assignment.founders),
        "clusters_after": new.n_clusters_,
        **{f"accuracy_{when}": score(classes, labels) for when, labels in accuracy.items()},
        **{f"others_{when}": score(classes[others], labels[others]) for when, labels in accuracy.items()},
        "calibration_error_before": round(expected_calibration_error(classes[others], predicted["proba"][others]), 5),
        "calibration_error_after": round(expected_calibration_error(classes[others], proba[others]), 5),
        "seconds": round(seconds, 1),
        "fit_seconds": fit_seconds,
        **provenance(),
        "command": f"python benchmarks/refit.py --sets {dataset} --seeds {seed}",  # without what else was asked for
    }


def score(classes, labels):
    return round(float(clustering_accuracy_score(classes, labels)), 5)


def run_all(options, records):
    epochs = 4 if options.smoke else "auto"
    with tempfile.TemporaryDirectory() as scratch:
        for dataset in options.sets:
            images, classes = load(dataset)
            if options.smoke:
                images, classes = images[:300], classes[:300]
            for seed in options.seeds:
                wanted = [
                    (strategy, n)
                    for n in options.corrections
                    for strategy in options.strategies
                    if n > 0 or strategy == options.strategies[0]  # without an answer all of them are the same
                    if not records.matching(dataset=dataset, seed=seed, strategy=strategy, corrections=n)
                ]
                if not wanted:
                    continue
                model, fit_seconds = fitted(dataset, seed, images, options.models or scratch, epochs)
                for strategy, n in wanted:
                    record = run(dataset, seed, model, fit_seconds, images, classes, strategy, n)
                    if not options.smoke:
                        records.add(record)
                    print(json.dumps(record), flush=True)


def means(records, dataset, strategy, n, name):
    runs = [r[name] for r in records if (r["dataset"], r["strategy"], r["corrections"]) == (dataset, strategy, n)]
    return statistics.mean(runs) if runs else None


def table(records):
    """Accuracy of the images that were not asked about, mean over seeds, as Markdown."""
    lines = ["| set | corrections | " + " | ".join(STRATEGIES) + " | refit, share of fit |", "|---" * 6 + "|"]
    for dataset in DATASETS:
        for n in CORRECTIONS:
            cells = []
            for strategy in STRATEGIES:
                before, after = (means(records, dataset, strategy, n, f"others_{w}") for w in ("before", "after"))
                cells.append("" if after is None else f"{100 * before:.1f} → {100 * after:.1f} %")
            runs = [
                r["seconds"] / r["fit_seconds"] for r in records if (r["dataset"], r["corrections"]) == (dataset, n)
            ]
            if runs:
                lines.append(f"| {dataset} | {n} | {' | '.join(cells)} | {statistics.mean(runs):.0%} |")
    return "\n".join(lines)


def drawn(records):
    """Accuracy of the other images against the number of corrections, one panel for each set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axis, dataset in zip(figure.subplots(1, len(DATASETS)), DATASETS, strict=True):
        for strategy in STRATEGIES:
            points = [(n, means(records, dataset, strategy, n, "others_after")) for n in CORRECTIONS[1:]]
            start = means(records, dataset, STRATEGIES[0], 0, "others_before")
            points = [(3, start), *points]
            points = [(n, value) for n, value in points if value is not None]
            if len(points) > 1:
                x, y = zip(*points, strict=True)
                axis.plot(x, [100 * v for v in y], "o-", color=COLOURS[strategy], markersize=4, label=strategy)
        axis.set_xscale("log")
        axis.set_xticks([3, 10, 30, 100, 300], ["0", "10", "30", "100", "300"])
        axis.minorticks_off()
        axis.set_title(dataset, loc="left", fontsize=10)
        axis.set_xlabel("corrections")
        axis.grid(color="#e4e4e4", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy of the other images, %")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=DATASETS, choices=SETS, metavar="SET")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES[:2], choices=STRATEGIES)
    parser.add_argument("--corrections", nargs="+", type=int, default=CORRECTIONS)
    parser.add_argument("--models", metavar="FOLDER", help="keep fitted models here, and take them from here")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    records = Records(RESULTS / "refit.jsonl")
    if options.smoke:
        options.sets, options.seeds, options.corrections = ["digits"], [0], [0, 20]
        records = Records(Path(tempfile.gettempdir()) / "no-such-folder" / "refit.jsonl")
    if options.plot:
        drawn(records).savefig(options.plot, dpi=150)
    elif not options.table:
        run_all(options, records)
    if not options.smoke:
        print(table(records))


if __name__ == "__main__":
    main()
