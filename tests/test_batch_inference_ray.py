"""Tables of shards by a Ray cluster on loopback; run with `make ray`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_batch_inference import EACH, ids_in, new_model, write_shards

from clusterloom.cli.program import run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
N_SHARDS = 60
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two workers, which outlives its drivers; its address."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return new_model(tmp_path_factory.mktemp("model") / "m", 0)


def driver(model, shards, out, address):
    command = [sys.executable, "-m", "clusterloom", "predict", model, shards, out, "--ray", address]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)


def wait_until(what, happens):
    end = time.monotonic() + PATIENCE_SECONDS
    while not happens():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.05)


def workers():
    """Processes of actors that predict."""
    return [p for p in psutil.process_iter(["cmdline"]) if "_Worker" in " ".join(p.info["cmdline"] or ())]


def test_a_worker_and_then_the_driver_are_killed(cluster, model, tmp_path):
    shards, out = write_shards(tmp_path / "shards", N_SHARDS), tmp_path / "out"
    first = driver(model, shards, out, cluster)
    wait_until("a table", lambda: len(ids_in(out)) >= 2 * EACH and len(workers()) >= 2)
    victim = workers()[0]
    victim.send_signal(signal.SIGKILL)
    at_kill = len(ids_in(out))
    wait_until("work after a worker was lost", lambda: len(ids_in(out)) >= at_kill + 6 * EACH)
    assert first.poll() is None, "the driver had ended before it could be killed; take more shards"
    first.kill()
    first.wait()
    first.stderr.close()
    wait_until("the end of the workers", lambda: not workers())
    made = {path: path.stat().st_mtime_ns for path in Path(out).rglob("*.parquet") if path.name[0] != "."}
    assert 8 <= len(made) < N_SHARDS
    second = driver(model, shards, out, cluster)
    _, said = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 0, said
    assert f"{len(made)} tables were there already" in said
    assert {path: path.stat().st_mtime_ns for path in made} == made
    ids = ids_in(out)
    assert len(ids) == N_SHARDS * EACH
    assert set(ids.values()) == {1}


def test_a_broken_shard_is_named_by_ray_too(cluster, model, tmp_path, capsys):
    shards = write_shards(tmp_path / "shards", 4)
    (shards / "1.tar").write_bytes((shards / "1.tar").read_bytes()[:1300])
    done = driver(model, shards, tmp_path / "out", cluster)
    _, said = done.communicate(timeout=PATIENCE_SECONDS)
    assert done.returncode == 2
    assert "1.tar: the shard cannot be read" in said
    assert len(ids_in(tmp_path / "out")) == 3 * EACH


def test_auto_starts_processes_where_there_is_no_cluster(model, tmp_path):
    shards = write_shards(tmp_path / "shards", 3)
    command = [sys.executable, "-m", "clusterloom", "predict", model, shards, tmp_path / "out", "--ray", "auto"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"RAY_TMPDIR": str(tmp_path)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(ids_in(tmp_path / "out")) == 3 * EACH


def test_no_cluster_at_an_address_is_one_line(model, tmp_path, capsys):
    shards = write_shards(tmp_path / "shards", 1)
    out = str(tmp_path / "out")
    assert run(["predict", str(model), str(shards), out, "--ray", "127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert "--ray 127.0.0.1:1: no Ray cluster answers there" in said
