"""What does it bring to keep freed memory for the next training step (`clusterloom.device.freed_memory_reused`)?

    python benchmarks/freed_memory.py            # about 2 minutes of processor time
    python benchmarks/freed_memory.py --smoke    # seconds, to see that it runs

The paper's network (s 60, n 1, m 512) on random images. Two processes last as long as the benchmark, one with glibc's
limits raised and one without, and take turns in short slices of training; the ratio of processor time, without over
with, is the median over pairs of neighbouring slices. Results go to benchmarks/results/freed_memory.jsonl.
"""

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys

import numpy as np
import torch
from accelerate import Accelerator
from provenance import RESULTS, provenance

from clusterloom import ConvVAEClusterer
from clusterloom.device import Compute, freed_memory_reused
from clusterloom.networks.objective import Algorithm1
from clusterloom.training.loop import Trainer
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.sums import Sums

CASES = ((28, 1, 100), (28, 1, 512), (64, 3, 128))  # side, channels, batch size


def training_steps(images, batch_size):
    """An endless training; yields after every step."""
    network = ConvVAEClusterer(10).new_network(images.shape[1:], 10)
    model = Algorithm1(network.to(memory_format=torch.channels_last), ConvVAEClusterer.Settings())
    plan = TrainingPlan(epochs=1, batch_size=batch_size, learning_rate=1e-3, seed=0)
    trainer = Trainer(model, plan, Compute.choose("cpu", "fp32"), Accelerator(device_placement=False, cpu=True))
    rows = np.random.default_rng(0)
    for batch in range(10**9):
        yield trainer._step(images, None, rows.permutation(len(images))[:batch_size], 0, batch, Sums())


def worker(kept, side, channels, batch_size):
    """Train as many steps as each line of standard input says; answer with processor seconds and page faults."""
    torch.set_num_threads(1)
    images = np.random.default_rng(0).integers(0, 256, (1024, side, side, channels)).astype(np.uint8)
    with freed_memory_reused() if kept else contextlib.nullcontext():
        steps = training_steps(images, batch_size)
        for line in sys.stdin:
            before = resource.getrusage(resource.RUSAGE_SELF)
            for _ in range(int(line)):
                next(steps)
            after = resource.getrusage(resource.RUSAGE_SELF)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(json.dumps([seconds, after.ru_minflt - before.ru_minflt]), flush=True)


def slices(process, steps, out):
    process.stdin.write(f"{steps}\n")
    process.stdin.flush()
    out.append(json.loads(process.stdout.readline()))


def compare(case, pairs, steps):
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", *map(str, (kept, *case))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kept in (0, 1)
    ]
    without, kept = [], []
    for _ in range(pairs + 1):
        slices(processes[0], steps, without)
        slices(processes[1], steps, kept)
    for process in processes:
        process.communicate()
    without, kept = without[1:], kept[1:]  # the first is the warm-up
    ratios = [a[0] / b[0] for a, b in zip(without, kept, strict=True)]
    return {
        "side": case[0],
        "channels": case[1],
        "batch_size": case[2],
        "pairs": pairs,
        "steps": steps,
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
        "step_seconds_without": round(statistics.median(a[0] for a in without) / steps, 4),
        "step_seconds_kept": round(statistics.median(b[0] for b in kept) / steps, 4),
        "faults_per_step_without": round(statistics.median(a[1] for a in without) / steps),
        "faults_per_step_kept": round(statistics.median(b[1] for b in kept) / steps),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="one pair of one step")
    parser.add_argument("--worker", type=int, nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    for case in CASES:
        result = compare(case, *((1, 1) if options.smoke else (8, 4)))
        result |= provenance()
        print(json.dumps(result), flush=True)
        if not options.smoke:
            with (RESULTS / "freed_memory.jsonl").open("a") as file:
                file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
