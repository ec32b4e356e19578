"""The queue of a sweep in a database that workers share: every run is made once to its end, whoever dies meanwhile.

Optuna keeps the runs and tells by heartbeats which workers are alive. Runs are numbered by the plan. One that is not
finished and that nobody works on is queued again; where two workers queue it at the same moment, the earlier entry
counts and the other is dropped when its turn comes.
"""

import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusterloom.errors import ClusterloomError, SettingsError

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

_RUN, _ERROR, _WORKER, _RESULT, _PLAN = "run", "error", "worker", "result", "plan"
_POLL_SECONDS = 2.0
_ATTEMPTS = 5


class Queue:
    """The runs of one plan.

    Args:
        url: SQLAlchemy's address of the database, such as `postgresql+psycopg://host/name`; or the file of an SQLite
            database.
        name: The sweep's name in it.
        plan: What is run, as JSON values; its "runs" are what `work` is given, one each. None takes the plan that is
            there.
        grace_seconds: A run whose worker has given no sign of life for so long is queued again.

    Raises:
        SettingsError: Optuna is missing, the database cannot be used, or holds another plan under the name.
    """

    def __init__(self, url: str | Path, name: str, plan: Mapping[str, Any] | None, grace_seconds: int = 120) -> None:
        self.grace_seconds = grace_seconds
        self._study = _study(url, name, grace_seconds, create=plan is not None)
        if plan is not None and _PLAN not in self._study.user_attrs:
            self._study.set_user_attr(_PLAN, dict(plan))
        self.plan: dict[str, Any] = self._study.user_attrs[_PLAN]
        if plan is not None and self.plan != plan:
            changed = sorted(k for k in {*plan, *self.plan} if plan.get(k) != self.plan.get(k))
            raise SettingsError(
                f"the sweep {name!r} is there already with another plan (other {', '.join(changed)}); go on with that "
                "one, or choose another --out or --name"
            )

    def finished(self) -> dict[int, dict[str, Any]]:
        """Results by the number of their run, in the plan's order."""
        done = ((t.user_attrs[_RUN], t.user_attrs[_RESULT]) for t in self._trials("COMPLETE"))
        return dict(sorted(done, key=lambda item: item[0]))

    def failed(self) -> dict[int, str]:
        """Why a run cannot be made, by its number."""
        return {t.user_attrs[_RUN]: t.user_attrs[_ERROR] for t in self._trials("FAIL") if _ERROR in t.user_attrs}

    def running(self) -> dict[int, str]:
        """Who is at a run, by its number."""
        return {t.user_attrs[_RUN]: t.user_attrs.get(_WORKER, "") for t in self._trials("RUNNING")}

    def work(self, make: Callable[[int, dict[str, Any]], dict[str, Any]], report: Callable[[str], None]) -> None:
        """Make runs until all of the plan are finished, by this worker or by others.

        Args:
            make: From a run's number and its entry of the plan to its result, as JSON values.
            report: Told of every run that this worker finishes or gives up.
        """
        waited = False
        while missing := self._missing():
            self._release_abandoned()
            if self._trials("WAITING"):
                self._one(make, report)
                waited = False
            elif unclaimed := [run for run in missing if run not in self.running()]:
                for run in unclaimed:
                    self._study.enqueue_trial({}, user_attrs={_RUN: run})
            else:
                if not waited:
                    report(f"waiting for {len(missing)} runs of other workers")
                waited = True
                time.sleep(_POLL_SECONDS)

    def _one(self, make: Callable[[int, dict[str, Any]], dict[str, Any]], report: Callable[[str], None]) -> None:
        """Take the next run from the queue, unless another worker was quicker."""
        import optuna

        def objective(trial: "Trial") -> float:
            run = trial.user_attrs.get(_RUN)
            if run is None or self._has_another(run, trial.number):
                raise optuna.TrialPruned
            trial.set_user_attr(_WORKER, f"{platform.node()}:{os.getpid()}")
            try:
                result = make(run, self.plan["runs"][run])
            except ClusterloomError as error:
                trial.set_user_attr(_ERROR, str(error))
                report(f"run {run}: {error}")
                raise
            trial.set_user_attr(_RESULT, result)
            return float(result["score"])

        try:
            self._study.optimize(objective, n_trials=1, catch=ClusterloomError)
        except ValueError as error:
            # Optuna refuses the result of a run that was given to another worker meanwhile: the other one counts.
            if "Cannot tell" not in str(error):
                raise
            report("a run took so long without a sign of life that another worker has it now")

    def _has_another(self, run: int, number: int) -> bool:
        """Whether an earlier entry of the queue is the one that counts for a run."""
        entries = self._trials("WAITING", "RUNNING", "COMPLETE")
        return any(t.user_attrs.get(_RUN) == run and t.number < number for t in entries)

    def _missing(self) -> list[int]:
        settled = {*self.finished(), *self.failed()}
        return [run for run in range(len(self.plan["runs"])) if run not in settled]

    def _release_abandoned(self) -> None:
        """Give up entries whose worker has died: those without heartbeat, and those that died before their first."""
        import optuna

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
        for trial in self._trials("RUNNING", known=False):
            started = trial.datetime_start or datetime.now()
            if _WORKER not in trial.user_attrs and datetime.now() - started > timedelta(seconds=self.grace_seconds):
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)

    def _trials(self, *states: str, known: bool = True) -> "list[FrozenTrial]":
        """Entries in some states; `known` leaves out those that belong to no run."""
        from optuna.trial import TrialState

        wanted = tuple(TrialState[state] for state in states)
        return [t for t in self._study.get_trials(False, wanted) if not known or _RUN in t.user_attrs]


def _study(url: str | Path, name: str, grace_seconds: int, create: bool) -> "optuna.Study":
    try:
        import optuna
        from sqlalchemy import URL
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError
    except ImportError:
        raise SettingsError("sweeps need Optuna: pip install 'clusterloom[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if isinstance(url, Path):
        url = URL.create("sqlite", database=str(url)).render_as_string()
    for attempt in range(_ATTEMPTS):
        try:
            return _opened(url, name, grace_seconds, create)
        except KeyError:
            raise SettingsError(f"there is no sweep {name!r} yet") from None
        except (SQLAlchemyError, ImportError, ValueError) as error:
            # Workers that start together on an empty database make its tables at the same time; all but one fail.
            raced = isinstance(error, IntegrityError) or "already exists" in str(error)
            if raced and attempt < _ATTEMPTS - 1:
                time.sleep(0.5 + attempt)
                continue
            why = " ".join(str(error).split())[:200]
            raise SettingsError(f"the database of the sweep cannot be used: {why}") from error
    raise AssertionError("the last attempt returns or raises")


def _opened(url: str, name: str, grace_seconds: int, create: bool) -> "optuna.Study":
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.RDBStorage(
            url,
            heartbeat_interval=max(1, grace_seconds // 6),
            grace_period=grace_seconds,
            engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
        )
    # The plan says what is tried; the sampler is never asked.
    sampler = optuna.samplers.RandomSampler(seed=0)
    if not create:
        return optuna.load_study(storage=storage, sampler=sampler, study_name=name)
    return optuna.create_study(
        storage=storage, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
    )
