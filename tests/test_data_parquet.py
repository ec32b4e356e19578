"""Parquet with encoded pictures: pixels, labels, identifiers, damage."""

import io
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import random_pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from clusterloom.data import load_images
from clusterloom.data.options import ReadOptions
from clusterloom.data.parquet import read_parquet
from clusterloom.errors import DataError

FIXTURES_ONCE = [HealthCheck.function_scoped_fixture]


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def save(folder, pictures, paths=None, column="image", metadata=None, row_group_size=None, **columns):
    rows = [{"bytes": picture, "path": paths[i] if paths else None} for i, picture in enumerate(pictures)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({column: pa.array(rows, kind), **columns})
    path = folder / "a.parquet"
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=row_group_size)
    return path


@settings(max_examples=20, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.integers(1, 12), st.sampled_from([(5, 4), (9, 9, 3)]), st.integers(1, 5))
def test_round_trip(tmp_path, n, shape, row_group_size):
    pixels = random_pixels(n, *shape)
    images = load_images(save(tmp_path, [encode(picture) for picture in pixels], row_group_size=row_group_size))
    np.testing.assert_array_equal(images.images, pixels.reshape(n, *shape[:2], -1))
    assert list(images.ids) == [str(row) for row in range(n)]


def test_paths_identify_if_each_row_has_its_own(tmp_path):
    pictures = [encode(random_pixels(8, 8, seed=i)) for i in range(2)]
    assert load_images(save(tmp_path, pictures, ["a.png", "b\n.png"])).ids == ["a.png", "b\n.png"]
    assert list(load_images(save(tmp_path, pictures, ["a.png", "a.png"])).ids) == ["0", "1"]
    assert list(load_images(save(tmp_path, pictures, ["a.png", None])).ids) == ["0", "1"]


def test_class_names_of_hugging_face_datasets(tmp_path):
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pictures = [encode(random_pixels(8, 8, seed=i)) for i in range(3)]
    images = load_images(save(tmp_path, pictures, metadata=metadata, label=pa.array([2, 0, 2])))
    assert (images.labels.tolist(), images.class_names) == ([2, 0, 2], ("cat", "dog", "eel"))


@pytest.mark.parametrize(
    ("labels", "indices", "names"),
    [
        (pa.array([7, 3, 7]), [1, 0, 1], ("3", "7")),
        (pa.array(["b", "a", "b"]), [1, 0, 1], ("a", "b")),
        (pa.array(["b", "a", "b"]).dictionary_encode(), [1, 0, 1], ("a", "b")),
    ],
)
@pytest.mark.parametrize("metadata", [None, {"huggingface": "{"}, {"huggingface": '{"info": 3}'}])
def test_other_labels(tmp_path, labels, indices, names, metadata):
    pictures = [encode(random_pixels(8, 8, seed=i)) for i in range(3)]
    images = load_images(save(tmp_path, pictures, metadata=metadata, label=labels))
    assert (images.labels.tolist(), images.class_names) == (indices, names)


@pytest.mark.parametrize("labels", [pa.array([1, None]), pa.array([-1, 0]), pa.array([0.5, 1.0])])
def test_unusable_labels_are_left_out_with_a_note(tmp_path, labels):
    images = load_images(save(tmp_path, [encode(random_pixels(8, 8))] * 2, label=labels))
    assert images.labels is None
    assert "column 'label' left out" in images.notes[-1]


def test_labels_follow_limit_and_skipped_rows(tmp_path):
    pictures = [encode(np.full((8, 8), i, np.uint8)) for i in range(20)]
    pictures[5] = b"damaged"
    path = save(tmp_path, pictures, row_group_size=3, label=pa.array([f"{i:02}" for i in range(20)]))
    with pytest.raises(DataError, match=r"1 of 20 pictures cannot be read: 5: not one of the formats"):
        load_images(path)
    full = load_images(path, skip_bad=True)
    few = load_images(path, skip_bad=True, limit=7)
    assert len(full) == 19
    assert len(few) in (6, 7)  # the damaged row may be among the chosen
    for images in (full, few):
        shades = images.images[:, 0, 0, 0]
        assert [int(identifier) for identifier in images.ids] == shades.tolist()
        assert [int(images.class_names[label]) for label in images.labels] == shades.tolist()


def test_the_only_column_of_pictures_is_taken_whatever_its_name(tmp_path):
    pixels = random_pixels(8, 8)
    images = load_images(save(tmp_path, [encode(pixels)], column="img", note=pa.array(["x"])))
    np.testing.assert_array_equal(images.images[0, ..., 0], pixels)


def test_same_conversion_as_in_folders(tmp_path):
    clear = np.zeros((8, 8, 4), np.uint8)
    images = load_images(save(tmp_path, [encode(clear), encode(random_pixels(30, 20))]), image_size=10)
    assert images.image_shape == (10, 10, 1)
    assert images.images[0].min() == 255
    assert any("transparency composited on white" in note for note in images.notes)


def test_16_bit_pictures_share_one_range(tmp_path):
    pictures = [encode(np.full((8, 8), value, np.uint16)) for value in (100, 300, 500)]
    path = save(tmp_path, pictures)
    images = load_images(path)
    assert (images.images[:, 0, 0, 0].tolist(), images.pixel_range) == ([0, 128, 255], (100, 500))
    assert load_images(path, pixel_range=(0, 1000)).images[:, 0, 0, 0].tolist() == [26, 76, 128]


def test_missing_bytes_are_named(tmp_path):
    with pytest.raises(DataError, match=r"1 of 2 pictures cannot be read: 1: not one"):
        load_images(save(tmp_path, [encode(random_pixels(8, 8)), None]))


def test_no_column_of_pictures(tmp_path):
    pq.write_table(pa.table({"x": [1], "image": ["a.png"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"expected a column 'image' .* found: x \(int64\), image \(string\)"):
        load_images(tmp_path / "a.parquet")


def test_no_rows(tmp_path):
    with pytest.raises(DataError, match="it has no rows"):
        load_images(save(tmp_path, []))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, [encode(random_pixels(8, 8))])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'clusterloom\[parquet\]'"):
        load_images(path)


def read_or_refuse(path):
    refusal = None
    try:
        assert len(read_parquet(path, "a.parquet", ReadOptions()).fingerprint()) == 64
    except DataError as error:
        refusal = str(error)
    assert refusal is None or refusal.isprintable()


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.sampled_from([b"", b"PAR1"]), st.binary(max_size=200), st.sampled_from([b"", b"PAR1", b"\x20\0\0\0PAR1"]))
def test_arbitrary_bytes_give_only_data_errors(tmp_path, start, middle, end):
    (tmp_path / "a.parquet").write_bytes(start + middle + end)
    read_or_refuse(tmp_path / "a.parquet")


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.data())
def test_mutated_files_give_only_data_errors(tmp_path, data):
    path = save(tmp_path, [encode(random_pixels(8, 8))] * 2, ["a", "b"], label=pa.array([0, 1]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    read_or_refuse(path)
