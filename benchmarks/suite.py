"""The guided recipe and its peers on all data sets of suite_sets.py, on the same images, on the same machine.

    python benchmarks/suite.py                                     # every set and method, seeds 0 to 2: days
    python benchmarks/suite.py --sets digits hues --methods guided kmeans --seeds 0 1 2 3 4
    python benchmarks/suite.py --auto                              # the number of clusters is looked for
    python benchmarks/suite.py --table                             # only print what is on file
    python benchmarks/suite.py --pages                             # only write it into README.md and docs/
    python benchmarks/suite.py --smoke                             # 300 digits, every method that is installed

Runs that are on file are not repeated. A state of the code, in words (`--state`), is kept with each run, so that what
was before a change and what is after it can be on file together. DEC and VaDE are ClustPy's (pip install
clustpy==0.0.3) and are stopped after an hour; methods whose packages are missing are left out, and said so.

Each run is a process of its own with one thread, so that its peak memory and its CPU-seconds (user and system, from the
start of Python until every image has its cluster; loading the images is not counted) are its own. With `--jobs N`, N of
them run side by side, each on a core of its own.

Labels are read after training, by the scores alone. Images whose label is -1 are no part of their set: they are trained
on, but not scored. Results go to benchmarks/results/suite.jsonl, one line per run.
"""

import argparse
import json
import os
import queue
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from provenance import RESULTS, provenance
from sklearn.metrics import roc_auc_score
from suite_methods import METHODS, WHEN_NAMED, missing
from suite_page import filled, tables
from suite_plot import drawn
from suite_sets import HASHES, SETS, load
from suite_summary import summaries

from clusterloom.metrics import expected_calibration_error, label_scores, matched_images
from paper.records import Records

LIMITS_SECONDS = {"dec": 3600, "vade": 3600}
# One thread, and no bars of ClustPy's.
ENVIRONMENT = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")} | {
    "TQDM_DISABLE": "1"
}
SMOKE_IMAGES = 300
ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs" / "images" / "suite.png"


def scores(labels, found):
    """What the labels (N,) say of a `Found`, by name; None where a method gives nothing to judge."""
    known = labels >= 0
    result = label_scores(labels[known], found.labels[known])
    result |= dict.fromkeys(("auroc", "ece", "mean_probability", "outlier_auc"))
    if found.proba is not None:
        proba = found.proba[known]
        right, confidence = matched_images(labels[known], proba.argmax(1)), proba.max(1)
        if 0 < right.sum() < len(right):  # otherwise there is nothing to tell apart
            result["auroc"] = float(roc_auc_score(right, confidence))
        result["ece"] = expected_calibration_error(labels[known], proba)
        result["mean_probability"] = float(confidence.mean())
    if found.score is not None and not known.all():
        result["outlier_auc"] = float(roc_auc_score(~known, -found.score))
    return {name: value if value is None else round(value, 5) for name, value in result.items()}


def run_here(dataset, method, seed, smoke):
    """One run, in this process."""
    torch.set_num_threads(1)
    before = cpu_seconds()
    images, labels = load(dataset)
    if smoke:
        images, labels = images[:SMOKE_IMAGES], labels[:SMOKE_IMAGES]
    loading, started = cpu_seconds() - before, time.perf_counter()
    found = METHODS[method](images, SETS[dataset].k, seed)
    costs = {
        "cpu_seconds": round(cpu_seconds() - loading, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": round(peak_bytes() / 1e6),
    }
    return {
        **about(dataset, method, seed),
        "images": len(images),
        "clusters": len(np.unique(found.labels)),
        **scores(labels, found),
        **costs,
        **found.details,
        **provenance("clustpy"),
    }


def cpu_seconds():
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_bytes():
    """Of this process and of the largest that it started; ru_maxrss of a new process begins with its parent's."""
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()) if sys.platform == "linux" else None
    peak = int(own[1]) if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def about(dataset, method, seed):
    return {
        "dataset": dataset,
        "k": SETS[dataset].k,
        "held_out": SETS[dataset].held_out,
        "sha256": pinned(dataset),
        "method": method,
        "seed": seed,
    }


def pinned(dataset):
    """SHA-256 of the set's images and labels."""
    return json.loads(HASHES.read_text())[dataset]


def of_these_images(records):
    """Runs on the sets as they are now, and not as they were before a change."""
    return [r for r in records if r["sha256"] == pinned(r["dataset"])]


def run_apart(dataset, method, seed, smoke=False, core=None):
    """One run in a process of its own; None where it failed, and no scores where it took too long."""
    arguments = ["--sets", dataset, "--methods", method, "--seeds", str(seed), *(["--smoke"] if smoke else [])]
    command, limit = [sys.executable, __file__, *arguments, "--one"], LIMITS_SECONDS.get(method)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            return about(dataset, method, seed) | {"accuracy": None, "stopped_after_seconds": limit} | provenance()
    return json.loads(said.splitlines()[-1]) if process.returncode == 0 else None


def run_all(wanted, jobs, smoke):
    """Results of (dataset, method, seed), as they come, None for those that fail."""
    free = queue.SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[:jobs] if jobs > 1 else [None]:
        free.put(core)

    def run(one):
        core = free.get()
        try:
            return run_apart(*one, smoke, core)
        finally:
            free.put(core)

    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(run, one): one for one in wanted}
        for future in as_completed(futures):
            yield futures[future], future.result()


def can_be_made(dataset):
    """Whether the set is there or can be made, so that its making is in no run's costs."""
    command = [sys.executable, Path(__file__).with_name("suite_sets.py"), dataset]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{dataset:18} left out: {done.stderr.strip().splitlines()[-1]}", flush=True)
    return done.returncode == 0


def line(result):
    if result["accuracy"] is None:
        return f"stopped after {result['stopped_after_seconds']} s"
    shown = (f"{name} {result[name]:.4f}" for name in ("accuracy", "nmi", "auroc", "ece") if result[name] is not None)
    return "  ".join([*shown, f"{result['cpu_seconds']:.0f} CPU s", f"{result['peak_mb']} MB"])


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, help="all if not given")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help=f"if not given all but {', '.join(WHEN_NAMED)}")
    parser.add_argument("--auto", action="store_true", help="guided-auto alone, on sets whose kinds are distinct")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side, at most one per core")
    parser.add_argument("--state", metavar="TEXT", help="what the code is like, in words, kept with each run")
    parser.add_argument("--results", type=Path, metavar="FILE", default=RESULTS / "suite.jsonl", help="of the runs")
    parser.add_argument("--table", action="store_true", help="only print what is on file")
    parser.add_argument("--pages", action="store_true", help="only write what is on file into pages, and draw it")
    parser.add_argument("--smoke", action="store_true", help="300 digits, nothing written")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not 1 <= options.jobs <= len(os.sched_getaffinity(0)):
        parser.error(f"--jobs must be from 1 to {len(os.sched_getaffinity(0))}, the cores; got {options.jobs}")
    return options


def runs_wanted(options, records):
    """What is not on file: (dataset, method, seed), one after the other."""
    methods = options.methods or (["guided-auto"] if options.auto else [m for m in METHODS if m not in WHEN_NAMED])
    sets = options.sets or [s.name for s in SETS.values() if s.distinct or not options.auto]
    seeds = options.seeds
    if options.smoke:
        methods, sets, seeds = options.methods or METHODS, ["digits"], [0]
    finished = {(r["dataset"], r["method"], r["seed"], r.get("state")) for r in of_these_images(records)}
    absent = {method: why for method in methods if (why := missing(method))}
    for method, why in absent.items():
        print(f"{method:18} left out: {why}", flush=True)
    wanted = [
        (dataset, method, seed)
        for dataset in sets
        for method in methods
        for seed in seeds
        if method not in absent and (dataset, method, seed, options.state) not in finished
    ]
    made = {dataset: can_be_made(dataset) for dataset in dict.fromkeys(dataset for dataset, _, _ in wanted)}
    return [one for one in wanted if made[one[0]]]


def pages(records, sets, state=None):
    """The pages of the project that show what is on file, as they are to be: text by path."""
    made = {"docs/suite.md": tables(records, sets, state), **summaries(records, sets, state)}
    return {ROOT / page: filled((ROOT / page).read_text("utf-8"), of_page) for page, of_page in made.items()}


def main():
    options = arguments()
    if options.one:
        sys.argv.remove("--one")  # the command on file is one that repeats the run
        print(json.dumps(run_here(options.sets[0], options.methods[0], options.seeds[0], options.smoke)))
        return
    records = Records(Path(os.devnull) if options.smoke else options.results)
    shown = of_these_images(records), SETS, options.state
    if options.pages:
        for path, text in pages(*shown).items():
            path.write_text(text, "utf-8")
        drawn(*shown).savefig(PLOT, dpi=150)
    if options.table:
        print("\n\n".join(f"{name}\n\n{text}" for name, text in tables(*shown).items()))
    if options.table or options.pages:
        return
    failed = 0
    for (dataset, method, seed), result in run_all(runs_wanted(options, records), options.jobs, options.smoke):
        print(f"{dataset:18} {method:16} {seed:3}  {line(result) if result else 'failed'}", flush=True)
        failed += result is None
        if result and not options.smoke:
            records.add(result | {"state": options.state})
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
