"""Two launchers as on two machines: folders of their own, nothing in common but a port on loopback."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from test_batch_inference import EACH, write_shards, write_tar

from clusterloom import load_model
from clusterloom.cli.program import run

KNOBS = ["latent_dim=3", "hidden_dim=16", "conv_filters=4,4", "precision=fp32", "batch_size=13"]
METHOD = ["--method", "convvae", "-k", "3", *(word for knob in KNOBS for word in ("--set", knob))]
PATIENCE_SECONDS = 250
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two folders, each with a copy of the shards."""
    root = tmp_path_factory.mktemp("machines")
    write_shards(root / "0" / "shards", 5)
    shutil.copytree(root / "0", root / "1")
    return root / "0", root / "1"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launched(machines, *arguments):
    """`clusterloom fit` begun by two launchers, one process each."""
    port, launchers = free_port(), []
    for rank, folder in enumerate(machines):
        own = {"CLUSTERLOOM_CACHE": str(folder / "cache"), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(rank)]
        command += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        command += ["-m", "clusterloom", "fit", "shards", *METHOD, *arguments]
        log = (folder / "log.txt").open("w")
        launchers.append(subprocess.Popen(command, cwd=folder, env={**os.environ, **own}, stderr=log))
        log.close()
    return launchers


def statuses(launchers):
    return [launcher.wait(PATIENCE_SECONDS) for launcher in launchers]


def weights(model):
    return np.concatenate([tensor.numpy().ravel() for tensor in load_model(model).network_.state_dict().values()])


def test_machines_that_share_the_shards_make_the_model_of_one(machines, tmp_path):
    epochs = ["--set", "epochs=3"]
    assert statuses(launched(machines, "--out", "model", *epochs)) == [0, 0], (machines[0] / "log.txt").read_text()
    assert run(["fit", str(machines[0] / "shards"), "--out", str(tmp_path / "one"), *METHOD, *epochs]) == 0
    one, two = load_model(tmp_path / "one"), load_model(machines[0] / "model")
    assert two.about_["processes"] == 2
    assert "5 shards read by 2 processes" in (machines[0] / "log.txt").read_text()
    assert one.about_["data_sha256"] == two.about_["data_sha256"]
    np.testing.assert_allclose(weights(machines[0] / "model"), weights(tmp_path / "one"), atol=1e-6)
    assert not (machines[1] / "model").exists()  # the first machine alone writes
    assert not list(machines[0].glob("cache/divided-*")) + list(machines[1].glob("cache/divided-*"))


def test_a_run_whose_process_was_killed_ends_with_a_line_and_goes_on_to_the_same_bits(machines):
    epochs = ["--set", "epochs=60"]
    assert statuses(launched(machines, "--out", "whole", *epochs)) == [0, 0]
    launchers = launched(machines, "--out", "killed", *epochs)
    checkpoint = machines[0] / "killed.partial" / "clusterloom-checkpoint.safetensors"
    end = time.monotonic() + PATIENCE_SECONDS
    while not checkpoint.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    (victim,) = psutil.Process(launchers[1].pid).children()
    victim.send_signal(signal.SIGKILL)
    assert all(statuses(launchers))
    said = (machines[0] / "log.txt").read_text()
    assert "another process of this run has ended, or cannot be reached; --resume goes on with it" in said
    assert "Traceback" not in said.partition("clusterloom: error")[0]
    assert checkpoint.exists()
    assert statuses(launched(machines, "--out", "killed", "--resume", *epochs)) == [0, 0]
    np.testing.assert_array_equal(weights(machines[0] / "killed"), weights(machines[0] / "whole"))


def test_a_shard_that_one_machine_cannot_read_is_named_on_both(machines):
    shard = machines[1] / "shards" / "1.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:1300])
    try:
        assert all(statuses(launched(machines, "--out", "broken", "--set", "epochs=1")))
    finally:
        shard.write_bytes(content)
    assert "1.tar: the shard cannot be read" in (machines[0] / "log.txt").read_text()


def test_shards_that_are_empty_or_skipped_on_several_machines(machines):
    empty = [folder / "shards" / "more" / "2.tar" for folder in machines]
    before = empty[0].read_bytes()
    try:
        for path in empty:
            write_tar(path, [])
            (path.parent.parent / "4.tar").write_bytes(b"broken")
        arguments = ["--out", "skipped", "--set", "epochs=1", "--skip-bad"]
        assert statuses(launched(machines, *arguments)) == [0, 0], (machines[0] / "log.txt").read_text()
        assert load_model(machines[0] / "skipped").about_["images"] == 3 * EACH
    finally:
        for path in empty:
            path.write_bytes(before)
