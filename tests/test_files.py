"""Outputs: whole or not at all, one owner at a time, nothing left behind by killed processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import clusterloom
from clusterloom.errors import DataError
from clusterloom.files import new_directory, new_file, sweep_stale, write_atomically
from clusterloom.marks import folder_kind
from clusterloom.ownership import owned

# A process that begins something and waits for its end, after a word on standard output.
_WAITING = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from clusterloom.files import new_directory, new_file
from clusterloom.ownership import owned
with {begin}:
    print("there", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def waiting():
    """Starts processes that are inside a context of `clusterloom.files`; they are killed at the end."""
    processes = []

    def start(begin):
        code = _WAITING.format(root=str(Path(clusterloom.__file__).parents[1]), begin=begin)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "there\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_old(folder):
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60,) * 2)


def test_a_place_that_cannot_be_written_is_named_and_not_its_lock(tmp_path):
    target = tmp_path / ("n" * 250)
    with pytest.raises(OSError, match="File name too long") as raised, owned(target):
        pass
    assert raised.value.filename == str(target)


def test_a_full_disk_names_the_copy_and_not_the_original(tmp_path):
    with pytest.raises(OSError, match="No space") as raised, new_directory(tmp_path / "copies") as scratch:
        raise OSError(28, "No space left on device", "original.png", None, str(scratch / "copy.png"))
    assert raised.value.filename == str(tmp_path / "copies" / "copy.png")


def test_a_second_owner_is_told_who_the_first_is(tmp_path, waiting):
    out = tmp_path / "model"
    process = waiting(f"owned(Path({str(out)!r}))")
    message = rf"model is being written by process {process.pid} since \d\d:\d\d; wait for it or choose another name"
    with pytest.raises(DataError, match=message), owned(out):
        pytest.fail("two owners")
    assert names(tmp_path) == [".model.lock"]


def test_a_dead_owner_blocks_nobody(tmp_path, waiting):
    out = tmp_path / "model"
    kill(waiting(f"owned(Path({str(out)!r}))"))
    assert names(tmp_path) == [".model.lock"]
    with owned(out):
        pass
    assert names(tmp_path) == []


def test_the_lock_goes_at_the_end_whatever_happens(tmp_path):
    out = tmp_path / "a" / "labels.csv"

    def fail():
        with owned(out):
            assert names(out.parent) == [".labels.csv.lock"]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert names(tmp_path) == []
    with owned(out), pytest.raises(DataError, match=f"process {os.getpid()} since"), owned(out):
        pytest.fail("two owners")


def test_of_the_folders_around_an_output_those_that_hold_something_stay(tmp_path):
    (tmp_path / "mine").mkdir()
    for out, made in (("mine/a", None), ("new/b/model", None), ("new/c/model", "new/log"), ("new/d/e", "new/d/e")):
        with owned(tmp_path / out):
            if made is not None:
                (tmp_path / made).touch()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"mine", "new", "new/d", "new/d/e", "new/log"}


def test_two_outputs_have_two_owners(tmp_path):
    with owned(tmp_path / "a"), owned(tmp_path / "b"):
        assert names(tmp_path) == [".a.lock", ".b.lock"]


@pytest.mark.parametrize("again", [owned, new_file, new_directory])
@pytest.mark.parametrize("begin", ["new_file", "new_directory"])
def test_what_a_killed_writer_leaves_goes_when_the_next_one_starts(tmp_path, waiting, begin, again):
    out = tmp_path / "out"
    kill(waiting(f"{begin}(Path({str(out)!r}))"))
    (left,) = names(tmp_path)
    assert re.fullmatch(r"\.out\.clusterloom-[0-9a-f]{8}", left)
    make_old(tmp_path)
    with again(out):
        (own,) = names(tmp_path)
        assert own != left


@pytest.mark.parametrize("begin", ["new_file", "new_directory"])
def test_what_a_living_process_writes_is_not_swept(tmp_path, waiting, begin):
    out = tmp_path / "out"
    waiting(f"{begin}(Path({str(out)!r}))")
    make_old(tmp_path)
    sweep_stale(out)
    assert len(names(tmp_path)) == 1


def test_files_of_others_are_not_swept(tmp_path):
    others = [".other.clusterloom-0123abcd", ".out.20261127", ".out.bak", ".out.original", "out.clusterloom-0123abcd"]
    for name in (*others, ".out.clusterloom-0123abcd"):
        (tmp_path / name).write_bytes(b"x")
    make_old(tmp_path)
    (tmp_path / ".out.clusterloom-89abcdef").write_bytes(b"of this moment")
    sweep_stale(tmp_path / "out")
    assert names(tmp_path) == sorted([*others, ".out.clusterloom-89abcdef"])


def test_an_old_folder_comes_back_if_the_new_one_never_came(tmp_path):
    """Killed between the two renames that replace a folder."""
    (tmp_path / ".model.clusterloom-old-0123abcd").mkdir()
    (tmp_path / ".model.clusterloom-old-0123abcd" / "weights").write_bytes(b"old")
    make_old(tmp_path)
    sweep_stale(tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_bytes() == b"old"
    (tmp_path / ".model.clusterloom-old-0123abcd").mkdir()
    make_old(tmp_path)
    sweep_stale(tmp_path / "model")
    assert names(tmp_path) == ["model"]


def test_failures_leave_the_old_contents_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "file", b"old")
    with new_directory(tmp_path / "folder") as folder:
        (folder / "a").write_bytes(b"old")

    def fail_with_file():
        with new_file(tmp_path / "file") as file:
            file.write(b"new")
            raise KeyError

    def fail_with_folder():
        with new_directory(tmp_path / "folder") as folder:
            (folder / "a").write_bytes(b"new")
            raise KeyError

    for fail in (fail_with_file, fail_with_folder):
        with pytest.raises(KeyError):
            fail()
    assert (tmp_path / "file").read_bytes() == (tmp_path / "folder" / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["file", "folder"]


def test_a_link_stays_and_leads_to_the_new_file(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"old")
    for target in ("file", "none"):
        link = tmp_path / f"link-to-{target}"
        link.symlink_to(tmp_path / "there" / target)
        write_atomically(link, b"new")
        assert link.is_symlink()
        assert (tmp_path / "there" / target).read_bytes() == b"new"
    assert names(tmp_path / "there") == ["file", "none"]


@pytest.mark.parametrize("length", [221, 249])
def test_long_names_are_written_swept_and_put_back(tmp_path, waiting, length):
    path = tmp_path / ("ü" + "n" * (length - 2))
    write_atomically(path, b"new")
    path.unlink()
    for content in ("old", "new"):
        with owned(path), new_directory(path) as scratch:
            (scratch / "file").write_text(content)
    assert (path / "file").read_text() == "new"
    assert names(tmp_path) == [path.name]
    kill(waiting(f"new_directory(Path({str(path)!r}))"))
    (left,) = set(names(tmp_path)) - {path.name}
    path.rename(tmp_path / left.replace(".clusterloom-", ".clusterloom-old-"))
    make_old(tmp_path)
    sweep_stale(path)
    sweep_stale(path)
    assert names(tmp_path) == [path.name]
    assert (path / "file").read_text() == "new"


def test_modes_follow_the_mask_which_is_never_set(tmp_path, monkeypatch):
    """Setting it to read it would open the files of other threads to all for a moment."""
    before = os.umask(0o027)
    try:
        monkeypatch.setattr("os.umask", lambda mask: pytest.fail("the mask was set"))
        write_atomically(tmp_path / "file", b"")
        with new_directory(tmp_path / "folder"):
            pass
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_folders_are_known_by_what_is_in_them(tmp_path):
    (tmp_path / "config.json").write_text('{"format_version": 4, "settings": {}, "about": {}}')
    assert folder_kind(tmp_path) == "model"
    (tmp_path / "config.json").write_text('{"settings": {}}')
    assert folder_kind(tmp_path) is None
    (tmp_path / "export.json").write_text('{"clusterloom_export": "atlas"}')
    assert folder_kind(tmp_path) == "export"
