"""Where the processor time of a guided fit goes: each stage, and a training step for each image.

    OMP_NUM_THREADS=1 python benchmarks/guided_time.py digits                    # 15 s
    OMP_NUM_THREADS=1 python benchmarks/guided_time.py mnist --limit 10000       # two minutes
    python benchmarks/guided_time.py --smoke                                     # seconds

Processor seconds of this process rather than seconds on a clock, so that other work on the machine counts for little
(it still does: caches are shared). Imports are in the total. Labels are read by the accuracy that is printed.
"""

import argparse
import json
import time
from unittest.mock import patch

import numpy as np
from provenance import provenance

from clusterloom import GuidedClusterer
from clusterloom.data import load_images
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.training.run import Run

# Of a step for each image: refine trains another network.
TRAINING = ("represent", "fit-1", "fit-1-goes-on", "fit-1-still", "fit-2")


def run(images, seed, precision, epochs):
    seconds, last, finished = {}, time.process_time(), Run._finished

    def timed(self, stage, *rest):
        nonlocal last
        seconds[stage], last = round(time.process_time() - last, 2), time.process_time()
        finished(self, stage, *rest)

    with patch.object(Run, "_finished", timed):
        model = GuidedClusterer(10, epochs=epochs, random_state=seed, precision=precision).fit(images)
    seconds["confidence and classes"] = round(time.process_time() - last, 2)
    trained = sum(seconds.get(stage, 0) for stage in TRAINING)
    epochs = sum(record["stage"] in TRAINING for record in model.history_)
    return model, seconds, trained / (epochs * len(images))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="digits")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    loaded = load_images(options.dataset, limit=200 if options.smoke else options.limit)
    images = np.asarray(loaded.images)
    model, seconds, each = run(images, options.seed, options.precision, 3 if options.smoke else "auto")
    result = {
        "dataset": options.dataset,
        "images": len(images),
        "seed": options.seed,
        "precision": model.about_["precision"],
        "accuracy": round(clustering_accuracy_score(np.asarray(loaded.labels), model.labels_), 4),
        "cpu_seconds": round(time.process_time(), 2),
        "stage_cpu_seconds": seconds,
        "training_microseconds_per_image": round(each * 1e6, 1),
        **provenance(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
