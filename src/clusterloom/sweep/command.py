"""`clusterloom sweep`: what is varied, where the runs are kept, and what the user gets to see."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from clusterloom.data import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.estimators.methods import method_parameters
from clusterloom.files import write_atomically
from clusterloom.sweep.plan import parse_knob, settings_of
from clusterloom.sweep.queue import Queue
from clusterloom.sweep.results import as_csv, plot, ranked, shown, table
from clusterloom.sweep.run import SCORES, Runner

Tell = Callable[[str], None]
DEFAULT_NAME = "sweep"


@dataclass(frozen=True)
class SweepOptions:
    """What a sweep varies, and where its runs are kept.

    Attributes:
        out: Folder for the models (see `folder`), and for the database where none is named.
        method: A key of `METHODS`.
        preset: A key of `PRESETS`, or None for the method's own.
        vary: Knobs as `clusterloom.sweep.plan.parse_knob` reads them.
        fixed: Estimator parameters for all runs, NAME=VALUE.
        trials: How many settings to draw; None for every combination.
        seeds: One run each for every setting.
        rank_by: A key of `clusterloom.sweep.run.SCORES`.
        storage: SQLAlchemy's address of a database that workers share; None for SQLite in `out`.
        name: The sweep's name in it, one that a folder may have.
        grace_seconds: See `clusterloom.sweep.queue.Queue`.
    """

    out: Path
    method: str
    preset: str | None
    vary: Sequence[str]
    fixed: Mapping[str, Any]
    trials: int | None
    seeds: Sequence[int]
    rank_by: str
    storage: str | None
    name: str
    grace_seconds: int

    @property
    def folder(self) -> Path:
        """Where this sweep's models, table and plot go: sweeps of several names may share `out`."""
        return self.out if self.name == DEFAULT_NAME else self.out / self.name

    def queue_address(self) -> str | Path:
        """Where the database is; see `clusterloom.sweep.queue.Queue`."""
        return self.storage or self.out / "sweep.db"

    def runs(self) -> list[dict[str, Any]]:
        """Parameters of every run that differ from the others', the first seed of all settings first.

        Raises:
            SettingsError: a knob, a number or a parameter makes no sense.
        """
        knobs = [parse_knob(text) for text in self.vary]
        # Names and methods are checked before anything runs; values by the estimator itself, for each run.
        given = {**self.fixed, **{knob.name: None for knob in knobs}}
        method_parameters(self.method, self.preset, given)
        if reserved := sorted(set(given) & {"random_state", "run_dir", "resume", "verbose", "tracker"}):
            raise SettingsError(f"{reserved[0]} is the sweep's own; seeds are given with --seeds")
        settings = settings_of(knobs, self.trials, seed=0)
        return [{**setting, "random_state": seed} for seed in self.seeds for setting in settings]


def sweep(load: Callable[[], ImageSet], options: SweepOptions, console: Console, tell: Tell) -> None:
    """Try many settings of a method, each with several seeds, and rank them without labels.

    The same command goes on with a sweep that was interrupted, and joins one that is running.

    Args:
        load: Reads the images.
        options: What to vary, and where runs are kept.
        console: Where the table goes.
        tell: Called with a line of text as the work goes on.

    Raises:
        SettingsError: a knob makes no sense, or another sweep is there.
        DataError: `options.out` is something else.
    """
    if not re.fullmatch(r"[\w-][\w.-]*", options.name):
        raise SettingsError(f"--name {printable(options.name)}: expected letters, digits, dots, - and _")
    if options.rank_by not in SCORES:
        raise SettingsError(f"--rank-by {options.rank_by}: expected one of {', '.join(SCORES)}")
    runs = options.runs()
    _check_sweep_folder(options)
    images = load()
    parameters = method_parameters(options.method, options.preset, options.fixed)
    plan = {
        "data_sha256": images.fingerprint(),
        "method": options.method,
        "parameters": parameters,
        "rank_by": options.rank_by,
        "runs": runs,
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    plan = json.loads(json.dumps(plan))  # as the database will give it back
    queue = Queue(options.queue_address(), options.name, plan, options.grace_seconds)
    runner = Runner(images, options.method, parameters, options.folder, options.rank_by)

    def make(run: int, changes: dict[str, Any]) -> dict[str, Any]:
        told = ", ".join(f"{name} {shown(value)}" for name, value in changes.items())
        tell(f"run {run + 1} of {len(runs)}: {told}")
        result = runner.make(run, changes)
        tell(f"  {options.rank_by} {result['score']:.4f}, {result['seconds']:.0f} s")
        return result

    queue.work(make, tell)
    show_sweep(options, console, tell)


def show_sweep(options: SweepOptions, console: Console, tell: Tell) -> None:
    """Print what a sweep has found so far, and write it as a table and a plot beside the models.

    Raises:
        SettingsError: there is no sweep, or none of its runs could be made.
    """
    if options.storage is None and not (options.out / "sweep.db").is_file():
        raise SettingsError(f"{printable(str(options.out))} holds no sweep")
    queue = Queue(options.queue_address(), options.name, None, options.grace_seconds)
    finished, failed = queue.finished(), queue.failed()
    settings = ranked(queue.plan, finished)
    if failed and len(failed) == len(queue.plan["runs"]):
        raise SettingsError(f"none of {len(failed)} runs could be made; run {min(failed)}: {failed[min(failed)]}")
    console.print(table(queue.plan, settings))
    for run, why in failed.items():
        console.print(f"run {run}: {why}", soft_wrap=True, highlight=False, markup=False)
    left = len(queue.plan["runs"]) - len(finished) - len(failed)
    if left:
        console.print(f"{left} of {len(queue.plan['runs'])} runs are not finished ({len(queue.running())} running)")
    if settings:
        options.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(options.folder / "sweep.csv", as_csv(queue.plan, finished))
        write_atomically(options.folder / "sweep.png", plot(queue.plan, settings))
        tell(f"every run: {printable(str(options.folder / 'sweep.csv'))}")
        tell(f"plot: {printable(str(options.folder / 'sweep.png'))}")


def _check_sweep_folder(options: SweepOptions) -> None:
    out = options.out
    sweeps = out.is_dir() and (not any(out.iterdir()) or (out / "sweep.db").exists() or any(out.glob("run-*")))
    if out.exists() and not sweeps:
        raise DataError(f"--out {printable(str(out))} exists and holds no sweep; choose another")
