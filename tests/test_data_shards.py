"""Shards, lists of addresses and addresses: the same images from everywhere, ids that stay, nothing secret said."""

import gzip
import io
import json
import os
import sys
import tarfile
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from data_helpers import random_pixels
from PIL import Image

from clusterloom.cli.program import run
from clusterloom.data import (
    addresses,
    decoding,
    holds_pictures,
    load_images,
    parts_in,
    some_shards,
    source_folder,
    stream_images,
)
from clusterloom.data import cache as cache_module
from clusterloom.data.addresses import Address, read_address
from clusterloom.data.boundary import reason, without_secrets
from clusterloom.data.options import ReadOptions
from clusterloom.data.source_kind import kind_of
from clusterloom.errors import DataError, MissingPackageError

N, SHAPE = 12, (10, 12, 3)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))


def png(i):
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(*SHAPE, seed=i)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, rows, labels=True, mode="w"):
    with tarfile.open(path, mode) as tar:
        for i in rows:
            members = [(f"x/{i:03d}.png", png(i)), (f"x/{i:03d}.json", b"{}")]
            members += [(f"x/{i:03d}.cls", str(i % 3).encode())] if labels else []
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def write_parquet(path, values, labels=None):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    columns = {"image": values} if isinstance(values, list) else values
    pyarrow.parquet.write_table(pa.table(columns | ({"label": labels} if labels else {})), path, row_group_size=2)


def structs(rows):
    return [{"bytes": png(i), "path": f"{i}.png"} for i in rows]


def pixels(rows):
    return np.stack([random_pixels(*SHAPE, seed=i) for i in rows])


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def web_server(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def tars(tmp_path):
    folder = tmp_path / "tars"
    (folder / "more").mkdir(parents=True)
    write_tar(folder / "a.tar", range(5))
    write_tar(folder / "more" / "b.tar.gz", range(5, N), mode="w:gz")
    (folder / "README.md").write_text("x")
    return folder


TAR_IDS = [f"a.tar#x/{i:03d}.png" for i in range(5)] + [f"more/b.tar.gz#x/{i:03d}.png" for i in range(5, N)]


def test_a_folder_of_tars(tars):
    images = load_images(tars)
    assert list(images.ids) == TAR_IDS
    np.testing.assert_array_equal(images.images, pixels(range(N)))
    assert images.labels.tolist() == [i % 3 for i in range(N)]
    assert images.class_names == ("0", "1", "2")
    assert source_folder(tars) is None
    (tars / "a.tar").unlink()
    assert list(load_images(tars).ids) == TAR_IDS[5:]  # a shard that goes changes no other id
    alone = load_images(tars / "more" / "b.tar.gz")
    assert list(alone.ids) == [f"b.tar.gz#x/{i:03d}.png" for i in range(5, N)]


def test_shards_are_streamed_as_they_are_loaded(tars):
    stream = stream_images(tars, SHAPE)
    blocks = list(stream.blocks(5))
    assert [id_ for block in blocks for id_ in block.ids] == TAR_IDS
    np.testing.assert_array_equal(np.concatenate([block.images for block in blocks]), pixels(range(N)))


def test_what_a_source_is_is_told_alike_everywhere(tars, tmp_path, monkeypatch):
    monkeypatch.chdir(tars)
    (tmp_path / "list.TXT").write_text("x.png")
    kinds = {"": "nothing", ".": "folder", "a.tar": "parts", "../list.TXT": "parts", "README.md": "file"}
    kinds |= {"digits": "built-in", "https://host/a.PNG?key": "remote file", "s3://a/b.tar.gz": "parts"}
    assert {source: kind_of(source) for source in kinds} == kinds
    assert source_folder("") is None
    assert not holds_pictures("")
    for function in (load_images, parts_in, source_folder, holds_pictures):
        with pytest.raises(DataError, match="name too long"):
            function("x" * 1000)


def test_of_many_pictures_whole_shards_are_chosen(tmp_path):
    for shard in range(6):
        write_tar(tmp_path / f"{shard}.tar", range(5 * shard, 5 * shard + 5))
    every = parts_in(tmp_path)
    assert some_shards(every, 30) is every
    some, again = some_shards(every, 11), some_shards(parts_in(tmp_path), 11)
    images = load_images(some)
    shards = sorted({id_.partition("#")[0] for id_ in images.ids})
    assert len(images) == 15  # three shards: the third has the eleventh picture
    assert [part.id for part in again.parts()] == shards
    assert "3 of its 6 shards, chosen at random" in images.name
    rows = [5 * int(id_[0]) + int(id_[-7:-4]) % 5 for id_ in images.ids]
    np.testing.assert_array_equal(images.images, pixels(rows))
    assert len(load_images(tmp_path)) == 30  # another entry of the cache


def test_fit_reads_the_shards_that_it_visits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("clusterloom.estimators.guided.most_visited", lambda: 20)
    for shard in range(6):
        write_tar(tmp_path / f"{shard}.tar", range(5 * shard, 5 * shard + 5))
    knobs = ["-k", "2", "--set", "hidden_dim=8"]
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "all"), *knobs, "--set", "epochs=3"]) == 0
    assert ": 30 images of" in capsys.readouterr().err
    assert run(["fit", str(tmp_path), "--out", str(tmp_path / "some"), *knobs]) == 0
    assert "4 of its 6 shards, chosen at random: 20 images of" in capsys.readouterr().err


def test_a_limit_chooses_pictures_of_all_shards(tars):
    few = load_images(tars, limit=4)
    assert len(few) == 4
    assert set(few.ids) <= set(load_images(tars, limit=8).ids)
    rows = [TAR_IDS.index(id_) for id_ in few.ids]
    np.testing.assert_array_equal(few.images, pixels(rows))
    assert any("4 of 12 images chosen at random" in note for note in few.notes)


def test_a_folder_of_parquet_files_with_bytes_or_with_paths(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    write_parquet(folder / "0.parquet", structs(range(4)), labels=["cat", "dog", "cat", "dog"])
    write_parquet(folder / "1.parquet", {"image": [png(4), png(5)]}, labels=["dog", "cat"])
    (tmp_path / "p" / "away").mkdir()
    for i in (6, 7):
        (folder / "away" / f"{i}.bin").write_bytes(png(i))
    write_parquet(folder / "2.parquet", {"path": ["away/6.bin", "away/7.bin"]}, labels=["cat", "cat"])
    images = load_images(folder)
    assert list(images.ids) == [f"{n}.parquet#{r}" for n, rows in ((0, 4), (1, 2), (2, 2)) for r in range(rows)]
    np.testing.assert_array_equal(images.images, pixels(range(8)))
    assert "".join(images.class_names[label][0] for label in images.labels) == "cdcddccc"


@pytest.mark.parametrize(
    ("labels", "known"),
    [([0, 1, 1, 0], True), ([0, 1, -1, 0], False), ([[0], [1], [1], [0]], False)],
    ids=["names", "none", "lists"],
)
def test_labels_of_shards_are_those_of_one_file(tmp_path, labels, known):
    """Names of classes are told by Hugging Face's metadata; -1 is no label there, and several are none here."""
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"image": structs(range(4)), "label": labels})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    for path in (tmp_path / "one.parquet", tmp_path / "shards" / "0.parquet"):
        path.parent.mkdir(exist_ok=True)
        pyarrow.parquet.write_table(table, path)
    for images in (load_images(tmp_path / "one.parquet"), load_images(tmp_path / "shards")):
        assert images.class_names == (("cat", "dog") if known else ())
        assert (None if images.labels is None else images.labels.tolist()) == (labels if known else None)


def test_blocks_hold_few_large_pictures(monkeypatch):
    """In memory together are so many bytes, and not so many pictures."""
    monkeypatch.setattr(decoding, "_BLOCK_BYTES", 100)
    pictures = [decoding.Picture(str(i), b"x" * 40) for i in range(8)]
    blocks = decoding.in_threads(lambda picture: picture.id, pictures, "", 8, ReadOptions())
    assert [[found for _, found in block] for block in blocks] == [["0", "1", "2"], ["3", "4", "5"], ["6", "7"]]


def test_a_broken_a_missing_and_a_strange_shard_are_named(tars, tmp_path):
    whole = (tars / "more" / "b.tar.gz").read_bytes()
    (tars / "more" / "b.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tars / "c.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"more/b\.tar\.gz: the shard cannot be read: .*--skip-bad") as caught:
        load_images(tars)
    assert "c.parquet: the shard cannot be read" in str(caught.value)
    images = load_images(tars, skip_bad=True)
    assert TAR_IDS[:5] == list(images.ids)[:5]
    assert any("2 skipped" in note for note in images.notes)
    listing = tmp_path / "list.txt"
    listing.write_text(f"{tars}/a.tar\n{tars}/gone.tar\n{tars}/gone.png\n")
    with pytest.raises(DataError, match=r"2 of 7 pictures .*gone\.tar: the shard .*; .*gone\.png: No such"):
        load_images(listing)
    write_parquet(tars / "c.parquet", {"number": [1, 2]})
    with pytest.raises(DataError, match=r"c\.parquet: the shard cannot be read: .*expected a column 'image'"):
        load_images(tars)


@pytest.mark.parametrize("share", [0.1, 0.37, 0.5, 0.8, 0.97])
def test_a_plain_tar_that_ends_anywhere_is_named(tmp_path, share):
    write_tar(tmp_path / "whole.tar", range(8), labels=False)
    data = (tmp_path / "whole.tar").read_bytes()
    end = data.rindex(b"x/007.json") + 512
    (tmp_path / "whole.tar").unlink()
    (tmp_path / "cut.tar").write_bytes(data[: int(end * share) + 100])
    with pytest.raises(DataError, match=r"cut\.tar"):
        load_images(tmp_path)


def test_hostile_members_are_passed_over_or_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in ("../../up.png", "twice.png", "twice.png", ".hidden.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png(0))
            tar.addfile(info, io.BytesIO(png(0)))
    with pytest.raises(DataError, match=r"x\.tar#twice\.png: is in the tar file twice"):
        load_images(tmp_path)
    assert list(load_images(tmp_path, skip_bad=True).ids) == ["x.tar#../../up.png", "x.tar#twice.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_packed_fits_pictures_are_members_too(tmp_path):
    fits = pytest.importorskip("astropy.io.fits")
    buffer = io.BytesIO()
    fits.PrimaryHDU(random_pixels(*SHAPE[:2])).writeto(buffer)
    for suffix, content in ((".fits", buffer.getvalue()), (".FITS.gz", gzip.compress(buffer.getvalue()))):
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info = tarfile.TarInfo(f"x{suffix}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        images = load_images(tmp_path / "a.tar")
        assert list(images.ids) == [f"a.tar#x{suffix}"]
        assert images.images.any()


def test_pictures_beside_shards_are_what_a_folder_holds(tars):
    (tars / "own.png").write_bytes(png(3))
    images = load_images(tars)
    assert images.ids == ["own.png"]
    assert source_folder(tars) == tars


def test_an_edited_picture_of_a_list_is_read_anew(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "list.txt").write_text("0.png\n1.png")
    before = load_images(tmp_path / "list.txt").images
    (tmp_path / "0.png").write_bytes(png(7))
    after = load_images(tmp_path / "list.txt").images
    assert not np.array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])


def test_a_limit_counts_what_is_read(tmp_path):
    """Members with a dot before their name, as macOS adds them, are no pictures."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(6):
            for name in (f"{i}.png", f"._{i}.png"):
                info = tarfile.TarInfo(name)
                info.size = len(png(i))
                tar.addfile(info, io.BytesIO(png(i)))
    assert len(load_images(tmp_path / "a.tar", limit=4)) == 4


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "list.txt").write_text("0.png\npipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        load_images(tmp_path / "list.txt")


def test_a_list_of_paths_and_shards(tars, tmp_path):
    (tmp_path / "one.png").write_bytes(png(20))
    listing = tmp_path / "list.txt"
    listing.write_text("one.png\n\ntars/a.tar\n", encoding="utf-8-sig")
    images = load_images(listing)
    assert list(images.ids) == ["one.png", *(f"tars/{id_}" for id_ in TAR_IDS[:5])]
    np.testing.assert_array_equal(images.images, pixels([20, *range(5)]))
    assert len(next(stream_images(listing, SHAPE).blocks(100))) == 6
    listing.write_text("one.png\ntars/a.tar\none.png\n")
    with pytest.raises(DataError, match=r"list\.txt: one\.png is listed twice"):
        load_images(listing)
    listing.write_bytes(b"\x00\x01\x02")
    with pytest.raises(DataError, match=r"list\.txt"):
        load_images(listing)
    listing.write_text("\n")
    with pytest.raises(DataError, match="holds no addresses"):
        load_images(listing)


# Addresses


@pytest.fixture
def web(tars, tmp_path):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    folder = tmp_path / "photos" / "sub"
    folder.mkdir(parents=True)
    for i in range(4):
        (folder.parent / ("sub/" * (i > 1)) / f"{i}.png").write_bytes(png(i))
    np.save(tmp_path / "array.npy", pixels(range(4)))
    with web_server(tmp_path) as host:
        yield host


def test_pictures_shards_and_arrays_on_a_web_server(web, tars, tmp_path):
    photos = load_images(f"http://{web}/photos/")
    assert list(photos.ids) == ["0.png", "1.png", "sub/2.png", "sub/3.png"]
    np.testing.assert_array_equal(photos.images, pixels(range(4)))
    shards = load_images(f"http://{web}/tars/")
    assert list(shards.ids) == TAR_IDS
    assert shards.labels.tolist() == load_images(tars).labels.tolist()
    one = load_images(f"http://{web}/tars/a.tar")
    assert list(one.ids) == TAR_IDS[:5]
    np.testing.assert_array_equal(load_images(f"http://{web}/array.npy").images, pixels(range(4)))
    streamed = next(stream_images(f"http://{web}/tars/", SHAPE).blocks(100))
    np.testing.assert_array_equal(streamed.images, pixels(range(N)))


def test_copies_of_files_at_addresses_do_not_pile_up(web, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setenv("CLUSTERLOOM_CACHE_GB", "0.000003")  # 3 kB: three of the copies
    monkeypatch.setattr("clusterloom.data.cache._in_use", set())
    for i in range(4):
        np.save(tmp_path / "array.npy", pixels([i, i + 1]))
        os.utime(tmp_path / "array.npy", (i, i))  # another version to a web server
        assert len(load_images(f"http://{web}/array.npy", cache_dir=cache)) == 2
        cache_module._in_use.clear()  # as if each had been read by a process of its own
    copies = list((cache / "fetched").iterdir())
    assert len(copies) == 3
    (tmp_path / "list.txt").write_text("photos/0.png\n")
    load_images(f"http://{web}/list.txt", cache_dir=cache)
    assert not os.path.exists(os.path.join(os.environ["CLUSTERLOOM_CACHE"], "fetched"))


def test_parquet_on_a_web_server_with_pictures_elsewhere(web, tmp_path):
    write_parquet(tmp_path / "rows.parquet", {"url": ["photos/0.png", f"http://{web}/photos/1.png"]})
    images = load_images(f"http://{web}/rows.parquet")
    assert list(images.ids) == ["rows.parquet#0", "rows.parquet#1"]
    np.testing.assert_array_equal(images.images, pixels(range(2)))
    (tmp_path / "secret.png").write_bytes(png(9))
    with zipfile.ZipFile(tmp_path / "private.zip", "w") as archive:
        archive.writestr("a.png", png(9))
    secrets = [f"file://{tmp_path}/secret.png", f"local://{tmp_path}/secret.png", f"{tmp_path}/secret.png"]
    secrets += [f"zip://a.png::{tmp_path}/private.zip", f"ZIP://a.png::file://{tmp_path}/private.zip"]
    secrets += [f"simplecache::file://{tmp_path}/secret.png", f"photos/0.png::file://{tmp_path}/secret.png"]
    for secret in secrets:
        write_parquet(tmp_path / "evil.parquet", {"url": [secret]})
        with pytest.raises(DataError, match=r"evil\.parquet#0: not one of the formats"):
            load_images(f"http://{web}/evil.parquet")
        (tmp_path / "local").mkdir(exist_ok=True)
        (tmp_path / "evil.parquet").rename(tmp_path / "local" / "evil.parquet")
        with pytest.raises(DataError, match=r"evil\.parquet#0: "):
            load_images(tmp_path / "local")


def test_a_list_of_addresses_here_and_there(web, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"http://{web}/photos/0.png?size=1\nphotos/1.png\nhttp://{web}/tars/a.tar\n")
    images = load_images(listing)
    assert list(images.ids)[:2] == [f"http://{web}/photos/0.png", "photos/1.png"]
    assert len(images) == 7
    there = load_images(f"http://{web}/list.txt")
    np.testing.assert_array_equal(there.images, images.images)
    assert list(there.ids) == list(images.ids)


def test_addresses_that_differ_in_their_query_alone(web, tmp_path):
    listing, base = tmp_path / "list.txt", f"http://{web}"
    lines = [f"{base}/photos/0.png?key={i}" for i in range(2)] + [f"{base}/photos/1.png?key=2"]
    lines += [f"{base}/tars/a.tar?part={i}" for i in range(2)]
    listing.write_text("\n".join(lines))
    ids = list(load_images(listing).ids)
    shown = [f"{base}/photos/0.png~"] * 2 + [f"{base}/photos/1.png"] + [f"{base}/tars/a.tar~"] * 10
    assert all(id_.startswith(start) for id_, start in zip(ids, shown, strict=True))
    assert len(set(ids)) == 13
    assert not any("key" in id_ or "part" in id_ for id_ in ids)
    listing.write_text("\n".join(reversed(lines)))
    assert set(load_images(listing).ids) == set(ids)
    listing.write_text("\n".join([*lines, lines[1]]))
    with pytest.raises(DataError, match=r"photos/0\.png is listed twice; remove one"):
        load_images(listing)


def test_what_is_not_there_is_one_line_without_secrets(web, tmp_path, capsys):
    secret = f"http://me:hunter2@{web}"
    for address, text in (
        (f"{secret}/gone/?token=abc", f"http://{web}/gone/"),
        (f"{secret}/gone.npy?token=abc", f"http://{web}/gone.npy"),
        (f"{secret}/gone.tar?token=abc", f"http://{web}/gone.tar"),
        ("http://me:hunter2@127.0.0.1:1/x/?token=abc", "http://127.0.0.1:1/x/ cannot be read"),
    ):
        assert run(["fit", address, "-o", str(tmp_path / "m")]) == 2
        said = "".join(capsys.readouterr())
        assert text in said
        assert "hunter2" not in said
        assert "abc" not in said
        assert said.count("\n") == 1
    listing = tmp_path / "list.txt"
    listing.write_text(f"http://{web}/photos/0.png\n{secret}/gone.png?token=abc\n")
    assert run(["fit", str(listing), "-o", str(tmp_path / "m")]) == 2
    said = "".join(capsys.readouterr())
    assert f"1 of 2 pictures cannot be read: http://{web}/gone.png: there is nothing" in said
    assert "hunter2" not in said
    assert "abc" not in said


def test_secrets_are_not_stored_with_the_model_either(web, tmp_path, capsys):
    address, model = f"http://{web}/tars/a.tar?token=xyzzy", tmp_path / "m"  # no hash has these letters
    arguments = ["--method", "vae", "-k", "2", "--set", "epochs=1"]
    assert run(["fit", address, "-o", str(model), *arguments]) == 0
    for file in model.iterdir():
        assert b"xyzzy" not in file.read_bytes() or file.suffix == ".safetensors"
    assert json.loads((model / "config.json").read_text())["about"]["data"] == f"http://{web}/tars/a.tar"
    assert run(["predict", str(model), address]) == 0
    said = capsys.readouterr()
    assert "xyzzy" not in said.out + said.err
    assert [line.split(",")[0] for line in said.out.splitlines()[1:]] == TAR_IDS[:5]


def test_protocols_that_are_unknown_or_not_installed_are_named(monkeypatch):
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match=r"nosuch://x/y cannot be read: Protocol not known"):
        load_images("nosuch://x/y")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(MissingPackageError, match=r"s3:// addresses need another package .*clusterloom\[remote\]"):
        load_images("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingPackageError, match=r"^addresses need fsspec: pip install 'clusterloom\[remote\]'$"):
        load_images("http://127.0.0.1:1/x")


def test_words_of_libraries_lose_their_secrets():
    assert reason(ValueError("403 for url s3://key:secret@bucket/x?X-Amz-Signature=1")) == "403 for url s3://bucket/x"
    assert without_secrets("a?b#c @d") == "a?b#c @d"


@pytest.fixture(scope="module")
def bucket():
    """An S3-compatible server on loopback: moto's, in this process."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "k", "secret": "hunter2", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "k")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        system = s3fs.S3FileSystem(**options)
        system.mkdir("cats")
        yield system
    server.stop()


def test_pictures_and_shards_in_a_bucket(bucket, tars, tmp_path):
    for i in range(3):
        bucket.pipe(f"cats/photos/{i}.png", png(i))
    for path in ("a.tar", "more/b.tar.gz"):
        bucket.pipe(f"cats/shards/{path}", (tars / path).read_bytes())
    write_parquet(tmp_path / "x.parquet", structs(range(3)))
    bucket.pipe("cats/rows/x.parquet", (tmp_path / "x.parquet").read_bytes())
    photos = load_images("s3://cats/photos")
    assert list(photos.ids) == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(photos.images, pixels(range(3)))
    assert list(load_images("s3://cats/shards").ids) == TAR_IDS
    streamed = next(stream_images("s3://cats/shards", SHAPE).blocks(100))
    np.testing.assert_array_equal(streamed.images, pixels(range(N)))
    np.testing.assert_array_equal(load_images("s3://cats/rows/x.parquet").images, pixels(range(3)))
    bucket.pipe("cats/photos/2.png", png(7))  # an object that changes is read anew
    bucket.invalidate_cache()
    np.testing.assert_array_equal(load_images("s3://cats/photos").images, pixels([0, 1, 7]))
    for address, text in (("s3://cats/none", "there is nothing at s3://cats/none"), ("s3://nobody/x", "s3://nobody/x")):
        with pytest.raises(DataError, match=text) as caught:
            load_images(address)
        assert "hunter2" not in str(caught.value)


def test_tables_and_checkpoints_in_a_bucket(bucket, tars, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    for path in ("a.tar", "more/b.tar.gz"):
        bucket.pipe(f"cats/all/{path}", (tars / path).read_bytes())
    quick = ["--method", "convvae", "-k", "3", "--set", "hidden_dim=8", "--set", "latent_dim=2", "-q"]
    fit = ["fit", "s3://cats/all", "--out", str(tmp_path / "model"), "--checkpoints", "s3://cats/run", *quick]
    stop = pytest.MonkeyPatch()
    stop.setattr("clusterloom.training.plan.TrainingPlan.is_over", stopped_after(2))
    with stop.context():
        assert run([*fit, "--set", "epochs=4"]) == 130
    stop.undo()
    assert bucket.ls("cats/run", refresh=True) == ["cats/run/clusterloom-checkpoint.safetensors"]
    assert run([*fit, "--set", "epochs=4"]) == 2  # an unfinished run is there
    assert run([*fit, "--set", "epochs=4", "--resume"]) == 0
    bucket.invalidate_cache()
    assert not bucket.exists("cats/run/clusterloom-checkpoint.safetensors")
    for _ in range(2):
        assert run(["predict", str(tmp_path / "model"), "s3://cats/all", "s3://cats/tables", "-q"]) == 0
    found = sorted(bucket.find("cats/tables", refresh=True))
    names = ("_manifest.json", "a.tar.parquet", "more/b.tar.gz.parquet")
    assert found == [f"cats/tables/{name}" for name in names]
    rows = [row for path in found[1:] for row in pq.read_table(bucket.open(path)).to_pylist()]
    assert [row["id"] for row in rows] == TAR_IDS


def stopped_after(n_epochs):
    """As `TrainingPlan.is_over`, but interrupted after so many epochs."""

    def is_over(plan, history):
        if len(history) == n_epochs:
            raise KeyboardInterrupt
        return len(history) >= plan.epochs

    return is_over


@pytest.mark.parametrize("protocol", ["memory", "file", "zip"])
def test_of_a_huge_picture_at_an_address_no_more_is_read_than_may_be(protocol, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(addresses, "_MAX_PICTURE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, size in (("most.png", 1000), ("huge.png", 5000)):
            (tmp_path / name).write_bytes(bytes(size))
            fsspec.filesystem("memory").pipe(str(tmp_path / name), bytes(size))
            archive.write(tmp_path / name, name)
    folder = f"zip://%s::file://{tmp_path}/a.zip" if protocol == "zip" else f"{protocol}://{tmp_path}/%s"
    system, read = fsspec.get_filesystem_class(protocol), []
    cat_file = system.cat_file
    monkeypatch.setattr(system, "cat_file", lambda *a, **k: read.append(cat_file(*a, **k)) or read[-1])
    assert read_address(Address(folder % "most.png")) == bytes(1000)
    with pytest.raises(DataError, match="has more than 1 GB"):
        read_address(Address(folder % "huge.png"))
    assert [len(content) for content in read] == [1000, 1001]


def test_a_folder_that_a_web_server_cannot_list_is_not_passed_over(web, tmp_path):
    (tmp_path / "photos" / "locked").mkdir()
    (tmp_path / "photos" / "locked" / "9.png").write_bytes(png(9))
    real = Quiet.list_directory

    def refuse(self, path):
        return self.send_error(500) if "locked" in str(path) else real(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quiet, "list_directory", refuse)
        with pytest.raises(DataError, match=r"photos/ cannot be read: 500"):
            load_images(f"http://{web}/photos/")
    assert len(load_images(f"http://{web}/photos/")) == 5
