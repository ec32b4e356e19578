"""Built-in data sets: digits by known values; fetching with small stand-ins, and for real with `-m network`."""

import gzip
import hashlib
import pickle
import struct
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from data_helpers import random_pixels
from sklearn.datasets import load_digits

from clusterloom.data import BUILTIN, builtin, downloads, fetch, load_images
from clusterloom.data.downloads import IDX_NAMES, Arrays, Source
from clusterloom.errors import DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small(monkeypatch):
    """A stand-in of six training and two test images whose hashes are the pinned ones."""
    labels = np.array([5, 0, 4, 1, 9, 2, 7, 2], np.uint8)
    images = random_pixels(8, 28, 28)
    arrays = Arrays(images[:6], labels[:6], images[6:], labels[6:])
    hashes = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays)
    monkeypatch.setattr(builtin, "HASHES", {"mnist": hashes, "fashion-mnist": hashes})
    for module in (builtin, downloads):
        monkeypatch.setattr(module, "N_TRAIN", 6)
    monkeypatch.setattr(downloads, "N_TEST", 2)
    monkeypatch.setattr(downloads, "_DEBIAN_FOLDER", Path("/nowhere"))
    return arrays


def offer(monkeypatch, *offers):
    """Let the only sources be these: arrays to give, or exceptions to raise."""

    def getter(what):
        def get():
            if isinstance(what, Exception):
                raise what
            return what

        return get

    listed = [Source(f"source {i}", getter(what)) for i, what in enumerate(offers)]
    monkeypatch.setattr(builtin, "list_sources", lambda dataset, by_hand, progress: listed)


@contextmanager
def served(folder):
    """The address of a web server that offers a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def write_idx_files(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    in_file_order = (arrays.train_images, arrays.train_labels, arrays.test_images, arrays.test_labels)
    for name, array in zip(IDX_NAMES, in_file_order, strict=True):
        content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)


def test_digits_are_scaled_from_16_to_255():
    images = load_images("digits")
    raw = load_digits()
    assert images.images.shape == (1797, 8, 8, 1)
    assert (images.images[0, 0, 2, 0], raw.images[0, 0, 2]) == (80, 5)  # 5 * 255 / 16 = 79.7
    np.testing.assert_array_equal(images.images[..., 0], np.floor(raw.images * 255 / 16 + 0.5))
    np.testing.assert_array_equal(images.labels, raw.target)
    assert images.class_names == tuple("0123456789")


def test_unfetched_sets_name_the_command():
    for name in BUILTIN[1:]:
        with pytest.raises(DataError, match=f"run: clusterloom data fetch {name.split(':')[0]}"):
            load_images(name)


@pytest.mark.parametrize("name", ["digits", "cifar10", "mnist:valid", ""])
def test_only_some_sets_can_be_fetched(name):
    with pytest.raises(DataError, match="not a data set to fetch; expected one of: mnist, fashion-mnist"):
        fetch(name)


def test_fetched_arrays_are_stored_and_split(monkeypatch, small, cache):
    offer(monkeypatch, small)
    assert fetch("mnist") == cache / "datasets" / "mnist"
    whole, train, test = (load_images(name) for name in ("mnist", "mnist:train", "mnist:test"))
    assert isinstance(whole.images, np.memmap)
    np.testing.assert_array_equal(whole.images[..., 0], np.concatenate([small.train_images, small.test_images]))
    np.testing.assert_array_equal(train.images[..., 0], small.train_images)
    np.testing.assert_array_equal(test.images[..., 0], small.test_images)
    assert whole.labels.tolist() == [5, 0, 4, 1, 9, 2, 7, 2]
    assert test.labels.tolist() == [7, 2]
    assert list(test.ids) == ["0", "1"]


def test_names_of_garments(monkeypatch, small):
    offer(monkeypatch, small)
    fetch("fashion-mnist")
    images = load_images("fashion-mnist:train", limit=3)
    assert len(images) == 3
    assert load_images("fashion-mnist").class_names[9] == "Ankle boot"


def test_sources_are_tried_in_turn_until_the_hashes_match(monkeypatch, small):
    wrong = small._replace(test_labels=small.test_labels[::-1].copy())
    offer(monkeypatch, OSError(101, "Network is unreachable"), wrong, small, RuntimeError("never asked"))
    lines = []
    fetch("mnist", tell=lines.append)
    text = "\n".join(lines)
    assert "Network is unreachable" in text
    assert "the test labels have another SHA-256" in text
    assert "source 3" not in text
    assert load_images("mnist").labels[-1] == 2


def test_all_sources_and_their_failures_are_named_on_one_line(monkeypatch, small, cache):
    offer(monkeypatch, OSError(101, "Network is unreachable"), ValueError("two\nlines"))
    with pytest.raises(DataError) as caught:
        fetch("mnist")
    message = str(caught.value)
    assert "source 0: Network is unreachable; source 1: two)" in message
    assert f"{cache / 'datasets' / 'mnist-files'}" in message
    assert all(name in message for name in IDX_NAMES)
    assert message.isprintable()
    assert not (cache / "datasets" / "mnist").exists()


def test_a_second_fetch_asks_no_source(monkeypatch, small):
    offer(monkeypatch, small)
    folder = fetch("mnist")
    offer(monkeypatch)
    assert fetch("mnist:test") == folder


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_damaged_sets_are_not_loaded_and_can_be_fetched_again(monkeypatch, small, file):
    offer(monkeypatch, small)
    path = fetch("mnist") / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match="not there yet, or damaged"):
        load_images("mnist")
    fetch("mnist")
    assert path.read_bytes() == content


@pytest.mark.parametrize("packed", [True, False])
def test_files_placed_by_hand_come_first(monkeypatch, small, cache, packed):
    monkeypatch.setattr(downloads, "_from_mirror", lambda *_: pytest.fail("asked a mirror"))
    write_idx_files(cache / "datasets" / "mnist-files", small, packed)
    fetch("mnist")
    assert load_images("mnist").labels.tolist() == [5, 0, 4, 1, 9, 2, 7, 2]


def test_files_of_the_debian_package_are_used_where_they_are(monkeypatch, small, tmp_path):
    monkeypatch.setattr(downloads, "_from_mirror", lambda *_: pytest.fail("asked a mirror"))
    monkeypatch.setattr(downloads, "_DEBIAN_FOLDER", tmp_path / "debian")
    write_idx_files(tmp_path / "debian", small)
    fetch("fashion-mnist")
    assert len(load_images("fashion-mnist")) == 8


def test_mirrors_are_downloaded(monkeypatch, small, tmp_path):
    write_idx_files(tmp_path / "mirror", small)
    with served(tmp_path) as address:
        monkeypatch.setitem(downloads._MIRRORS, "mnist", (f"{address}/none/", f"{address}/mirror/"))
        lines, seen = [], []
        fetch("mnist", tell=lines.append, progress=lambda what, done, total: seen.append((what, done, total)))
    assert any("404" in line for line in lines)
    size = (tmp_path / "mirror" / f"{IDX_NAMES[0]}.gz").stat().st_size
    assert (f"fetching {address}/mirror/{IDX_NAMES[0]}.gz", size, size) in seen
    np.testing.assert_array_equal(load_images("mnist:test").images[..., 0], small.test_images)


def test_downloads_have_a_bound(monkeypatch, small, tmp_path):
    write_idx_files(tmp_path / "mirror", small)
    monkeypatch.setattr(downloads, "_MAX_DOWNLOAD_BYTES", 1000)
    with served(tmp_path) as address, pytest.raises(DataError, match="too slow or too large"):
        downloads._from_mirror(f"{address}/mirror/")


def test_a_wheel_with_another_pickle_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps([1])))
    with pytest.raises(DataError, match="another SHA-256"):
        downloads._read_mnist_wheel(tmp_path / "a.whl")


def test_wheel_of_float_pixels(monkeypatch, tmp_path):
    """Pixels divided by 256 come back exactly."""
    pixels, labels = random_pixels(30, 28, 28), np.arange(30) % 10
    flat = (pixels.reshape(30, -1) / 256).astype(np.float32)
    pairs = tuple((flat[rows], labels[rows]) for rows in (slice(0, 10), slice(10, 20), slice(20, 30)))
    packed = gzip.compress(pickle.dumps(pairs, 3))
    monkeypatch.setattr(downloads, "_PICKLE_SHA256", hashlib.sha256(packed).hexdigest())
    monkeypatch.setattr(downloads, "_LEAST_BODY", 80)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", packed)
    arrays = downloads._read_mnist_wheel(tmp_path / "a.whl")
    np.testing.assert_array_equal(arrays.train_images, pixels[:20])
    np.testing.assert_array_equal(arrays.test_images, pixels[20:])
    assert (arrays.train_labels.tolist(), arrays.test_labels.tolist()) == ([*range(10)] * 2, [*range(10)])


def test_the_pickle_in_the_wheel_is_not_run(monkeypatch, tmp_path):
    """Even one with the right hash is only taken apart."""

    class Explosive:
        def __reduce__(self):
            return exec, ("raise SystemExit('a pickle ran')",)

    packed = gzip.compress(pickle.dumps([Explosive()] * 3))
    monkeypatch.setattr(downloads, "_PICKLE_SHA256", hashlib.sha256(packed).hexdigest())
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("mnist/data/mnist.pkl.gz", packed)
    with pytest.raises(ValueError, match="need at least one array"):
        downloads._read_mnist_wheel(tmp_path / "a.whl")


def test_failing_commands_are_reported_by_their_last_line(tmp_path):
    with pytest.raises(DataError, match="sh: E: no such package"):
        downloads._run(["sh", "-c", "echo warning >&2; echo 'E: no such package' >&2; exit 1"], str(tmp_path))


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "pixel_mean", "first_labels"),
    [("mnist", 33.386, [5, 0, 4, 1, 9]), ("fashion-mnist", 72.970, [9, 0, 0, 3, 0])],
)
def test_the_real_sets(name, pixel_mean, first_labels):
    fetch(name)
    images = load_images(name)
    assert images.images.shape == (70_000, 28, 28, 1)
    assert images.images.mean() == pytest.approx(pixel_mean, abs=1e-3)
    assert images.labels[:5].tolist() == first_labels
    assert (len(load_images(f"{name}:train")), len(load_images(f"{name}:test"))) == (60_000, 10_000)


@pytest.mark.network
@pytest.mark.parametrize(
    ("dataset", "get"), [("mnist", downloads._from_python_package), ("fashion-mnist", downloads._from_debian_package)]
)
def test_the_packages_alone(dataset, get):
    if dataset == "fashion-mnist" and not downloads.shutil.which("apt-get"):
        pytest.skip("not a Debian system")
    builtin._check_hashes(get(), builtin.HASHES[dataset])
