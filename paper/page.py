"""docs/reproduction.md, made from the files of finished runs, so that the page cannot say what they do not.

Its words are in page.md, beside this file; here are the tables and figures that go into them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from jinja2 import Environment, StrictUndefined
from rich.table import Table

from paper import ablations, baselines, figures, fixed_features, systems, table1
from paper.models import Reading
from paper.records import Records, count, spread
from paper.runs import Experiment

_FILES = ("table1", "features", "baselines", "systems", "figures", "ablations")
_EPOCHS = 50  # the paper's
_FEWEST_SEEDS = 3
_CHOSEN_OF = (1, 2, 3, 5, 10)  # seeds
_CHOICES = tuple(field.name for field in fields(Reading))
_SETTING = tuple(field.name for field in fields(ablations.Setting))
_WORDS = {"latent": "q(y|z)", "features": "q(y|x)", "relu": "ReLU", "none": "linear", "torch": "PyTorch"}
_WORDS |= {"glorot": "Glorot"}

Part: TypeAlias = dict[str, Any]  # of the page, by the names that page.md uses
Run: TypeAlias = Mapping[str, Any]


def page(results: Path) -> str:
    """The page's text.

    Args:
        results: Folder of the files of finished runs.
    """
    records = {name: Records(results / f"{name}.jsonl") for name in _FILES}
    environment = Environment(undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string(Path(__file__).with_name("page.md").read_text("utf-8"))
    text = template.render(
        systems=systems_table(results),
        guided=_made(list(records["systems"])),
        table1=_table1(records["table1"]),
        miss=table1.MISS,
        readings=_readings(records["table1"]),
        features=_features(records["features"]),
        baselines=_baselines(records["baselines"]),
        figures=_figures(records["figures"]),
        shown=figures.SHOWN,
        ablations=_ablations(records["ablations"]),
        chosen=_chosen_by_loss(records),
    )
    return text.rstrip("\n") + "\n"


def systems_table(results: Path) -> str:
    """What each system of the paper reaches, for README too; `results` is the folder of finished runs."""
    return _markdown(systems.table(systems.systems(), results, Experiment(Records(results / "systems.jsonl"))))


def _as_settled(run: Run) -> bool:
    """Whether a run of Table 1 is of the reading settled on, and of the paper's length."""
    return run["epochs"] == _EPOCHS and run.items() >= Reading().of(run["dataset"]).items()


def _table1(records: Records) -> list[Part]:
    parts = []
    for (dataset, limit), runs in _grouped(filter(_as_settled, records), "dataset", "limit").items():
        experiment = Experiment(records, epochs=_EPOCHS, limit=limit)
        rows = [row for row in table1.ROWS if row.dataset == dataset]
        missed = table1.misses(rows, Reading(), experiment)
        parts.append(
            {
                "title": f"{dataset}: {', '.join(_words(runs[0]))}, {_extent(experiment)}",
                "table": _markdown(table1.table(rows, Reading(), experiment)),
                "misses": ", ".join(f"s {row.latent_dim} by {points:.1f}" for row, points in missed),
                "made": _made(runs),
            }
        )
    return parts


def _words(run: Run) -> tuple[str, ...]:
    """A reading of the paper, in the order of its choices."""
    return (
        _WORDS[run["category_input"]],
        f"{run['kl']} divergence",
        f"{_WORDS[run['encoder_activation']]} encoder",
        f"leaky units ({run['negative_slope']:g})" if run["negative_slope"] else "ReLU units",
        f"{_WORDS[run['initial_weights']]} weights",
        f"batches of {run['batch_size']}",
        f"λ = {run['reconstruction_weight']:g}",
        f"β = {run['kl_weight']:g}",
    )


def _readings(records: Records) -> Part:
    """Single rows under other readings, and shorter runs: what the settlement rests on."""
    others = [r for r in records if not _as_settled(r)]
    table = Table(
        *("data set", "s, n, m", "reading", "epochs", "seeds"),
        *("printed loss, train", "loss, train", "printed accuracy, test", "accuracy, test", "purity, test"),
    )
    for runs in _grouped(others, *table1.SETTINGS, "epochs", *_CHOICES).values():
        row = next(row for row in table1.ROWS if runs[0].items() >= row.settings.items())
        settled = _words(Reading().of(row.dataset))
        different = (word for word, usual in zip(_words(runs[0]), settled, strict=True) if word != usual)
        table.add_row(
            *(row.dataset, row.title, ", ".join(different).replace("|", "\\|") or "as settled on"),
            *(str(runs[0]["epochs"]), count(runs)),
            *(f"{row.losses[0]:.1f}", spread(runs, "loss_train", 1)),
            f"{row.accuracies[1]:.1f}",
            *(spread(runs, f"{name}_test", 1, 100, ends=True) for name in ("accuracy", "purity")),
        )
    return {"table": _markdown(table), "made": _made(others)}


def _features(records: Records) -> Part:
    table = fixed_features.table(fixed_features.SETTINGS, Experiment(records, epochs=_EPOCHS))
    return {"table": _markdown(table), "made": _made(list(records))}


def _chosen_by_loss(records: Mapping[str, Records]) -> str:
    """A table of the accuracy of the run with the lowest training loss among some seeds; empty where there are none."""
    names = {
        "table1": [*table1.SETTINGS, "epochs", "limit", *_CHOICES],
        "ablations": ["dataset", *_SETTING, "epochs", "limit"],
    }
    groups = [runs for name, by in names.items() for runs in _grouped(records[name], *by).values()]
    groups = [runs for runs in groups if len(runs) >= _FEWEST_SEEDS]
    if not groups:
        return ""
    of = [n for n in _CHOSEN_OF if n <= max(map(len, groups))]
    table = Table("data set", "s, n, m", "conv networks", "epochs", *map(str, of), "the best by labels")
    for runs in groups:
        first = runs[0]
        table.add_row(
            *(first["dataset"], f"{first['latent_dim']}, {first['conv_depth']}, {first['hidden_dim']}"),
            *(str(first.get("networks", 2)), str(first["epochs"])),
            *(f"{100 * _accuracy_of_lowest(runs, n):.1f}" if n <= len(runs) else "" for n in of),
            f"{100 * max(r['accuracy_test'] for r in runs):.1f}",
        )
    return _markdown(table)


def _accuracy_of_lowest(runs: Sequence[Run], n: int) -> float:
    """Accuracy on the test images of the run with the lowest training loss, mean over all choices of n of the runs."""
    return fmean(min(some, key=lambda r: r["loss_train"])["accuracy_test"] for some in combinations(runs, n))


def _baselines(records: Records) -> Part:
    parts = []
    for limit in dict.fromkeys(r["limit"] for r in records):
        for epochs in sorted({r["epochs"] for r in records if r["limit"] == limit and r["epochs"]}) or [_EPOCHS]:
            experiment = Experiment(records, epochs=epochs, limit=limit)
            some = [b for b in baselines.baselines() if not b.in_grid or experiment.runs(b.settings)]
            parts.append({"title": _extent(experiment), "table": _markdown(baselines.table(some, experiment))})
    return {"parts": parts, "made": _made(list(records))}


def _figures(records: Records) -> list[Part]:
    return [
        {
            "models": {r["images"]: r["model"] for r in runs if "model" in r},
            "table": _markdown(figures.table(runs)),
            "command": _current(command),
            "date": runs[-1]["date"],
        }
        for (command,), runs in _grouped(records, "command").items()
    ]


def _ablations(records: Records) -> list[Part]:
    parts = []
    for (dataset, epochs, limit), runs in _grouped(records, "dataset", "epochs", "limit").items():
        experiment = Experiment(records, epochs=epochs, limit=limit)
        studies = [
            {
                "name": study.name,
                "answer": ablations.answer(study, dataset, experiment),
                "table": _markdown(ablations.table(study, dataset, experiment)),
            }
            for study in ablations.STUDIES.values()
        ]
        parts.append({"title": f"{dataset}, {_extent(experiment)}", "studies": studies, "made": _made(runs)})
    return parts


def _extent(experiment: Experiment) -> str:
    return f"{experiment.epochs} epochs" + (f", {experiment.limit} images" if experiment.limit else "")


def _made(runs: Sequence[Run]) -> Part:
    """Where and when runs were made, and the commands that repeat them."""
    days = sorted({r["date"] for r in runs})
    return {
        "days": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        "where": " and ".join(sorted({_where(r) for r in runs if "device" in r})) or "cpu",
        "seconds": spread([r for r in runs if r["seconds"] is not None], "seconds", 0),
        "commands": list(dict.fromkeys(_current(r["command"]) for r in runs)),
    }


def _where(run: Run) -> str:
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    return f"{run['device']} with {threads} in {run.get('precision', 'fp32')}"


def _current(command: str) -> str:
    """What does today what a command on record did: the experiments were a command of the package once."""
    return command.replace("clusterloom reproduce", "python -m paper", 1)


def _grouped(records: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record[name] for name in names), []).append(record)
    return groups


def _markdown(table: Table) -> str:
    headers = [str(column.header) or " " for column in table.columns]
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in (headers, ["---"] * len(headers), *rows))
