"""How many clusters `n_clusters="auto"` finds, and on what evidence.

    python benchmarks/cluster_count.py                            # three sets, seeds 0 to 2: 40 minutes
    python benchmarks/cluster_count.py --datasets digits --seeds 0 1 2 3
    python benchmarks/cluster_count.py --table                    # only print what is on file
    python benchmarks/cluster_count.py --smoke                    # seconds, to see that it runs

Whole fits, as users run them. Labels are read afterwards, by the scores alone. Results go to
benchmarks/results/cluster_count.jsonl, one line per run.
"""

import argparse
import time

import numpy as np
from provenance import RESULTS, provenance

from clusterloom import GuidedClusterer
from clusterloom.data import load_images
from clusterloom.metrics import label_scores
from paper.records import Records


def run(dataset, seed, limit=None, epochs="auto"):
    loaded = load_images(dataset, limit=limit)
    started = time.perf_counter()
    model = GuidedClusterer("auto", epochs=epochs, random_state=seed, verbose=1).fit(np.asarray(loaded.images))
    return {
        "dataset": dataset,
        "seed": seed,
        "images": len(loaded),
        "found": model.n_clusters_,
        "evidence": model.about_["recipe"]["count_evidence"],
        **{name: round(value, 5) for name, value in label_scores(np.asarray(loaded.labels), model.labels_).items()},
        "seconds": round(time.perf_counter() - started, 1),
        "stage_seconds": model.about_["recipe"]["stage_seconds"],
        **provenance(),
    }


def print_table(results):
    for r in results:
        near = ", ".join(
            f"{e['n_clusters']}: {e['modularity']:.3f} ({e['stability']:.2f})"
            for e in r["evidence"]
            if abs(e["n_clusters"] - r["found"]) <= 2
        )
        scores = f"accuracy {r['accuracy']:.4f}, NMI {r['nmi']:.4f}"
        print(f"{r['dataset']:14} seed {r['seed']}: {r['found']:2} clusters, {scores}; modularity (stability) {near}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sets = ["digits", "mnist", "fashion-mnist"]
    parser.add_argument("--datasets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print what is on file")
    parser.add_argument("--smoke", action="store_true", help="digits, few epochs, nothing written")
    options = parser.parse_args()
    if options.smoke:
        print_table([run("digits", 0, 400, 8)])
        return
    records = Records(RESULTS / "cluster_count.jsonl")
    for seed in options.seeds:
        for dataset in options.datasets:
            if not options.table and not records.matching(dataset=dataset, seed=seed):
                records.add(run(dataset, seed))
    print_table(records)


if __name__ == "__main__":
    main()
