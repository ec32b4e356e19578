"""Folders of pictures: the conversion rule by known values, damaged and hostile files, labels, the cache."""

import io
import os
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from data_helpers import peak_of_loading, random_pixels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from clusterloom.data import load_images
from clusterloom.data.convert import convert
from clusterloom.data.one_picture import Target, read_picture
from clusterloom.errors import DataError, SettingsError
from clusterloom.figures import cluster_count_plot
from clusterloom.pictures import png_bytes
from clusterloom.recipe.cluster_count.evidence import Evidence

ODD_NAMES = ["<img src=x onerror=alert(1)>.png", "new\nline.png", os.fsdecode(b"latin-\xe9.png"), "spa ce.png", "ü.png"]
FIXTURES_ONCE = [HealthCheck.function_scoped_fixture]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path_factory.mktemp("cache")))


def save(folder, name, pixels=None, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (
        pixels
        if isinstance(pixels, Image.Image)
        else Image.fromarray(random_pixels(8, 8) if pixels is None else pixels)
    )
    image.save(path, **options)
    return path


def png_claiming(width, height):
    """A PNG of a few bytes whose header claims any size."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def truncated_jpeg():
    buffer = io.BytesIO()
    Image.fromarray(random_pixels(64, 64, 3)).save(buffer, "JPEG")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def assert_read_or_refused(folder):
    """Whatever a.png holds, it is read as one picture or refused by name."""
    refusal = ""
    try:
        assert len(load_images(folder)) == 1
    except DataError as error:
        refusal = str(error)
    assert not refusal or "a.png" in refusal


# The conversion rule


def test_grey_pixels_survive_unchanged(tmp_path):
    first, second = random_pixels(8, 6, seed=1), random_pixels(8, 6, seed=2)
    save(tmp_path, "b.png", second)
    save(tmp_path, "a.bmp", first)
    images = load_images(tmp_path)
    assert images.ids == ["a.bmp", "b.png"]
    np.testing.assert_array_equal(images.images[..., 0], [first, second])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3]), st.sampled_from(["PNG", "BMP", "PPM", "WEBP"]))
def test_lossless_formats_round_trip(height, width, channels, kind):
    pixels = random_pixels(height, width, channels, seed=height * width)
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(buffer, kind, lossless=True)
    read = read_picture(buffer.getvalue(), Target(height, width, channels))
    np.testing.assert_array_equal(read.pixels[0, 0], pixels)
    assert read.steps in ([], ["colour turned grey"])  # WebP has no grey: it stores RGB


def test_alpha_is_composited_on_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = 200, [[0, 255], [128, 64]]
    red = convert(Image.fromarray(pixels), 2, 2, 3)[0]
    assert red[0, 0].tolist() == [255, 255, 255]
    assert red[0, 1].tolist() == [200, 0, 0]
    expected = [200 * 128 / 255 + 127, 127, 127]
    np.testing.assert_allclose(red[1, 0], expected, atol=1)


def test_grey_with_alpha_stays_grey(tmp_path):
    pixels = np.full((8, 8, 2), 100, np.uint8)
    pixels[0, 0, 1], pixels[1:, :, 1] = 0, 255
    save(tmp_path, "a.png", pixels)
    images = load_images(tmp_path)
    assert images.image_shape == (8, 8, 1)
    assert (images.images[0, 0, 0, 0], images.images[0, 5, 5, 0]) == (255, 100)
    assert any("transparency composited on white" in note for note in images.notes)


def test_twelve_bits_are_scaled_by_the_range_of_the_whole_folder(tmp_path):
    """A microscope's 12 bits keep 256 levels, where their high bytes are 16, by one rule for all."""
    save(tmp_path, "a.png", np.linspace(0, 2000, 64).astype(np.uint16).reshape(8, 8))
    save(tmp_path, "b.png", np.linspace(2001, 4095, 64).astype(np.uint16).reshape(8, 8))
    images = load_images(tmp_path)
    expected = np.rint(np.concatenate([np.linspace(0, 2000, 64), np.linspace(2001, 4095, 64)]) * 255 / 4095)
    assert np.abs(images.images.ravel() - expected).max() <= 1
    assert len(np.unique(images.images)) > 100
    assert images.pixel_range == (0, 4095)
    assert "2 pictures: 16-bit grey scaled to 8 bits" in images.notes
    assert "values of 0 to 4095 (percentiles 0.1 and 99.9 of a sample) became 0 to 255" in images.notes
    assert load_images(tmp_path).pixel_range == (0, 4095)  # from the cache
    assert images.head(1).pixel_range == (0, 4095)


def test_a_later_folder_is_scaled_by_the_range_of_the_first(tmp_path):
    save(tmp_path, "dim.png", np.full((8, 8), 819, np.uint16))
    save(tmp_path, "good.png", np.full((8, 8), 4095, np.uint16))
    save(tmp_path, "bright.png", np.full((8, 8), 60_000, np.uint16))
    images = load_images(tmp_path, pixel_range=(0.0, 4095.0))
    assert [images.images[row].max() for row in range(3)] == [255, 51, 255]
    assert images.pixel_range == (0, 4095)
    assert "1 picture: numbers outside 0 to 4095 clipped" in images.notes


def test_a_range_leaves_8_bit_pictures_as_they_are(tmp_path):
    pixels = random_pixels(8, 8)
    save(tmp_path, "a.png", pixels)
    images = load_images(tmp_path, pixel_range=(0, 4095))
    np.testing.assert_array_equal(images.images[0, ..., 0], pixels)
    assert images.pixel_range is None
    assert "8-bit pixels taken as they are" in images.notes[-1]
    save(tmp_path, "b.png", np.full((8, 8), 4095, np.uint16))
    np.testing.assert_array_equal(load_images(tmp_path, pixel_range=(0, 4095)).images[0, ..., 0], pixels)


def test_sixteen_bit_pgm(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 0x1234, 0xFFFF))
    assert load_images(tmp_path).images.ravel().tolist() == [0, 0x12, 0xFF]


def test_sixteen_bits_alone_use_all_of_them():
    """Without a range, as for a picture that is dropped on the page."""
    values = np.array([[0, 255, 256], [32_768, 65_279, 65_535]], np.uint16)
    assert convert(Image.fromarray(values), 2, 3, 1)[0][..., 0].tolist() == [[0, 1, 1], [128, 254, 255]]


def test_floating_point_pixels_are_refused(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"Pf 1 1 -1.0\n" + struct.pack("<f", 0.5))
    with pytest.raises(DataError, match=r"a\.ppm: floating-point"):
        load_images(tmp_path)


def test_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 1, 2])
    save(tmp_path, "a.png", image)
    save(tmp_path, "b.png", image, transparency=0)
    images = load_images(tmp_path).images
    assert images[0].reshape(4, 3).tolist() == [[255, 0, 0], [0, 255, 0], [0, 255, 0], [0, 0, 255]]
    assert images[1].reshape(4, 3).tolist() == [[255, 255, 255], [0, 255, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("orientation", [*range(1, 9), 99])
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_exif_orientation(tmp_path, orientation, kind):
    upright = random_pixels(6, 9, 3)
    # What a camera stores so that the tag turns it upright (EXIF 2.3, tag 0x0112).
    stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: x.swapaxes(0, 1)[::-1],
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: x.swapaxes(0, 1)[:, ::-1],
        99: lambda x: x,
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, f"a.{kind}", np.ascontiguousarray(stored), exif=exif, lossless=True)
    images = load_images(tmp_path)
    np.testing.assert_array_equal(images.images[0], upright)
    assert any("EXIF" in note for note in images.notes) == (orientation not in (1, 99))


def test_tiles_are_cut_from_the_upright_picture_wherever_a_png_says_how_it_stands(tmp_path):
    upright = random_pixels(8, 16, 3)
    save(tmp_path, "a.png", np.ascontiguousarray(upright.swapaxes(0, 1)[::-1]))
    exif = Image.Exif()
    exif[0x0112] = 6
    content, data = (tmp_path / "a.png").read_bytes(), exif.tobytes()[6:]
    end = content.rindex(b"IEND") - 4
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    (tmp_path / "a.png").write_bytes(content[:end] + chunk + content[end:])
    images = load_images(tmp_path, tile=8)
    assert images.ids == ["a.png#0,0", "a.png#0,1"]
    np.testing.assert_array_equal(np.concatenate(images.images, axis=1), upright)


def test_damaged_exif_does_not_spoil_a_picture(tmp_path):
    pixels = random_pixels(8, 8, 3)
    save(tmp_path, "a.png", pixels, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9)
    np.testing.assert_array_equal(load_images(tmp_path).images[0], pixels)


def test_cmyk_becomes_rgb(tmp_path):
    save(tmp_path, "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    np.testing.assert_allclose(load_images(tmp_path).images[0, 4, 4], [255, 0, 0], atol=6)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (8, 8), shade) for shade in (40, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    images = load_images(tmp_path, channels=1)
    assert np.unique(images.images).tolist() == [40]
    assert any("first frame" in note for note in images.notes)


def test_aspect_is_kept_and_padding_is_the_median_border_colour():
    image = Image.new("RGB", (20, 10), (10, 200, 30))
    ImageDraw.Draw(image).rectangle((8, 3, 12, 6), fill=(255, 255, 255))
    pixels, steps = convert(image, 16, 16, 3)
    # Scaled to 16 x 8: four rows of padding above and below.
    assert {tuple(colour) for rows in (pixels[:4], pixels[12:]) for colour in rows.reshape(-1, 3)} == {(10, 200, 30)}
    assert pixels[8, 8].min() > 200
    assert steps == ["scaled to fit", "padded with the median colour of the border"]


def test_padding_is_central_and_ignores_a_minority_on_the_border():
    pixels = np.full((2, 6), 50, np.uint8)
    pixels[0, 0], pixels[1, 5] = 255, 0
    padded = convert(Image.fromarray(pixels), 5, 6, 1)[0][..., 0]
    np.testing.assert_array_equal(padded[1:3], pixels)
    assert np.unique(padded[[0, 3, 4]]).tolist() == [50]


def test_small_pictures_are_scaled_up():
    pixels, _ = convert(Image.fromarray(np.array([[0, 255]], np.uint8)), 8, 8, 1)
    assert (pixels[4, 0, 0], pixels[4, 7, 0]) == (0, 255)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_extreme_shapes(size):
    assert convert(Image.new("L", size, 77), 16, 16, 1)[0].tolist() == np.full((16, 16, 1), 77).tolist()


def test_big_jpeg_is_decoded_small(tmp_path):
    gradient = np.tile(np.linspace(0, 255, 2048).astype(np.uint8), (1024, 1))
    save(tmp_path, "a.jpg", gradient, quality=95)
    images = load_images(tmp_path, image_size=(32, 64))
    expected = np.tile(np.linspace(2, 253, 64), (32, 1))
    np.testing.assert_allclose(images.images[0, ..., 0], expected, atol=4)


# Common size and channels


def test_common_small_size_is_kept(tmp_path):
    for i in range(3):
        save(tmp_path, f"{i}.png", random_pixels(20, 30, 3, seed=i))
    assert load_images(tmp_path).image_shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("sizes", "side"), [([(10, 20), (40, 30), (25, 50)], 40), ([(500, 400)] * 2, 64), ([(2, 3), (3, 2), (1, 1)], 8)]
)
def test_mixed_sizes_become_a_square_of_the_median_longer_side(tmp_path, sizes, side):
    for i, size in enumerate(sizes):
        save(tmp_path, f"{i}.png", random_pixels(*size))
    assert load_images(tmp_path).image_shape == (side, side, 1)


def test_one_colour_picture_makes_all_rgb_unless_channels_say_otherwise(tmp_path):
    grey, colour = random_pixels(8, 8), random_pixels(8, 8, 3)
    save(tmp_path, "a.png", grey)
    save(tmp_path, "b.png", colour)
    images = load_images(tmp_path)
    np.testing.assert_array_equal(images.images[0], np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(images.images[1], colour)
    one_channel = load_images(tmp_path, channels=1, image_size=8).images
    np.testing.assert_array_equal(one_channel[0, ..., 0], grey)
    luma = colour @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(one_channel[1, ..., 0], luma, atol=1)


def test_grey_that_is_stored_as_colours_is_grey_unless_channels_say_otherwise(tmp_path):
    grey = random_pixels(3, 8, 8)
    save(tmp_path, "a.png", grey[0])
    save(tmp_path, "b.png", np.repeat(grey[1][..., None], 3, 2))
    transparent = np.zeros((8, 8, 4), np.uint8)
    transparent[..., 3] = grey[2]
    save(tmp_path, "c.png", transparent)
    images = load_images(tmp_path)
    np.testing.assert_array_equal(images.images[..., 0], [grey[0], grey[1], 255 - grey[2]])
    assert images.image_shape == (8, 8, 1)
    assert "2 pictures: stored as colours, all of them grey" in images.notes
    assert not any("repeated" in note for note in images.notes)
    assert load_images(tmp_path, channels=3).image_shape == (8, 8, 3)
    # One pixel of one picture that is nearly grey is enough.
    nearly = np.repeat(grey[1][..., None], 3, 2)
    nearly[0, 0, 2] ^= 1
    save(tmp_path, "b.png", nearly)
    assert load_images(tmp_path).image_shape == (8, 8, 3)


def test_mixed_folder_is_converted_and_reported(tmp_path):
    save(tmp_path, "grey.png", random_pixels(8, 8))
    save(tmp_path, "rgb.jpg", random_pixels(30, 20, 3))
    save(tmp_path, "rgba.png", random_pixels(8, 8, 4))
    save(tmp_path, "deep.PNG", random_pixels(8, 8).astype(np.uint16) * 257)
    save(tmp_path, "palette.gif", Image.new("P", (9, 9), 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path, "turned.jpeg", random_pixels(8, 16, 3), exif=exif)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "scan.psd").write_bytes(b"8BPS")
    (tmp_path / ".hidden.png").write_bytes(b"")
    images = load_images(tmp_path)
    assert images.ids == ["deep.PNG", "grey.png", "palette.gif", "rgb.jpg", "rgba.png", "turned.jpeg"]
    assert images.image_shape[2] == 3
    text = "\n".join(images.notes)
    for expected in (
        "1 picture: 16-bit grey",
        "2 pictures: grey repeated",
        "1 picture: palette",
        "1 picture: transparency",
        "1 picture: rotated",
        "3 other files or folders ignored",
        "1 .psd",
        "1 hidden",
    ):
        assert expected in text
    assert images.labels is None


# Damaged and hostile files


def test_a_header_that_claims_400_million_pixels_is_refused_at_once(tmp_path):
    save(tmp_path, "good.png")
    (tmp_path / "bomb.png").write_bytes(png_claiming(20_000, 20_000))
    start = time.process_time()
    for options in ({}, {"image_size": 8, "channels": 1}):
        with pytest.raises(DataError, match=r"1 of 2 pictures .* bomb\.png: claims more than the 89,478,485 pixels"):
            load_images(tmp_path, **options)
    assert time.process_time() - start < 1
    grown, outcome = peak_of_loading(tmp_path)
    assert "bomb.png: claims more" in outcome
    assert grown < 30


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_pillows_mere_warning_is_an_error_here(tmp_path):
    """Between one and two times Pillow's limit."""
    (tmp_path / "bomb.png").write_bytes(png_claiming(10_000, 10_000))
    with pytest.raises(DataError, match=r"bomb\.png: claims more"):
        load_images(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"8BPS\0\1",
        b"",
    ],
)
def test_other_formats_named_png_are_refused(tmp_path, content):
    (tmp_path / "fake.png").write_bytes(content)
    with pytest.raises(DataError, match=r"fake\.png: not one of the formats BMP, .*, WEBP, TIFF and FITS"):
        load_images(tmp_path)


def test_truncated_jpeg_is_listed_or_skipped(tmp_path):
    good = random_pixels(64, 64, 3)
    save(tmp_path, "good.png", good)
    (tmp_path / "cut.jpg").write_bytes(truncated_jpeg())
    with pytest.raises(DataError, match=r"1 of 2 pictures cannot be read: cut\.jpg: .*truncated.*--skip-bad"):
        load_images(tmp_path)
    images = load_images(tmp_path, skip_bad=True)
    assert images.ids == ["good.png"]
    np.testing.assert_array_equal(images.images[0], good)
    assert any(note.startswith("1 skipped: cut.jpg:") for note in images.notes)


def test_ten_bad_files_are_listed_and_the_rest_counted(tmp_path):
    for i in range(13):
        (tmp_path / f"{i:02}.jpg").write_bytes(truncated_jpeg())
    with pytest.raises(DataError, match=r"none of the 13 .*00\.jpg.*09\.jpg and 3 more: image file is tr") as caught:
        load_images(tmp_path)
    assert "10.jpg" not in str(caught.value)
    assert "--skip-bad" not in str(caught.value)
    with pytest.raises(DataError, match="none of the 13 pictures can be read"):
        load_images(tmp_path, skip_bad=True)


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"GIF89a", b"RIFF\x20\0\0\0WEBPVP8 ", b"P6 "]
    ),
    st.binary(max_size=200),
)
def test_arbitrary_bytes_give_only_data_errors(tmp_path, magic, rest):
    (tmp_path / "a.png").write_bytes(magic + rest)
    assert_read_or_refused(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURES_ONCE)
@given(st.data())
def test_mutated_pictures_give_only_data_errors(tmp_path, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM"]))
    content = bytearray(save(tmp_path, "a.png", random_pixels(8, 8, 3), format=kind).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.png").write_bytes(content)
    assert_read_or_refused(tmp_path)


def test_odd_names_survive(tmp_path):
    """Markup, newlines and bytes that are not UTF-8, on the reader's side."""
    for i, name in enumerate(ODD_NAMES):
        save(tmp_path, name, np.full((8, 8), i, np.uint8))
    images = load_images(tmp_path)
    assert images.ids == sorted(ODD_NAMES)
    assert [ODD_NAMES[pixel] for pixel in images.images[:, 0, 0, 0]] == images.ids
    assert load_images(tmp_path).ids == images.ids  # from the cache


def test_odd_names_are_escaped_in_messages_and_notes(tmp_path):
    save(tmp_path, "good.png")
    for name in ODD_NAMES:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        load_images(tmp_path)
    notes = load_images(tmp_path, skip_bad=True).notes
    for line in (str(caught.value), *notes):
        assert line.isprintable()
        line.encode("utf-8")
    assert "new\\nline.png" in str(caught.value)


def test_empty_folder(tmp_path):
    (tmp_path / "a.psd").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no pictures \(\.bmp.*1 other files or folders ignored \(1 \.psd\)"):
        load_images(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path):
    target = save(tmp_path / "elsewhere", "x.png")
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "link.png").symlink_to(target)
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    images = load_images(folder)
    assert images.ids == ["linked/x.png", "sub/link.png"]


@pytest.mark.parametrize("make", ["dangling", "self", "pipe"])
def test_what_cannot_be_opened_is_named(tmp_path, make):
    save(tmp_path, "good.png")
    bad = tmp_path / "bad.png"
    if make == "pipe":
        os.mkfifo(bad)
    else:
        bad.symlink_to("bad.png" if make == "self" else "nowhere.png")
    with pytest.raises(DataError, match=r"bad\.png"):
        load_images(tmp_path)
    assert load_images(tmp_path, skip_bad=True).ids == ["good.png"]


def test_unreadable_file_is_named(tmp_path, monkeypatch):
    save(tmp_path, "secret.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")  # as root, no file mode would do this

    monkeypatch.setattr("clusterloom.data.pictures.open", refuse, raising=False)
    with pytest.raises(DataError, match=r"secret\.png: Permission denied"):
        load_images(tmp_path)


# Labels and limits


def test_sub_folders_are_classes(tmp_path):
    for name in ("cat/a.png", "cat/deep/b.png", "dog/c.png"):
        save(tmp_path, name)
    images = load_images(tmp_path)
    assert images.ids == ["cat/a.png", "cat/deep/b.png", "dog/c.png"]
    assert (images.class_names, images.labels.tolist()) == (("cat", "dog"), [0, 0, 1])


@pytest.mark.parametrize("names", [["cat/a.png", "b.png"], ["cat/a.png", "cat/b.png"], ["a.png"]])
def test_no_classes_unless_all_pictures_lie_in_two_sub_folders(tmp_path, names):
    for name in names:
        save(tmp_path, name)
    images = load_images(tmp_path)
    assert (images.labels, images.class_names) == (None, ())


def test_labels_follow_when_pictures_are_skipped(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        save(tmp_path, name)
    (tmp_path / "a/1.png").write_bytes(b"x")
    images = load_images(tmp_path, skip_bad=True)
    assert (images.ids, images.labels.tolist()) == (["a/2.png", "b/1.png"], [0, 1])


def test_limit_reads_the_chosen_files_alone(tmp_path):
    for i in range(30):
        save(tmp_path, f"{'ab'[i % 2]}/{i:02}.png", np.full((8, 8), i, np.uint8))
    images = load_images(tmp_path, limit=10)
    full = load_images(tmp_path)
    assert images.ids == list(full.head(10).ids)
    np.testing.assert_array_equal(images.images, full.head(10).images)
    np.testing.assert_array_equal(images.labels, full.head(10).labels)
    assert full.head(10).notes[-1] in images.notes


# The cache


def test_entries_that_were_not_used_for_long_make_room(tmp_path, monkeypatch):
    for name in "abcd":
        save(tmp_path / name, "a.bmp", random_pixels(64, 64, 3))
    load_images(tmp_path / "a")
    (first,) = entries()
    load_images(tmp_path / "b")
    (second,) = set(entries()) - {first}
    os.utime(first, (1000, 1000))
    os.utime(second, (2000, 2000))
    load_images(tmp_path / "a")  # now the second is the one that was not used for the longest time
    monkeypatch.setattr("clusterloom.data.cache._in_use", set())  # as in a new process
    monkeypatch.setenv("CLUSTERLOOM_CACHE_GB", "3e-5")  # two entries of 12 KB and what lies beside them
    load_images(tmp_path / "c")
    assert first in entries()
    assert second not in entries()
    assert len(entries()) == 2


def test_entries_in_use_stay_whatever_the_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE_GB", "0")
    pixels = [random_pixels(8, 8, seed=i) for i in range(2)]
    for name, picture in zip("ab", pixels, strict=True):
        save(tmp_path / name, "a.png", picture)
    kept = [load_images(tmp_path / name) for name in "ab"]
    assert len(entries()) == 2
    np.testing.assert_array_equal([images.images[0, ..., 0] for images in kept], pixels)


def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTERLOOM_CACHE_GB", "lots")
    save(tmp_path, "a.png")
    with pytest.raises(SettingsError, match="CLUSTERLOOM_CACHE_GB is 'lots'; expected a number of gigabytes"):
        load_images(tmp_path)


def entries():
    return sorted((Path(os.environ["CLUSTERLOOM_CACHE"]) / "images").iterdir())


def test_second_read_decodes_nothing(tmp_path, monkeypatch):
    save(tmp_path, "a.png")
    first = load_images(tmp_path)
    monkeypatch.setattr("clusterloom.data.pictures.read_picture", None)
    monkeypatch.setattr("clusterloom.data.pictures.read_header", None)
    again = load_images(tmp_path)
    np.testing.assert_array_equal(again.images, first.images)
    assert (again.ids, again.notes) == (first.ids, first.notes)


def test_changed_folder_or_settings_are_read_anew(tmp_path):
    save(tmp_path, "a.png", np.full((8, 8), 1, np.uint8))
    assert load_images(tmp_path).images.max() == 1
    save(tmp_path, "a.png", np.full((8, 8), 2, np.uint8))
    assert load_images(tmp_path).images.max() == 2
    save(tmp_path, "b.png", np.full((8, 8), 3, np.uint8))
    assert load_images(tmp_path).images.max() == 3
    assert load_images(tmp_path, image_size=12).image_shape == (12, 12, 1)


def test_two_folders_of_equal_names_sizes_and_times_are_not_confused(tmp_path):
    for name, shade in (("one", 1), ("two", 2)):
        path = save(tmp_path / name, "a.bmp", np.full((8, 8), shade, np.uint8))
        os.utime(path, (0, 0))
    assert load_images(tmp_path / "one").images.max() == 1
    assert load_images(tmp_path / "two").images.max() == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "facts", "missing"])
def test_damaged_entry_is_rebuilt(tmp_path, damage):
    pixels = random_pixels(8, 8)
    save(tmp_path, "a.png", pixels)
    load_images(tmp_path)
    (entry,) = entries()
    content = (entry / "images.npy").read_bytes()
    if damage == "flip":
        (entry / "images.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        (entry / "images.npy").write_bytes(content[:-10])
    elif damage == "facts":
        (entry / "facts.json").write_text("{}")
    else:
        (entry / "images.npy").unlink()
    images = load_images(tmp_path)
    assert images.ids == ["a.png"]
    np.testing.assert_array_equal(images.images[0, ..., 0], pixels)
    assert (entry / "images.npy").read_bytes() == content


def test_readers_at_the_same_time_agree(tmp_path):
    pixels = random_pixels(8, 8)
    save(tmp_path, "a.png", pixels)
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(load_images, [tmp_path] * 12))
    for images in results:
        np.testing.assert_array_equal(images.images[0, ..., 0], pixels)
    assert len(entries()) == 1


def test_failed_reading_leaves_nothing_behind(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(truncated_jpeg())
    with pytest.raises(DataError):
        load_images(tmp_path)
    assert entries() == []


def test_unwritable_cache_falls_back_to_a_temporary_folder(tmp_path, monkeypatch):
    pixels = random_pixels(8, 8)
    save(tmp_path / "pictures", "a.png", pixels)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CLUSTERLOOM_CACHE", str(tmp_path / "file" / "cache"))
    np.testing.assert_array_equal(load_images(tmp_path / "pictures").images[0, ..., 0], pixels)


def test_full_disk_is_a_data_error_and_leaves_nothing(tmp_path, monkeypatch):
    save(tmp_path, "a.png")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clusterloom.data.cache.finish_entry", full)
    with pytest.raises(DataError, match=r"no room.*CLUSTERLOOM_CACHE"):
        load_images(tmp_path)
    assert entries() == []


def test_cache_places(tmp_path, monkeypatch):
    from clusterloom.data.cache import cache_root

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root(tmp_path / "given") == tmp_path / "given"
    assert str(cache_root()) == os.environ["CLUSTERLOOM_CACHE"]
    monkeypatch.delenv("CLUSTERLOOM_CACHE")
    assert cache_root() == tmp_path / "xdg" / "clusterloom"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "clusterloom"


def test_more_pictures_than_one_block_keep_their_order(tmp_path):
    for i in range(300):
        save(tmp_path, f"{i:03}.bmp", np.full((2, 2), i % 256, np.uint8))
    assert load_images(tmp_path).images[:, 0, 0, 0].tolist() == [i % 256 for i in range(300)]


def test_models_and_exports_among_the_pictures_are_not_read(tmp_path):
    """`clusterloom fit . --out model` puts pictures of clusters among the pictures."""
    save(tmp_path, "a.png")
    for file, text in (("config.json", '{"format_version": 3, "settings": {}}'), ("export.json", "not JSON")):
        save(tmp_path, f"model/{file[0]}.png")
        (tmp_path / "model" / file).write_text(text)
    save(tmp_path, "export/images/0.png")
    (tmp_path / "export" / "export.json").write_text('{"clusterloom_export": "huggingface-folder"}')
    save(tmp_path, "web/b.png")
    (tmp_path / "web" / "config.json").write_text('{"name": "a web application"}')
    os.mkfifo(tmp_path / "web" / "export.json")
    images = load_images(tmp_path)
    assert images.ids == ["a.png", "web/b.png"]
    assert any("2 folder that clusterloom made" in note for note in images.notes)
    assert len(load_images(tmp_path / "model")) == 2  # who names it gets it


def test_pictures_that_clusterloom_wrote_are_not_read(tmp_path):
    """New images, grids and plots lie wherever `--out` put them, often among the data."""
    for name in ("cat/a.png", "dog/b.png"):
        save(tmp_path, name, random_pixels(8, 8))
    new = Image.fromarray(random_pixels(16, 16, 3))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "00000.png").write_bytes(png_bytes(new))
    (tmp_path / "grid.png").write_bytes(png_bytes(new))
    plot = cluster_count_plot([Evidence(n, 0.5, 0.5) for n in (2, 3)])
    (tmp_path / "plot.png").write_bytes(plot)
    for _ in ("read", "from the cache"):
        images = load_images(tmp_path)
        assert images.ids == ["cat/a.png", "dog/b.png"]
        assert images.image_shape == (8, 8, 1)
        assert images.class_names == ("cat", "dog")
        assert "3 pictures that clusterloom itself wrote left out" in images.notes
    with pytest.raises(DataError, match="no pictures but 1 that clusterloom itself wrote"):
        load_images(tmp_path / "new")


# Looking and telling


def test_small_pictures_are_opened_once(tmp_path, monkeypatch):
    for i in range(5):
        save(tmp_path, f"{i}.png", random_pixels(8, 8, seed=i))
    asked = []

    def counted(*args):
        asked.append(1)
        return open(*args)

    for module in ("pictures", "one_picture"):
        monkeypatch.setattr(f"clusterloom.data.{module}.open", counted, raising=False)
    once = load_images(tmp_path).images
    assert len(asked) == 5
    monkeypatch.setattr("clusterloom.data.pictures._SMALL_BYTES", 0)
    np.testing.assert_array_equal(load_images(tmp_path, image_size=8).images, once)
    assert len(asked) == 15  # larger ones are looked at and read


def test_only_so_many_pictures_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.data.pictures._KEPT_BYTES", 1)
    monkeypatch.setattr("clusterloom.data.decoding._BLOCK", 2)
    pixels = [random_pixels(8, 8, seed=i) for i in range(6)]
    for i, picture in enumerate(pixels):
        save(tmp_path, f"{i}.png", picture)
    np.testing.assert_array_equal(load_images(tmp_path).images[..., 0], pixels)


class Bar:
    """Not to be copied, as a terminal's bar cannot be."""

    def __init__(self):
        self.seen = []

    def __deepcopy__(self, memo):
        raise TypeError("cannot be copied")

    def progress(self, what, done, total):
        self.seen.append((what, done, total))


def test_reading_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterloom.data.decoding._BLOCK", 2)
    for i in range(5):
        save(tmp_path, f"{i}.png", random_pixels(8, 8, seed=i))
    bar = Bar()
    load_images(tmp_path, progress=bar.progress)
    looks = [done for what, done, total in bar.seen if what == "looking at pictures" and total == 5]
    reads = [done for what, done, total in bar.seen if what == "reading pictures" and total == 5]
    assert (looks, reads) == ([2, 4, 5], [2, 4, 5])


def test_dark_and_flat_images_are_noted(tmp_path):
    save(tmp_path / "dark", "a.png", np.tile(np.arange(17, dtype=np.uint8), (8, 1)))
    save(tmp_path / "good", "a.png", np.tile(np.arange(100, dtype=np.uint8), (8, 1)))
    note = "images use 0 to 16 of 255; they are taken as they are"
    assert load_images(tmp_path / "dark").notes[-1] == note
    assert not any("of 255" in line for line in load_images(tmp_path / "good").notes)


def test_a_defect_of_ours_is_no_bad_picture(tmp_path, monkeypatch):
    save(tmp_path, "a.png")
    monkeypatch.setattr("clusterloom.data.convert.scale_pixels", None)
    monkeypatch.setattr("clusterloom.data.convert.largest_fit", None)
    with pytest.raises(TypeError, match="not callable"):
        load_images(tmp_path, skip_bad=True)
