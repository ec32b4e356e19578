"""Resident memory while a million 28 x 28 images are fitted and predicted.

    python benchmarks/memory.py                   # about 20 minutes on two cores
    python benchmarks/memory.py --images 100000   # less
    python benchmarks/memory.py --smoke           # 600 random images, nothing written

MNIST is tiled to an .npy file of that many images in a temporary folder; then `clusterloom fit` (the paper's method,
one epoch, batch 512) and `clusterloom predict` run as their own processes, and the peak of each one's resident memory,
the pages of the memory-mapped file included, is read from the operating system when it ends.

Results go to benchmarks/results/memory.jsonl.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from provenance import RESULTS, provenance

from clusterloom.data import load_images
from paper.records import Records


def write_tiled(path, images, n_images):
    tiled = np.lib.format.open_memmap(path, "w+", np.uint8, (n_images, 28, 28))
    for start in range(0, n_images, len(images)):
        tiled[start : start + len(images)] = images[: n_images - start]
    tiled.flush()


def peak_of(arguments):
    """Peak resident bytes and seconds of a command; children are waited for one at a time, so the larger one shows."""
    start = time.perf_counter()
    code = (
        "import resource, sys; from clusterloom.cli.program import run; status = run(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(result.stdout.split()[-1]), time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--smoke", action="store_true", help="600 random images, nothing written")
    options = parser.parse_args()
    if options.smoke:
        options.images = 600
        images = np.random.default_rng(0).integers(0, 256, (500, 28, 28)).astype(np.uint8)
    else:
        images = load_images("mnist").images[..., 0]
    with tempfile.TemporaryDirectory() as folder:
        data, model, labels = (str(Path(folder) / name) for name in ("tiled.npy", "model", "labels.csv"))
        write_tiled(data, images, options.images)
        knobs = ["--method", "convvae", "--set", "epochs=1", "--set", "batch_size=512"]
        fit, fit_seconds = peak_of(["fit", data, "--out", model, *knobs])
        predict, predict_seconds = peak_of(["predict", model, data, "--out", labels])
    result = {
        "images": options.images,
        "fit_peak_bytes": fit,
        "fit_seconds": round(fit_seconds, 1),
        "predict_peak_bytes": predict,
        "predict_seconds": round(predict_seconds, 1),
        "below_2_gb": max(fit, predict) < 2e9,
        **provenance(),
    }
    print(json.dumps(result))
    if not options.smoke:
        Records(RESULTS / "memory.jsonl").add(result)


if __name__ == "__main__":
    main()
