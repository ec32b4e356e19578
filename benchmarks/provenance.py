"""How a line of a results file came about, the same for every benchmark."""

import os
import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("clusterloom", "torch", "fastumap", "umap-learn", "scikit-learn")


def provenance(*packages):
    """Command, day, machine and versions, of more packages where they are named and installed."""
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),  # of other work too; on an idle machine about the threads in use
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in (*_PACKAGES, *packages)}},
    }


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None
