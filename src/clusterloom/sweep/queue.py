"""The queue of a sweep in a database that workers share: every run is made once to its end, whoever dies meanwhile.

Optuna keeps the entries, hands each to one worker, and tells by heartbeats which workers are alive. Runs are numbered
by the plan. One that is not finished and that nobody works on is queued again; where two workers queue it at the same
moment, the earlier entry counts and the other is dropped when its turn comes.

Two more of Optuna's pieces were tried and left out. `GridSampler` counts an interrupted run as made, and hands one that
is being made to a second worker when no other is left. `RetryFailedTrialCallback` queues the runs of killed workers
only, not those of interrupted ones nor those of a worker that died while it filled the queue; Optuna 4.9 renames it.

On SQLite, which locks no rows, two workers that ask at the very same moment may get one entry: the run is then made
twice, and the result that comes first counts.
"""

import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clusterloom.errors import ClusterloomError, SettingsError, TrainingError
from clusterloom.sweep.results import Results, run_name

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

Make: TypeAlias = Callable[[int], dict[str, Any]]  # from a run's number to its result, as JSON values
Tell: TypeAlias = Callable[[str], None]  # a line of text

_RUN, _ERROR, _WORKER, _RESULT, _PLAN = "run", "error", "worker", "result", "plan"
_MISSING = "sweeps need Optuna: pip install 'clusterloom[sweep]'"
_POLL_SECONDS = 2.0
_ATTEMPTS = 5


class Queue:
    """The runs of one plan.

    Args:
        url: SQLAlchemy's address of the database, such as `postgresql+psycopg://host/name`; or the file of an SQLite
            database.
        name: The sweep's name in it.
        plan: What is run, as JSON values, with a list "runs". None takes the plan that is there.
        grace_seconds: A run whose worker has given no sign of life for so long is queued again.

    Raises:
        SettingsError: Optuna is missing, the database cannot be used, or holds another plan under the name.
    """

    def __init__(self, url: str | Path, name: str, plan: Mapping[str, Any] | None, grace_seconds: int = 120) -> None:
        self.grace_seconds = grace_seconds
        self._study, self._storage = _open(url, name, grace_seconds, create=plan is not None)
        if plan is not None and _PLAN not in self._study.user_attrs:
            self._study.set_user_attr(_PLAN, dict(plan))
        if _PLAN not in self._study.user_attrs:
            raise SettingsError(f"{name!r} is no sweep of clusterloom's, or one that never began")
        self.plan: dict[str, Any] = self._study.user_attrs[_PLAN]
        if plan is not None and self.plan != plan:
            changed = sorted(k for k in {*plan, *self.plan} if plan.get(k) != self.plan.get(k))
            raise SettingsError(
                f"the sweep {name!r} is there already with another plan (other {', '.join(changed)}); go on with that "
                "one, or choose another --out or --name"
            )

    def results(self) -> Results:
        """What has come of the runs so far."""
        made, failed = self._entries("COMPLETE"), self._entries("FAIL")
        mended = {run for run, _ in self._entries("WAITING", "RUNNING", "COMPLETE")}  # or tried again
        errors = {run: entry.user_attrs[_ERROR] for run, entry in failed if _ERROR in entry.user_attrs}
        return Results(
            plan=self.plan,
            finished={run: entry.user_attrs[_RESULT] for run, entry in made},
            failed={run: error for run, error in errors.items() if run not in mended},
            running={run for run, _ in self._entries("RUNNING")},
        )

    def work(self, make: Make, tell: Tell) -> None:
        """Make runs until each of the plan is finished or has failed, by this worker or others; tell what goes wrong.

        Runs that have failed before are tried once more: what was in the way, such as a missing package, may be gone.
        """
        waited = False
        for run in self.results().failed:
            self._study.enqueue_trial({}, user_attrs={_RUN: run})
        while missing := (results := self.results()).missing:
            self._release_abandoned()
            if self._entries("WAITING"):
                self._make_next(make, tell)
                waited = False
            elif unclaimed := [run for run in missing if run not in results.running]:
                for run in unclaimed:
                    self._study.enqueue_trial({}, user_attrs={_RUN: run})
            else:
                if not waited:
                    tell(
                        f"waiting for {', '.join(map(run_name, missing))}, of other workers; one that gives no sign of "
                        f"life for {self.grace_seconds} s is taken for dead, and its run is made here"
                    )
                waited = True
                time.sleep(_POLL_SECONDS)

    def _make_next(self, make: Make, tell: Tell) -> None:
        """Take the next run from the queue, unless another worker was quicker."""
        import optuna

        def objective(trial: "Trial") -> float:
            run = trial.user_attrs.get(_RUN)
            if run is None or self._counts_elsewhere(run, trial.number):
                raise optuna.TrialPruned
            # Optuna's own first heartbeat comes from a thread; a worker that died before it would never be missed.
            self._storage.record_heartbeat(trial._trial_id)
            trial.set_user_attr(_WORKER, f"{platform.node()}:{os.getpid()}")
            try:
                result = make(run)
                if not math.isfinite(result["score"]):  # Optuna would fail the run and say nothing of why
                    raise TrainingError(f"its score is {result['score']}")
            except ClusterloomError as error:
                trial.set_user_attr(_ERROR, str(error))
                tell(f"{run_name(run)}: {error}")
                raise
            trial.set_user_attr(_RESULT, result)
            return float(result["score"])

        try:
            self._study.optimize(objective, n_trials=1, catch=ClusterloomError)
        except ValueError as error:
            # Optuna refuses the result of a run that was given to another worker meanwhile: the other one counts.
            if "Cannot tell" not in str(error):
                raise
            tell("a run took so long without a sign of life that another worker has it now")

    def _counts_elsewhere(self, run: int, number: int) -> bool:
        """Whether a run is settled, or an earlier entry of the queue is the one that counts for it."""
        earlier = (other for other, entry in self._entries("WAITING", "RUNNING") if entry.number < number)
        return run not in self.results().missing or run in earlier

    def _release_abandoned(self) -> None:
        """Give up entries whose worker has died: those without heartbeat, and those that died before their first."""
        import optuna

        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            optuna.storages.fail_stale_trials(self._study)
        long_ago = datetime.now() - timedelta(seconds=self.grace_seconds)
        for _, entry in self._entries("RUNNING"):
            if _WORKER not in entry.user_attrs and (entry.datetime_start or datetime.now()) < long_ago:
                self._study.tell(entry.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _entries(self, *states: str) -> "list[tuple[int, FrozenTrial]]":
        """Runs and their entries that are in some states, in the plan's order."""
        from optuna.trial import TrialState

        entries = self._study.get_trials(deepcopy=False, states=[TrialState[state] for state in states])
        return sorted(((e.user_attrs[_RUN], e) for e in entries if _RUN in e.user_attrs), key=lambda pair: pair[0])


def check_database(url: str | None, name: str, grace_seconds: int) -> None:
    """Refuse a database that cannot be used, before images are read for it.

    Args:
        url: As for `Queue`; None where an SQLite file is yet to be made.
        name: As for `Queue`.
        grace_seconds: As for `Queue`.

    Raises:
        SettingsError: see above, or Optuna is missing.
    """
    if find_spec("optuna") is None:
        raise SettingsError(_MISSING)
    if url is not None:
        _open(url, name, grace_seconds, create=True)


def _open(
    url: str | Path, name: str, grace_seconds: int, create: bool
) -> "tuple[optuna.Study, optuna.storages.RDBStorage]":
    """Optuna's study of a name, and what it is kept in; `create` makes it where there is none."""
    try:
        import optuna
        from sqlalchemy import URL
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    except ImportError:
        raise SettingsError(_MISSING) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if isinstance(url, Path):
        url = URL.create("sqlite", database=str(url)).render_as_string()
    for attempt in count(1):
        try:
            with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
                storage = optuna.storages.RDBStorage(
                    url,
                    heartbeat_interval=max(1, grace_seconds // 6),
                    grace_period=grace_seconds,
                    engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
                )
            if create:
                optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            return optuna.load_study(storage=storage, study_name=name), storage
        except KeyError:
            raise SettingsError(f"there is no sweep {name!r} yet") from None
        except (SQLAlchemyError, ImportError, ValueError) as error:
            # Workers that start together on an empty database make its tables at the same time; all but one fail.
            raced = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not raced or attempt == _ATTEMPTS:
                # SQLAlchemy adds its statement and an address; the driver's own words say enough.
                why = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
                raise SettingsError(f"the database of the sweep cannot be used: {why}") from error
            time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")
