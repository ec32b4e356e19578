"""The guided recipe beside others, on the same images, on the same machine, in one run.

    pip install clustpy==0.0.3                    # DEC, IDEC and VaDE; without it those rows are left out, and said so
    python benchmarks/peers.py                    # 10,000 MNIST images, every method once
    python benchmarks/peers.py --n 70000          # all of them: hours
    python benchmarks/peers.py --smoke            # 300 digits, to see that it runs

Each method runs in a process of its own, so that its peak memory is its own, one after the other, with the number of
threads that OMP_NUM_THREADS says. DEC, IDEC and VaDE have ClustPy's defaults and see pixels as rows of numbers from 0
to 1, as KMeans and the mixture do. The mixture is on 50 principal components, since full covariances of 784 pixels need
more images than there are. `ae-umap-gmm` is the N2D pipeline (McConville and others, 2019): a dense autoencoder of
500-500-2000-10 units, umap-learn in 10 dimensions with 20 neighbours, a Gaussian mixture.

Labels are read by the scores alone. Results go to benchmarks/results/peers.jsonl, one line per method.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from provenance import RESULTS, provenance
from torch import nn

from clusterloom import GuidedClusterer
from clusterloom.data import load_images
from clusterloom.metrics import label_scores
from paper.records import Records

CLUSTERS = 10


def guided(images, rows, seed):
    return GuidedClusterer(CLUSTERS, random_state=seed).fit(images).labels_


def kmeans(images, rows, seed):
    from sklearn.cluster import KMeans

    return KMeans(CLUSTERS, n_init=10, random_state=seed).fit_predict(rows)


def mixture(images, rows, seed):
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    components = PCA(min(50, *rows.shape), random_state=seed).fit_transform(rows)
    return GaussianMixture(CLUSTERS, random_state=seed, reg_covar=1e-3).fit_predict(components)


def ae_umap_gmm(images, rows, seed):
    from sklearn.mixture import GaussianMixture
    from umap import UMAP

    torch.manual_seed(seed)
    x, sizes = torch.from_numpy(rows), [rows.shape[1], 500, 500, 2000, 10]
    encoder, decoder = dense(sizes), dense(sizes[::-1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    for _ in range(min(100, max(20, 500_000 // len(x)))):
        for batch in torch.randperm(len(x)).split(256):
            loss = nn.functional.mse_loss(decoder(encoder(x[batch])), x[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        codes = encoder(x).numpy()
    layout = UMAP(n_components=10, n_neighbors=20, min_dist=0.0, random_state=seed).fit_transform(codes)
    return GaussianMixture(CLUSTERS, random_state=seed).fit_predict(layout)


def dense(sizes):
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def clustpy(name):
    def fit(images, rows, seed):
        import clustpy.deep

        return getattr(clustpy.deep, name)(CLUSTERS, random_state=seed).fit(rows).labels_

    return fit


METHODS = {
    "guided": guided,
    "ae-umap-gmm": ae_umap_gmm,
    "KMeans": kmeans,
    "GMM": mixture,
    "DEC": clustpy("DEC"),
    "IDEC": clustpy("IDEC"),
    "VaDE": clustpy("VaDE"),
}
OF_CLUSTPY = ("DEC", "IDEC", "VaDE")


def run_one(method, dataset, n, seed):
    """Called in a process of its own; prints one JSON line."""
    loaded = load_images(dataset, limit=n)
    images, labels = np.asarray(loaded.images), np.asarray(loaded.labels)
    rows = (images.reshape(len(images), -1) / 255).astype(np.float32)
    started = time.perf_counter()
    labels_pred = METHODS[method](images, rows, seed)
    seconds = time.perf_counter() - started
    scores = {k: round(v, 4) for k, v in label_scores(labels, np.asarray(labels_pred)).items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**scores, "images": len(images), "seconds": round(seconds, 1), "peak_bytes": peak}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--n", type=int, default=10_000, help="images, drawn at random without a look at labels")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--smoke", action="store_true", help="300 digits, nothing written")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    dataset, n = ("digits", 300) if options.smoke else (options.dataset, options.n)
    if options.one:
        run_one(options.one, dataset, n, options.seeds[0])
        return
    print(f"{'method':12} {'seed':>4} {'accuracy':>9} {'NMI':>7} {'seconds':>9} {'peak MB':>9}")
    for method in options.methods:
        if method in OF_CLUSTPY and find_spec("clustpy") is None:
            print(f"{method:12} left out: clustpy is not installed")
            continue
        for seed in options.seeds:
            command = [sys.executable, __file__, "--one", method, "--dataset", dataset]
            command += ["--n", str(n), "--seeds", str(seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode != 0:
                print(f"{method:12} {seed:4} failed")
                continue
            result = {"method": method, "dataset": dataset, "seed": seed}
            result |= json.loads(done.stdout.splitlines()[-1])
            print(
                f"{method:12} {seed:4} {result['accuracy']:9.4f} {result['nmi']:7.4f} {result['seconds']:9.1f} "
                f"{result['peak_bytes'] / 1e6:9.0f}",
                flush=True,
            )
            if not options.smoke:
                Records(RESULTS / "peers.jsonl").add(result | provenance("clustpy"))


if __name__ == "__main__":
    main()
