"""Pictures block by block: the same images as all at once, each opened once, memory that does not grow."""

import builtins
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from data_helpers import random_pixels
from PIL import Image

from clusterloom.data import load_images, stream_images
from clusterloom.data.stream import ahead, blocks_ahead
from clusterloom.errors import DataError
from clusterloom.pictures import png_bytes


def make_folder(folder, n=23):
    """Names whose order as paths is not that of the folders they are in."""
    for i in range(n):
        name = ("a-b/{}.png", "a/{}.png", "a.{}.png", "a/c/{}.PNG")[i % 4].format(i)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_pixels(12, 16, 3, seed=i)).save(folder / name)
    (folder / "notes.txt").write_text("x")
    (folder / ".hidden").mkdir()
    (folder / "ours.png").write_bytes(png_bytes(Image.new("RGB", (16, 12))))
    return folder


def joined(stream, size):
    blocks = list(stream.blocks(size))
    assert all(len(block) == size for block in blocks[:-1])
    return np.concatenate([block.images for block in blocks]), [id_ for block in blocks for id_ in block.ids]


@pytest.mark.parametrize("size", [1, 4, 23, 100])
def test_a_stream_is_what_loading_gives(tmp_path, size):
    folder = make_folder(tmp_path)
    loaded = load_images(folder, image_size=10)
    stream = stream_images(folder, (10, 10, 3))
    images, ids = joined(stream, size)
    np.testing.assert_array_equal(images, loaded.images)
    assert ids == loaded.ids
    assert stream.n_images == len(loaded)
    assert set(stream.notes) <= set(loaded.notes)


def test_tiles_and_deep_channels_are_streamed_alike(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for i in range(5):
        values = np.random.default_rng(i).integers(0, 4000, (4, 20 + 8 * i, 33)).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{i}.tif", values, photometric="minisblack")
    for options in ({"tile": 8}, {"image_size": (12, 12), "channels": (3, 1)}):
        loaded = load_images(tmp_path, **options)
        stream = stream_images(tmp_path, loaded.image_shape, **options, pixel_range=loaded.pixel_range)
        images, ids = joined(stream, 7)
        np.testing.assert_array_equal(images, loaded.images)
        assert ids == list(loaded.ids)


def test_each_picture_is_opened_once_and_nothing_is_kept(tmp_path, monkeypatch):
    folder, cache = make_folder(tmp_path / "pictures"), tmp_path / "cache"
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(cache))
    opened, real = [], builtins.open

    def counting(path, *arguments, **options):
        opened.append(str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(builtins, "open", counting)
    _, ids = joined(stream_images(folder, (10, 10, 3)), 8)
    pictures = [path for path in opened if path.lower().endswith(".png")]
    assert sorted(pictures) == sorted([*(str(folder / id_) for id_ in ids), str(folder / "ours.png")])
    assert not cache.exists()


def test_bad_pictures_stop_it_or_are_skipped(tmp_path):
    folder = make_folder(tmp_path, 6)
    (folder / "bad.png").write_bytes(b"x")
    (folder / "dead.png").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"2 of \d pictures cannot be read: dead\.png.*bad\.png: not one of"):
        list(stream_images(folder, (10, 10, 3)).blocks(4))
    stream = stream_images(folder, (10, 10, 3), skip_bad=True)
    assert len(joined(stream, 4)[1]) == 6
    assert any(note.startswith("2 skipped: ") for note in stream.notes)


def test_nothing_to_read_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="folder empty holds no pictures"):
        list(stream_images(tmp_path / "empty", (10, 10, 3)).blocks(4))
    (tmp_path / "empty" / "ours.png").write_bytes(png_bytes(Image.new("RGB", (16, 12))))
    with pytest.raises(DataError, match="no pictures but 1 that clusterloom itself wrote"):
        list(stream_images(tmp_path / "empty", (10, 10, 3)).blocks(4))


def test_eight_bits_and_others_do_not_mix_up(tmp_path):
    plain, deep = tmp_path / "plain", tmp_path / "deep"
    plain.mkdir(), deep.mkdir()
    Image.fromarray(random_pixels(8, 8)).save(plain / "a.png")
    Image.fromarray(random_pixels(8, 8).astype(np.uint16) * 100).save(deep / "a.png")
    with pytest.raises(DataError, match="holds pixels of 8 bits"):
        list(stream_images(plain, (8, 8, 1), pixel_range=(0.0, 9.0)).blocks(4))
    (plain / "b.png").write_bytes((deep / "a.png").read_bytes())
    with pytest.raises(DataError, match=r"1 of 2 pictures cannot be read: b\.png: its pixels are not of 8 bits"):
        list(stream_images(plain, (8, 8, 1)).blocks(4))
    assert [block.ids for block in stream_images(plain, (8, 8, 1), skip_bad=True).blocks(4)] == [["a.png"]]


def test_arrays_and_random_choices_are_loaded():
    assert stream_images("digits", (8, 8, 1)) is None
    assert stream_images(Path(), (8, 8, 1), limit=3) is None


def test_a_set_is_read_ahead_in_blocks():
    images = load_images("digits", limit=100)
    blocks = list(blocks_ahead(images, 32))
    assert [len(block) for block in blocks] == [32, 32, 32, 4]
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), images.images)
    assert [id_ for block in blocks for id_ in block.ids] == list(images.ids)
    assert all(block.images.flags.writeable for block in blocks)


def test_ahead_passes_errors_on_and_ends_with_its_reader():
    def broken():
        yield 1
        raise KeyError("here")

    items = ahead(broken(), 2)
    assert next(items) == 1
    with pytest.raises(KeyError, match="here"):
        next(items)
    closed, made = threading.Event(), []

    def endless():
        try:
            while True:
                made.append(len(made))
                yield len(made)
        finally:
            closed.set()

    items = ahead(endless(), 2)
    next(items)
    time.sleep(0.3)
    assert len(made) <= 4  # one was taken, two wait, one is in hand
    items.close()
    assert closed.wait(5)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

    content = png_bytes(Image.fromarray(random_pixels(64, 64, 3)), made=False)
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for i in range(400):
            (tmp_path / str(folder) / f"{i}.png").write_bytes(content)
    seen = [anonymous() for _ in stream_images(tmp_path, (64, 64, 3)).blocks(256)]
    assert len(seen) == 16
    assert max(seen[8:]) - max(seen[:8]) < 16  # MB; all 4,000 would take 49
