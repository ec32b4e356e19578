"""Pictures of new images for README and docs: for each cluster real members above, new ones below.

    clusterloom fit fashion-mnist --limit 10000 -k 10 --out fashion-model
    python docs/new_images.py fashion-model fashion-mnist --limit 10000

Members are drawn at random, as new images are; neither is chosen by how it looks. Writes new-images-NAME.png, and
clusters-NAME.png with the most typical members beside new images.
"""

import argparse
from pathlib import Path

import numpy as np
from screenshots import IMAGES, clusters_and_new_images

from clusterloom import load_images, load_model
from clusterloom.pictures import image_grid, to_uint8

COLUMNS = 20


def real_above_new(model, data, limit, name):
    fitted = load_model(model)
    images = load_images(data, limit=limit)
    labels, rng = fitted.predict(images), np.random.default_rng(0)
    rows, names = [], []
    for k in np.flatnonzero(fitted.cluster_sizes_):
        members = rng.permutation(np.flatnonzero(labels == k))[:COLUMNS]
        rows += [
            images.shown(np.sort(members)),
            to_uint8(fitted.shown(fitted.to_unit(fitted.sample(COLUMNS, k, random_state=k)))),
        ]
        names += [f"{k} real", "new"]
    image_grid(rows, names).save(IMAGES / f"{name}.png", optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    name = Path(options.data).stem
    real_above_new(options.model, options.data, options.limit, f"new-images-{name}")
    clusters_and_new_images(options.model, options.data, options.limit, f"clusters-{name}")


if __name__ == "__main__":
    main()
