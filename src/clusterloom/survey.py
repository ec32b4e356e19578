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

from clusterloom.console import is_main_process
from clusterloom.data import ImageSet
from clusterloom.data.cache import cache_root
from clusterloom.errors import SettingsError
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.persistence import to_bundle
from clusterloom.files import write_atomically
from clusterloom.map_layout import draw_map

_VERSION = 4  # part of every key: raise it when the map is drawn in another way
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
    said = model.predictions(images)
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
