"""One folder for each cluster: nothing is lost, nothing of the user's is touched, and nothing is ever half there."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from clusterloom.data import ImageSet, load_images
from clusterloom.data.ids import RowIds
from clusterloom.errors import DataError
from clusterloom.export.cluster_folders import check_sort_target, sorting_into

NAMES = ["a.png", "2019/may/a.png", "2019/a.png", "line\nbreak.png", r"back\slash.png"]
LABELS = np.array([0, 0, 2, 2, 0])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for shade, name in enumerate([*NAMES[:-1], NAMES[-1]]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 40 * shade, np.uint8)).save(folder / name)
    os.utime(folder / "a.png", (1000, 1000))
    return folder


@pytest.fixture
def images(photos):
    return ImageSet(np.zeros((5, 8, 8, 1), np.uint8), NAMES, None, (), "photos", ())


def sort_into(folder, images, labels, source, **options):
    """In blocks of two."""
    with sorting_into(folder, source, **options) as sort:
        for start, block in zip(range(0, len(images), 2), images.blocks(2), strict=True):
            sort.add(block, labels[start : start + 2])


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}


def test_files_are_copied_under_their_own_names_and_sub_folders(photos, images, tmp_path):
    out = tmp_path / "sorted"
    sort_into(out, images, LABELS, photos)
    wanted = {f"cluster-{k}/{name}" for k, name in zip(LABELS, NAMES, strict=True)}
    found = files_in(out)
    assert set(found) == wanted | {"export.json"}
    for k, name in zip(LABELS, NAMES, strict=True):
        copy = out / f"cluster-{k}" / name
        assert copy.read_bytes() == (photos / name).read_bytes()
        assert not copy.is_symlink()
    assert (out / "cluster-0" / "a.png").stat().st_mtime == 1000
    assert sorted(os.listdir(tmp_path)) == ["photos", "sorted"]


def test_links_lead_to_the_originals_wherever_one_stands(photos, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    sort_into(tmp_path / "elsewhere" / "sorted", images, LABELS, photos.relative_to(tmp_path), link=True)
    link = tmp_path / "elsewhere" / "sorted" / "cluster-2" / "2019" / "a.png"
    assert link.is_symlink()
    assert link.resolve() == photos / "2019" / "a.png"


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_without_files_become_png_files_named_by_their_ids(channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels)).astype(np.uint8)
    sort_into(tmp_path / "s", ImageSet(pixels, RowIds(range(4)), None, (), "x", ()), np.array([1, 0, 1, 1]), None)
    assert set(files_in(tmp_path / "s")) == {
        *(f"cluster-1/{i}.png" for i in (0, 2, 3)),
        "cluster-0/1.png",
        "export.json",
    }
    if channels in (1, 3):
        again = load_images(tmp_path / "s")  # they are data, not clusterloom's own work
        assert len(again) == 4
        np.testing.assert_array_equal(again.images[0], pixels[1])


def test_no_id_leads_out_of_the_folder_and_no_two_become_one(tmp_path):
    ids = ["../../evil", "/etc/passwd", "..", "a/b", "a%2Fb", "a", "a.png", "A", "x" * 300, "x" * 301, ".hidden", "\n"]
    pixels = np.zeros((len(ids), 8, 8, 1), np.uint8)
    pixels += np.arange(len(ids), dtype=np.uint8)[:, None, None, None]
    sort_into(tmp_path / "s", ImageSet(pixels, ids, None, (), "x", ()), np.zeros(len(ids), int), None)
    found = files_in(tmp_path / "s" / "cluster-0")
    assert {np.asarray(Image.open(path))[0, 0] for path in found.values()} == set(range(len(ids)))
    assert all("/" not in name and name.isprintable() and not name.startswith(".") for name in found)
    assert sorted(os.listdir(tmp_path)) == ["s"]
    with pytest.raises(DataError, match="no path inside"):
        sort_into(tmp_path / "t", ImageSet(pixels[:1], ["../x"], None, (), "x", ()), np.zeros(1, int), tmp_path / "p")


def test_the_folder_of_the_images_is_never_written_to(photos, images, tmp_path):
    (tmp_path / "link").symlink_to(photos)
    for folder in (
        photos,
        photos / "sorted",
        photos / "2019" / "x",
        tmp_path,
        tmp_path / "link" / "x",
        tmp_path / "link",
    ):
        for overwrite in (False, True):
            with pytest.raises(DataError, match="is, holds or lies in the folder of the images"):
                check_sort_target(folder, photos, overwrite)
            with pytest.raises(DataError, match="is, holds or lies in the folder of the images"):
                sort_into(folder, images, LABELS, photos, overwrite=overwrite)
    check_sort_target(tmp_path / "photos-sorted", photos, False)
    assert len(files_in(photos)) == 5


def test_what_a_link_in_the_folder_leads_to_is_not_written_to_either(tmp_path):
    for folder in ("far/album", "photos"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "far" / "album" / "x.png")
    (tmp_path / "photos" / "album").symlink_to(tmp_path / "far" / "album")
    one = ImageSet(np.zeros((1, 8, 8, 1), np.uint8), ["album/x.png"], None, (), "photos", ())
    with pytest.raises(DataError, match="lies in the folder of the images"):
        sort_into(tmp_path / "far" / "album" / "sorted", one, np.zeros(1, int), tmp_path / "photos")


def test_what_is_there_is_replaced_on_request_and_only_if_it_was_sorted(photos, images, tmp_path):
    out = tmp_path / "sorted"
    out.mkdir()
    (out / "dear.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"holds dear\.txt, which this command has not made"):
            sort_into(out, images, LABELS, photos, overwrite=overwrite)
    assert (out / "dear.txt").read_text() == "dear"
    (out / "dear.txt").unlink()
    sort_into(out, images, LABELS, photos)
    with pytest.raises(DataError, match="not an empty folder; choose another, or pass --overwrite"):
        sort_into(out, images, LABELS, photos)
    (out / "cluster-0" / ".DS_Store").write_bytes(b"")  # a file manager looked at it
    sort_into(out, images, 2 - LABELS, photos, overwrite=True)
    assert set(files_in(out)) == {*(f"cluster-{2 - k}/{n}" for k, n in zip(LABELS, NAMES, strict=True)), "export.json"}
    # Sorted on by hand: what lies where no call has put it is somebody's work.
    (out / "cluster-2" / "a.png").rename(out / "cluster-0" / "a.png")
    with pytest.raises(DataError, match=r"holds cluster-0/a\.png"):
        sort_into(out, images, LABELS, photos, overwrite=True)


def test_a_list_of_files_from_elsewhere_allows_nothing(photos, images, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dear.bin").write_bytes(b"dear")
    for kind, files in (("tensorboard", ["dear.bin"]), ("cluster-folders", 5), ("cluster-folders", [5, None])):
        (tmp_path / "models" / "export.json").write_text(json.dumps({"clusterloom_export": kind, "files": files}))
        with pytest.raises(DataError, match="this command has not made"):
            sort_into(tmp_path / "models", images, LABELS, photos, overwrite=True)
    assert (tmp_path / "models" / "dear.bin").read_bytes() == b"dear"


def test_a_failure_leaves_what_was_there(photos, images, tmp_path):
    out = tmp_path / "sorted"
    sort_into(out, images, LABELS, photos)
    before = sorted((name, path.stat().st_mtime_ns) for name, path in files_in(out).items())
    (photos / NAMES[3]).unlink()
    with pytest.raises(DataError, match="no longer in the folder"):
        sort_into(out, images, 2 - LABELS, photos, overwrite=True)
    assert sorted((name, path.stat().st_mtime_ns) for name, path in files_in(out).items()) == before
    assert sorted(os.listdir(tmp_path)) == ["photos", "sorted"]


def test_what_cannot_be_a_target_is_said_before_any_work(photos, images, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    for folder, why in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "no" / "x", "does not exist"),
        (tmp_path / "here", "the current folder"),
    ):
        with pytest.raises(DataError, match=why):
            check_sort_target(folder, photos, True)
    with pytest.raises(DataError, match="no files to link to"):
        check_sort_target(tmp_path / "s", None, False, link=True)
    with pytest.raises(DataError, match="no files to link to"):
        sort_into(tmp_path / "s", images, LABELS, None, link=True)


def test_a_sorted_folder_inside_other_data_is_not_read_as_data(photos, images, tmp_path):
    (tmp_path / "all").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "all" / "one.png")
    sort_into(tmp_path / "all" / "sorted", images, LABELS, photos)
    assert list(load_images(tmp_path / "all").ids) == ["one.png"]
