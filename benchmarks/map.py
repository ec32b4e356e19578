"""How well the map keeps neighbours: the share of each image's 15 nearest images that are among its 15 nearest on it.

    python benchmarks/map.py MODEL mnist --limit 10000
    python benchmarks/map.py --smoke                      # digits and a short fit of its own

MODEL is a model directory. 5,000 images are looked at. CPU seconds are those of the map alone.
"""

import argparse
import time

import numpy as np

from clusterloom import GuidedClusterer, load_model
from clusterloom.data import load_images
from clusterloom.map_layout import draw_map
from clusterloom.predictions import joint_features
from clusterloom.recipe.points.neighbours import nearest_neighbours


def share_kept(features, position, n=15, looked_at=5000):
    rows = np.random.default_rng(0).permutation(len(features))[:looked_at]
    near, drawn = (nearest_neighbours(points, n + 1, points[rows])[0] for points in (features, position))
    return np.mean([len(np.intersect1d(a[a != r], b[b != r])) / n for a, b, r in zip(near, drawn, rows, strict=True)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--smoke", action="store_true", help="300 digits, few epochs")
    options = parser.parse_args()
    if not options.data and not options.smoke:
        parser.error("give MODEL and DATA, or --smoke")
    if options.smoke:
        images = load_images("digits", limit=300)
        model = GuidedClusterer(10, epochs=3, random_state=0).fit(images)
    else:
        images, model = load_images(options.data, limit=options.limit), load_model(options.model)
    predicted = model.predictions(images)
    features = joint_features(predicted["latents"], predicted["proba"])
    started = time.process_time()
    position = draw_map(features, predicted["proba"].argmax(1))
    print(f"{len(features):,} images, {time.process_time() - started:.1f} CPU seconds", end="; ")
    print(f"kept {share_kept(features, position):.3f}")


if __name__ == "__main__":
    main()
