"""From a hundred thousand to ten million images: time, memory and accuracy of `fit` and `predict`.

    python benchmarks/scale.py --images 100000                  # half an hour on one thread
    python benchmarks/scale.py --images 1000000 10000000        # hours; 9 GB of disk
    python benchmarks/scale.py --images 10000000 --commands predict --model MODEL
    python benchmarks/scale.py --images 100000 --commands shards ray    # PNG in parquet shards, one process and Ray
    python benchmarks/scale.py --images 100000 1000000 --commands fit --budget 20000    # does the cost stay?
    python benchmarks/scale.py --smoke                          # 2,000 images of digits, nothing written

The images are made from MNIST's 70,000: one of them chosen at random, turned, scaled, sheared and shifted a little, and
bent by a smooth field (`varied`). Ten thousand at a time have a seed of their own, so a small set is the beginning of a
large one. They lie in --folder as NAME.npy, and stay there for the next run.

Each command is a process of its own. `fit` runs with -k 10, `predict` writes parquet. Of each, from the operating
system: wall-clock seconds, processor seconds of all its processes, and the largest anonymous memory of one, which
leaves out pages of memory-mapped files. The accuracy is Hungarian, of all images, by labels that no command sees; of a
fit to more than a million images it is what `predict` finds. `share_of_bare` is how fast `predict` is against the
network alone, `predictions` called on batches that are in memory as tensors, both by processor seconds, which tell them
best on a machine with other work on it.

Results go to benchmarks/results/scale.jsonl.
"""

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from provenance import RESULTS, provenance

from clusterloom import load_model
from clusterloom.data import load_images
from clusterloom.device import products_by_onednn
from clusterloom.inference import BATCH_SIZE
from clusterloom.metrics import label_scores
from paper.records import Records

COMMANDS = ("fit", "predict", "shards", "ray")
SIZES = (100_000, 1_000_000, 10_000_000)
_BLOCK = 10_000
_BUDGETED = """
import sys
from clusterloom.cli.program import run
from clusterloom.recipe import budget

budget.MAX_VISITED, budget.MAX_EMBEDDED = {0}, {0} // 10
sys.exit(run(sys.argv[1:]))
"""
_POLL_SECONDS = 0.2


def varied(originals, generator):
    """Variations of images (N, 28, 28): affine, by some 7 degrees, 6 % and a pixel, and elastic, by a pixel."""
    n = len(originals)
    angle = 0.12 * torch.randn(n, generator=generator)
    scale = 1 + 0.06 * torch.randn(n, 2, generator=generator)
    shear = 0.08 * torch.randn(n, generator=generator)
    shift = 0.05 * torch.randn(n, 2, generator=generator)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    slant = torch.eye(2).repeat(n, 1, 1)
    slant[:, 0, 1] = shear
    theta = torch.cat([rotation @ slant * scale[:, None], shift[:, :, None]], 2)
    grid = F.affine_grid(theta, [n, 1, 28, 28], align_corners=False)
    coarse = 0.05 * torch.randn(n, 2, 6, 6, generator=generator)
    grid += F.interpolate(coarse, (28, 28), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    pixels = torch.from_numpy(originals)[:, None].float()
    return F.grid_sample(pixels, grid, align_corners=False)[:, 0].round().to(torch.uint8).numpy()


def make(folder, n_images, smoke):
    """The images and their labels as two files, made unless they are there; their paths."""
    images, labels = folder / f"varied-{n_images}.npy", folder / f"varied-{n_images}-labels.npy"
    if images.exists():
        return images, labels
    loaded = load_images("digits" if smoke else "mnist")
    originals, classes = loaded.images[..., 0], loaded.labels.astype(np.uint8)
    if smoke:  # nothing is downloaded, and 8 x 8 pixels are made as many as MNIST's
        originals = np.pad(originals.repeat(3, 1).repeat(3, 2), [(0, 0), (2, 2), (2, 2)])
    scratch = images.with_suffix(".part")
    written = np.lib.format.open_memmap(scratch, "w+", np.uint8, (n_images, 28, 28))
    labels_true = np.empty(n_images, np.uint8)
    for start in range(0, n_images, _BLOCK):
        stop = min(n_images, start + _BLOCK)
        generator = torch.Generator().manual_seed(start // _BLOCK)
        chosen = torch.randint(len(originals), (_BLOCK,), generator=generator).numpy()
        written[start:stop] = varied(originals[chosen], generator)[: stop - start]
        labels_true[start:stop] = classes[chosen[: stop - start]]
    written.flush()
    np.save(labels, labels_true)
    scratch.rename(images)
    return images, labels


def measured(arguments, program=("-m", "clusterloom")):
    """Run a command; its seconds, the processor seconds of all its processes, and the anonymous MB of the largest."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *program, *map(str, arguments)])
    cpu, anonymous = {}, [0]
    while process.poll() is None:
        look(process.pid, cpu, anonymous)
        time.sleep(_POLL_SECONDS)
    if process.returncode:
        raise SystemExit(process.returncode)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(sum(cpu.values()), 1),
        "anonymous_mb": round(max(anonymous) / 1024),
    }


def look(pid, cpu, anonymous):
    """Note what the processes of a command have used so far."""
    with contextlib.suppress(psutil.Error):
        command = psutil.Process(pid)
        for process in [command, *command.children(recursive=True)]:
            with contextlib.suppress(psutil.Error, OSError):
                times = process.cpu_times()
                cpu[process.pid] = times.user + times.system
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                anonymous.extend(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    anonymous[:] = [max(anonymous)]


def bare_cpu_seconds(model, images):
    """Processor seconds for each image of the network alone, on prepared batches; least of three rounds."""
    model, compute = load_model(model), load_model(model).compute()
    few = np.asarray(np.load(images, mmap_mode="r")[: 20 * BATCH_SIZE])[..., None]
    batches = [compute.batch(few[i : i + BATCH_SIZE]) for i in range(0, len(few), BATCH_SIZE)]
    seconds = []
    with torch.inference_mode(), compute.autocast(), products_by_onednn():  # as in apply_in_batches
        for _ in range(4):  # the first one warms up
            start = time.process_time()
            for x in batches:
                model.network_.predictions(x)
            seconds.append(time.process_time() - start)
    return min(seconds[1:]) / len(few)


def accuracy_of(table, labels):
    import pyarrow.parquet

    tables = sorted(table.glob("*.parquet")) if table.is_dir() else [table]
    found = np.concatenate([pyarrow.parquet.read_table(t, columns=["cluster"]).column(0).to_numpy() for t in tables])
    return round(label_scores(np.load(labels).astype(np.int64), found)["accuracy"], 5)


def fit(model, images, labels, n_images, budget):
    program = ("-c", _BUDGETED.format(budget)) if budget else ("-m", "clusterloom")
    facts = measured(["fit", images, "-o", model, "-k", "10", "--overwrite"], program)
    facts |= {"budget": budget} if budget else {}
    fitted, true = load_model(model), np.load(labels).astype(np.int64)
    known = len(fitted.labels_) == n_images
    accuracy = round(label_scores(true, fitted.labels_)["accuracy"], 5) if known else None
    stages = fitted.about_["recipe"]["stage_seconds"]
    return {"command": "fit", "images": n_images, **facts, "accuracy": accuracy, "stage_seconds": stages}


def predict(model, images, labels, n_images, folder):
    table = folder / "predicted.parquet"
    facts = measured(["predict", model, images, "-o", table, "--overwrite"])
    accuracy = accuracy_of(table, labels)
    table.unlink()
    share = bare_cpu_seconds(model, images) / (facts["cpu_seconds"] / n_images)
    return {"command": "predict", "images": n_images, **facts, "accuracy": accuracy, "share_of_bare": round(share, 3)}


def make_shards(images, n_images):
    """The images as PNG in parquet files of 10,000; their folder."""
    import pyarrow as pa
    import pyarrow.parquet

    folder, pixels = images.with_suffix(".shards"), np.load(images, mmap_mode="r")
    folder.mkdir(exist_ok=True)
    for start in range(0, n_images, _BLOCK):
        path = folder / f"{start // _BLOCK:05d}.parquet"
        if not path.exists():
            pngs = [{"bytes": png(image), "path": ""} for image in pixels[start : start + _BLOCK]]
            pyarrow.parquet.write_table(pa.table({"image": pngs}), path)
    return folder


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def predict_shards(model, images, labels, n_images, folder, ray):
    shards, out = make_shards(images, n_images), folder / "tables"
    shutil.rmtree(out, ignore_errors=True)
    facts = measured(["predict", model, shards, out, *(["--ray", "auto"] if ray else [])])
    accuracy = accuracy_of(out, labels)
    shutil.rmtree(out)
    name, workers = ("predict --ray auto", os.cpu_count()) if ray else ("predict shards", 1)
    return {"command": name, "images": n_images, **facts, "accuracy": accuracy, "workers": workers}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS[:2])
    parser.add_argument("--budget", type=int, help="fit with a budget of so many images an epoch in place of a million")
    parser.add_argument("--model", type=Path, help="what predict uses; by default what fit made of as many images")
    parser.add_argument("--folder", type=Path, help="where images and models stay; by default they are removed")
    parser.add_argument("--smoke", action="store_true", help="2,000 images of digits, nothing written")
    options = parser.parse_args()
    sizes = [2000] if options.smoke else options.images
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for n_images in sizes:
            images, labels = make(folder, n_images, options.smoke)
            model = options.model or folder / f"model-{n_images}"
            for command in options.commands:
                before = provenance()  # with the load of other work
                if command == "fit":
                    result = fit(model, images, labels, n_images, options.budget)
                elif command == "predict":
                    result = predict(model, images, labels, n_images, folder)
                else:
                    result = predict_shards(model, images, labels, n_images, folder, command == "ray")
                result["images_per_second"] = math.floor(n_images / result["seconds"])
                result = {"workers": 1, **result, **{k: v for k, v in before.items() if k != "command"}}
                budget = f" --budget {options.budget}" if options.budget else ""
                result["repeat"] = f"python benchmarks/scale.py --images {n_images} --commands {command}{budget}"
                print(json.dumps(result), flush=True)
                if not options.smoke:
                    Records(RESULTS / "scale.jsonl").add(result)


if __name__ == "__main__":
    main()
