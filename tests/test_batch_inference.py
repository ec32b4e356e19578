"""Tables of shards: one for each, whole or not at all, by any number of processes, and of one model alone."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from data_helpers import random_pixels
from PIL import Image

from clusterloom import ConvVAEClusterer
from clusterloom.batch_inference.units import read_share, units_of
from clusterloom.cli.program import run
from clusterloom.data import load_images, parts_in
from clusterloom.errors import DataError, SettingsError

pq = pytest.importorskip("pyarrow.parquet")

EACH = 7  # pictures in a shard
QUICK = {"hidden_dim": 8, "latent_dim": 2, "epochs": 1, "device": "cpu", "precision": "fp32"}


def png(i):
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(8, 8, seed=i)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, rows):
    with tarfile.open(path, "w") as tar:
        for i in rows:
            info = tarfile.TarInfo(f"{i:03d}.png")
            info.size = len(png(i))
            tar.addfile(info, io.BytesIO(png(i)))


def write_shards(folder, n):
    (folder / "more").mkdir(parents=True)
    for shard in range(n):
        name = f"more/{shard}.tar" if shard % 3 == 2 else f"{shard}.tar"
        write_tar(folder / name, range(shard * EACH, (shard + 1) * EACH))
    return folder


def new_model(path, seed):
    images = random_pixels(24, 8, 8, 1, seed=99)
    ConvVAEClusterer(3, random_state=seed, **QUICK).fit(images).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return new_model(tmp_path_factory.mktemp("model") / "m", 0)


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards", 5)


def ids_in(folder):
    tables = [path for path in Path(folder).rglob("*.parquet") if not path.name.startswith(".")]
    return Counter(id_ for path in tables for id_ in pq.read_table(path).column("id").to_pylist())


def predict(model, data, out, *more):
    return run(["predict", str(model), str(data), str(out), "-q", *more])


def test_a_table_for_each_shard_says_what_one_table_says(model, shards, tmp_path):
    assert predict(model, shards, tmp_path / "out") == 0
    assert run(["predict", str(model), str(shards), "-o", str(tmp_path / "all.parquet"), "-q"]) == 0
    whole = pq.read_table(tmp_path / "all.parquet").to_pylist()
    tables = ["0.tar", "1.tar", "3.tar", "4.tar", "more/2.tar"]
    found = [row for table in tables for row in pq.read_table(tmp_path / "out" / f"{table}.parquet").to_pylist()]
    assert sorted(found, key=lambda row: row["id"]) == sorted(whole, key=lambda row: row["id"])
    assert len(found) == 5 * EACH


def test_the_same_command_again_makes_what_is_missing(model, shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(model, shards, out, "--shard", "1/2") == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert len(before) == 2
    (out / ".0.tar.parquet.clusterloom-0123abcd").write_bytes(b"of a process that was killed")
    capsys.readouterr()
    assert predict(model, shards, out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["done"], said["there_already"], said["images"]) == (3, 2, 3 * EACH)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(ids_in(out).values()) == {1}
    assert len(ids_in(out)) == 5 * EACH
    assert predict(model, shards, out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == 0


def test_a_file_is_no_folder_for_tables_and_links_are_not_for_them(model, shards, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    for more, why in (
        ([tmp_path / "file"], "file is not a folder; choose another"),
        ([tmp_path / "file" / "out"], "file is not a folder; choose another"),
        ([tmp_path / "out", "--link"], "OUT_FOLDER does without --out, --sort-into, --link,"),
    ):
        assert predict(model, shards, *more) == 2
        assert why in capsys.readouterr().err


def test_another_model_is_refused(model, shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(model, shards, out, "--shard", "0/2") == 0
    assert predict(new_model(tmp_path / "other", 1), shards, out) == 2
    said = capsys.readouterr().err
    assert "holds predictions of another model" in said
    assert said.count("\n") == 1
    assert len(ids_in(out)) == 3 * EACH


def test_other_data_or_reading_is_refused(model, shards, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(model, shards, out) == 0
    assert predict(model, write_shards(tmp_path / "new", 1), out) == 2
    assert predict(model, shards, out, "--skip-bad") == 0  # tables that are there left nothing out
    assert predict(model, shards, out, "--tile", "4") == 2
    said = capsys.readouterr().err
    assert "with the data " in said
    assert 'with the reading {"' in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x.parquet").write_bytes(b"x")
    assert predict(model, shards, tmp_path / "full") == 2
    assert "holds x.parquet and no _manifest.json" in capsys.readouterr().err


def test_a_broken_and_a_missing_shard_are_named_and_the_others_made(model, shards, tmp_path, capsys):
    (shards / "1.tar").write_bytes((shards / "1.tar").read_bytes()[:1300])
    names = [str(shards / name) for name in ("0.tar", "1.tar", "more/2.tar", "gone.tar")]
    (tmp_path / "list.txt").write_text("\n".join(names))
    out = tmp_path / "out"
    assert predict(model, tmp_path / "list.txt", out) == 2
    said = capsys.readouterr().err
    assert "1.tar: the shard cannot be read" in said
    assert "gone.tar: the shard cannot be read: No such file" in said
    assert said.count("\n") == 1
    assert len(ids_in(out)) == 2 * EACH
    for shard, rows in (("1.tar", range(EACH, 2 * EACH)), ("gone.tar", range(90, 90 + EACH))):
        write_tar(shards / shard, rows)
    assert predict(model, tmp_path / "list.txt", out) == 0
    assert set(ids_in(out).values()) == {1}
    assert len(ids_in(out)) == 4 * EACH


def test_an_empty_shard_has_an_empty_table(model, shards, tmp_path):
    write_tar(shards / "0.tar", [])
    assert predict(model, shards, tmp_path / "out") == 0
    empty, full = (pq.read_schema(tmp_path / "out" / f"{i}.tar.parquet") for i in (0, 1))
    assert empty.equals(full)
    assert len(ids_in(tmp_path / "out")) == 4 * EACH


def test_a_shard_of_8_bits_in_a_set_that_has_others_too(tmp_path):
    folder, model = tmp_path / "shards", tmp_path / "m"
    folder.mkdir()
    for name, gain in (("8.tar", 1), ("16.tar", 100)):
        with tarfile.open(folder / name, "w") as tar:
            for i in range(EACH):
                pixels, buffer = random_pixels(8, 8, seed=i), io.BytesIO()
                Image.fromarray(pixels if gain == 1 else pixels.astype("uint16") * gain).save(buffer, "PNG")
                info = tarfile.TarInfo(f"{i}.png")
                info.size = len(buffer.getvalue())
                tar.addfile(info, io.BytesIO(buffer.getvalue()))
    arguments = ["--method", "vae", "-k", "2", "--set", "epochs=1", "-q"]
    assert run(["fit", str(folder), "-o", str(model), *arguments]) == 0
    assert run(["predict", str(model), str(folder), "-o", str(tmp_path / "all.csv"), "-q"]) == 0
    assert predict(model, folder, tmp_path / "out") == 0
    assert len(ids_in(tmp_path / "out")) == 2 * EACH


def test_pictures_of_a_list_are_taken_together(model, tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.batch_inference.units._PICTURES", 4)
    for i in range(10):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "list.txt").write_text("\n".join(f"{i}.png" for i in range(10)))
    assert predict(model, tmp_path / "list.txt", tmp_path / "out") == 0
    sizes = [len(pq.read_table(tmp_path / "out" / f"pictures-{i:05d}.parquet")) for i in range(3)]
    assert sizes == [4, 4, 2]
    assert list(ids_in(tmp_path / "out")) == [f"{i}.png" for i in range(10)]
    (tmp_path / "10.png").write_bytes(png(10))
    (tmp_path / "list.txt").write_text("\n".join(f"{i}.png" for i in range(11)))
    assert predict(model, tmp_path / "list.txt", tmp_path / "out") == 2  # a table has so many in their order


def test_what_is_left_out_is_said(model, tmp_path, capsys):
    (tmp_path / "0.png").write_bytes(png(0))
    (tmp_path / "1.png").write_bytes(png(1)[:60])
    (tmp_path / "list.txt").write_text("0.png\n1.png")
    assert run(["predict", str(model), str(tmp_path / "list.txt"), str(tmp_path / "out"), "--skip-bad"]) == 0
    assert "left out: 1, the first 1.png: " in capsys.readouterr().err.replace("\n", " ")
    assert list(ids_in(tmp_path / "out")) == ["0.png"]


def test_tables_at_an_address(model, shards):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    try:
        assert predict(model, shards, "memory://bucket/out", "--shard", "0/2") == 0
        assert predict(model, shards, "memory://bucket/out") == 0
        tables = memory.glob("/bucket/out/**/*.parquet")
        assert len(tables) == 5
        ids = Counter(i for path in tables for i in pq.read_table(memory.open(path)).column("id").to_pylist())
        assert len(ids) == 5 * EACH == sum(ids.values())
        assert json.loads(memory.cat("/bucket/out/_manifest.json"))["clusterloom_predictions"] == 1
    finally:
        memory.rm("/bucket", recursive=True)


def test_tables_are_no_data(model, shards, tmp_path):
    assert predict(model, shards, shards / "tables") == 0
    assert len(load_images(shards)) == 5 * EACH
    table = shards / "clusters.parquet"
    assert run(["predict", str(model), str(shards), "-o", str(table), "-q"]) == 0
    assert len(ids_in(table.parent)) == 5 * EACH
    images = load_images(shards)
    assert len(images) == 5 * EACH
    assert "1 parquet files that clusterloom itself wrote left out" in images.notes
    assert run(["predict", str(model), str(shards), "-o", str(table), "-q", "--overwrite"]) == 0
    assert run(["export", str(model), str(shards), "--to", "atlas", "-o", str(shards / "atlas.parquet"), "-q"]) == 0
    assert len(load_images(shards)) == 5 * EACH
    assert len(load_images(shards / "atlas.parquet")) == 5 * EACH  # whoever names it means it
    assert predict(model, shards, tmp_path / "out") == 0
    assert len(list((tmp_path / "out").rglob("*.parquet"))) == 5
    for shard in shards.rglob("*.tar"):
        shard.unlink()
    with pytest.raises(DataError, match="no shards but 2 parquet files that clusterloom itself wrote"):
        load_images(shards)


def test_what_goes_without_each_other(model, shards, tmp_path, capsys, monkeypatch):
    assert run(["predict", str(model), str(shards), "--shard", "0/2"]) == 2
    assert predict(model, shards, tmp_path / "out", "-o", "x.csv") == 2
    assert predict(model, "digits", tmp_path / "out") == 2
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert predict(model, shards, tmp_path / "out") == 2
    said = capsys.readouterr().err
    for text in ("need OUT_FOLDER", "does without --out", "digits has no shards", "by --shard I/N"):
        assert text in said
    for text in ("8/8", "1", "a/b", "-1/2", "0/0"):
        with pytest.raises(SettingsError, match="such as 0/8 for the first of eight"):
            read_share(text)


def test_two_shards_with_one_table_are_refused(shards, tmp_path):
    write_tar(shards / "x.tar", [1])
    (shards / "x.tar.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.tar and x\.tar\.parquet would both be x\.tar\.parquet"):
        list(units_of(parts_in(shards)))
    write_tar(tmp_path / "pictures-00000.tar", [1])
    (tmp_path / "pictures-00000.tar").rename(tmp_path / "pictures-00000.parquet")
    (tmp_path / "list.txt").write_text("a.png\npictures-00000.parquet")
    with pytest.raises(DataError, match=r"would both be pictures-00000\.parquet"):
        list(units_of(parts_in(tmp_path / "list.txt")))
