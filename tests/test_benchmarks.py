"""Every benchmark runs with --smoke, and leaves no result behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = sorted(p for p in (ROOT / "benchmarks").glob("*.py") if "__main__" in p.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_smoke(benchmark):
    if benchmark.stem == "explore_map" and not (shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("there is no chromium")
    results = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in results.glob("*.jsonl")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run([sys.executable, benchmark, "--smoke"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert {path: path.read_bytes() for path in results.glob("*.jsonl")} == before
