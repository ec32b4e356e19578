"""npy, npz and IDX: layouts and number types by known values, lying headers, arbitrary bytes."""

import gzip
import io
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from data_helpers import peak_of_loading, random_pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from clusterloom.data import arrange, load_images
from clusterloom.data.idx import read_idx
from clusterloom.data.npy import read_npy, read_npz
from clusterloom.data.options import ReadOptions
from clusterloom.errors import DataError

READERS = {"npy": read_npy, "npz": read_npz, "idx": read_idx}
FIXTURES_ONCE = [HealthCheck.function_scoped_fixture]
IMAGE_ARRAYS = arrays.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3, st.sampled_from([2, 4, 5])))


def save_npy(folder, array, name="a.npy"):
    np.save(folder / name, array)
    return folder / name


def npy_bytes(header, data=b"", version=(1, 0)):
    """A .npy file with any text as its header."""
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def read_bytes(kind, content, folder):
    path = folder / f"a.{kind}"
    path.write_bytes(content)
    return READERS[kind](path, path.name, ReadOptions())


def assert_only_data_errors(kind, content, folder):
    refusal = None
    try:
        images = read_bytes(kind, content, folder)
    except DataError as error:
        refusal = str(error)
    else:
        assert images.images.dtype == np.uint8
        assert len(images.fingerprint()) == 64
    assert refusal is None or refusal.isprintable()


# Layouts


@pytest.mark.parametrize(
    ("shape", "expected", "note"),
    [
        ((5, 8, 6), (5, 8, 6, 1), None),
        ((5, 8, 6, 1), (5, 8, 6, 1), None),
        ((5, 8, 6, 3), (5, 8, 6, 3), None),
        ((5, 8, 6, 16), (5, 8, 6, 16), None),
        ((5, 3, 8, 6), (5, 8, 6, 3), "axis 1, of length 3"),
        ((5, 1, 8, 28), (5, 8, 28, 1), "axis 1, of length 1"),
        ((5, 3, 8, 3), (5, 3, 8, 3), None),
        ((5, 49), (5, 7, 7, 1), "pictures of 7 x 7"),
    ],
)
def test_layouts(tmp_path, shape, expected, note):
    array = random_pixels(*shape)
    images = load_images(save_npy(tmp_path, array))
    assert images.images.shape == expected
    assert isinstance(images.images, np.memmap)
    channels_first = note is not None and note.startswith("axis")
    np.testing.assert_array_equal(
        images.images, np.moveaxis(array, 1, 3) if channels_first else array.reshape(expected)
    )
    assert (note is None and not images.notes) or note in images.notes[0]


@pytest.mark.parametrize("shape", [(64,), (5, 50), (5, 8, 6, 17), (2, 2, 2, 2, 2), ()])
def test_other_layouts_are_refused_with_advice(tmp_path, shape):
    with pytest.raises(DataError, match=r"cannot be read as images; reshape it to \(N, H, W\)"):
        load_images(save_npy(tmp_path, random_pixels(*shape)))


@pytest.mark.parametrize("shape", [(0, 8, 8), (5, 0, 8), (0,)])
def test_empty_arrays_are_refused(tmp_path, shape):
    with pytest.raises(DataError, match="holds no images"):
        load_images(save_npy(tmp_path, np.zeros(shape, np.uint8)))


def test_fortran_order(tmp_path):
    array = random_pixels(4, 5, 6)
    np.testing.assert_array_equal(load_images(save_npy(tmp_path, np.asfortranarray(array))).images[..., 0], array)


# Number types


def read_numbers(folder, array):
    images = load_images(save_npy(folder, array.reshape(-1, 1, 1, 1)))
    return images.images.ravel().tolist(), " ".join(images.notes)


def test_booleans(tmp_path):
    assert read_numbers(tmp_path, np.array([True, False]))[0] == [255, 0]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8", np.longdouble])
def test_unit_interval_is_multiplied_by_255(tmp_path, dtype):
    pixels, note = read_numbers(tmp_path, np.array([0.25, 0.0, 0.5, 0.75], dtype))
    assert pixels == [64, 0, 128, 191]
    assert "[0, 1]" in note


def test_every_pixel_survives_division_by_255(tmp_path):
    for dtype in (np.float32, np.float64):
        assert read_numbers(tmp_path, np.arange(256).astype(dtype) / dtype(255))[0] == list(range(256))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-1.0, 0.0, 1.0]), [0, 128, 255]),
        (np.array([10, 20, 30], np.int16), [0, 128, 255]),
        (np.array([-128, 127], np.int8), [0, 255]),
        (np.array([0, 65_535, 257], np.uint16), [0, 255, 1]),
        (np.array([0, 2**64 - 1], np.uint64), [0, 255]),
        (np.array([-1.7e308, 0, 1.7e308]), [0, 128, 255]),
        (np.array([7.0, 7.0]), [0, 0]),
    ],
)
def test_other_numbers_are_scaled_from_smallest_to_largest(tmp_path, values, expected):
    pixels, note = read_numbers(tmp_path, values)
    assert pixels == expected
    assert "percentiles 0.1 and 99.9, became 0 to 255" in note


def test_whole_numbers_that_are_pixels_already_are_kept(tmp_path):
    pixels, note = read_numbers(tmp_path, np.array([3, 200, 254], np.int64))
    assert pixels == [3, 200, 254]
    assert "taken as they are" in note


def test_scaling_uses_the_whole_set_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.data.arrays._CHUNK_BYTES", 16)
    values = np.linspace(-5, 250, 256)
    assert read_numbers(tmp_path, values)[0] == list(range(256))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_image_with_nan_or_infinity_is_named(tmp_path, monkeypatch, bad):
    monkeypatch.setattr("clusterloom.data.arrays._CHUNK_BYTES", 1000)
    array = np.random.default_rng(0).random((50, 4, 4))
    array[37, 2, 1] = array[41, 0, 0] = bad
    with pytest.raises(DataError, match=r"a\.npy: image 37 has pixels that are NaN or infinite"):
        load_images(save_npy(tmp_path, array))


@pytest.mark.parametrize("dtype", ["c16", "M8[s]", "U3", "S3", "i4,f4", "V2"])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, dtype):
    with pytest.raises(DataError, match=r"expected booleans, integers or real numbers|format is for records"):
        load_images(save_npy(tmp_path, np.zeros((2, 4, 4), dtype)))


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_a_later_file_is_scaled_by_the_range_of_the_first(tmp_path, kind):
    """Two files with other extremes would otherwise give other pixels for the same number."""

    def load(name, values, **options):
        array = np.array(values, np.int32).reshape(-1, 1, 2)
        path = tmp_path / f"{name}.{kind}"
        np.save(path, array) if kind == "npy" else np.savez(path, images=array)
        return load_images(path, **options)

    first = load("first", [0, 1000, 500, 250])
    assert first.pixel_range == (0, 1000)
    own = load("second", [100, 200, -50, 250, 2000, 0])
    later = load("second", [100, 200, -50, 250, 2000, 0], pixel_range=first.pixel_range)
    assert later.images.ravel().tolist() == [26, 51, 0, 64, 255, 0]
    assert own.images.ravel().tolist() != later.images.ravel().tolist()
    assert later.pixel_range == (0, 1000)
    assert later.notes[-1] == "2 of 3 images have numbers outside that range: clipped"
    within = load("third", [1, 2], pixel_range=first.pixel_range)
    assert not any("outside" in note for note in within.notes)


@pytest.mark.parametrize(
    "array", [np.array([0, 200], np.uint8), np.array([0, 1], bool), np.array([0.0, 0.5]), np.array([0, 200])]
)
def test_pixels_by_a_fixed_rule_have_no_range(tmp_path, array):
    assert load_images(save_npy(tmp_path, array.reshape(-1, 1, 1))).pixel_range is None


def test_the_cache_tells_ranges_apart(tmp_path):
    path = save_npy(tmp_path, np.array([0, 1000]).reshape(2, 1, 1))
    for pixel_range, pixels in ((None, [0, 255]), ((0, 2000), [0, 128]), ((-1000, 1000), [128, 255])):
        assert load_images(path, pixel_range=pixel_range).images.ravel().tolist() == pixels


def test_bytes_stay_as_they_are_whatever_range_is_given(tmp_path):
    array = random_pixels(3, 4, 4)
    for save in (lambda path: np.save(path, array), lambda path: np.savez(path, images=array)):
        path = tmp_path / ("a.npy" if not list(tmp_path.iterdir()) else "a.npz")
        save(path)
        images = load_images(path, pixel_range=(0, 4095))
        np.testing.assert_array_equal(images.images[..., 0], array)
        assert images.pixel_range is None
        assert images.notes[-1] == "8-bit pixels taken as they are: the range given, 0 to 4095, is for other numbers"


def test_a_defect_of_ours_is_no_bad_file(tmp_path, monkeypatch):
    path = save_npy(tmp_path, np.array([0.0, 1.0]).reshape(2, 1, 1))
    monkeypatch.setattr("clusterloom.data.arrays.scale_pixels", None)
    with pytest.raises(TypeError, match="not callable"):
        load_images(path)


def test_channels_first_arrays_are_read_right(tmp_path):
    array = random_pixels(50, 3, 32, 32)
    view, notes = arrange(array, "X")
    np.testing.assert_array_equal(view, array.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(load_images(save_npy(tmp_path, array)).images, view)
    assert notes == ["axis 1, of length 3, read as the channels"]


def test_converting_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.data.arrays._CHUNK_BYTES", 16)
    seen = []
    load_images(save_npy(tmp_path, np.linspace(0, 9, 4).reshape(4, 1, 1)), progress=lambda *what: seen.append(what))
    assert ("looking for the range of pixels", 2, 4) in seen
    assert seen[-1] == ("converting pixels", 4, 4)


def test_converted_numbers_are_cached_and_change_with_the_file(tmp_path, monkeypatch):
    path = save_npy(tmp_path, np.array([0.0, 1.0]).reshape(2, 1, 1))
    assert load_images(path).images.ravel().tolist() == [0, 255]
    with monkeypatch.context() as patch:
        patch.setattr("clusterloom.data.arrays.choose_scaling", None)
        assert load_images(path).images.ravel().tolist() == [0, 255]
    save_npy(tmp_path, np.array([1.0, 0.0]).reshape(2, 1, 1))
    assert load_images(path).images.ravel().tolist() == [255, 0]


# Headers that lie, and pickles


HUGE = {
    "npy": npy_bytes(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**60}, 28, 28)}}", b"\0" * 100),
    "idx": struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 2**20, 2**20) + b"\0" * 100,
    "idx.gz": gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 2**20, 2**20) + b"\0" * 100),
}


def zip_of(name, content, claim=None):
    """A .npz with one member, whose size in the directory may be a lie."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    data = bytearray(buffer.getvalue())
    if claim is not None:
        at = data.rindex(b"PK\x01\x02") + 24
        data[at : at + 4] = struct.pack("<I", claim)
    return bytes(data)


@pytest.mark.parametrize("kind", sorted(HUGE))
def test_claims_of_2_to_the_60_are_refused_before_anything_is_allocated(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(HUGE[kind])
    with pytest.raises(DataError, match=r"its header claims \d{19,} bytes"):
        load_images(path)


def test_npz_claims_are_held_against_the_directory(tmp_path):
    with pytest.raises(DataError, match=r"x\.npy claims \d{19,} bytes in its header and"):
        read_bytes("npz", zip_of("x.npy", HUGE["npy"]), tmp_path)
    with pytest.raises(DataError, match=r"claims 4294967294 bytes, more than \d+ packed bytes should hold"):
        read_bytes("npz", zip_of("x.npy", HUGE["npy"], claim=2**32 - 2), tmp_path)


@pytest.mark.parametrize("change", [-1, 1])
def test_files_shorter_or_longer_than_their_header_says(tmp_path, change):
    array = random_pixels(3, 4, 4)
    buffer = io.BytesIO()
    np.save(buffer, array)
    for kind, content in (("npy", buffer.getvalue()), ("idx", idx_bytes(array))):
        resized = content[:-1] if change < 0 else content + b"\0"
        with pytest.raises(DataError, match="damaged or incomplete"):
            read_bytes(kind, resized, tmp_path)
        if kind == "idx":
            with pytest.raises(DataError, match="incomplete" if change < 0 else "goes on after"):
                read_bytes(kind, gzip.compress(resized), tmp_path)


def test_gzip_bomb_stops_at_the_claim(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 4, 4) + b"\0" * 100_000_000))
    grown, outcome = peak_of_loading(path)
    assert "goes on after the 48 bytes" in outcome
    assert grown < 30


class Explosive:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle ran')",)


def test_object_arrays_are_refused_and_nothing_is_unpickled(tmp_path):
    array = np.array([Explosive()] * 2, object)
    with pytest.raises(DataError, match="Python objects, which are never unpickled"):
        load_images(save_npy(tmp_path, array))
    for names in ({"images": array}, {"images": random_pixels(2, 4, 4), "labels": array}):
        np.savez(tmp_path / "a.npz", **names)
        with pytest.raises(DataError, match=r"objects, which are never|labels\.npy holds object"):
            load_images(tmp_path / "a.npz")
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(DataError):
        read_npy(tmp_path / "b.npy", "b.npy", ReadOptions())


# Arbitrary bytes


@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(
    st.sampled_from(sorted(READERS)),
    st.sampled_from(
        [
            b"",
            b"\x93NUMPY\x01\x00",
            b"\x93NUMPY\x02\x00",
            b"PK\x03\x04",
            b"PK\x05\x06",
            b"\0\0\x08\x03",
            b"\x1f\x8b\x08\0",
        ]
    ),
    st.binary(max_size=200),
)
def test_arbitrary_bytes_give_only_data_errors(tmp_path, kind, magic, rest):
    assert_only_data_errors(kind, magic + rest, tmp_path)


@settings(max_examples=150, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.text(st.characters(max_codepoint=255), max_size=120), st.booleans())
def test_arbitrary_npy_headers_give_only_data_errors(tmp_path, text, as_descr):
    """The header is a Python literal, whose parser has exceptions of its own."""
    header = f"{{'descr': {text!r}, 'fortran_order': False, 'shape': (1, 2, 2)}}" if as_descr else text
    assert_only_data_errors("npy", npy_bytes(header, b"\0" * 8), tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        "(" * 5000,
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2, 4)}",
        "{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1, 2, 2)}",
        "{'descr': '|u1', 'fortran_order': False}",
        "{'descr': '|u1', 'fortran_order': 3, 'shape': 8}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 2L, 2L)",
        "{" * 200 + "}" * 200,
        "",
    ],
)
def test_hostile_npy_headers(tmp_path, header):
    with pytest.raises(DataError):
        read_bytes("npy", npy_bytes(header, b"\0" * 8, (2, 0)), tmp_path)


@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.data(), st.sampled_from(["npy", "npz", "npz stored", "idx", "idx gz"]))
def test_mutated_files_give_only_data_errors(tmp_path, data, kind):
    array, buffer = random_pixels(3, 4, 4), io.BytesIO()
    if kind == "npy":
        np.save(buffer, array)
    elif kind.startswith("npz"):
        save = np.savez if kind.endswith("stored") else np.savez_compressed
        save(buffer, images=array, labels=np.arange(3), ids=np.array(["a", "b", "c"]))
    else:
        buffer.write(gzip.compress(idx_bytes(array)) if kind.endswith("gz") else idx_bytes(array))
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert_only_data_errors(kind.split()[0], bytes(content[: data.draw(st.integers(0, len(content)))]), tmp_path)
    assert_only_data_errors(kind.split()[0], bytes(content), tmp_path)


# Round trips


@settings(max_examples=40, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(IMAGE_ARRAYS, st.sampled_from(["npy", "npz", "npz small", "idx", "idx.gz"]))
def test_round_trip(tmp_path, array, kind):
    path = tmp_path / f"a.{kind.split()[0]}"
    if kind == "npy":
        np.save(path, array)
    elif kind.startswith("npz"):
        (np.savez_compressed if kind.endswith("small") else np.savez)(path, images=array)
    else:
        path.write_bytes(gzip.compress(idx_bytes(array)) if kind.endswith("gz") else idx_bytes(array))
    expected = np.moveaxis(array, 1, 3) if array.shape[1] in (1, 3) else array
    images = load_images(path)
    np.testing.assert_array_equal(images.images, expected)
    assert list(images.ids) == [str(row) for row in range(len(array))]


# npz


def test_npz_with_labels_and_ids(tmp_path):
    array = random_pixels(3, 4, 4)
    np.savez_compressed(tmp_path / "a.npz", images=array, y=np.array([[7], [3], [7]]), ids=np.array(["x", "ü", "z"]))
    images = load_images(tmp_path / "a.npz")
    np.testing.assert_array_equal(images.images[..., 0], array)
    assert (images.labels.tolist(), images.class_names, images.ids) == ([1, 0, 1], ("3", "7"), ["x", "ü", "z"])


@pytest.mark.parametrize(
    ("labels", "why"),
    [(np.zeros(3, int), r"has shape \(3,\); expected \(2,\)"), (np.zeros(2), "holds float64; expected")],
)
def test_npz_labels_that_do_not_fit_are_left_out(tmp_path, labels, why):
    np.savez(tmp_path / "a.npz", images=random_pixels(2, 4, 4), labels=labels)
    images = load_images(tmp_path / "a.npz")
    assert images.labels is None
    assert re.search(rf"labels left out: .*labels\.npy {why}", images.notes[-1])


def test_npz_text_labels_and_byte_ids(tmp_path):
    labels, paths = np.array(["dog", "cat"]), np.array([b"a.png", b"\xff.png"])
    np.savez(tmp_path / "a.npz", x=random_pixels(2, 4, 4), labels=labels, paths=paths)
    images = load_images(tmp_path / "a.npz")
    assert (images.labels.tolist(), images.class_names) == ([1, 0], ("cat", "dog"))
    assert images.ids == ["a.png", "\udcff.png"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["arr_0", "x_train", "data", "x", "images"], "images"),
        (["arr_0", "x_train", "data", "x"], "x"),
        (["x_test", "x_train", "arr_0"], "x_train"),
        (["pictures"], "pictures"),
    ],
)
def test_npz_order_of_names(tmp_path, names, chosen):
    saved = {name: random_pixels(2, 4, 4, seed=i) for i, name in enumerate(names)}
    np.savez(tmp_path / "a.npz", **saved)
    images = load_images(tmp_path / "a.npz")
    np.testing.assert_array_equal(images.images[..., 0], saved[chosen])
    assert repr(chosen) in images.notes[0]


def test_npz_floats_are_converted(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.array([0.0, 0.25, 1.0]).reshape(3, 1, 1))
    assert load_images(tmp_path / "a.npz").images.ravel().tolist() == [0, 64, 255]


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"a": np.zeros((2, 4, 4)), "b": np.zeros((2, 4, 4))}, r"Name it 'images'\. Found: a \(2, 4, 4\), b"),
        ({"images": np.zeros((2, 4, 4)), "ids": np.zeros(3, int)}, r"ids\.npy has shape \(3,\); expected \(2,\)"),
        ({"images": np.zeros((2, 4, 4)), "ids": np.zeros(2)}, "holds float64; expected whole numbers or text"),
        ({"images": np.zeros((2, 4, 4)), "ids": np.array(["a", "a"])}, "'a' occurs more than once"),
        ({}, "no arrays"),
    ],
)
def test_npz_parts_that_do_not_fit(tmp_path, saved, message):
    np.savez(tmp_path / "a.npz", **saved)
    with pytest.raises(DataError, match=message):
        read_npz(tmp_path / "a.npz", "a.npz", ReadOptions())


# IDX


@pytest.mark.parametrize(
    "names", [("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), ("t.images.idx3", "t.labels.idx1")]
)
@pytest.mark.parametrize("packed", [(False, False), (True, True), (False, True), (True, False)])
def test_idx_labels_are_found_beside_the_images(tmp_path, names, packed):
    array, labels = random_pixels(3, 4, 5), np.array([9, 2, 9], np.uint8)
    paths = [tmp_path / (name + ".gz" * pack) for name, pack in zip(names, packed, strict=True)]
    for path, content, pack in zip(paths, (array, labels), packed, strict=True):
        path.write_bytes(gzip.compress(idx_bytes(content)) if pack else idx_bytes(content))
    images = load_images(paths[0])
    np.testing.assert_array_equal(images.images[..., 0], array)
    assert (images.labels.tolist(), images.class_names) == ([1, 0, 1], ("2", "9"))
    with pytest.raises(DataError, match="name the file with images"):
        load_images(paths[1])


def test_idx_labels_of_another_length_are_refused(tmp_path):
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx_bytes(random_pixels(3, 4, 4)))
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(idx_bytes(random_pixels(4)))
    with pytest.raises(DataError, match=r"shape \(4,\); expected 3 entries"):
        load_images(tmp_path / "a-images-idx3-ubyte")


@pytest.mark.parametrize("start", [b"\0\0\x0d\x03", b"\0\0\x08\x05", b"\0\0\x09\x03"])
def test_idx_of_other_types_is_refused(tmp_path, start):
    (tmp_path / "a").write_bytes(start + bytes(100))
    with pytest.raises(DataError, match=r"expected unsigned bytes \(0x08\) with 3 or 4"):
        load_images(tmp_path / "a")


# Memory


def test_a_large_npy_costs_no_memory(tmp_path):
    path = tmp_path / "big.npy"
    header = npy_bytes("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 28, 28)}")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 784_000_000)
    images = load_images(path)
    assert (len(images), images.ids[999_999], images.images[-1].max()) == (1_000_000, "999999", 0)
    grown, outcome = peak_of_loading(path)
    assert "1000000 images of 28 x 28 x 1" in outcome
    assert grown < 30


def test_bytes_in_fortran_order_are_put_in_order(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 9, 8), np.uint8)
    np.save(tmp_path / "a.npy", np.asfortranarray(values))
    images = load_images(tmp_path / "a.npy").images
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images[..., 0], values)
