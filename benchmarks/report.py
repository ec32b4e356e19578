"""How long `clusterloom report` takes on 70,000 images, and how large the page is.

    python benchmarks/report.py                       # fashion-mnist, about a minute with the model there
    python benchmarks/report.py --model MODEL --data mnist
    python benchmarks/report.py --smoke               # digits, seconds, nothing written

The whole command in a process of its own, with an empty cache of predictions, as a first report is made; then once
more with the predictions in the cache. Without --model a plain VAE is trained for one epoch first: how good a model is
makes no difference to the time; its size does. Goals: 30 seconds, 10 MB. Processor seconds are there for shared
machines.

Results go to benchmarks/results/report.jsonl.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from provenance import RESULTS, provenance

from clusterloom import load_images, load_model
from clusterloom.data.cache import cache_root
from paper.records import Records


def report(model, data, out, cache):
    """Wall-clock and processor seconds of one report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "clusterloom", "report", str(model), data, "--out", str(out)]
    subprocess.run(command, check=True, env={**os.environ, "CLUSTERLOOM_CACHE": str(cache)})
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def trained(data, folder):
    model = folder / "model"
    command = ["fit", data, "--method", "vae", "--set", "epochs=1", "--out", str(model)]
    subprocess.run([sys.executable, "-m", "clusterloom", *command], check=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model directory; by default one is trained quickly")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--smoke", action="store_true", help="digits, nothing written")
    options = parser.parse_args()
    data = "digits" if options.smoke else options.data
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        cache.mkdir()
        if (cache_root() / "datasets").is_dir():  # fetched images stay, predictions do not
            (cache / "datasets").symlink_to(cache_root() / "datasets")
        model = options.model or trained(data, folder)
        before = provenance()  # with the load of other work
        first, first_cpu = report(model, data, folder / "report.html", cache)
        again, again_cpu = report(model, data, folder / "report.html", cache)
        named = f" --model {options.model.name}" if options.model else ""
        result = {
            "data": data,
            "images": len(load_images(data)),
            "estimator": type(load_model(model)).__name__,
            "seconds": round(first, 2),
            "processor_seconds": round(first_cpu, 2),
            "again_seconds": round(again, 2),
            "again_processor_seconds": round(again_cpu, 2),
            "page_bytes": (folder / "report.html").stat().st_size,
            **before,
            # By name alone: where a model lies on this machine tells nobody anything.
            "command": f"python benchmarks/report.py --data {data}{named}",
        }
    print(json.dumps(result))
    if not options.smoke:
        Records(RESULTS / "report.jsonl").add(result)


if __name__ == "__main__":
    main()
