"""TIFF and FITS: what is stored comes out as it is, by one range, or is refused by name."""

import gzip
import io
import struct
import sys

import numpy as np
import pytest
from data_helpers import random_pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusterloom.data import load_images
from clusterloom.data.one_picture import Target, read_header, read_picture, read_values
from clusterloom.data.tiff import open_tiff
from clusterloom.errors import DataError, MissingPackageError, SettingsError

tifffile = pytest.importorskip("tifffile")
DEPTHS = ("uint8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))


def planes(channels, height=12, width=10, seed=0, dtype=np.uint16, top=4096):
    return np.random.default_rng(seed).integers(0, top, (channels, height, width)).astype(dtype)


def encoded(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def fits_bytes(values):
    fits = pytest.importorskip("astropy.io.fits")
    buffer = io.BytesIO()
    fits.PrimaryHDU(values).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"tile": (16, 16)},
        {"rowsperstrip": 5},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
    ],
    ids=str,
)
def test_every_depth_and_layout_comes_out_as_it_was_stored(dtype, options):
    values = planes(1, 40, 37, dtype=dtype, top=200)[0]
    found = read_values(encoded(values, photometric="minisblack", **options), None)
    np.testing.assert_array_equal(found[..., 0], values)


def test_twelve_bits_are_unpacked():
    values = planes(1, 16, 16)[0]
    packed = np.zeros(16 * 24, np.uint8)
    flat = values.ravel().astype(np.uint32)
    packed[0::3], packed[1::3] = flat[0::2] >> 4, ((flat[0::2] & 15) << 4) | (flat[1::2] >> 8)
    packed[2::3] = flat[1::2] & 255
    tags = [(256, 16), (257, 16), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, packed.size)]
    data = b"II*\0" + struct.pack("<I", 8 + packed.size) + packed.tobytes() + struct.pack("<H", len(tags))
    data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    np.testing.assert_array_equal(read_values(data, None)[..., 0], values)


@pytest.mark.parametrize(
    ("axes", "values", "options"),
    [
        ("CYX", planes(4), {"metadata": {"axes": "CYX"}, "ome": True}),
        ("OME by pages", planes(7), {"metadata": {"axes": "CYX"}, "ome": True, "photometric": "minisblack"}),
        ("ImageJ", planes(4), {"imagej": True, "metadata": {"axes": "CYX"}}),
        ("planes apart", planes(7), {"planarconfig": "separate", "photometric": "minisblack"}),
        ("samples", np.moveaxis(planes(5), 0, 2), {"planarconfig": "contig", "photometric": "minisblack"}),
        ("pages", planes(7), {"photometric": "minisblack"}),
        ("pages without a word", planes(7), {"photometric": "minisblack", "metadata": None}),
    ],
)
def test_channels_are_found_wherever_they_are(axes, values, options):
    data = encoded(values, **options)
    expected = values if axes == "samples" else np.moveaxis(values, 0, 2)
    np.testing.assert_array_equal(read_values(data, None), expected)
    assert read_header(data)[:3] == (10, 12, expected.shape[2])
    np.testing.assert_array_equal(read_values(data, (2, 0)), expected[..., [2, 0]])
    with pytest.raises(DataError, match=r"channels, numbered from 0; channel 9 was asked for"):
        read_values(data, (9,))


def test_eight_bits_are_what_a_png_of_them_is(tmp_path):
    grey, colour = random_pixels(20, 16), random_pixels(20, 16, 3)
    alpha = random_pixels(20, 16, 4)
    from PIL import Image

    for name, values in (("grey", grey), ("colour", colour), ("alpha", alpha)):
        data = encoded(values, photometric="minisblack" if name == "grey" else "rgb")
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        target = Target(8, 8, 1 if name == "grey" else 3)
        np.testing.assert_array_equal(read_picture(data, target).pixels, read_picture(buffer.getvalue(), target).pixels)


def test_colours_that_alpha_was_multiplied_into_are_composited_as_any_others():
    clear = random_pixels(20, 16, 4)
    clear[..., 3] = np.maximum(clear[..., 3], 64)  # of what is nearly transparent, 8 bits lose the colour
    alpha = clear[..., 3:].astype(np.float64) / 255
    dimmed = np.concatenate([np.rint(clear[..., :3] * alpha).astype(np.uint8), clear[..., 3:]], 2)
    target = Target(20, 16, 3)
    found, expected = (
        read_picture(encoded(values, photometric="rgb", extrasamples=[kind]), target).pixels.astype(int)
        for values, kind in ((dimmed, "assocalpha"), (clear, "unassalpha"))
    )
    assert np.abs(found - expected).max() <= 1


def test_white_as_zero_palettes_single_bits_and_orientation_mean_what_they_say():
    values = random_pixels(6, 8)
    np.testing.assert_array_equal(read_values(encoded(values, photometric="miniswhite"), None)[..., 0], 255 - values)
    bits = values > 127
    np.testing.assert_array_equal(
        read_values(encoded(bits, photometric="minisblack", bitspersample=1), None)[..., 0], bits * 255
    )
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    data = encoded(values, photometric="palette", colormap=colours)
    np.testing.assert_array_equal(read_values(data, None), (colours >> 8).T[values])
    turned = encoded(values, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_values(turned, None)[..., 0], np.rot90(values, -1))
    assert read_header(turned)[:2] == (6, 8)
    unknown = encoded(values, photometric="minisblack", extratags=[(274, "H", 1, 9, True)])
    np.testing.assert_array_equal(read_values(unknown, None)[..., 0], values)


def test_alpha_of_white_as_zero_is_not_turned_round():
    grey, opaque = random_pixels(6, 8), np.full((6, 8), 255, np.uint8)
    target = Target(6, 8, 1)
    for alpha, expected in ((opaque, 255 - grey), (opaque * 0, opaque)):
        values = np.stack([grey, alpha], 2)
        data = encoded(values, photometric="miniswhite", planarconfig="contig", extrasamples=["unassalpha"])
        np.testing.assert_array_equal(read_picture(data, target).pixels[0, 0, ..., 0], expected)


@pytest.mark.parametrize(("kinds", "alpha"), [((2, 0), 3), ((0, 2), 4), ((2, 2), 3), ((0, 0), None)])
def test_alpha_is_left_out_wherever_it_stands(kinds, alpha):
    values = np.moveaxis(planes(5), 0, 2)
    data = encoded(values, photometric="rgb", planarconfig="contig", extrasamples=kinds)
    kept = [channel for channel in range(5) if channel != alpha]
    assert read_header(data).channels == len(kept)
    np.testing.assert_array_equal(read_values(data, None), values[..., kept])
    np.testing.assert_array_equal(read_values(data, (3, 4)), values[..., 3:])


def test_every_page_that_is_a_channel_leaves_its_alpha_out():
    pages = random_pixels(3, 6, 8, 2)
    layout = {"planarconfig": "contig", "extrasamples": [2], "metadata": {"axes": "CYXS"}}
    data = encoded(pages, photometric="minisblack", **layout)
    np.testing.assert_array_equal(read_values(data, None), np.moveaxis(pages[..., 0], 0, 2))


@pytest.mark.parametrize(("mode", "name"), [("YCbCr", "YCBCR"), ("CMYK", "SEPARATED"), ("LAB", "CIELAB")])
def test_other_colours_are_refused_by_name(mode, name):
    from PIL import Image

    picture = Image.fromarray(random_pixels(8, 8, 3))
    buffer = io.BytesIO()
    (Image.fromarray(random_pixels(8, 8, 3), "LAB") if mode == "LAB" else picture.convert(mode)).save(buffer, "TIFF")
    with pytest.raises(DataError, match=rf"^its colours are {name}; save it as grey or RGB$"):
        read_values(buffer.getvalue(), None)


def test_one_range_for_a_folder_and_for_later_ones(tmp_path):
    """A hot pixel does not decide on the range, and a later folder is scaled by the range of the first."""
    first, later = tmp_path / "first", tmp_path / "later"
    first.mkdir(), later.mkdir()
    for i in range(20):
        values = planes(1, 32, 32, seed=i)[0]
        values[0, 0] = 65535 if i == 3 else values[0, 0]
        tifffile.imwrite(first / f"{i:02d}.tif", values)
    tifffile.imwrite(later / "dim.tif", np.full((32, 32), 1024, np.uint16))
    images = load_images(first)
    low, high = images.pixel_range
    assert 0 <= low < 30
    assert 4060 < high < 4096
    assert any(note.startswith(f"values of {low:g} to {high:g} (percentiles 0.1 and 99.9") for note in images.notes)
    assert images.images[3, 0, 0, 0] == 255
    again = load_images(later, pixel_range=images.pixel_range)
    assert set(again.images.ravel()) == {round((1024 - low) / (high - low) * 255)}
    assert again.pixel_range == images.pixel_range


def test_every_channel_has_its_own_range_but_colours_have_one(tmp_path):
    for channels in (3, 4):
        folder = tmp_path / str(channels)
        folder.mkdir()
        for i in range(3):
            values = planes(channels, seed=i) // np.array([1, 10, 1, 100][:channels])[:, None, None]
            data = np.moveaxis(values, 0, 2).astype(np.uint16)
            kind = "rgb" if channels == 3 else "minisblack"
            tifffile.imwrite(folder / f"{i}.tif", data, photometric=kind, planarconfig="contig")
        images = load_images(folder)
        tops = images.images.reshape(-1, channels).max(0)
        if channels == 3:
            assert tops[0] == 255
            assert 20 <= tops[1] <= 30
        else:
            assert tops.tolist() == [255] * 4
            assert [round(high, -1) for high in images.pixel_range[1]] == [4080, 410, 4080, 40]


def test_channels_are_picked_from_pictures_and_arrays_alike(tmp_path):
    folder = tmp_path / "seven"
    folder.mkdir()
    stack = np.stack([np.moveaxis(planes(7, seed=i), 0, 2) for i in range(4)])
    for i, values in enumerate(stack):
        tifffile.imwrite(folder / f"{i}.tif", values, planarconfig="contig", photometric="minisblack")
    np.save(tmp_path / "seven.npy", stack)
    np.save(tmp_path / "bytes.npy", stack.astype(np.uint8))
    assert load_images(folder).image_shape == (12, 10, 7)
    some, same = (load_images(source, channels=(4, 0)) for source in (folder, tmp_path / "seven.npy"))
    np.testing.assert_array_equal(some.images, same.images)
    assert some.pixel_range == same.pixel_range
    assert some.reading == same.reading == {"channels": [4, 0]}
    assert "channels 4, 0" in some.notes[0]
    bytes_ = load_images(tmp_path / "bytes.npy", channels=(4, 0))
    np.testing.assert_array_equal(bytes_.images, stack.astype(np.uint8)[..., [4, 0]])
    for source in (folder, tmp_path / "seven.npy", tmp_path / "bytes.npy"):
        with pytest.raises(DataError, match="has 7 channels, numbered from 0; channel 7 was asked for"):
            load_images(source, channels=(0, 7))
    with pytest.raises(SettingsError, match="1 to 16 different channels"):
        load_images(folder, channels=(1, 1))


def test_pictures_with_different_channels_are_refused_until_some_are_picked(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", planes(4), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", planes(7), photometric="minisblack")
    with pytest.raises(DataError, match=r"pictures have 4 or 7 channels; pick those that all have with --channels"):
        load_images(tmp_path)
    assert load_images(tmp_path, channels=(1, 3)).image_shape == (12, 10, 2)
    tifffile.imwrite(tmp_path / "c.tif", planes(40), photometric="minisblack")
    with pytest.raises(DataError, match="40 channels; pick at most 16"):
        load_images(tmp_path)


def test_sizes_are_scaled_on_the_numbers_and_padded(tmp_path):
    tifffile.imwrite(tmp_path / "wide.tif", np.full((4, 20, 40), 100, np.uint16), photometric="minisblack")
    tifffile.imwrite(tmp_path / "tall.tif", np.full((4, 60, 20), 300, np.uint16), photometric="minisblack")
    images = load_images(tmp_path, image_size=16)
    assert images.image_shape == (16, 16, 4)
    assert images.images[0].min() == 255  # the border's median fills what is left over
    assert images.images[1].max() == 0


def test_a_stack_is_refused_in_a_folder_and_read_as_a_file(tmp_path):
    values = np.stack([planes(4, seed=i) for i in range(3)])
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, values, metadata={"axes": "TCYX"}, ome=True)
    with pytest.raises(DataError, match=r"stack\.ome\.tif: is a stack of 3 pictures \(axes TCYX"):
        load_images(tmp_path)
    images = load_images(path)
    assert list(images.ids) == ["0", "1", "2"]
    assert images.image_shape == (12, 10, 4)
    few = load_images(path, limit=2)
    assert len(few.ids) == 2
    assert list(few.ids) == sorted(few.ids)
    for found in (images, few):
        low, high = (np.array(bound) for bound in found.pixel_range)
        chosen = np.moveaxis(values[[int(i) for i in found.ids]], 1, 3)
        assert np.abs(found.images - np.rint((chosen.clip(low, high) - low) / (high - low) * 255)).max() <= 1
    pages = tmp_path / "pages.tif"
    tifffile.imwrite(pages, planes(7), photometric="minisblack", metadata=None)
    assert load_images(pages).images.shape == (7, 12, 10, 1)
    single = tmp_path / "single.tif"
    tifffile.imwrite(single, planes(1)[0])
    with pytest.raises(DataError, match="is a single picture; name the folder"):
        load_images(single)
    tifffile.imwrite(single, planes(20), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(DataError, match="is a single picture of 20 channels; name the folder"):
        load_images(single)


@pytest.mark.parametrize("imagej", [False, True], ids=["pages", "one page for all"])
def test_a_stack_is_opened_once_however_many_pictures_it_holds(tmp_path, monkeypatch, imagej):
    """Its reader takes a look at all pages: opened anew for each of 500 pictures it took two minutes."""
    opened = []
    original = tifffile.TiffFile.__init__

    def counted(self, *args, **kwargs):
        opened.append(args)
        original(self, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counted)
    values = planes(300)
    options = {"imagej": True, "metadata": {"axes": "ZYX"}} if imagej else {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "stack.tif", values, **options)
    images = load_images(tmp_path / "stack.tif", pixel_range=(0, 4096))
    assert len(opened) == 1
    np.testing.assert_array_equal(images.images[..., 0], np.rint(values / 4096 * 255).astype(np.uint8))


def test_frames_between_whose_axes_channels_lie(tmp_path):
    """In one page for all: of a copy of all pictures for each of them 500 took a minute and 4 GB."""
    values = np.random.default_rng(0).integers(0, 4096, (4, 2, 3, 12, 10)).astype(np.uint16)
    options = {"photometric": "minisblack", "metadata": {"axes": "TCZYX"}, "truncate": True}
    tifffile.imwrite(tmp_path / "stack.tif", values, **options)
    images = load_images(tmp_path / "stack.tif", pixel_range=(0, 4096)).images
    np.testing.assert_array_equal(images, np.rint(np.moveaxis(values, 1, 4) / 4096 * 255).reshape(12, 12, 10, 2))


OME = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0"
DimensionOrder="XYCZT" Type="uint8" SizeX="{}" SizeY="{}" SizeC="1" SizeZ="1" SizeT="{}"><TiffData/></Pixels></Image>
</OME>"""


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.53t\nimages=12\nslices=12\nloop=false\n",
        '{"shape": [12, 40, 48]}',
        OME.format(96, 80, 1),
        OME.format(48, 40, 12),
        OME.format(48, 40, 1).replace("<Image ", "<Image a='&' "),
    ],
    ids=["imagej", "shaped", "ome of another size", "ome of more pages", "ome that is no xml"],
)
def test_a_description_of_other_pages_is_ignored(tmp_path, description):
    """As programs leave it that take a stack apart or scale it."""
    values = np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
    for i in range(2):
        tifffile.imwrite(
            tmp_path / f"{i}.tif", values, photometric="minisblack", metadata=None, description=description
        )
    images = load_images(tmp_path)
    np.testing.assert_array_equal(images.images[0, ..., 0], values)
    assert "2 pictures: description of other pages than it has ignored" in images.notes


def test_what_stands_for_no_data_does_not_decide_on_the_range(tmp_path):
    values = np.random.default_rng(0).normal(500, 100, (3, 16, 16)).astype(np.float32)
    values[:, :5] = -9999
    tag = [(42113, 2, 0, "-9999", True)]
    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", values[i], metadata=None, extratags=tag)
    images = load_images(tmp_path)
    assert images.pixel_range[0] > 0
    assert (images.images[:, :5] < 60).all()  # of noise, the smallest number of a picture
    assert "3 pictures: pixels without data taken for its darkest" in images.notes
    tifffile.imwrite(tmp_path / "1.tif", np.full((16, 16), -9999, np.float32), metadata=None, extratags=tag)
    with pytest.raises(DataError, match=r"1\.tif: has no pixels with data"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "text", "found"),
    [
        ("uint8", "-9999", [0, 7, 241, 255]),
        ("uint8", "256", [0, 7, 241, 255]),
        ("uint8", "1e38", [0, 7, 241, 255]),
        ("int16", "240.5", [0, 7, 241, 255]),
        ("uint8", "nan", [0, 7, 241, 255]),
        ("uint8", "241.0", [0, 7, 0, 255]),
        ("float32", "241", [0, 7, 0, 255]),
        ("float32", "-1.7976931348623157e+308", [0, 7, 241, 255]),
    ],
)
@pytest.mark.filterwarnings("error")
def test_no_data_is_a_number_that_pixels_can_be(dtype, text, found):
    values = np.tile(np.array([0, 7, 241, 255], dtype), (4, 1))
    data = encoded(values, metadata=None, extratags=[(42113, 2, 0, text, True)])
    assert read_values(data, None)[0, :, 0].tolist() == found


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack"},
        {"photometric": "minisblack", "metadata": None},
        {"metadata": {"axes": "CYX"}, "ome": True},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"photometric": "minisblack", "compression": "zlib", "tile": (16, 16)},
    ],
    ids=str,
)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, options):
    """tifffile itself reads some of these as fewer channels, or fills in zeros."""
    data = encoded(planes(7, 24, 20), **options)
    for share in np.linspace(0.01, 0.97, 25):
        (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match=r"cut\.tif"):
            load_images(tmp_path, channels=(0, 3))


def test_a_lying_header_is_refused_before_memory_is_taken(tmp_path):
    data = bytearray(encoded(planes(1, 16, 16)[0], photometric="minisblack", metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        offsets = {name: tiff.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")}
    for name, value, text in (
        ("ImageLength", 60_000, "damaged|claims|bytes"),
        ("ImageWidth", 65_535, "damaged|claims|bytes"),
    ):
        lying = bytearray(data)
        lying[offsets[name] : offsets[name] + 2] = struct.pack("<H", value)
        (tmp_path / "lies.tif").write_bytes(lying)
        with pytest.raises(DataError, match=rf"lies\.tif: .*({text})"):
            load_images(tmp_path)
    for offset in offsets.values():
        data[offset : offset + 2] = struct.pack("<H", 60_000)
    (tmp_path / "lies.tif").write_bytes(data)
    with pytest.raises(DataError, match=r"lies\.tif: claims more than the 89,478,485 pixels"):
        load_images(tmp_path)


def test_numbers_that_are_none_are_refused(tmp_path):
    values = np.ones((8, 8), np.float32)
    values[3, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", values)
    tifffile.imwrite(tmp_path / "good.tif", np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8))
    with pytest.raises(DataError, match=r"1 of 2 pictures cannot be read: nan\.tif: has pixels that are NaN"):
        load_images(tmp_path)
    assert load_images(tmp_path, skip_bad=True).ids == ["good.tif"]
    tifffile.imwrite(tmp_path / "nan.tif", np.ones((8, 8), np.complex64))
    with pytest.raises(DataError, match=r"nan\.tif: its pixels are complex64"):
        load_images(tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_give_only_data_errors(tmp_path, data):
    good = bytearray(encoded(planes(4, 16, 16), photometric="minisblack", metadata={"axes": "CYX"}, ome=True))
    for place in data.draw(st.lists(st.integers(0, 600), min_size=1, max_size=4)):
        good[place] = data.draw(st.integers(0, 255))
    (tmp_path / "a.tif").write_bytes(good)
    refusal = ""
    try:
        assert len(load_images(tmp_path)) == 1
    except DataError as error:
        refusal = str(error)
    assert not refusal or "a.tif" in refusal


@pytest.mark.parametrize(("package", "extra"), [("tifffile", "tiff"), ("astropy.io", "fits")])
def test_a_missing_package_is_named_in_one_line(tmp_path, monkeypatch, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    data = encoded(planes(1)[0]) if extra == "tiff" else b"SIMPLE  = T"
    for i in range(20):
        (tmp_path / f"{i}.tif").write_bytes(data)
    with pytest.raises(MissingPackageError, match=rf"^\w+ needs \w+: pip install 'clusterloom\[{extra}\]'$"):
        load_images(tmp_path, skip_bad=True)


# FITS


def test_fits_is_read_upright_and_with_its_scale(tmp_path):
    values = np.random.default_rng(0).normal(1000, 50, (12, 10)).astype(np.float32)
    np.testing.assert_array_equal(read_values(fits_bytes(values), None)[..., 0], values[::-1])
    unsigned = planes(4)  # FITS has no unsigned numbers: BZERO shifts them
    np.testing.assert_array_equal(read_values(fits_bytes(unsigned), None), np.moveaxis(unsigned, 0, 2)[::-1])
    for i in range(3):
        (tmp_path / f"{i}.fits").write_bytes(fits_bytes(values + i))
    images = load_images(tmp_path)
    assert images.image_shape == (12, 10, 1)
    assert 800 < images.pixel_range[0] < 900


def test_a_packed_fits_image_behind_an_empty_one_is_found():
    fits = pytest.importorskip("astropy.io.fits")
    noise = planes(1, 32, 32, dtype=np.int16)[0]
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.int16)  # becomes smaller than its header claims
    for values in (noise, smooth):
        buffer = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type="RICE_1")]).writeto(buffer)
        np.testing.assert_array_equal(read_values(buffer.getvalue(), None)[..., 0], values[::-1])


def test_a_fits_cube_is_channels_in_a_folder_and_frames_as_a_file(tmp_path):
    cube = planes(5)
    (tmp_path / "cube.fits").write_bytes(fits_bytes(cube))
    assert load_images(tmp_path).image_shape == (12, 10, 5)
    frames = load_images(tmp_path / "cube.fits")
    assert frames.images.shape == (5, 12, 10, 1)


def test_a_packed_fits_cube_is_unpacked_once(tmp_path):
    """Its tile is of all planes: unpacked anew for each of 500 it took minutes."""
    fits = pytest.importorskip("astropy.io.fits")
    cube = planes(300)
    packed = fits.CompImageHDU(cube.astype(np.int16), compression_type="RICE_1", tile_shape=cube.shape)
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "cube.fits")
    images = load_images(tmp_path / "cube.fits", pixel_range=(0, 4096)).images
    np.testing.assert_array_equal(images[..., 0], np.rint(cube[:, ::-1] / 4096 * 255).astype(np.uint8))


def test_fits_inside_gzip(tmp_path):
    cube = planes(5)
    path = tmp_path / "cube.fits.gz"
    path.write_bytes(gzip.compress(fits_bytes(cube)))
    expected = np.rint(cube[:, ::-1] / 4096 * 255).astype(np.uint8)
    np.testing.assert_array_equal(load_images(path, pixel_range=(0, 4096)).images[..., 0], expected)
    assert load_images(tmp_path).image_shape == (12, 10, 5)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cube\.fits\.gz"):
        load_images(tmp_path)
    (tmp_path / "renamed.fits").write_bytes(gzip.compress(fits_bytes(cube)))
    path.unlink()
    assert load_images(tmp_path).image_shape == (12, 10, 5)


def test_truncated_fits_is_refused(tmp_path):
    data = fits_bytes(planes(4, 40, 40))
    for share in np.linspace(0.001, 0.9, 12):
        (tmp_path / "cut.fits").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match=r"cut\.fits"):
            load_images(tmp_path, channels=(0, 1))


# Tiles


def test_pictures_are_cut_into_tiles_that_know_their_place(tmp_path):
    values = random_pixels(40, 70)
    tifffile.imwrite(tmp_path / "a#1.tif", values, photometric="minisblack")
    images = load_images(tmp_path, tile=16)
    assert images.image_shape == (16, 16, 1)
    assert images.ids == [f"a#1.tif#{row},{column}" for row in range(2) for column in range(4)]
    assert images.reading == {"tile": 16}
    for row in range(2):
        for column in range(4):
            expected = values[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
            np.testing.assert_array_equal(images.images[row * 4 + column, ..., 0], expected)
    alone = load_images(tmp_path / "a#1.tif", tile=16)
    assert alone.ids == images.ids
    np.testing.assert_array_equal(alone.images, images.images)
    assert load_images(tmp_path, tile=16, image_size=8).image_shape == (8, 8, 1)
    with pytest.raises(DataError, match=r"a#1\.tif: is 40 x 70 pixels, smaller than a tile of 64"):
        load_images(tmp_path, tile=64)
    with pytest.raises(SettingsError, match="tile is 2; expected a side from 4"):
        load_images(tmp_path, tile=2)
    with pytest.raises(DataError, match="tiles are cut from pictures"):
        load_images("digits", tile=4)


def test_deep_tiles_share_one_range_and_several_channels(tmp_path):
    for i in range(2):
        tifffile.imwrite(tmp_path / f"{i}.tif", planes(4, 33, 33, seed=i), photometric="minisblack")
    images = load_images(tmp_path, tile=16)
    assert images.images.shape == (8, 16, 16, 4)
    whole = load_images(tmp_path, image_size=33, pixel_range=images.pixel_range)
    np.testing.assert_array_equal(images.images[3], whole.images[0, 16:32, 16:32])


def test_the_log_of_tifffile_is_withheld_only_while_a_file_is_read(caplog):
    whole = encoded(planes(1)[0])
    damaged = whole[:-200]
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_values(damaged, None)
    with open_tiff(io.BytesIO(whole), is_stack=False) as picture:
        assert not caplog.messages
        tifffile.logger().warning("while it is open")
        picture.read(0, [], False)
    tifffile.logger().warning("afterwards")
    assert caplog.messages == ["while it is open", "afterwards"]
