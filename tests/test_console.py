"""What is said on a terminal, and what when there is none."""

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

from clusterloom import console
from clusterloom.console import Output
from clusterloom.training.progress import TrainingProgress

RECORD = {"stage": "represent", "epoch": 3, "loss": 40.0, "contrast": 40.0, "clusters": 10, "clusters_in_use": 9}
RECORD |= {"images_per_second": 2500.0, "seconds": 9.0}


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


def terminal(width=80):
    return Console(width=width, force_terminal=True, file=io.StringIO(), color_system=None)


def written(talk):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", talk.file.getvalue())


def test_80_columns_keep_bar_share_and_time_left():
    talk = terminal()
    with Output(talk=talk) as output:
        progress = TrainingProgress(output.progress, n_images=1000, epochs=16)
        progress.on_start([])
        progress.on_batch(3, 400, RECORD)
        bar = output._bar
        bar.refresh()
        line = [line for line in written(talk).splitlines() if "15%" in line][-1]
    assert len(line.rstrip()) <= 80
    assert re.search(r"━+.* +15% +[-0-9:]{7} +represent, epoch 3/16, loss 40\.00, .*…", line), line


def test_the_text_of_a_bar_is_no_markup():
    talk = terminal(160)
    with Output(talk=talk) as output:
        output.progress("reading [red]photos[/red]", 1, 4)
        output._bar.refresh()
    assert "reading [red]photos[/red]" in written(talk)


def test_another_piece_of_work_gets_another_bar_and_the_end_takes_it_away():
    with Output(talk=terminal()) as output:
        output.progress("training", 10, 100)
        first = output._bar
        output.progress("training", 20, 100)
        assert output._bar is first
        output.progress("layout", 0, 0)
        layout = output._bar
        assert layout is not first
        assert layout.tasks[0].total is None
        output.progress("training", 20, 100)
        assert output._bar is not layout
        output.progress("training", 100, 100)
        assert output._bar is None
        output.progress("predicting", 1, 100)
    assert output._bar is None


def test_piped_lines_follow_time(monkeypatch):
    clock, talk = Clock(monkeypatch), Console(file=io.StringIO(), width=80)
    output = Output(talk=talk)
    for second in range(61):
        clock.now = float(second)
        output.progress("reading", second, 100)
        output.progress("reading", second, 100)  # ever so often, and still a line for ten seconds
    lines = talk.file.getvalue().splitlines()
    assert lines == [f"reading ({percent}%)" for percent in (3, 13, 23, 33, 43, 53)]


def test_short_work_and_a_quiet_console_say_nothing_when_piped(monkeypatch):
    clock, talk = Clock(monkeypatch), Console(file=io.StringIO(), width=80)
    output, quiet = Output(talk=talk), Output(quiet=True, talk=talk)
    for i in range(40):  # each another piece of work, of two seconds
        for done in (0, 1, 2):
            output.progress("reading", done, 2 + i)
            clock.now += 1
            quiet.progress("reading", i, 1000)
            quiet.say("said")
    assert talk.file.getvalue() == ""


@pytest.mark.parametrize("rank", ["0", "1"])
def test_the_first_process_alone_talks(monkeypatch, rank):
    monkeypatch.setenv("RANK", rank)
    talk = Console(file=io.StringIO(), width=80)
    Output(talk=talk).say("names are [b]text[/b]")
    assert talk.file.getvalue() == ("names are [b]text[/b]\n" if rank == "0" else "")


def test_the_console_is_there_without_pytorch():
    code = "import sys, clusterloom.console; print('torch' in sys.modules, 'rich.progress' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
