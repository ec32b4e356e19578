"""A run of an estimator: its processes, who is told of it, where it is kept, and what is said of it afterwards."""

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from clusterloom.console import Output
from clusterloom.data.addresses import is_address
from clusterloom.device import Compute, freed_memory_reused, memory_errors_named, products_by_onednn
from clusterloom.errors import SettingsError
from clusterloom.settings import CommonSettings
from clusterloom.training.plan import TrainingPlan
from clusterloom.training.processes import from_main
from clusterloom.training.progress import EpochLines, MetricsFile, Observer, TrackerLog, TrainingProgress
from clusterloom.training.run import Run
from clusterloom.training.run_folder import METRICS, checkpoints_in, run_folder

_PACKAGES = ("clusterloom", "torch", "numpy", "scikit-learn", "fastumap", "umap-learn", "accelerate", "safetensors")


@dataclass(frozen=True)
class Session:
    """One session of a run, begun or taken up.

    Attributes:
        run: Trains stage by stage.
        plan: How long and how.
        compute: Device and precision.
        n_images: Images that it trains on.
        started: When it began, by `time.perf_counter`.
    """

    run: Run
    plan: TrainingPlan
    compute: Compute
    n_images: int
    started: float

    def about(self) -> dict[str, Any]:
        """What a model keeps of how it was made, as JSON values."""
        return {
            "seed": self.plan.seed,
            "device": str(self.compute.device),
            "precision": self.compute.precision,
            "processes": self.compute.processes().num_processes,
            "threads": torch.get_num_threads(),
            "images": self.n_images,
            "seconds": round(time.perf_counter() - self.started, 3),
            "training_seconds": round(self.run.seconds, 3),
            "versions": _versions(),
        }


@contextmanager
def training_session(
    settings: CommonSettings, images: np.ndarray, plan: TrainingPlan, identity: Mapping[str, Any], compute: Compute
) -> Iterator[Session]:
    """Begin a run, or take up the one in `settings.run_dir`.

    Args:
        settings: Where it is kept, whether it is taken up, and who is told.
        images: Shape (N, H, W, C).
        plan: How long and how.
        identity: What it must have in common with the unfinished run that it takes up, besides images and plans.
        compute: Device and precision.

    Raises:
        SettingsError: there is no run directory where one is needed, or no seed.
        TrainingError: out of memory.
    """
    check_tracker(settings.tracker, settings.run_dir)
    with ExitStack() as stack, memory_errors_named(plan.batch_size), freed_memory_reused(), products_by_onednn():
        processes, run_dir, keep, taken_up = compute.processes(), None, None, False
        if settings.run_dir is not None:
            run_dir, keep = stack.enter_context(run_folder(settings.run_dir, processes, settings.resume))
            taken_up = settings.resume and bool(from_main(processes, partial(checkpoints_in, str(run_dir))))
            if taken_up and settings.random_state is None:
                raise SettingsError("resume needs random_state, the seed that the run began with")
        # One process needs no word about the device, and after a fit on another one Accelerate would refuse it.
        on_cpu = compute.device.type == "cpu" and processes.num_processes > 1
        accelerator = Accelerator(device_placement=False, cpu=on_cpu, log_with=settings.tracker, project_dir=run_dir)
        output = stack.enter_context(Output(quiet=not settings.verbose))
        if settings.resume and not taken_up:
            output.say("there is no unfinished run to go on with: it starts from the beginning")
        visits = min(len(images), plan.epoch_images or len(images))
        observers: list[Observer] = [TrainingProgress(output.progress, visits, plan.epochs)]
        if run_dir is not None and accelerator.is_main_process:
            observers.append(MetricsFile(run_dir / METRICS))
        if settings.verbose > 1:
            observers.append(EpochLines(output.say))
        if settings.tracker is not None:
            observers.append(TrackerLog(accelerator, vars(settings)))
            stack.callback(accelerator.end_training)
        run = Run(
            images,
            {**identity, "seed": plan.seed},
            compute,
            accelerator,
            run_dir,
            settings.resume,
            observers,
            output.progress,
            output.say,
            keep,
        )
        yield Session(run, plan, compute, len(images), time.perf_counter())


def check_tracker(name: str | None, run_dir: str | None) -> None:
    """Refuse a tracker that is not installed, or that has nowhere to write to.

    Raises:
        SettingsError: see above.
    """
    if name is not None and find_spec(name) is None:
        raise SettingsError(f"tracker {name} is not installed: pip install 'clusterloom[{name}]'")
    if name is not None and run_dir is None:
        raise SettingsError("a tracker needs run_dir, the folder to write to")
    if name is not None and run_dir is not None and is_address(run_dir):
        raise SettingsError("a tracker writes to a folder of this machine, and run_dir is an address")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # of two layouts one is installed
            continue
    return found
