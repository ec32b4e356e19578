"""docs/reproduction.md, made from the files of finished runs, so that the page cannot say what they do not."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.table import Table

from paper import ablations, baselines, figures, table1
from paper.records import Records, spread
from paper.runs import Extent

_HEAD = """\
# The paper's experiments, run again

This page is made by `clusterloom reproduce page` from the files in `benchmarks/results/`; a test compares the two. What
has not been run says so. The paper's own figures stand under "printed". It gives one run each, and does not say whether
its accuracy lets several clusters share a class (our purity) or not (our accuracy), so both are given. Where there are
several seeds, figures are means ± standard deviations, with the worst and the best seed in brackets. Labels are read by
the scores alone.
"""

_TABLE1 = """\
## Table 1

60,000 training and 10,000 test images. What the paper leaves open is a *reading*: the head above each table names it.
[](paper.md) has the formulas.
"""

_READINGS = """\
### What the paper leaves open

Single rows under different readings, for fewer epochs than the paper's 50, so losses are still above and accuracies
still below what they come to. "reading" has what differs from the one settled on, which the heads above name.
[](paper.md) says why it was.
"""

_BASELINES = """\
## Baselines

The same images. DEC and the autoencoder are trained for a small part of the published number of steps
({py:class}`clusterloom.AutoencoderClusterer`). Mixtures on pixels have diagonal covariances.
"""

_FIGURES = """\
## Figures 1 to 4, and their numbers

New images of every class of Fashion-MNIST against real ones, in the 128 features of a small network that was trained on
the true labels for this purpose. "real" is the floor: other real images in their place. Fréchet distance and the
neighbourhood scores depend on the number of images, which is the same everywhere here. A class has images of those
clusters whose most frequent class it is, and none where there is no such cluster; means are over the classes that both
models have.
"""

_ABLATIONS = """\
## Ablations, and the paper's claims

One part of the model changed at a time, at fewer epochs than the paper's 50; scores are of the test images. "variance"
is the mean posterior variance over dimensions and images, "dims used" counts the dimensions whose mean changes with the
image. "classes" are those that are most frequent in some cluster; for these, "right" is the share of new images that a
network trained on labels gives to the class, "recall" the share of real images that lie among new ones, and "Vendi" the
variety of new images over that of real ones. A claim is the paper's, translated; yes and no come from the means. Runs
that differ in the seed alone lie several points apart (Table 1, and the baselines), so where a setting has one seed, a
small difference says nothing.
"""


def page(results: Path) -> str:
    """The page's text.

    Args:
        results: Folder of the files of finished runs.
    """
    sections = [_HEAD, _TABLE1, *_table1(Records(results / "table1.jsonl"))]
    sections += [_BASELINES, *_baselines(Records(results / "baselines.jsonl"))]
    sections += [_FIGURES, *_figures(Records(results / "figures.jsonl"))]
    sections += [_ABLATIONS, *_ablations(Records(results / "ablations.jsonl"))]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


def _table1(records: Records) -> list[str]:
    whole = [r for r in records if r["epochs"] == Extent().epochs]
    sections = []
    for (dataset, epochs, limit, *choices), runs in _grouped(whole, ("dataset", "epochs", "limit", *_CHOICES)).items():
        reading = table1.Reading(**dict(zip(_CHOICES, choices, strict=True)))
        extent = Extent(epochs=epochs, limit=limit)
        rows = [row for row in table1.ROWS if row.dataset == dataset]
        if reading.of(dataset) != table1.Reading().of(dataset):  # another than the one settled on
            run_rows = {tuple(r[name] for name in rows[0].settings) for r in runs}
            rows = [row for row in rows if tuple(row.settings.values()) in run_rows]
        sections += [
            f"### {dataset}: {', '.join(_words(runs[0]))}, {epochs} epochs" + (f", {limit} images" if limit else ""),
            _markdown(table1.table(rows, reading, extent, records)),
            _misses(table1.misses(rows, reading, extent, records)),
            _how(runs),
        ]
    sections = sections or ["No row has been run yet: `clusterloom reproduce table1`."]
    return sections + _readings([r for r in records if r["epochs"] != Extent().epochs])


_CHOICES = tuple(field.name for field in fields(table1.Reading))


def _words(run: Mapping[str, Any]) -> tuple[str, ...]:
    """A reading of the paper, in the order of its choices."""
    return (
        _Q[run["category_input"]],
        f"{run['kl']} divergence",
        "linear encoder" if run["encoder_activation"] == "none" else "ReLU encoder",
        {"torch": "PyTorch weights", "glorot": "Glorot weights"}[run["initial_weights"]],
        f"batches of {run['batch_size']}",
        f"λ = {run['reconstruction_weight']:g}",
    )


def _difference(run: Mapping[str, Any]) -> str:
    """What sets a run's reading apart from the one settled on."""
    settled = _words(table1.Reading().of(run["dataset"]))
    return ", ".join(word for word, usual in zip(_words(run), settled, strict=True) if word != usual) or "as settled on"


_Q = {"latent": "q(y|z)", "features": "q(y|x)"}


def _misses(missed: list[tuple[table1.Row, float]]) -> str:
    if not missed:
        return f"No row that was run misses the printed accuracy by more than {table1.MISS:g} points."
    rows = ", ".join(f"s {row.latent_dim} by {points:.1f}" for row, points in missed)
    return (
        f"Mean accuracy on the test images falls short of the printed one by more than {table1.MISS:g} points: {rows}. "
        "[What was found about the reasons](paper.md#why-rows-miss)."
    )


def _readings(runs: list[dict[str, Any]]) -> list[str]:
    """Shorter runs of single rows under different readings: what the settlement rests on."""
    if not runs:
        return []
    rows = {tuple(row.settings.values()): row for row in table1.ROWS}
    table = Table(
        *("data set", "s, n, m", "reading", "epochs", "seeds"),
        *("printed loss, train", "loss, train", "printed accuracy, test", "accuracy, test", "purity, test"),
    )
    names = (*table1.ROWS[0].settings, "epochs", *_CHOICES)
    for key, same in _grouped(runs, names).items():
        row = rows[key[:4]]
        table.add_row(
            row.dataset,
            f"{row.latent_dim}, {row.conv_depth}, {row.hidden_dim}",
            _difference(same[0]).replace("|", "\\|"),
            *(str(same[0]["epochs"]), str(len(same))),
            f"{row.losses[0]:.1f}",
            spread([r["loss_train"] for r in same], 1),
            f"{row.accuracies[1]:.1f}",
            *(spread([100 * r[score] for r in same], 1) for score in ("accuracy_test", "purity_test")),
        )
    return [_READINGS, _markdown(table), _how(runs)]


def _baselines(records: Records) -> list[str]:
    limits = sorted({r["limit"] or 0 for r in records})
    sections = []
    for limit in limits:
        epochs = {r["epochs"] for r in records if (r["limit"] or 0) == limit and r["epochs"]}
        for number in sorted(epochs) or [Extent().epochs]:
            extent = Extent(epochs=number, limit=limit or None)
            some = [b for b in baselines.baselines() if not b.in_grid or baselines.on_record(b, extent, records)]
            sections += [
                f"### {number} epochs" + (f", {limit} images" if limit else ""),
                _markdown(baselines.table(some, extent, records)),
            ]
    how = [_how(list(records))] if sections else ["None has been run yet: `clusterloom reproduce baselines`."]
    return sections + how


def _figures(records: Records) -> list[str]:
    found = list(records)
    if not found:
        return ["Not run yet: `clusterloom reproduce figures --out FOLDER`."]
    sections = []
    for command, runs in _grouped(found, ("command",)).items():
        models = {r["images"]: r["model"] for r in runs if "model" in r}
        described = "; ".join(f"{kind}: {_described(model)}" for kind, model in models.items())
        sections += [described + ".", _markdown(figures.table(runs)), f"`{command[0]}`, {runs[-1]['date']}."]
    pictures = [
        (1, "the convolutional model"),
        *((number, f"new images of the class {name}") for number, name in figures.SHOWN),
    ]
    return sections + [f"Figure {n}, {what}:\n\n![Figure {n}](images/figure-{n}.png)" for n, what in pictures]


def _ablations(records: Records) -> list[str]:
    sections = []
    for (dataset, epochs, limit), runs in _grouped(records, ("dataset", "epochs", "limit")).items():
        extent = Extent(epochs=epochs, limit=limit)
        sections.append(f"### {dataset}, {epochs} epochs" + (f", {limit} images" if limit else ""))
        for study in ablations.STUDIES.values():
            answer = ablations.answer(study, dataset, extent, records)
            table = _markdown(ablations.table(study, dataset, extent, records))
            sections += [f"**{study.name}.** {answer}".rstrip(), table]
        sections.append(_how(runs))
    return sections or ["None has been run yet: `clusterloom reproduce ablations`."]


def _described(model: Mapping[str, Any]) -> str:
    depth = f", {model['conv_depth']} conv layers per network" if model["conv_depth"] else ""
    return (
        f"{model['estimator']}, {model['latent_dim']} latent dimensions, hidden layers of {model['hidden_dim']}{depth}"
        f", reconstruction weight {model['reconstruction_weight']:g}, seed {model['seed']}, "
        f"trained in {model['seconds']:,.0f} s"
    )


def _how(runs: list[dict[str, Any]]) -> str:
    """Where and when runs were made, and by which commands."""
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(r["command"] for r in runs))
    where = sorted({_where(r) for r in runs if "device" in r})
    days = sorted({r["date"] for r in runs})
    seconds = spread([r["seconds"] for r in runs], 0)
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{span}; {' and '.join(where) or 'cpu'}; {seconds} seconds a run, by\n\n{commands}"


def _where(run: Mapping[str, Any]) -> str:
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    return f"{run['device']} with {threads} in {run.get('precision', 'fp32')}"


def _grouped(records: Iterable[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record[name] for name in names), []).append(record)
    return groups


def _markdown(table: Table) -> str:
    headers = [str(column.header) or " " for column in table.columns]
    rows = list(zip(*(list(map(str, column.cells)) for column in table.columns), strict=True))
    lines = [headers, ["---"] * len(headers), *map(list, rows)]
    return "\n".join("| " + " | ".join(lines_cell for lines_cell in line) + " |" for line in lines)
