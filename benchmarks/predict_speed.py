"""How much does `predict` add to the network's own forward pass on 70,000 MNIST images?

    python benchmarks/predict_speed.py            # about 3 minutes on two cores
    python benchmarks/predict_speed.py --smoke

One process, turns: `predict` on the uint8 array as users call it, and the bare network's `assign` on batches that are
float32 tensors already, of the same size, in the same precision and with the same matrix products. The result is the
median of the ratios of neighbours.

Results go to benchmarks/results/predict_speed.jsonl.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch
from provenance import RESULTS, provenance

from clusterloom import ConvVAEClusterer
from clusterloom.data import load_images
from clusterloom.device import products_by_onednn
from clusterloom.inference import BATCH_SIZE
from paper.records import Records


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def bare_forward(model, batches):
    with torch.inference_mode(), model.compute().autocast(), products_by_onednn():  # as in apply_in_batches
        for x in batches:
            model.network_.assign(x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="2,000 random images")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    if options.smoke:
        options.pairs = 1
        images = np.random.default_rng(0).integers(0, 256, (2000, 28, 28, 1)).astype(np.uint8)
    else:
        images = np.asarray(load_images("mnist").images)
    model = ConvVAEClusterer(epochs=1, random_state=0, device="cpu").fit(images[:1000])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    full = len(images) // BATCH_SIZE * BATCH_SIZE
    batches = [*x[:full].split(BATCH_SIZE), x[-BATCH_SIZE:]]  # the last one is filled up, as in predict
    bare_forward(model, batches)
    model.predict(images)
    rounds = [
        (seconds(lambda: bare_forward(model, batches)), seconds(lambda: model.predict(images)))
        for _ in range(options.pairs)
    ]
    ratios = [b / a for a, b in rounds]
    result = {
        "images": len(images),
        "bare_seconds": round(statistics.median(a for a, _ in rounds), 3),
        "predict_seconds": round(statistics.median(b for _, b in rounds), 3),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_min": round(min(ratios), 4),
        "ratio_max": round(max(ratios), 4),
        **provenance(),
    }
    print(json.dumps(result))
    if not options.smoke:
        Records(RESULTS / "predict_speed.jsonl").add(result)


if __name__ == "__main__":
    main()
