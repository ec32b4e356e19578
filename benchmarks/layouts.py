"""What the package of the layout and its length do to the first pseudo-labels, on one embedding of stage 1.

    python benchmarks/layouts.py fashion-mnist --seed 0     # ten minutes on one thread
    python benchmarks/layouts.py --smoke                    # seconds, on 400 digits

Labels are read by the accuracy that is printed, and by nothing else. docs/tried.md has what it showed.
"""

import argparse
import time
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from fastumap import umap_project

from clusterloom import GuidedClusterer
from clusterloom.data import load_images
from clusterloom.metrics import clustering_accuracy_score
from clusterloom.recipe.augment import choose_views
from clusterloom.recipe.guided import Epochs, _embedding_of_views, _of_all
from clusterloom.recipe.neighbours import _umap_learn_layout, nearest_neighbours
from clusterloom.recipe.pseudo_labels import first_pseudo_labels
from clusterloom.recipe.represent import represent
from clusterloom.training.randomness import seed_for
from clusterloom.training.session import training_session


def embeddings(images, n_clusters, seed):
    """What stage 1 of the recipe embeds images (N, H, W, C) to, (N, D), and two views of some of them."""
    model = GuidedClusterer(n_clusters, random_state=seed, verbose=1)
    model.image_shape_ = images.shape[1:]
    plan = replace(model._plan(model.settings, len(images), seed), schedule="one-cycle", weight_decay=1e-4)
    views = choose_views(images, seed)
    with training_session(model.settings, images, plan, {}, model.compute()) as session:
        network = model._initialised_network(n_clusters, seed).to(session.compute.device)
        stage = replace(plan, epochs=Epochs.split(plan.epochs).represent)
        embed = represent(network, session.run, images, stage, views)
        with torch.inference_mode():
            return _of_all(embed, images, session.run), _embedding_of_views(embed, images, session.run, views, seed)


def by_fastumap(embedding, neighbours, distances, dimensions, min_dist, seed, n_epochs):
    known = (neighbours, distances.astype(np.float64))
    stand_in = np.zeros((len(embedding), dimensions))
    return umap_project(
        stand_in, dimensions, precomputed_knn=known, min_dist=min_dist, random_state=seed, n_epochs=n_epochs
    ).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    loaded = load_images(options.data, limit=400 if options.smoke else options.limit)
    images, n_clusters = np.asarray(loaded.images), len(loaded.class_names)
    embedding, viewed = embeddings(images, n_clusters, options.seed)
    neighbours = nearest_neighbours(embedding, 20)
    ways = {f"fastumap, {n} epochs": partial(by_fastumap, n_epochs=n) for n in (200, 500)}
    for name, way in (ways | {"umap-learn": _umap_learn_layout}).items():
        for again in (0, 100):
            started = time.process_time()
            layout = way(embedding, *neighbours, 10, 0.0, seed_for(options.seed + again, "layout"))
            seconds = time.process_time() - started
            found = first_pseudo_labels(embedding, layout, n_clusters, options.seed, viewed)
            accuracy = clustering_accuracy_score(loaded.labels, found.q.argmax(1))
            likely, shared = max(nats for nats, _ in found.finalists), found.finalists[0][1]
            scores = f"accuracy {accuracy:.4f}, two views share {shared:.3f} nats, likeliest {likely:.3f}"
            print(f"{name:22} {scores}, {seconds:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
