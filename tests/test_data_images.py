"""ImageSet: what it refuses, what `head` keeps, what `fingerprint` depends on; and the dispatch of load_images."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from data_helpers import random_pixels
from hypothesis import example, given
from hypothesis import strategies as st

from clusterloom.data import ImageSet, load_images
from clusterloom.data.ids import RowIds, decode_id, encode_id
from clusterloom.data.images import encode_labels, limited_rows
from clusterloom.data.pixels import chunks
from clusterloom.errors import DataError, SettingsError, printable


def make(n=4, ids=None, labels=None, class_names=(), shape=(8, 6, 1)):
    pixels = np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)
    return ImageSet(pixels, RowIds(range(n)) if ids is None else ids, labels, class_names, "test", ())


def test_shape_and_length():
    images = make(5)
    assert len(images) == 5
    assert images.image_shape == (8, 6, 1)
    assert list(images.ids) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 8, 8), np.uint8)}, "expected uint8 of shape"),
        ({"images": np.zeros((2, 8, 8, 1), np.float32)}, "float32"),
        ({"images": np.zeros((0, 8, 8, 1), np.uint8)}, "holds no images"),
        ({"ids": ["a"]}, "1 identifiers for 2 images"),
        ({"ids": ["a\n", "a\n"]}, r"'a\\\\n' occurs more than once"),
        ({"labels": np.array([0, 1, 0])}, r"expected int64 of shape \(2,\)"),
        ({"labels": np.array([0, 1], np.int32)}, "int32"),
        ({"labels": np.array([0, 2])}, "expected 0 to 1"),
        ({"labels": np.array([-1, 1])}, "from -1"),
        ({"labels": None}, "2 class names without labels"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    parts = {
        "images": np.zeros((2, 8, 8, 1), np.uint8),
        "ids": ["a", "b"],
        "labels": np.array([0, 1]),
        "class_names": ("cat", "dog"),
    }
    ImageSet(**parts, name="test", notes=())
    with pytest.raises(DataError, match=message):
        ImageSet(**{**parts, **change}, name="test", notes=())


def test_head_keeps_order_classes_and_companions():
    labels = np.repeat(np.arange(4), 100)
    names = ("a", "b", "c", "d")
    full = make(400, ids=[f"{i:03}.png" for i in range(400)], labels=labels, class_names=names, shape=(2, 2, 1))
    part = full.head(40)
    rows = [int(identifier[:3]) for identifier in part.ids]
    assert len(part) == 40
    assert rows == sorted(rows)
    assert set(part.labels) == {0, 1, 2, 3}
    np.testing.assert_array_equal(part.images, full.images[rows])
    np.testing.assert_array_equal(part.labels, labels[rows])
    assert "40 of 400 images" in part.notes[-1]


def test_head_ignores_labels_and_grows():
    labels = np.repeat([0, 1], 50)
    with_labels, without = make(100, labels=labels, class_names=("a", "b")), make(100)
    assert list(with_labels.head(10).ids) == list(without.head(10).ids)
    assert set(without.head(10).ids) < set(without.head(30).ids)


def test_head_of_row_numbers_keeps_them():
    part = make(100).head(5)
    assert [int(identifier) for identifier in part.ids] == limited_rows(100, 5).tolist()
    np.testing.assert_array_equal(part.head(3).images[0], make(100).images[int(part.head(3).ids[0])])


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_bad_limits_are_refused(limit):
    with pytest.raises(SettingsError, match="limit"):
        make().head(limit)


def test_fingerprint_is_sha256_of_shape_and_pixels_whatever_the_memory_layout():
    images = make(3)
    expected = hashlib.sha256(b"(3, 8, 6, 1)" + images.images.tobytes()).hexdigest()
    assert images.fingerprint() == expected
    strided = ImageSet(np.asfortranarray(images.images), images.ids, None, (), "other", ())
    assert strided.fingerprint() == expected


def test_fingerprint_sees_every_pixel_and_the_shape():
    images = make(3)
    changed = images.images.copy()
    changed[2, 7, 5, 0] ^= 1
    reshaped = images.images.reshape(3, 6, 8, 1)
    prints = [ImageSet(array, images.ids, None, (), "x", ()).fingerprint() for array in (changed, reshaped)]
    assert len({images.fingerprint(), *prints}) == 3


def test_fingerprint_is_computed_once_where_pixels_stay_what_they_are():
    pixels, asked = random_pixels(4, 8, 8, 1), []
    for writeable in (True, False):
        pixels.flags.writeable = writeable
        images = ImageSet(pixels, list("abcd"), None, (), "x", ())
        prints = {images.fingerprint(lambda *told: asked.append(told)) for _ in range(3)}
        assert len(prints) == 1
        assert len(asked) == (3 if writeable else 4)
    assert replace(images, images=pixels[:2], ids=["a", "b"]).fingerprint() not in prints


def test_fingerprint_over_many_chunks(monkeypatch):
    images = make(50)
    whole = images.fingerprint()
    monkeypatch.setattr("clusterloom.data.pixels.chunks", lambda array: chunks(array, 100))
    assert images.fingerprint() == whole


def test_row_ids():
    ids = RowIds(np.array([3, 5, 9]))
    assert (len(ids), ids[-1], list(ids[1:]), "5" in ids, "4" in ids) == (3, "9", ["5", "9"], True, False)
    with pytest.raises(IndexError):
        ids[3]


@given(st.text(st.characters(exclude_categories=[])))
@example("a\\nb")
@example("a\nb")
@example("\udcff\\udcff\ud83d\ude00")
@example("\u202egnp.exe")
def test_any_identifier_goes_to_text_and_back(text):
    encoded = encode_id(text)
    assert encoded.isprintable()
    assert encoded.encode("utf-8").decode("utf-8") == encoded
    assert decode_id(encoded) == text
    if text.isprintable() and "\\" not in text:
        assert encoded == text


@given(st.text("\\nxu0d\n\udcff", max_size=8), st.text("\\nxu0d\n\udcff", max_size=8))
def test_two_identifiers_never_become_one(first, second):
    assert (encode_id(first) == encode_id(second)) == (first == second)


def test_what_is_no_escape_stays():
    assert decode_id("C:\\new\\xyz \\U0011ffff") == "C:\new\\xyz \\U0011ffff"


def test_encode_labels():
    indices, names = encode_labels(np.array(["dog", "cat", "dog"]))
    assert (indices.tolist(), indices.dtype, names) == ([1, 0, 1], np.int64, ("cat", "dog"))


def test_printable_is_one_line_and_encodable():
    text = printable("a\n\x1b[31m\udcff<img>é.png")
    assert text == "a\\n\\x1b[31m\\udcff<img>é.png"
    assert text.encode("utf-8").decode("utf-8") == printable(text)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnst", "Did you mean mnist"),
        ("digit", "Did you mean digits"),
        ("fashion", "Did you mean fashion-mnist"),
        ("no/such/place", r"no file, folder or built-in data set 'no/such/place'\. Accepted: a folder"),
        ("", "no file, folder"),
        ("a\0b", "no file, folder"),
        ("x" * 5000, "."),
    ],
)
def test_unknown_sources_get_one_clear_error(source, message):
    with pytest.raises(DataError, match=message) as caught:
        load_images(source)
    assert "\n" not in str(caught.value)


def test_only_near_names_are_suggested():
    for source in ("nonexist", "cats", "list"):
        with pytest.raises(DataError) as caught:
            load_images(source)
        assert "Did you mean" not in str(caught.value)


def test_text_files_and_single_pictures_are_refused_with_advice(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(DataError, match="no known format"):
        load_images(tmp_path / "a.csv")
    with pytest.raises(DataError, match="name the folder"):
        load_images(tmp_path / "a.png")
    with pytest.raises(DataError, match="no known format"):
        load_images(tmp_path / "empty")


def test_a_folder_named_like_a_built_in_set_is_reached_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert len(load_images("digits")) == 1797
    for source in ("./digits", tmp_path / "digits"):
        with pytest.raises(DataError, match="holds no pictures"):
            load_images(source)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 0},
        {"image_size": (8, -1)},
        {"image_size": (8, 8, 1)},
        {"image_size": "28"},
        {"image_size": 8.0},
        {"channels": 2},
        {"limit": 0},
        {"image_size": 10**6},
        {"pixel_range": (1, 0)},
        {"pixel_range": (0, float("nan"))},
        {"pixel_range": 255},
    ],
)
def test_settings_out_of_range(options):
    with pytest.raises(SettingsError, match=next(iter(options))):
        load_images("digits", **options)


def test_arrays_are_not_resized():
    assert load_images("digits", image_size=8, channels=1).image_shape == (8, 8, 1)
    for options in ({"image_size": 16}, {"channels": 3}):
        with pytest.raises(DataError, match=r"8 x 8 x 1, and arrays are not resized"):
            load_images("digits", **options)
