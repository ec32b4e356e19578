"""What a model says of every image of a set, and their layout on a map: what one looks at clusters with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clusterloom.console import ProgressReport, is_main_process, no_progress
from clusterloom.data.array_cache import ArrayCache
from clusterloom.data.cache import cache_root
from clusterloom.data.images import ImageSet
from clusterloom.errors import SettingsError
from clusterloom.map_layout import draw_map
from clusterloom.model_dir.contents import contents_of

if TYPE_CHECKING:
    from clusterloom.estimators.base import ImageClusterer

_VERSION = 5  # part of every key: raise it when the map is laid out in another way
_LEAST_VARIANCE = 1e-12
_CATEGORY_WEIGHT = 0.5  # beside latents at 1: clusters lie apart, but not further than their images do
MOST_SHOWN = 200_000  # of more images, reports and pages show a sample
_BLOCK = 1 << 16  # images whose probabilities are in memory at once, where only totals are kept
_MOST_BYTES = 2 << 30  # of all predictions in the cache


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model says of every image, and where each lies on the map.

    Attributes:
        proba: Probability of every cluster, shape (N, K), float32.
        latents: Posterior means, shape (N, D), float32.
        score: How well the model explains each image, nats, shape (N,), float32.
        outlier: Whether the score is below the model's threshold, shape (N,), bool.
        position: Place on the map, shape (N, 2), float32: x to the right and y upwards, the longer axis from 0 to 1,
            the shorter one to the same scale, in the middle. Shape (0, 2) where no map was wanted.
        assigned: Cluster of each image where a user has corrected the most likely ones, shape (N,), int64; else None.
    """

    proba: np.ndarray
    latents: np.ndarray
    score: np.ndarray
    outlier: np.ndarray
    position: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.float32))
    assigned: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.proba)

    def of(self, rows: np.ndarray) -> Predictions:
        """What is said of some of the images."""
        arrays = {name: array[rows] for name, array in vars(self).items() if name in _ARRAYS and array is not None}
        return Predictions(**arrays)

    @property
    def n_clusters(self) -> int:
        """Number of clusters, K."""
        return self.proba.shape[1]

    @cached_property
    def labels(self) -> np.ndarray:
        """Cluster of each image, the most likely one if nobody has corrected it, shape (N,), int64."""
        return self.proba.argmax(1) if self.assigned is None else self.assigned

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of each image's cluster, shape (N,), float32."""
        return self.proba[np.arange(len(self)), self.labels]

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images of each cluster, shape (K,), int64."""
        return np.bincount(self.labels, minlength=self.n_clusters)

    def confidence_of(self, cluster: int) -> float | None:
        """Mean probability of a cluster's images; None where it is empty."""
        return float(self.confidence[self.labels == cluster].mean()) if self.sizes[cluster] else None

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
        """Rows of a cluster's images, the most typical first: of the surer half the nearest to the middle.

        The half that comes last in `doubtful` comes first here, so that no image is among the first of both. Within
        both halves those come first that are nearest to the cluster's middle in latent space, where each dimension
        counts by the cluster's own deviation along it.

        Args:
            cluster: From 0 to K - 1.
            n: At most so many; None for all.

        Returns:
            Row numbers, int64; none where the cluster is empty.
        """
        doubtful = self.doubtful(cluster)
        parts = doubtful[len(doubtful) // 2 :], doubtful[: len(doubtful) // 2]
        rows = np.concatenate([part[np.lexsort((part, self._distance[part]))] for part in parts])
        return rows[:n]

    def doubtful(self, cluster: int, n: int | None = None) -> np.ndarray:
        """Rows of a cluster's images, the least certain first; among equally certain ones the least typical.

        Args:
            cluster: From 0 to K - 1.
            n: At most so many; None for all.

        Returns:
            Row numbers, int64; none where the cluster is empty.
        """
        rows = self.by_doubt
        return rows[self.labels[rows] == cluster][:n]

    @cached_property
    def by_doubt(self) -> np.ndarray:
        """Rows of all images, the least certain first; among equally certain ones the least typical, shape (N,)."""
        return np.lexsort([-self._distance, self.confidence])

    def nearest_clusters(self) -> np.ndarray:
        """The cluster that each cluster's images would go to next, by their mean probabilities of the other ones.

        Returns:
            Shape (K,), int64; -1 where the cluster is empty or its images are all certain beyond any doubt.
        """
        mass = np.stack([self.proba[members].sum(0, dtype=np.float64) for members in self._members])
        np.fill_diagonal(mass, 0)
        mass[:, [not len(members) for members in self._members]] = 0  # nobody is told to look into an empty one
        return np.where(mass.max(1) > 0, mass.argmax(1), -1)

    def similar(self, rows: np.ndarray, n: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images that are most like some others: the nearest to the mean of their `features`.

        Args:
            rows: Row numbers, shape (m,), m at least 1.
            n: How many to find.
            among: Which images are looked at, shape (N,), bool; None for all.

        Returns:
            Row numbers, int64, the most similar first, without `rows`, and how far each is from that mean, float32.

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
        if among is not None:
            distance[~among] = np.inf
        n = min(n, int(np.isfinite(distance).sum()))
        nearest = np.argpartition(distance, n - 1)[:n] if n > 0 else np.empty(0, np.int64)
        nearest = nearest[np.lexsort((nearest, distance[nearest]))]
        return nearest, np.sqrt(np.maximum(distance[nearest] + middle @ middle, 0)).astype(np.float32)

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


_ARRAYS = frozenset(f.name for f in fields(Predictions))


@dataclass(frozen=True, eq=False)
class Totals:
    """What a model says of every image of a set, as far as that fits into memory for ten million of them.

    Attributes:
        labels: Most likely cluster of each image, shape (N,), int32.
        confidence: Its probability, shape (N,), float32.
        score: How well the model explains each image, nats, shape (N,), float32.
        outlier: Whether the score is below the model's threshold, shape (N,), bool.
        n_clusters: Number of clusters, K.
        latents: Posterior means of the images that were asked for, shape (M, D), float32.
    """

    labels: np.ndarray
    confidence: np.ndarray
    score: np.ndarray
    outlier: np.ndarray
    n_clusters: int
    latents: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images of each cluster, shape (K,), int64."""
        return np.bincount(self.labels, minlength=self.n_clusters)

    def of(self, rows: np.ndarray) -> Totals:
        """What is said of some of the images; latents stay those that were asked for."""
        said = (self.labels[rows], self.confidence[rows], self.score[rows], self.outlier[rows])
        return Totals(*said, self.n_clusters, self.latents)

    def confidence_of(self, cluster: int) -> float | None:
        """Mean probability of a cluster's images; None where it is empty."""
        members = self.confidence[self.labels == cluster]
        return float(members.mean()) if len(members) else None


def predict_totals(
    model: ImageClusterer, images: ImageSet, latents_of: np.ndarray, progress: ProgressReport = no_progress
) -> Totals:
    """What a model says of every image, block by block: 13 bytes are kept of each.

    Args:
        model: Any fitted estimator.
        images: Images of the shape that it was trained on, N of them.
        latents_of: Rows, in any order, of the images whose latents are wanted.
        progress: Told how far it is.

    Raises:
        DataError: the images do not have the shape of the training images.
    """
    n, done = len(images), 0
    labels, outlier = np.empty(n, np.int32), np.empty(n, bool)
    confidence, score = np.empty(n, np.float32), np.empty(n, np.float32)
    order = np.argsort(latents_of, kind="stable")
    ascending = latents_of[order]
    latents: list[np.ndarray] = []
    for block in images.blocks(_BLOCK):
        said = model.predictions(block)
        rows = slice(done, done + len(block))
        labels[rows], confidence[rows] = said["proba"].argmax(1), said["proba"].max(1)
        score[rows], outlier[rows] = said["score"], said["outlier"]
        first, last = np.searchsorted(ascending, [rows.start, rows.stop])
        latents.append(said["latents"][ascending[first:last] - done])
        done += len(block)
        progress("applying the model", done, n)
    kept = np.concatenate(latents)
    return Totals(labels, confidence, score, outlier, said["proba"].shape[1], kept[np.argsort(order)])


def predict_images(model: ImageClusterer, images: ImageSet, progress: ProgressReport = no_progress) -> Predictions:
    """What a model says of every image, with a map of them; from the cache where it has been asked before.

    The cache is keyed by model and pixels. It keeps 2 GB of what was used last.

    Args:
        model: Any fitted estimator.
        images: Images of the shape that it was trained on.
        progress: Told how far it is.

    Returns:
        The same for the same model and pixels, bit for bit, on the same machine.

    Raises:
        DataError: the images do not have the shape of the training images.
    """
    progress("looking into the cache", 0, 0)
    cache, key = ArrayCache(cache_root() / "predictions", _MOST_BYTES), _key(model, images)
    found = cache.load(key) or {}
    names = {f.name for f in fields(Predictions)} - {"assigned"}
    if found.keys() == names and {len(array) for array in found.values()} == {len(images)}:
        return Predictions(**found)
    made = Predictions(**model.predictions(images, progress))
    made = replace(made, position=draw_map(joint_features(made.latents, made.proba), made.labels, progress))
    if is_main_process():
        cache.store(key, {name: getattr(made, name) for name in names})
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


def _key(model: ImageClusterer, images: ImageSet) -> str:
    contents = contents_of(model)
    settings = {name: value for name, value in contents.settings.items() if name != "reading"}  # pixels tell that
    known = [_VERSION, settings, images.fingerprint(), images.pixel_range]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for name, array in sorted(contents.tensors.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
