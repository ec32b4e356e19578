"""Sweeps: what is tried, a queue that loses and repeats no run, and a ranking that sees no label."""

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from clusterloom import DataError, SettingsError, load_model
from clusterloom.cli.program import run as run_cli
from clusterloom.console import PlainConsole
from clusterloom.sweep.plan import Varied, parse_values, parse_varied, settings_of
from clusterloom.sweep.queue import Queue
from clusterloom.sweep.results import SCORES, Results, shown
from clusterloom.sweep.sweep import SweepOptions, sweep


def test_what_is_varied_is_read_as_it_is_typed():
    assert parse_varied("convvae", "latent-dim=4,16") == Varied("latent_dim", (4, 16))
    assert parse_varied("convvae", "k=4,16") == Varied("n_clusters", (4, 16))
    assert parse_varied("convvae", "epochs=2..8") == Varied("epochs", low=2, high=8)
    assert parse_varied("convvae", "kl_weight=0..1.5") == Varied("kl_weight", low=0.0, high=1.5)
    assert parse_varied("convvae", "kl_weight=log:1..4") == Varied("kl_weight", low=1.0, high=4.0, log=True)
    for bad, why in {
        ("latent_dim", "=3", "a b=3", "epochs="): "expected NAME=A,B,C or NAME=LOW..HIGH",
        ("epochs=5..2", "epochs=1..2..3", "batch_norm=false..true"): "a range needs two numbers",
        ("epochs=a..b", "epochs=1.5..3"): "epochs must be a whole number",
        ("kl_weight=log:0..1",): "a range in the logarithm needs numbers above 0",
    }.items():
        for text in bad:
            with pytest.raises(SettingsError, match=why):
                parse_varied("convvae", text)
    values = {"latent_dim": 3, "kl_weight": 0.25, "batch_norm": True, "concatenate": False, "patience_epochs": None}
    for name, value in {**values, "category_input": "latent", "conv_filters": (16, 32)}.items():
        assert parse_values("convvae", name, [shown(value)]) == [value]


def test_ranges_reach_their_ends_and_nothing_beyond():
    places = np.linspace(0, 1, 1000, endpoint=False)
    whole = Counter(Varied("n", low=2, high=5).at(place) for place in places)
    assert sorted(whole) == [2, 3, 4, 5]
    assert min(whole.values()) > 245
    logs = [Varied("w", low=0.01, high=1.0, log=True).at(place) for place in places]
    assert min(logs) == 0.01
    assert np.median(logs) == pytest.approx(0.1, rel=0.02)
    assert {Varied("n", low=1, high=64, log=True).at(place) for place in places} >= {1, 2, 64}


def test_a_grid_is_whole_and_draws_are_spread_and_repeatable():
    knobs = [Varied("a", (1, 2)), Varied("b", ("x", "y", "z"))]
    assert [tuple(s.values()) for s in settings_of(knobs, None, 0)] == [
        (1, "x"), (1, "y"), (1, "z"), (2, "x"), (2, "y"), (2, "z"),
    ]  # fmt: skip
    ranges = [Varied("a", low=0.0, high=1.0), Varied("b", low=0.0, high=1.0)]
    drawn = settings_of(ranges, 8, seed=0)
    assert drawn == settings_of(ranges, 8, seed=0) != settings_of(ranges, 8, seed=1)
    assert len(drawn) == 8
    assert {int(s["a"] * 8) for s in drawn} == set(range(8))
    assert len(settings_of(knobs, 64, 0)) == 6
    many = [Varied("a", tuple(range(1000))), Varied("b", tuple(range(1000)))]
    for bad, trials, why in (
        ([], 3, "nothing is varied"),
        (ranges, None, "say with --trials"),
        ([knobs[0], knobs[0]], None, "given twice"),
        (ranges, 10**8, "too many"),
        (many, None, "too many"),
    ):
        with pytest.raises(SettingsError, match=why):
            settings_of(bad, trials, 0)


PLAN = {"runs": [{"i": i} for i in range(6)], "rank_by": "score"}
# A worker of its own process: it tells a file when it starts and ends a run.
WORKER = """
import sys, time
from clusterloom.sweep.queue import Queue

url, log, seconds, plan = sys.argv[1], sys.argv[2], float(sys.argv[3]), eval(sys.argv[4])

def tell(line):
    with open(log, "a") as file:
        file.write(line + chr(10))

def make(run):
    tell(f"start {run}")
    time.sleep(seconds)
    tell(f"end {run}")
    return {"score": float(run)}

Queue(url, "test", plan, grace_seconds=6).work(make, lambda line: tell("# " + line))
"""


def start_worker(url, log, seconds):
    return subprocess.Popen([sys.executable, "-c", WORKER, url, str(log), str(seconds), repr(PLAN)])


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.05)


def check_two_workers_of_which_one_dies(url, tmp_path):
    logs = [tmp_path / "doomed.log", tmp_path / "other.log"]
    doomed = start_worker(url, logs[0], 0.5)
    # Not at the same moment: SQLite locks no rows, and two workers that ask at once may get one run (see `queue`).
    wait_for(lambda: lines(logs[0]))
    other = start_worker(url, logs[1], 0.5)
    wait_for(lambda: len([line for line in lines(logs[0]) if line.startswith("start")]) >= 2)
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    assert other.wait(timeout=120) == 0
    ends = Counter(line for log in logs for line in lines(log) if line.startswith("end"))
    assert ends == {f"end {run}": 1 for run in range(6)}
    # The one that was being made when its worker died was made again from its start, by the other.
    lost = lines(logs[0])[-1]
    assert lost.startswith("start")
    assert lost in lines(logs[1])
    queue = Queue(url, "test", None)
    assert queue.results().finished == {run: {"score": float(run)} for run in range(6)}
    assert not queue.results().running
    # Nothing is left to do for a third.
    queue.work(lambda run: pytest.fail(f"run {run} again"), lambda line: None)


def test_no_run_is_lost_and_none_made_twice_when_a_worker_dies(tmp_path):
    check_two_workers_of_which_one_dies(f"sqlite:///{tmp_path / 'sweep.db'}", tmp_path)


# A worker that is killed before Optuna's thread has said that it lives: on a busy machine that takes a while.
SILENT_WORKER = """
import os, signal, sys
from optuna.storages._heartbeat import HeartbeatThread
from clusterloom.sweep.queue import Queue

HeartbeatThread.start = HeartbeatThread.join = lambda self: None
Queue(sys.argv[1], "test", eval(sys.argv[2])).work(lambda run: os.kill(os.getpid(), signal.SIGKILL), print)
"""


@pytest.mark.timeout(120)
def test_a_run_is_taken_from_a_worker_that_was_killed_before_its_first_heartbeat(tmp_path):
    url = f"sqlite:///{tmp_path / 'sweep.db'}"
    silent = subprocess.run([sys.executable, "-c", SILENT_WORKER, url, repr(PLAN)], timeout=60)
    assert silent.returncode == -signal.SIGKILL
    queue = Queue(url, "test", None, grace_seconds=2)
    assert queue.results().running == {0}
    queue.work(lambda run: {"score": 0.0}, lambda line: None)
    assert len(queue.results().finished) == 6


def test_what_a_worker_makes_after_its_run_was_taken_from_it_does_not_count(tmp_path):
    url, told, made = f"sqlite:///{tmp_path / 'sweep.db'}", [], []
    queue = Queue(url, "test", PLAN)

    def make(run):
        made.append(run)
        if made == [0]:
            taken = Queue(url, "test", None)._study.trials[0]
            queue._study.tell(taken.number, state=optuna.trial.TrialState.FAIL)
        return {"score": float(len(made))}

    queue.work(make, told.append)
    assert sorted(made) == [0, *range(6)]
    assert queue.results().finished[0]["score"] > 1
    assert "another worker has it now" in told[0]


def test_entries_that_two_workers_queued_at_once_count_once(tmp_path):
    url, made = f"sqlite:///{tmp_path / 'sweep.db'}", []
    queue = Queue(url, "test", PLAN)
    for run in (0, 1, 1, 0, 2):
        queue._study.enqueue_trial({}, user_attrs={"run": run})

    def make(run):
        made.append(run)
        return {"score": 0.0}

    queue.work(make, lambda line: None)
    assert sorted(made) == list(range(6))


def test_a_run_that_cannot_be_made_is_told_and_tried_again_by_the_next_worker_alone(tmp_path):
    url, told = f"sqlite:///{tmp_path / 'sweep.db'}", []

    def make(run):
        if run == 2:
            raise SettingsError("two is too many")
        return {"score": float(run)}

    queue = Queue(url, "test", PLAN)
    queue.work(make, told.append)
    assert queue.results().failed == {2: "two is too many"}
    assert sorted(queue.results().finished) == [0, 1, 3, 4, 5]
    assert told == ["run-002: two is too many"]
    Queue(url, "test", PLAN).work(make, told.append)
    assert told == ["run-002: two is too many"] * 2
    queue.work(lambda run: {"score": float(run)}, told.append)
    assert queue.results().failed == {}
    assert queue.results().finished[2] == {"score": 2.0}


def test_an_interrupted_run_is_made_when_the_sweep_goes_on(tmp_path):
    url = f"sqlite:///{tmp_path / 'sweep.db'}"

    def interrupted(run):
        if run == 3:
            raise KeyboardInterrupt
        return {"score": float(run)}

    with pytest.raises(KeyboardInterrupt):
        Queue(url, "test", PLAN).work(interrupted, lambda line: None)
    assert sorted(Queue(url, "test", None).results().finished) == [0, 1, 2]
    again = []
    Queue(url, "test", PLAN).work(lambda run: again.append(run) or {"score": 0.0}, lambda line: None)
    assert sorted(again) == [3, 4, 5]


def test_another_plan_under_the_same_name_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'sweep.db'}"
    Queue(url, "test", PLAN)
    with pytest.raises(SettingsError, match="another plan"):
        Queue(url, "test", {**PLAN, "runs": [{"i": 9}]})
    with pytest.raises(SettingsError, match="no sweep 'other'"):
        Queue(url, "other", None)
    with pytest.raises(SettingsError, match="cannot be used"):
        Queue("sqlite:////nowhere/at/all.db", "test", PLAN)
    with pytest.raises(SettingsError, match="cannot be used"):
        Queue("not an address", "test", PLAN)


def test_settings_are_ranked_by_the_mean_over_seeds():
    plan = {"runs": [{"a": a, "random_state": seed} for seed in (0, 1) for a in ("lucky", "steady")]}
    scores = {0: 0.9, 1: 0.7, 2: 0.1, 3: 0.7}
    order = Results(plan, {run: {"score": score} for run, score in scores.items()}).ranked()
    assert [setting.changes["a"] for setting in order] == ["steady", "lucky"]
    assert order[1].mean("score") == pytest.approx(0.5)
    assert order[1].deviation("score") == pytest.approx(0.5657, rel=1e-3)


def test_values_are_no_markup():
    plan = {"runs": [{"a": "[/b]", "random_state": 0}], "rank_by": "modularity"}
    result = {**dict.fromkeys(("score", *SCORES, "seconds"), 0.5), "clusters_in_use": 2}
    screen = PlainConsole(width=120, file=io.StringIO())
    screen.print(Results(plan, {0: result}).table())
    assert "[/b]" in screen.file.getvalue()


@pytest.fixture
def blobs(tmp_path):
    """48 images of three kinds, as .npy; no labels anywhere."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 200, (3, 8, 8))
    images = kinds[np.arange(48) % 3] + rng.integers(0, 40, (48, 8, 8))
    np.save(tmp_path / "blobs.npy", images.astype(np.uint8))
    return str(tmp_path / "blobs.npy")


def test_command_line(blobs, tmp_path, capsys):
    out = tmp_path / "sweep"
    command = ["sweep", blobs, "--out", str(out), "--method", "convvae", "--clusters", "3", "--seeds", "0,1"]
    command += ["--set", "hidden_dim=16", "--set", "epochs=3", "--vary", "latent-dim=2,5", "--vary", "conv_filters=4:8"]
    command += ["--set", "conv_kernels=3,3"]
    assert run_cli(command) == 0
    table = capsys.readouterr().out
    assert "modularity" in table
    assert "4:8" in table
    with (out / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["run"], r["latent_dim"], r["random_state"]) for r in rows] == [
        ("0", "2", "0"), ("1", "5", "0"), ("2", "2", "1"), ("3", "5", "1"),
    ]  # fmt: skip
    with Image.open(out / "sweep.png") as plot:
        assert plot.width > 500
    model = load_model(out / "run-003")
    assert (model.latent_dim, model.hidden_dim, model.conv_filters, model.about_["seed"]) == (5, 16, (4, 8), 1)
    assert not list(out.glob("*.partial"))
    # Again, on a device that another worker may well have: nothing is trained, the same is shown.
    before = (out / "run-003" / "model.safetensors").stat().st_mtime_ns
    assert run_cli([*command, "--device", "cpu"]) == 0
    assert (out / "run-003" / "model.safetensors").stat().st_mtime_ns == before
    capsys.readouterr()
    assert run_cli([*command, "--show", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["settings"][0]
    seeds = [float(row["modularity"]) for row in rows if row["latent_dim"] == str(best["knobs"]["latent_dim"])]
    assert best["modularity"] == pytest.approx(np.mean(seeds))
    assert len(best["models"]) == 2
    for bad, text in (
        (["--vary", "depth=1"], "did you mean conv_depth?"),
        (["--vary", "batch_size=8,0"], "batch_size must be a whole number of at least 1"),
        (["--vary", "random_state=1,2"], "--seeds"),
        (["--vary", "seed=1,2"], "--seed cannot be varied; seeds are given with --seeds"),
        (["--vary", "epochs=1,2"], "give it once"),
        (["--vary", "batch_size=8"], "another plan"),
        (["--rank-by", "accuracy"], "--rank-by accuracy"),
        (["--set", "epochs"], "expected NAME=VALUE"),
        (["--clusters", "4"], "another plan"),
    ):
        assert run_cli([*command, *bad]) == 2, bad
        assert text in capsys.readouterr().err
    assert run_cli(["sweep", blobs, "--out", str(tmp_path), "--vary", "epochs=3,4"]) == 2
    assert "holds no sweep" in capsys.readouterr().err
    assert run_cli(["sweep", blobs, "--out", str(tmp_path / "none"), "--show"]) == 2
    assert run_cli([*command, "--name", "../thesis"]) == 2
    shutil.rmtree(out / "run-002")
    assert run_cli([*command, "--show"]) == 0
    assert "without a model in the folder: run-002" in capsys.readouterr().out
    assert run_cli([*command, "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gone"] == [2]
    # Another sweep beside it leaves the first one's models alone.
    assert run_cli([*command, "--name", "wider", "--set", "hidden_dim=24", "--seeds", "0"]) == 0
    assert (out / "run-003" / "model.safetensors").stat().st_mtime_ns == before
    assert load_model(out / "wider" / "run-001").hidden_dim == 24
    assert (out / "wider" / "sweep.csv").exists()


def test_models_that_a_sweep_has_not_made_are_left_alone(blobs, tmp_path, capsys):
    out, quick = tmp_path / "sweep", ["--method", "vae", "--set", "epochs=1", "--set", "hidden_dim=8"]
    command = ["sweep", blobs, "--out", str(out), *quick, "-k", "3", "--vary", "latent_dim=2,3", "--seeds", "0,0"]
    (out / "run-notes").mkdir(parents=True)
    assert run_cli(["fit", blobs, "--out", str(out / "run-001"), *quick, "-k", "4"]) == 0
    capsys.readouterr()
    assert run_cli(command) == 2
    assert "run-001 is there and no run of this sweep; choose another --out" in capsys.readouterr().err
    assert load_model(out / "run-001").n_clusters_ == 4
    (out / "run-001").rename(out / "mine")
    assert run_cli(command) == 0
    assert sorted(folder.name for folder in out.glob("run-0*")) == ["run-000", "run-001"]  # a seed counts once
    capsys.readouterr()
    other = ["--storage", f"sqlite:///{tmp_path / 'other.db'}", "--set", "batch_size=16"]
    assert run_cli([*command, *other]) == 2
    assert "run-000 is there and no run of this sweep" in capsys.readouterr().err
    assert "batch_size" not in (out / "sweep.csv").read_text()


@pytest.mark.parametrize("left", ["wider", "wider/run-000"])
def test_a_named_sweep_in_a_database_elsewhere_goes_on(left, tmp_path):
    (tmp_path / "out" / left).mkdir(parents=True)
    options = SweepOptions(
        out=tmp_path / "out", method="vae", vary=["epochs=1,2"], fixed={}, storage="sqlite://", name="wider"
    )

    def load():
        raise InterruptedError("images are read")

    with pytest.raises(InterruptedError):
        sweep(load, options, print)
    options.folder.rename(tmp_path / "out" / "photos")
    with pytest.raises(DataError, match="holds no sweep"):
        sweep(load, options, print)


def test_places_are_checked_before_images_are_read(tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"")
    quick = ["sweep", "none.npy", "--method", "vae", "--vary", "epochs=1,2", "--out"]
    for more, why in (
        ([tmp_path / "file" / "x"], "file is not a folder"),
        ([tmp_path / "s", "--storage", "nothing://here"], "the database of the sweep cannot be used"),
        ([tmp_path / "s", "--storage", f"sqlite:///{tmp_path}/none/x.db"], "the database of the sweep cannot be used"),
    ):
        assert run_cli([*quick, *map(str, more)]) == 2
        assert why in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_setting_that_does_not_fit_is_told_beside_those_that_do(blobs, tmp_path, capsys):
    out = tmp_path / "is it {0} #1?"
    command = ["sweep", blobs, "--method", "convvae", "-k", "3", "--set", "epochs=1", "--set", "hidden_dim=8"]
    command += ["--set", "conv_kernels=3,3"]
    assert run_cli([*command, "--out", str(out), "--vary", "conv_filters=4:8,4"]) == 2
    text, err = capsys.readouterr()
    assert err.splitlines()[-1].endswith("error: 1 of 2 runs could not be made; the same command tries again")
    assert "run-001: conv_filters and conv_kernels need one number per conv network" in text
    assert (out / "run-000").is_dir()
    assert (out / "sweep.db").is_file()
    assert run_cli([*command, "--out", str(tmp_path / "bad"), "--vary", "conv_filters=4,8"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "error: none of 2 runs could be made; run-000: conv_filters and conv_kernels need" in err


def postgres_program(name):
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture
def postgres():
    """The address of an empty database of Debian's PostgreSQL, on loopback, gone afterwards."""
    programs = {name: postgres_program(name) for name in ("initdb", "postgres")}
    if not all(programs.values()):
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # Not in pytest's own folder, which other users may not enter: PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="clusterloom-postgres-"))
    as_user = []
    if os.geteuid() == 0:
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    data = folder / "data"
    subprocess.run([*as_user, programs["initdb"], "-D", data, "-U", "sweep", "-A", "trust", "-N"], check=True)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={folder}", "-p", str(port)]
    server = subprocess.Popen([*as_user, programs["postgres"], "-D", data, *options])
    try:
        import psycopg

        def answers():
            try:
                psycopg.connect(f"host=127.0.0.1 port={port} user=sweep dbname=postgres").close()
            except psycopg.OperationalError:
                return False
            return True

        wait_for(answers)
        yield f"postgresql+psycopg://sweep@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)
        shutil.rmtree(folder)


@pytest.mark.postgres
def test_workers_share_a_sweep_on_postgresql(postgres, tmp_path):
    check_two_workers_of_which_one_dies(postgres, tmp_path)


@pytest.mark.postgres
def test_two_commands_share_a_sweep_on_postgresql(postgres, blobs, tmp_path):
    def command(out):
        given = ["sweep", blobs, "--out", str(out), "--method", "convvae", "--clusters", "3", "--seeds", "0,1"]
        given += ["--set", "epochs=40", "--set", "hidden_dim=32", "--vary", "latent_dim=2,3,4", "--storage", postgres]
        given += ["--grace-seconds", "6"]
        return [sys.executable, "-m", "clusterloom", *given]

    folders = [tmp_path / "one", tmp_path / "two"]
    doomed = subprocess.Popen(command(folders[0]))
    wait_for(lambda: any(folders[0].glob("run-*.partial")))
    other = subprocess.Popen(command(folders[1]))
    wait_for(lambda: any(folders[1].glob("run-*.partial")))
    doomed.kill()
    doomed.wait()
    assert other.wait(timeout=200) == 0
    finished = Queue(postgres, "sweep", None).results().finished
    assert sorted(finished) == list(range(6))
    whole = [path.parent for folder in folders for path in folder.glob("run-*/config.json")]
    assert sorted(path.name for path in whole) == [f"run-{run:03d}" for run in range(6)]
    for path in whole:
        assert json.loads((path / "config.json").read_text())["about"]["data_sha256"]
