"""Tables: what is written is what is read, nothing is lost, and nothing is replaced unasked."""

import csv
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterloom.data.ids import RowIds, decode_id, encode_id
from clusterloom.errors import DataError
from clusterloom.tables import check_table_target, prediction_columns, read_labels, write_table

# Whatever a file system may give: any byte but NUL and the slash between names, as Python decodes it.
NAMES = st.binary(min_size=1, max_size=12).map(lambda name: os.fsdecode(name.replace(b"\0", b"\\")))
HARD = [
    "a\nb",
    r"a\nb",
    "a\\\nb",
    "\x1b[31m",
    "\u202egnp.exe",
    os.fsdecode(b"\xff"),
    r"\udcff",
    "\ufeffid",
    ' "a", b',
    "",
]


def columns(ids):
    return {"id": ids, "label": [f"class {i}" for i in range(len(ids))], "score": np.arange(len(ids)) / 7}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=20, unique=True))
def test_any_file_name_goes_to_a_table_and_back_and_no_two_become_one(suffix, names, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / f"labels.{suffix}"
    write_table(columns(names), str(path))
    assert [decode_id(text) for text in ids_in(path)] == names
    if suffix == "csv":
        labels, classes = read_labels(path, names[::-1])
        assert [classes[k] for k in labels] == [f"class {i}" for i in range(len(names))][::-1]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_hard_names_are_one_printable_line_each(suffix, tmp_path):
    path = tmp_path / f"labels.{suffix}"
    write_table(columns(HARD), str(path))
    texts = ids_in(path)
    assert [decode_id(text) for text in texts] == HARD
    assert all(text.isprintable() for text in texts)
    assert texts[:3] == [r"a\nb", r"a\\nb", r"a\\\nb"]
    if suffix == "csv":
        assert len(path.read_text("utf-8").split("\n")) == len(HARD) + 2


@given(st.text(st.characters(), max_size=20))
def test_a_plain_name_stays_as_it_is(name):
    assert (encode_id(name) == name) == (name.isprintable() and "\\" not in name)
    assert decode_id(encode_id(name)) == name
    assert encode_id(name).isprintable()


def test_a_backslash_that_begins_no_escape_stands_for_itself():
    assert decode_id(r"C:\dir\x1.png") == r"C:\dir\x1.png"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_long_table_is_written_in_blocks(suffix, tmp_path):
    if suffix == "parquet":
        pytest.importorskip("pyarrow.parquet")
    rows, path = 100_000, tmp_path / f"labels.{suffix}"
    table = {"id": RowIds(range(rows)), "score": np.arange(rows) / 7, "outlier": np.arange(rows) % 2 == 0}
    tracemalloc.start()
    write_table(table, str(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < rows * 25
    assert ids_in(path) == list(table["id"])


def test_a_full_disk_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "labels.csv"
    path.write_text("old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"labels\.csv"):
        write_table(columns(["a"]), str(path))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["labels.csv"]


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "LABELS.CSV"])
def test_a_table_that_is_there_is_replaced_on_request_alone(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"dear")
    with pytest.raises(DataError, match=rf"--out .*{name} exists; choose another, or pass --overwrite"):
        check_table_target(str(path), overwrite=False)
    check_table_target(str(path), overwrite=True)
    assert path.read_bytes() == b"dear"
    check_table_target(str(tmp_path / "other.csv"), overwrite=False)
    check_table_target("-", overwrite=False)


def test_the_runner_up_is_empty_where_there_is_one_cluster():
    said = {"proba": np.ones((2, 1), np.float32), "score": np.zeros(2), "outlier": np.zeros(2, bool)}
    table = prediction_columns(["a", "b"], said)
    assert table["runner_up"].tolist() == [-1, -1]
    assert table["runner_up_probability"].tolist() == [0, 0]


def ids_in(path):
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [row["id"] for row in csv.DictReader(file)]
    parquet = pytest.importorskip("pyarrow.parquet")
    return parquet.read_table(path).to_pydict()["id"]
