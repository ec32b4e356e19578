"""What a model says of every image of a set, and a map of them: what one looks at clusters with.

A survey is kept in the cache, under the hashes of model and pixels, so that a second look costs nothing. When the kept
ones take more than 2 GB, those that were not used for the longest time go.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from threadpoolctl import threadpool_limits

from clusterloom.data import ImageSet
from clusterloom.data.cache import cache_root
from clusterloom.device import is_main_process
from clusterloom.errors import SettingsError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.persistence import to_bundle
from clusterloom.files import write_atomically

_VERSION = 4  # part of every key: raise it when the map is drawn in another way
_LANDMARKS = 2500
_LEAST_LANDMARKS = 20  # of a cluster, where it has as many images
_PERPLEXITY = 25.0
_ITERATIONS = 500
_FEWEST_FOR_LAYOUT = 10  # fewer images have no neighbourhoods; their principal axes are the map
_NEIGHBOURS = 12
_REACH = 4.0  # landmarks, if they lay on a square grid: neighbours further off lie in another part of the map
_CHUNK = 4096  # images placed at once
_LEAST_VARIANCE = 1e-12
_CATEGORY_WEIGHT = 0.5  # beside latents at 1: clusters lie apart, but not further than their images do
_HASH_BYTES = 32
_MOST_BYTES = 2 << 30  # of all kept surveys
_STALE_SECONDS = 86_400


@dataclass(frozen=True, eq=False)
class Survey:
    """What a model says of every image, and where each lies on the map.

    Attributes:
        proba: Probability of every cluster, shape (N, K), float32.
        latents: Posterior means, shape (N, D), float32.
        score: How well the model explains each image, nats, shape (N,), float32.
        outlier: Whether the score is below the model's threshold, shape (N,), bool.
        position: Place on the map, shape (N, 2), float32: x to the right and y upwards, the longer axis from 0 to 1,
            the shorter one to the same scale, in the middle.
    """

    proba: np.ndarray
    latents: np.ndarray
    score: np.ndarray
    outlier: np.ndarray
    position: np.ndarray

    def __len__(self) -> int:
        return len(self.proba)

    @property
    def n_clusters(self) -> int:
        """Number of clusters, K."""
        return self.proba.shape[1]

    @cached_property
    def labels(self) -> np.ndarray:
        """Most likely cluster of each image, shape (N,), int64."""
        return self.proba.argmax(1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the most likely cluster, shape (N,), float32."""
        return self.proba.max(1)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images of each cluster, shape (K,), int64."""
        return np.bincount(self.labels, minlength=self.n_clusters)

    @cached_property
    def middles(self) -> np.ndarray:
        """Middle of each cluster on the map, the median of its images' places, shape (K, 2); 0 where it is empty."""
        middles = np.zeros((self.n_clusters, 2))
        for k, members in enumerate(self._members):
            if len(members):
                middles[k] = np.median(self.position[members], 0)
        return middles

    @cached_property
    def features(self) -> np.ndarray:
        """Latents beside category probabilities, by which images are compared, shape (N, D + K), float32.

        See `joint_features`.
        """
        return joint_features(self.latents, self.proba)

    def typical(self, cluster: int, n: int | None = None) -> np.ndarray:
        """Rows of a cluster's images, the most typical first: the nearest to its middle in latent space.

        Each latent dimension counts by the cluster's own deviation along it.

        Args:
            cluster: From 0 to K - 1.
            n: At most so many; None for all.

        Returns:
            Row numbers, int64; none where the cluster is empty.
        """
        return self._ordered(cluster, -self._distance)[:n]

    def doubtful(self, cluster: int, n: int | None = None) -> np.ndarray:
        """Rows of a cluster's images, the least certain first; among equally certain ones the least typical.

        Args:
            cluster: From 0 to K - 1.
            n: At most so many; None for all.

        Returns:
            Row numbers, int64; none where the cluster is empty.
        """
        return self._ordered(cluster, self._distance, -self.confidence)[:n]

    def nearest_clusters(self) -> np.ndarray:
        """The cluster that each cluster's images would go to next, by their mean probabilities of the other ones.

        Returns:
            Shape (K,), int64; -1 where the cluster is empty or its images are all certain beyond any doubt.
        """
        mass = np.stack([self.proba[members].sum(0, dtype=np.float64) for members in self._members])
        np.fill_diagonal(mass, 0)
        return np.where(mass.max(1) > 0, mass.argmax(1), -1)

    def similar(self, rows: np.ndarray, n: int) -> np.ndarray:
        """Images that are most like some others: the nearest to the mean of their `features`.

        Args:
            rows: Row numbers, shape (m,), m at least 1.
            n: How many to find.

        Returns:
            Row numbers, int64, the most similar first, without `rows`.

        Raises:
            SettingsError: there are no `rows`.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) == 0:
            raise SettingsError("similar images to none cannot be found; choose at least one image")
        middle = self.features[rows].mean(0)
        # |f - m|^2 without the term that is the same for all: one matrix product and no copy of the features.
        distance = self._squared_norms - 2 * (self.features @ middle)
        distance[rows] = np.inf
        n = min(n, len(self) - len(np.unique(rows)))
        nearest = np.argpartition(distance, n - 1)[:n] if n > 0 else np.empty(0, np.int64)
        return nearest[np.lexsort((nearest, distance[nearest]))]

    @cached_property
    def _squared_norms(self) -> np.ndarray:
        return np.einsum("nd,nd->n", self.features, self.features)

    @cached_property
    def _distance(self) -> np.ndarray:
        """Squared distance of each image from the middle of its cluster, in the cluster's deviations, shape (N,)."""
        distance = np.zeros(len(self))
        least = _LEAST_VARIANCE + 1e-3 * self.latents.var(dtype=np.float64)
        for members in filter(len, self._members):
            z = self.latents[members].astype(np.float64)
            distance[members] = ((z - z.mean(0)) ** 2 / (z.var(0) + least)).sum(1)
        return distance

    @cached_property
    def _members(self) -> list[np.ndarray]:
        return [np.flatnonzero(self.labels == k) for k in range(self.n_clusters)]

    def _ordered(self, cluster: int, *keys: np.ndarray) -> np.ndarray:
        """A cluster's rows in descending order of the last key, then of the ones before it, then as they come."""
        members = self._members[cluster]
        return members[np.lexsort([-key[members] for key in keys])]


def survey(model: ImageClusterer, images: ImageSet, progress: Callable[[str], None] | None = None) -> Survey:
    """Ask a model about every image of a set and draw a map of them, or find that in the cache.

    Args:
        model: Any fitted estimator.
        images: Images of the shape that it was trained on.
        progress: Called with a line of text as each step begins.

    Returns:
        The survey. The same model and pixels give the same one, bit for bit, on the same machine.

    Raises:
        DataError: the images do not have the shape of the training images.
    """
    tell = progress or (lambda line: None)
    path = _cache_path(model, images)
    found = _read(path)
    if found is not None and len(found) == len(images):
        tell("survey found in the cache")
        return found
    tell(f"asking the model about {len(images):,} images")
    said = model.assess(images)
    tell("drawing the map")
    made = Survey(**said, position=draw_map(joint_features(said["latents"], said["proba"]), said["proba"].argmax(1)))
    if is_main_process():
        _write(path, made)
    return made


def joint_features(latents: np.ndarray, proba: np.ndarray) -> np.ndarray:
    """Latents and category probabilities side by side, on one scale.

    Latents are centred and divided by the root of their total variance, one factor for all dimensions, so that those
    that the model does not use stay small. Square roots of probabilities make the Euclidean distance Hellinger's; they
    count half as much as the latents do.

    Args:
        latents: Shape (N, D).
        proba: Shape (N, K).

    Returns:
        Shape (N, D + K), float32.
    """
    centred = latents - latents.mean(0, dtype=np.float64)
    total = float(centred.var(0).sum())
    scaled = centred / np.sqrt(max(total, _LEAST_VARIANCE))
    return np.concatenate([scaled, _CATEGORY_WEIGHT * np.sqrt(proba)], 1, dtype=np.float32)


def draw_map(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Places of images on a plane, near each other where their features are.

    t-SNE (van der Maaten, "Visualizing Data using t-SNE", 2008) of some landmarks that are drawn evenly from all
    clusters; every other image is then placed among its nearest landmarks. Distances within a neighbourhood
    mean something; those between far parts of the map, and the sizes of gaps, mean little.

    Args:
        features: Shape (N, F).
        labels: Cluster of each image, shape (N,): only for drawing landmarks.

    Returns:
        Shape (N, 2), float32; see `Survey.position`.
    """
    rows = _landmarks(labels)
    others = np.setdiff1d(np.arange(len(features)), rows)
    position = np.empty((len(features), 2))
    # One thread: the sums of several come out in any order, and on a busy machine they spend their time waiting.
    with threadpool_limits(1):
        position[rows] = layout = _layout(features[rows])
        if len(others):
            position[others] = _placed(features[others], features[rows], layout)
    return _into_unit_square(position)


def _landmarks(labels: np.ndarray) -> np.ndarray:
    """Ascending rows of the landmarks: evenly spaced in each cluster, by its share but at least a few."""
    if len(labels) <= _LANDMARKS:
        return np.arange(len(labels))
    chosen = []
    for k in np.unique(labels):
        members = np.flatnonzero(labels == k)
        wanted = max(round(_LANDMARKS * len(members) / len(labels)), _LEAST_LANDMARKS)
        chosen.append(members[np.linspace(0, len(members) - 1, min(wanted, len(members))).astype(int)])
    return np.sort(np.concatenate(chosen))


def _layout(features: np.ndarray) -> np.ndarray:
    """Landmarks on a plane, shape (L, 2)."""
    start = _principal_axes(features)
    if len(features) < _FEWEST_FOR_LAYOUT or start.std() < 1e-6:  # the second: all images are equal
        return start
    from sklearn.manifold import TSNE  # takes a second to import

    # Small as t-SNE likes it, and with a trace of noise in case that the second axis is empty.
    start = 1e-4 * start / start[:, 0].std() + 1e-6 * np.random.default_rng(0).standard_normal(start.shape)
    tsne = TSNE(
        perplexity=min(_PERPLEXITY, (len(features) - 1) / 3),
        init=start.astype(np.float32),
        max_iter=_ITERATIONS,
        random_state=0,
    )
    return tsne.fit_transform(features).astype(np.float64)


def _principal_axes(features: np.ndarray) -> np.ndarray:
    """The first two principal components, shape (L, 2), each axis turned so that its longer end is positive."""
    centred = features - features.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    plane = np.zeros((len(features), 2))
    plane[:, : axes.shape[1]] = centred @ axes
    return plane * np.where(plane.max(0) < -plane.min(0), -1, 1)


def _placed(features: np.ndarray, landmarks: np.ndarray, layout: np.ndarray) -> np.ndarray:
    """Places for images among their nearest landmarks, shape (M, 2).

    Landmarks in another part of the map than the nearest one do not count: in the middle between two parts there
    would be bridges that nothing stands for.
    """
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=_NEIGHBOURS, algorithm="brute").fit(landmarks)
    neighbours = finder.kneighbors(features, return_distance=False)
    reach = _REACH * float(np.ptp(layout, axis=0).max()) / len(layout) ** 0.5
    position = np.empty((len(features), 2))
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        places = layout[neighbours[part]]
        far = np.linalg.norm(places - places[:, :1], axis=2) > reach
        weights = _affine_weights(landmarks[neighbours[part]] - features[part, None], far)
        position[part] = np.einsum("nk,nkd->nd", weights, places)
    return position


def _affine_weights(offsets: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Weights with sum 1 that rebuild an image from its neighbours, as in locally linear embedding, shape (M, k).

    Args:
        offsets: From the image to each neighbour, shape (M, k, F).
        far: Neighbours that get next to no weight, shape (M, k).
    """
    gram = np.einsum("nkd,nld->nkl", offsets, offsets, optimize=True).astype(np.float64)
    trace = np.trace(gram, axis1=1, axis2=2)[:, None] + _LEAST_VARIANCE
    diagonal = np.arange(gram.shape[1])
    gram[:, diagonal, diagonal] += trace * np.where(far, 1e4, 0.05)
    weights = np.linalg.solve(gram, np.ones((*gram.shape[:2], 1)))[..., 0]
    return weights / weights.sum(1, keepdims=True)


def _into_unit_square(position: np.ndarray) -> np.ndarray:
    low, high = position.min(0), position.max(0)
    longer = float((high - low).max())
    scaled = (position - (low + high) / 2) / (longer if longer > 0 else 1) + 0.5
    return np.clip(scaled, 0, 1).astype(np.float32)


def _cache_path(model: ImageClusterer, images: ImageSet) -> Path:
    bundle = to_bundle(model)
    digest = hashlib.sha256(json.dumps([_VERSION, bundle.settings, images.fingerprint()], sort_keys=True).encode())
    for name, array in sorted(bundle.tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return cache_root() / "surveys" / f"{digest.hexdigest()}.safetensors"


def _write(path: Path, made: Survey) -> None:
    """Keep a survey, after its hash. Where there is no room, it is only made again next time."""
    data = safetensors.numpy.save({field.name: getattr(made, field.name) for field in fields(Survey)})
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(data).digest() + data)
        _make_room(path)


def _make_room(newest: Path) -> None:
    """Remove the least recently used surveys beyond the limit, and what killed processes left; never the newest one.

    Every reader holds all of a survey in memory, so none that is being looked at is lost: the next start makes it anew.
    """
    kept = []
    for file in newest.parent.iterdir():
        with contextlib.suppress(OSError):  # another process was faster, or reads it where that forbids removal
            status = file.stat()
            if file.suffix == newest.suffix and not file.name.startswith("."):
                kept.append((file != newest, -status.st_mtime_ns, status.st_size, file))
            elif time.time() - status.st_mtime > _STALE_SECONDS:
                file.unlink()
    total = 0
    for is_other, _, size, file in sorted(kept):  # the newest, then from the most recently used on
        total += size
        if is_other and total > _MOST_BYTES:
            with contextlib.suppress(OSError):
                file.unlink()


def _read(path: Path) -> Survey | None:
    """The survey in a file, or None if there is none or it is damaged."""
    try:
        contents = path.read_bytes()
        digest, data = contents[:_HASH_BYTES], contents[_HASH_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            return None
        with contextlib.suppress(OSError):  # a cache that can only be read
            os.utime(path)  # when a survey was used last decides which ones stay
        return Survey(**safetensors.numpy.load(data))
    except (OSError, TypeError, safetensors.SafetensorError):
        return None
