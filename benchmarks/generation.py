"""How sharp, varied and true to their cluster new images are, beside real images that no model has seen.

    python benchmarks/generation.py                                         # all: hours on one core
    python benchmarks/generation.py --datasets fashion-mnist-10000 --methods guided decoder
    python benchmarks/generation.py --models FOLDER                         # keep models there, and use those that are
    python benchmarks/generation.py --table                                 # print what is on file
    python benchmarks/generation.py --smoke                                 # seconds, to see that it runs

Of each data set a part is held out: of MNIST and Fashion-MNIST 10,000 images, whether models are trained on 60,000 or
on 10,000 of the others; of other sets of the suite a third. One half of it stands for the real images, the other half
for new ones of a perfect model (`frechet_real`).

| method | new images |
|---|---|
| guided | of the guided recipe |
| decoder | of the same model, `generate --plain` |
| gaussian | of the same recipe without the refining stage, `--set refine=false` |
| convvae, vae | of the paper's model and of the plain VAE, 20 epochs |
| members | none: real images that were trained on, of the same clusters. What is wrong with them is the clusters' |
| vade | of ClustPy's VaDE with its defaults (pip install clustpy==0.0.3), from its own Gaussians |
| flow | of the refining stage's network alone, from noise, without latents and clusters, four times as long |

Features are the 128 of a small network trained on the true labels of all images (paper/classifier.py), for this purpose
only. A record has a class, or none for all images together; there, new images are those of the clusters whose most
frequent class it is.

`copied_share` is the share of new images that lie nearer to a training image, in pixels, than 99 of 100 real ones that
are held out; a perfect model has .01. `sharpness_ratio` is the mean squared Laplacian over that of real images. Seconds
are the processor's; of a fit that was interrupted they are not known.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from provenance import RESULTS, provenance
from sklearn.neighbors import NearestNeighbors
from suite_sets import SETS, load

from clusterloom import ConvVAEClusterer, GuidedClusterer, VAEClusterer, load_model
from clusterloom.data import load_images
from clusterloom.networks.refiner import Refiner
from clusterloom.recipe import guided
from clusterloom.recipe.budget import Epochs, automatic_batch_size, automatic_epochs
from clusterloom.recipe.learning.refine import FlowObjective
from clusterloom.recipe.points.partitions import counts_of
from clusterloom.training.loop import Trainer
from clusterloom.training.plan import TrainingPlan
from paper.classifier import Classifier, trained_classifier
from paper.records import Records
from paper.sample_metrics import coverage, frechet_distance, vendi_score

DATASETS = {"mnist-10000": 10_000, "fashion-mnist-10000": 10_000, "mnist": 60_000, "fashion-mnist": 60_000}
METHODS = ("guided", "decoder", "members", "gaussian", "convvae", "vae", "vade", "flow")
MOST = 5000  # images on each side of a comparison
NEAR = 2000  # of which all distances are looked at
OF_CLASS = 500
FLOW_STEPS = 24


@dataclass(frozen=True)
class Data:
    """Images (N, H, W, C), uint8, and labels (N,): those trained on, and those held out."""

    train: np.ndarray
    labels: np.ndarray
    held: np.ndarray
    held_labels: np.ndarray

    @classmethod
    def of(cls, name, limit=None):
        if name in DATASETS:
            loaded = load_images(name.removesuffix("-10000"))
            images, labels = np.asarray(loaded.images), np.asarray(loaded.labels)
            n_train, n_held = DATASETS[name], 10_000
        else:
            images, labels = load(name)
            images, labels = images[labels >= 0], labels[labels >= 0]
            n_train = 2 * len(images) // 3
            n_held = len(images) - n_train
        order = np.random.default_rng(0).permutation(len(images))[:limit]
        train, held = (
            order[: n_train if limit is None else limit // 2],
            order[-n_held if limit is None else limit // 2 :],
        )
        return cls(images[np.sort(train)], labels[np.sort(train)], images[held], labels[held])

    @property
    def n_classes(self):
        return int(self.labels.max()) + 1

    @cached_property
    def judge(self) -> Classifier:
        """Names classes and gives features."""
        images, labels = np.concatenate([self.train, self.held]), np.concatenate([self.labels, self.held_labels])
        return trained_classifier(images, labels)[0]

    @cached_property
    def usual_distance(self):
        """To the nearest training image, in pixels, of the nearest of 100 held-out images."""
        return np.quantile(self.distances(unit(self.held)), 0.01)

    def distances(self, images):
        """From images to the nearest training image."""
        index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(unit(self.train).reshape(len(self.train), -1))
        return index.kneighbors(images[:NEAR].reshape(len(images[:NEAR]), -1))[0][:, 0]


def unit(images):
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images


def sharpness(images):
    """Mean squared Laplacian."""
    x = unit(images)
    around = x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:]
    return float(np.square(4 * x[:, 1:-1, 1:-1] - around).mean())


def scores(data, real, other, new):
    """Of new images beside real ones; `other` are more real ones."""
    n = min(len(real), len(other), len(new))
    a, b, made = (data.judge.features(unit(images[:n])).astype(np.float64) for images in (real, other, new))
    found = coverage(a[:NEAR], made[:NEAR])
    return {
        "images": n,
        "frechet": frechet_distance(a, made),
        "frechet_real": frechet_distance(a, b),
        "density": found["density"],
        "coverage": found["coverage"],
        "recall": found["recall"],
        "vendi_ratio": vendi_score(made) / vendi_score(a),
        "copied_share": float((data.distances(new) < data.usual_distance).mean()),
        "sharpness_ratio": sharpness(new) / sharpness(real),
    }


def records_of(data, new, clusters, majority):
    """Scores of all new images, and of those of each class."""
    half = len(data.held) // 2
    real, other = data.held[:half][:MOST], data.held[half:][:MOST]
    whole = {"class": None, **scores(data, real, other, new)}
    if clusters is None:
        return [whole]
    judged = data.judge.classes(new)
    shows = [(judged[clusters == k] == c).mean() for k, c in enumerate(majority) if (clusters == k).any()]
    rows = [whole | {"shows_class": float(np.mean(shows))}]
    for label in range(data.n_classes):
        mine = new[majority[clusters] == label][:OF_CLASS]
        of_class = [
            images[labels == label][:OF_CLASS]
            for images, labels in (
                (data.held[:half], data.held_labels[:half]),
                (data.held[half:], data.held_labels[half:]),
            )
        ]
        if len(mine) >= 100 and min(map(len, of_class)) >= 100:
            shown = float((data.judge.classes(mine) == label).mean())
            rows.append({"class": label, **scores(data, *of_class, mine), "shows_class": shown})
    return rows


def fitted(dataset, method, seed, data, models, epochs):
    """A model, from `models` if it is there, and the processor's seconds that it took."""
    kind = "guided" if method in ("decoder", "members") else method
    path = models / f"{dataset}-{kind}-{seed}"
    if path.exists():
        return load_model(path)
    common = {"random_state": seed, "verbose": 1, "run_dir": f"{path}.run", "resume": True}
    if kind in ("guided", "gaussian"):
        model = GuidedClusterer(data.n_classes, refine=kind == "guided", epochs=epochs, **common)
    else:
        method_class = {"convvae": ConvVAEClusterer, "vae": VAEClusterer}[kind]
        model = method_class(data.n_classes, epochs=20 if epochs == "auto" else epochs, **common)
    watched, spent = guided.refine, []

    def watch(*arguments):
        started = time.process_time()
        watched(*arguments)
        spent.append(time.process_time() - started)

    taken_up = Path(f"{path}.run").exists()
    guided.refine = watch
    started = time.process_time()
    try:
        model.fit(data.train)
    finally:
        guided.refine = watched
    # What an earlier session of the run took is not known.
    model.about_["seconds_fit"] = None if taken_up else round(time.process_time() - started, 1)
    model.about_["seconds_refine"] = round(sum(spent), 1)
    model.save(path)
    return model


def most_frequent(data, clusters, n_clusters):
    """The class that most training images of each cluster are of, shape (n_clusters,)."""
    return counts_of(clusters, data.labels, n_clusters, data.n_classes).argmax(1)


def by_model(dataset, method, seed, data, models, epochs):
    """New images of a model, (n, H, W, C) in [0, 1], their clusters, and how long it took."""
    model = fitted(dataset, method, seed, data, models, epochs)
    found = model.predict(data.train)
    sizes = model.cluster_sizes_
    n = min(MOST, len(data.held) // 2)
    clusters = np.random.default_rng(seed).choice(len(sizes), n, p=sizes / sizes.sum())
    new = np.empty((n, *model.image_shape_), np.float32)
    started = time.process_time()
    for k in np.unique(clusters):
        rows = clusters == k
        if method == "members":
            chosen = np.random.default_rng([seed, k]).choice(np.flatnonzero(found == k), rows.sum())
            new[rows] = unit(data.train[chosen])
            continue
        new[rows] = model.sample(int(rows.sum()), int(k), random_state=seed, plain=method == "decoder")
    seconds = (time.process_time() - started) / n
    times = {name: model.about_.get(name) for name in ("seconds_fit", "seconds_refine")}
    times["seconds_per_image"] = round(seconds, 5)
    return new, clusters, most_frequent(data, found, model.n_clusters_), times


def by_vade(seed, data):
    """New images of VaDE, as `by_model` gives those of ours."""
    from clustpy.deep import VaDE

    started = time.process_time()
    model = VaDE(data.n_classes, random_state=seed).fit(unit(data.train).reshape(len(data.train), -1))
    fitted = time.process_time()
    n, found = min(MOST, len(data.held) // 2), model.vade_labels_
    rng = np.random.default_rng(seed)
    clusters = rng.choice(found, n)
    deviations = np.exp(0.5 * model.vade_covariances_)  # they are logarithms
    z = model.vade_cluster_centers_[clusters] + deviations[clusters] * rng.standard_normal((n, deviations.shape[1]))
    with torch.inference_mode():
        made = model.neural_network_trained_.decode(torch.from_numpy(z.astype(np.float32))).clamp(0, 1).numpy()
    seconds = (time.process_time() - fitted) / n
    times = {"seconds_fit": round(fitted - started, 1), "seconds_per_image": round(seconds, 5)}
    majority = most_frequent(data, found, data.n_classes)
    return made.reshape(n, *data.train.shape[1:]), clusters, majority, times


def by_flow(seed, data, epochs):
    """New images of the refining network without anything to refine."""
    shape, n = data.train.shape[1:], min(MOST, len(data.held) // 2)
    torch.manual_seed(seed)
    network = Refiner(shape, 1, 1).to(memory_format=torch.channels_last)
    middle = torch.from_numpy(unit(data.train).mean(0)).permute(2, 0, 1)
    network.deviations.fill_(float(unit(data.train).std()))
    nothing = SimpleNamespace(latent_dim=1, decode=lambda z: middle.expand(len(z), -1, -1, -1))
    n_images = len(data.train)
    total = automatic_epochs(n_images) if epochs == "auto" else epochs
    times = Epochs.split(total, n_images, shape).refine
    batch_size = min(64, automatic_batch_size(n_images))
    plan = TrainingPlan(4 * times, batch_size, 2e-3, seed, schedule="one-cycle", weight_decay=1e-4)
    compute = GuidedClusterer().compute()
    started = time.process_time()
    trainer = Trainer(FlowObjective(nothing, network), plan, compute, Accelerator(device_placement=False))
    trainer.fit(data.train, targets=np.tile(np.float32([0, -20]), (len(data.train), 1)))
    trained = time.process_time()
    generator = torch.Generator().manual_seed(seed)
    made = []
    with torch.inference_mode():
        for start in range(0, n, 250):
            noise = torch.randn(min(250, n - start), *middle.shape, generator=generator)
            z = torch.zeros(len(noise), 1)
            made.append(network.refine(nothing.decode(z), z, noise, FLOW_STEPS).permute(0, 2, 3, 1).numpy())
    seconds = (time.process_time() - trained) / n
    found = {"seconds_fit": round(trained - started, 1), "seconds_per_image": round(seconds, 5)}
    return np.concatenate(made), None, None, found


def run(dataset, method, seed, data, models, epochs="auto"):
    if method == "flow":
        new, clusters, majority, times = by_flow(seed, data, epochs)
    elif method == "vade":
        new, clusters, majority, times = by_vade(seed, data)
    else:
        new, clusters, majority, times = by_model(dataset, method, seed, data, models, epochs)
    common = {"dataset": dataset, "method": method, "seed": seed}
    rows = records_of(data, new, clusters, majority)
    return [
        common | {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} | times | provenance()
        for row in rows
    ]


COLUMNS = ("density", "coverage", "recall", "vendi_ratio", "shows_class", "copied_share", "sharpness_ratio")


def print_table(records):
    print(f"{'data set':22} {'method':9} {'seed':>4} {'class':>5}  {'Frechet':>8} {'/ real':>6}  " + "  ".join(COLUMNS))
    for r in records:
        cells = "  ".join(f"{r[c]:{len(c)}.3f}" if r.get(c) is not None else " " * len(c) for c in COLUMNS)
        label = "all" if r["class"] is None else r["class"]
        ratio = r["frechet"] / r["frechet_real"]
        print(f"{r['dataset']:22} {r['method']:9} {r['seed']:4} {label:>5}  {r['frechet']:8.1f} {ratio:6.1f}  {cells}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [*DATASETS, *SETS]
    parser.add_argument("--datasets", nargs="+", choices=names, default=[*DATASETS, "emoji"], metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--models", type=Path, default=Path("generation-models"), help="folder that keeps them")
    parser.add_argument("--table", action="store_true", help="only print what is on file")
    parser.add_argument("--smoke", action="store_true", help="digits, few epochs, nothing written")
    options = parser.parse_args()
    if options.smoke:
        smoke()
        return
    records = Records(RESULTS / "generation.jsonl")
    for dataset in [] if options.table else options.datasets:
        data = Data.of(dataset)
        for seed in options.seeds:
            for method in options.methods:
                if not records.matching(dataset=dataset, method=method, seed=seed):
                    options.models.mkdir(exist_ok=True)
                    for record in run(dataset, method, seed, data, options.models):
                        if record["class"] is None:
                            print(json.dumps(record), flush=True)
                        records.add(record)
    print_table(records)


def smoke():
    data = Data.of("digits", limit=800)
    with tempfile.TemporaryDirectory() as folder:
        methods = ("guided", "decoder", "vae", "flow")
        print_table([record for m in methods for record in run("digits", m, 0, data, Path(folder), 4)])


if __name__ == "__main__":
    main()
