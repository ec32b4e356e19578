"""A sweep from its options to its results: what is varied, where the runs are kept, who makes them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.images import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.files import write_atomically
from clusterloom.sweep.plan import parse_varied, settings_of
from clusterloom.sweep.queue import Queue, check_database
from clusterloom.sweep.results import SCORES, Results, run_name
from clusterloom.sweep.run import Runner, is_run_of
from clusterloom.targets import in_the_way

DEFAULT_NAME = "sweep"
_RESERVED = {"random_state", "run_dir", "resume", "device", "verbose", "tracker", "image_shape"}


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a sweep varies, and where its runs are kept.

    Attributes:
        out: Folder for the models (see `folder`), and for the database where none is named.
        method: A key of `METHODS`.
        vary: Knobs and their values as `clusterloom.sweep.plan.parse_varied` reads them.
        fixed: Knobs' values for all runs.
        trials: How many settings to draw; None for every combination.
        seeds: One run each for every setting.
        rank_by: A key of `clusterloom.sweep.results.SCORES`.
        storage: SQLAlchemy's address of a database that workers share; None for SQLite in `out`.
        name: The sweep's name in it, one that a folder may have.
        grace_seconds: See `clusterloom.sweep.queue.Queue`.
    """

    out: Path
    method: str
    vary: Sequence[str]
    fixed: Mapping[str, Any]
    trials: int | None = None
    seeds: Sequence[int] = (0,)
    rank_by: str = "modularity"
    storage: str | None = None
    name: str = DEFAULT_NAME
    grace_seconds: int = 120

    @property
    def folder(self) -> Path:
        """Where this sweep's models, table and plot go: sweeps of several names may share `out`."""
        return self.out if self.name == DEFAULT_NAME else self.out / self.name

    def queue(self, plan: Mapping[str, Any] | None = None) -> Queue:
        """The sweep's queue, for a plan or with the one that is there."""
        return Queue(self.storage or self.out / "sweep.db", self.name, plan, self.grace_seconds)

    def runs(self) -> list[dict[str, Any]]:
        """Parameters of every run that differ from the others', the first seed of all settings first.

        Raises:
            SettingsError: a knob or a number makes no sense.
        """
        varied = [parse_varied(self.method, text) for text in self.vary]
        for knob in varied:
            if knob.name in _RESERVED:
                raise SettingsError(f"{knob.name} cannot be varied; seeds are given with --seeds")
            if knob.name in self.fixed:
                raise SettingsError(f"{knob.name} is to be varied and has one value for all runs; give it once")
        settings = settings_of(varied, self.trials, seed=0)
        return [{**setting, "random_state": seed} for seed in dict.fromkeys(self.seeds) for setting in settings]


def sweep(
    load: Callable[[], ImageSet],
    options: SweepOptions,
    tell: Callable[[str], None],
    progress: ProgressReport = no_progress,
    worker: Mapping[str, Any] | None = None,
) -> Results:
    """Try many settings of a method, each with several seeds, and rank them without labels.

    The same call goes on with a sweep that was interrupted, and joins one that is running.

    Args:
        load: Reads the images.
        options: What to vary, and where runs are kept.
        tell: Called with a line of text as the work goes on.
        progress: Told of what lasts, besides the training.
        worker: Knobs of the runs that are made here, such as device and verbose; those of other workers may differ.

    Returns:
        What `found` does.

    Raises:
        SettingsError: a knob makes no sense, or another sweep is there.
        DataError: `options.out` is something else.
    """
    runs = options.runs()
    _check(options)
    options.out.mkdir(parents=True, exist_ok=True)  # before images are read, for where it may not be made
    images = load()
    plan = {
        "data_sha256": images.fingerprint(),
        "method": options.method,
        "parameters": dict(options.fixed),
        "rank_by": options.rank_by,
        "runs": runs,
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    queue = options.queue(json.loads(json.dumps(plan)))  # as the database will give it back
    for run in queue.results().missing:
        folder = options.folder / run_name(run)
        if folder.exists() and not is_run_of(queue.plan, folder):
            raise DataError(
                f"{printable(str(folder))} is there and no run of this sweep; choose another --out or --name"
            )
    queue.work(Runner(images, queue.plan, options.folder, tell, progress, worker or {}).make, tell)
    return found(options, tell)


def found(options: SweepOptions, tell: Callable[[str], None]) -> Results:
    """What a sweep has found so far, also written as a table and a plot beside the models.

    Raises:
        SettingsError: there is no sweep, or none of its runs could be made.
    """
    if options.storage is None and not (options.out / "sweep.db").is_file():
        raise SettingsError(f"{printable(str(options.out))} holds no sweep")
    queue = options.queue()
    results = queue.results()
    gone = {run for run in results.finished if not is_run_of(queue.plan, options.folder / run_name(run))}
    results = replace(results, gone=gone)
    failed = results.failed
    if failed and len(failed) == len(results.plan["runs"]):
        raise SettingsError(f"none of {len(failed)} runs could be made; {run_name(min(failed))}: {failed[min(failed)]}")
    if results.finished:
        options.folder.mkdir(parents=True, exist_ok=True)
        for what, name, content in (("every run", "sweep.csv", results.csv()), ("plot", "sweep.png", results.plot())):
            write_atomically(options.folder / name, content)
            tell(f"{what}: {printable(str(options.folder / name))}")
    return results


def _check(options: SweepOptions) -> None:
    """Refuse options that make no sense before images are read."""
    if not re.fullmatch(r"[\w-][\w.-]*", options.name):
        raise SettingsError(f"--name {printable(options.name)}: expected letters, digits, dots, - and _")
    if options.rank_by not in SCORES:
        raise SettingsError(f"--rank-by {options.rank_by}: expected one of {', '.join(SCORES)}")
    folders = [folder for folder in (options.out, options.folder) if folder.is_dir()]
    sweeps = any(
        not any(f.iterdir()) or (f / "sweep.db").exists() or any(r.is_dir() for r in f.glob("run-*")) for f in folders
    )
    if options.out.exists() and not sweeps:
        raise DataError(f"--out {printable(str(options.out))} exists and holds no sweep; choose another")
    if file := in_the_way(options.folder):
        raise DataError(f"--out {printable(str(options.out))}: {printable(str(file))} is not a folder; choose another")
    check_database(options.storage, options.name, options.grace_seconds)
