"""Pictures of new images for README and docs: for each cluster real members above, new ones below.

    clusterloom fit fashion-mnist:train -k 10 --out fashion-model
    python docs/new_images.py fashion-model fashion-mnist:train                       # new-images-fashion-mnist.png
    python docs/new_images.py mnist-model mnist --limit 10000 --beside                # clusters-mnist.png

Members are drawn at random, as new images are; neither is chosen by how it looks. With --beside the most typical
members stand on the left and new images on the right.
"""

import argparse
from pathlib import Path

import numpy as np

from clusterloom import load_images, load_model
from clusterloom.pictures import image_grid, to_uint8
from clusterloom.predictions import Predictions
from paper.figures import side_by_side

IMAGES = Path(__file__).parent / "images"
COLUMNS, BESIDE_COLUMNS = 20, 6


def new(model, cluster, n):
    """New images (n, H, W, C), uint8."""
    return to_uint8(model.shown(model.to_unit(model.sample(n, cluster, random_state=cluster))))


def real_above_new(model, images):
    """Two rows for each cluster."""
    labels, rng = model.predict(images), np.random.default_rng(0)
    rows, names = [], []
    for k in np.flatnonzero(model.cluster_sizes_).tolist():
        members = rng.permutation(np.flatnonzero(labels == k))[:COLUMNS]
        rows += [images.shown(np.sort(members)), new(model, k, COLUMNS)]
        names += [f"{k} real", "new"]
    return image_grid(rows, names)


def typical_beside_new(model, images):
    """A row for each cluster."""
    predictions = Predictions(**model.predictions(images))
    clusters = range(model.n_clusters_)
    typical = [images.shown(predictions.typical(k, BESIDE_COLUMNS)) for k in clusters]
    halves = {
        "the most typical images of each cluster": image_grid(typical, [f"cluster {k}" for k in clusters], smallest=56),
        "new images of the same cluster": image_grid([new(model, k, BESIDE_COLUMNS) for k in clusters], smallest=56),
    }
    return side_by_side(halves)


def main():
    """Draw one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--beside", action="store_true", help="the most typical members on the left, new on the right")
    options = parser.parse_args()
    model, images = load_model(options.model), load_images(options.data, limit=options.limit)
    kind, draw = ("clusters", typical_beside_new) if options.beside else ("new-images", real_above_new)
    draw(model, images).save(IMAGES / f"{kind}-{Path(options.data).stem.partition(':')[0]}.png", optimize=True)


if __name__ == "__main__":
    main()
