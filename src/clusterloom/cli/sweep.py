"""`clusterloom sweep`: many settings, ranked without labels."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import (
    Clusters,
    DataArgument,
    Json,
    Knobs,
    Method,
    Reading,
    TrainingTalk,
    grouped,
    knob_values,
    seed_numbers,
)


@dataclass(frozen=True)
class Trying:
    """What is tried, and what counts."""

    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=A,B,C (16:32 for several numbers), NAME=LOW..HIGH or NAME=log:LOW..HIGH; several times.",
            metavar="KNOB",
        ),
    ] = None
    trials: Annotated[
        int | None, typer.Option(help="Draw so many settings; by default every combination is tried.", min=1)
    ] = None
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas; one run each of every setting.")] = "0"
    rank_by: Annotated[
        str, typer.Option(help="modularity (on pixels), silhouette, confidence or likelihood; none sees labels.")
    ] = "modularity"


@dataclass(frozen=True)
class Sharing:
    """Where several workers find the runs."""

    storage: Annotated[
        str | None,
        typer.Option(help="Database that workers share, such as postgresql+psycopg://user@host/name.", metavar="URL"),
    ] = None
    name: Annotated[str, typer.Option(help="The sweep's name in the database.")] = "sweep"
    grace_seconds: Annotated[
        int, typer.Option(help="Take a run from a worker that has given no sign of life for so long.", min=6)
    ] = 120


@grouped
def sweep(
    data: DataArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the models, the table and the plot.", metavar="FOLDER")
    ],
    trying: Trying,
    sharing: Sharing,
    reading: Reading,
    talk: TrainingTalk,
    knobs: Knobs = None,
    clusters: Clusters = None,
    method: Method = "guided",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    show: Annotated[bool, typer.Option("--show", help="Run nothing; print what has been found.")] = False,
    as_json: Json = False,
) -> None:
    """Try many settings and rank them without labels.

    The same command resumes a sweep, or helps one that is running, and tries failed runs again.
    """
    from clusterloom.errors import SettingsError
    from clusterloom.estimators.methods import method_named
    from clusterloom.sweep.sweep import SweepOptions, found
    from clusterloom.sweep.sweep import sweep as make_runs

    options = SweepOptions(
        out=out,
        method=method,
        fixed=knob_values(method_named(method).Settings, clusters, knobs),
        vary=trying.vary or (),
        trials=trying.trials,
        seeds=seed_numbers(trying.seeds),
        rank_by=trying.rank_by,
        **vars(sharing),
    )
    with talk.output() as output:
        if show:
            results = found(options, output.say)
        else:
            worker = {"device": device, "verbose": talk.verbosity}
            results = make_runs(partial(reading.load, data, output), options, output.say, output.progress, worker)
        if as_json:
            output.json(results.summary())
        else:
            output.result(results.table())
            for line in results.remarks():
                output.result(line)
    if results.failed and not show:
        failed, of = len(results.failed), len(results.plan["runs"])
        raise SettingsError(f"{failed} of {of} runs could not be made; the same command tries again")
