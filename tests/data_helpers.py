"""What several tests of readers share."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import clusterloom

_PEAK = """
from pathlib import Path
from clusterloom.data import load_images
from clusterloom.errors import DataError

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
try:
    outcome = repr(load_images({path!r}))
except DataError as error:
    outcome = str(error)
print(peak() - before)
print(outcome)
"""


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def peak_of_loading(path):
    """Growth of the peak memory while a path is loaded in a process of its own, in MB, and what came out as text."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from /proc")
    source_root = str(Path(clusterloom.__file__).parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {source_root!r})\n{_PEAK.format(path=str(path))}"]
    grown, outcome = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(grown) / 1024, outcome
