"""Whether colours tell kinds apart: two sets of drawings, with each value of the knob `colours`.

    python benchmarks/colours.py                                  # both sets, three ways, seeds 0 to 2: 18 fits
    python benchmarks/colours.py --sets shapes --seeds 0 1        # some of it; runs that are on file are not repeated
    python benchmarks/colours.py --table                          # only print what is on file
    python benchmarks/colours.py --draw shapes.png                # only draw examples, one row for each kind
    python benchmarks/colours.py --smoke                          # seconds, to see that it runs

`shapes`: 1,500 drawings of six shapes, each in a random colour, so that colour says nothing of the kind. `hues`: 1,500
discs in six hues, so that nothing but colour does. Size, place, slant, brightness and the grey behind are random in
both. The drawings are the same for every seed of the model.

Labels are read after training, by the scores alone. Results go to benchmarks/results/colours.jsonl, one line per run.
"""

import argparse
import colorsys
import json
import math
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from provenance import RESULTS, provenance

from clusterloom import GuidedClusterer
from clusterloom.metrics import label_scores
from clusterloom.pictures import image_grid
from paper.records import Records

SETS = ("shapes", "hues")
WAYS = ("auto", "use", "ignore")
KINDS = 6
IMAGES = 1500
SIDE = 32
ENLARGED = 4  # drawn so many times as large, then scaled down, for smooth edges


def regular(corners, inner=1.0):
    """Corners of a polygon around 0; with `inner` below 1 every second one is so far from the middle."""
    turns = np.arange(corners) / corners
    radii = np.where(np.arange(corners) % 2, inner, 1.0)
    return np.stack([radii * np.sin(2 * math.pi * turns), -radii * np.cos(2 * math.pi * turns)], 1)


CROSS = np.array(
    [(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)]
)
BAR = np.array([(-4, -1), (4, -1), (4, 1), (-4, 1)])
SHAPES = (regular(60), regular(4), regular(3), regular(10, 0.42), CROSS / math.hypot(3, 1), BAR / math.hypot(4, 1))


def drawing(outline, hue, rng):
    """One image (SIDE, SIDE, 3), uint8: a filled outline of that hue."""
    size = rng.uniform(0.28, 0.42) * SIDE
    angle = math.radians(rng.uniform(-15, 15))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = SIDE / 2 + rng.uniform(-2.5, 2.5, 2)
    colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.0))
    grey = int(rng.uniform(0, 60))
    picture = Image.new("RGB", (SIDE * ENLARGED, SIDE * ENLARGED), (grey, grey, grey))
    corners = (outline @ turn.T * size + middle) * ENLARGED
    ImageDraw.Draw(picture).polygon([tuple(c) for c in corners], fill=tuple(round(255 * c) for c in colour))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX))


def drawings(name, n=IMAGES):
    """Images (n, SIDE, SIDE, 3), uint8, and the kind of each."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(n) % KINDS)
    if name == "shapes":
        return np.stack([drawing(SHAPES[k], rng.uniform(), rng) for k in labels]), labels
    return np.stack([drawing(SHAPES[0], k / KINDS + rng.normal(0, 0.015), rng) for k in labels]), labels


def run(name, colours, seed, n=IMAGES, epochs="auto"):
    images, labels = drawings(name, n)
    started = time.perf_counter()
    model = GuidedClusterer(KINDS, colours=colours, epochs=epochs, random_state=seed, verbose=1).fit(images)
    return {
        "set": name,
        "colours": colours,
        "seed": seed,
        "images": len(images),
        **{score: round(value, 5) for score, value in label_scores(labels, model.labels_).items()},
        "seconds": round(time.perf_counter() - started, 1),
        "views": model.about_["recipe"]["views"],
        "spaces": model.about_["recipe"]["spaces"],
        **provenance(),
    }


def print_table(results):
    for name in SETS:
        for colours in WAYS:
            # Lines without the knob are of the code before it.
            runs = [r for r in results if (r["set"], r.get("colours")) == (name, colours)]
            if not runs:
                continue
            cells = []
            for score in ("accuracy", "nmi"):
                values = [r[score] for r in runs]
                spread = statistics.stdev(values) if len(values) > 1 else 0.0
                cells.append(f"{score} {statistics.mean(values):.4f} ± {spread:.4f}, min {min(values):.4f}")
            print(f"{name:7} {colours:6} {len(runs)} seeds: {'; '.join(cells)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="only print what is on file")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="only draw examples of both sets: NAME.png")
    parser.add_argument("--smoke", action="store_true", help="few drawings, few epochs, nothing written")
    options = parser.parse_args()
    if options.draw:
        rows = [images[labels == k][:16] for images, labels in map(drawings, options.sets) for k in range(KINDS)]
        image_grid(rows, [f"{name} {k}" for name in options.sets for k in range(KINDS)]).save(options.draw)
        return
    if options.smoke:
        print_table([run("shapes", "auto", 0, 300, 8)])
        return
    records = Records(RESULTS / "colours.jsonl")
    for seed in options.seeds:
        for name in options.sets:
            for colours in WAYS:
                on_file = records.matching(set=name, colours=colours, seed=seed)
                if not options.table and not on_file:
                    result = run(name, colours, seed)
                    print(json.dumps(result), flush=True)
                    records.add(result)
    print_table(list(records))


if __name__ == "__main__":
    main()
