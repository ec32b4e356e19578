"""What the suite's results file says, as tables for docs/suite.md and as a plot. suite.py is the command for it."""

import re
import statistics

from clusterloom.palette import COLOURS

OURS = ("guided", "guided-backbone", "guided-auto", "guided-as-many")
WITH_WEIGHTS = ("guided-backbone", "frozen-umap-gmm")  # of a network that has seen labels of other images
ORDER = (
    "guided",
    "kmeans",
    "umap-gmm",
    "umap-hdbscan",
    "ae-umap-gmm",
    "dec",
    "vade",
    "guided-backbone",
    "frozen-umap-gmm",
)
PARTS = {"developing": False, "held-out": True}


def tables(records, sets, state=None):
    """Markdown by the name of its place on the page.

    Of each method on each set only runs of one state of the code count: `state`, or the one that was run last.
    """
    runs = grouped(of_one_state(records, state))
    made = {}
    for part, held_out in PARTS.items():
        members = [s for s in sets.values() if s.held_out == held_out]
        made[f"sets-{part}"] = what_sets_are(members, runs)
        made[f"scores-{part}"] = scores_table(members, runs, [m for m in ORDER if m not in WITH_WEIGHTS], headline)
    everything = list(sets.values())
    made["verdict"] = verdict(everything, runs)
    both = [s for s in everything if (s.name, "umap-learn-gmm") in runs]
    made["umap-learn"] = scores_table(both, runs, ("umap-gmm", "umap-learn-gmm"), headline)
    made["weights"] = scores_table(everything, runs, WITH_WEIGHTS, headline)
    made["nmi"] = scores_table(everything, runs, (*ORDER, "guided-as-many"), lambda s: "nmi")
    made["probabilities"] = probabilities_table(everything, runs)
    made["costs"] = costs_table(everything, runs)
    made["auto"] = auto_table(everything, runs)
    made["made"] = how_made(runs)
    return made


def filled(page, made):
    """The page with tables, by name, as they are to be: what stands between `<!-- NAME -->` and `<!-- end -->`."""
    for name, text in made.items():
        place = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(
            place, lambda found, text=text: f"{found[1]}\n{text}\n\n{found[2]}", page, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"the page has {count} places for {name}; expected one")
    return page


def of_one_state(records, state=None):
    records = list(records)
    last = {(r["dataset"], r["method"]): r.get("state") for r in records}
    if state is not None:
        last |= {(r["dataset"], r["method"]): state for r in records if r.get("state") == state}
    return [r for r in records if r.get("state") == last[r["dataset"], r["method"]]]


def grouped(records):
    """Runs by (data set, method)."""
    groups = {}
    for record in records:
        groups.setdefault((record["dataset"], record["method"]), []).append(record)
    return groups


def headline(member):
    """The score that a set is judged by."""
    return "nmi" if member.by_meaning else "accuracy"


def values(runs, member, method, score):
    found = (run.get(score) for run in runs.get((member.name, method), []))
    return [value for value in found if value is not None]


def what_sets_are(members, runs):
    images = {dataset: group[0].get("images") for (dataset, _), group in runs.items() if group[0].get("images")}
    return markdown(
        ("set", "images", "kinds", "judged by", "distinct", "what it is"),
        [
            (s.name, thousands(images.get(s.name)), s.k, headline(s).replace("nmi", "NMI"), "yes" * s.distinct, s.about)
            for s in members
        ],
    )


def scores_table(members, runs, methods, score_of):
    """Mean, deviation and minimum in per cent, a row per set; the highest mean of a row is bold."""
    methods = [m for m in methods if any((s.name, m) in runs for s in members)]
    if not methods:
        return "Not run yet."
    rows = []
    for member in members:
        score = score_of(member)
        found = [values(runs, member, method, score) for method in methods]
        best = max((statistics.mean(some) for some in found if some), default=None)
        cells = [
            spread(some, best) or ("stopped" if (member.name, method) in runs else "")
            for method, some in zip(methods, found, strict=True)
        ]
        rows.append((member.name + " (NMI)" * (score == "nmi" and score_of is headline), *cells))
    return markdown(("set", *methods), rows)


def spread(some, best=None):
    """In per cent: the mean, and where there are several runs the deviation and the worst.

    Example:
        >>> spread([0.5, 0.7]), spread([0.5, 0.7], best=0.6), spread([0.5])
        ('60.0 ± 14.1 (50.0)', '**60.0** ± 14.1 (50.0)', '50.0')
    """
    if not some:
        return ""
    mean = statistics.mean(some)
    text = f"**{100 * mean:.1f}**" if mean == best else f"{100 * mean:.1f}"
    if len(some) > 1:
        text += f" ± {100 * statistics.stdev(some):.1f} ({100 * min(some):.1f})"
    return text


def verdict(members, runs):
    """On which sets the recipe without weights is below a peer without weights by more than the larger deviation."""
    lost, first, compared = [], 0, 0
    for member in members:
        ours, others = values(runs, member, "guided", headline(member)), of_peers(runs, member)
        if not ours or not others:
            continue
        compared += 1
        best = max(others, key=lambda m: statistics.mean(others[m]))
        behind = statistics.mean(others[best]) - statistics.mean(ours)
        deviation = max(statistics.stdev(some) if len(some) > 1 else 0.0 for some in (ours, others[best]))
        first += behind <= 0
        if behind > deviation:
            of_nmi = of_number(runs, member, best) if member.by_meaning else ""
            lost.append(f"{member.name} ({best}, by {100 * behind:.1f} points{of_nmi})")
    if not compared:
        return "`guided` has not been run yet."
    text = f"`guided` is first on {first} of {compared} sets."
    if lost:
        return f"{text} It is below a peer by more than the deviation on: {'; '.join(lost)}."
    return f"{text} It is below no peer by more than the deviation."


def of_number(runs, member, method):
    """How many clusters a method's NMI is of: it rises with their number."""
    count = round(statistics.mean(values(runs, member, method, "clusters")))
    return f" of NMI, with {count} clusters for {member.k} kinds"


def of_peers(runs, member):
    """What the peers without pretrained weights have by the score that the set is judged by: values by method."""
    peers = [m for m in ORDER if m not in (*OURS, *WITH_WEIGHTS)]
    return {m: some for m in peers if (some := values(runs, member, m, headline(member)))}


PROBABILITIES = {"auroc": "AUROC", "ece": "calibration error", "outlier_auc": "outlier AUC"}


def probabilities_table(members, runs):
    columns = [(m, score) for m in ORDER for score in PROBABILITIES if any(values(runs, s, m, score) for s in members)]
    if not columns:
        return "Not run yet."
    rows = [(s.name, *(decimals(values(runs, s, *column)) for column in columns)) for s in members]
    everywhere = ["mean of the sets", *(f"{statistics.mean(means(members, runs, *column)):.3f}" for column in columns)]
    return markdown(("set", *(f"{method}, {PROBABILITIES[score]}" for method, score in columns)), [*rows, everywhere])


def means(members, runs, method, score):
    """Of the runs on each set that has any."""
    return [statistics.mean(some) for s in members if (some := values(runs, s, method, score))]


def decimals(some):
    if not some:
        return ""
    return f"{statistics.mean(some):.3f}" + (f" ± {statistics.stdev(some):.3f}" if len(some) > 1 else "")


def costs_table(members, runs):
    methods = [m for m in ORDER if any((s.name, m) in runs for s in members)]
    if not methods:
        return "Not run yet."
    rows = [(s.name, *(costs(runs, s, method) for method in methods)) for s in members]
    return markdown(("set", *methods), rows)


def costs(runs, member, method):
    seconds, peaks = values(runs, member, method, "cpu_seconds"), values(runs, member, method, "peak_mb")
    if not seconds:
        return "stopped" if (member.name, method) in runs else ""
    return f"{statistics.mean(seconds):,.0f} s, {max(peaks):,.0f} MB"


def auto_table(members, runs):
    rows = [
        (s.name, s.k, ", ".join(map(str, found)), spread(values(runs, s, "guided-auto", "purity")))
        for s in members
        if s.distinct and (found := values(runs, s, "guided-auto", "n_clusters"))
    ]
    return markdown(("set", "kinds", "found, by seed", "purity"), rows) if rows else "Not run yet."


def how_made(runs):
    """Days, machines, versions and states of the code of what is shown."""
    shown = [run for group in runs.values() for run in group]
    if not shown:
        return "Nothing has been run yet."
    rows = []
    for method in dict.fromkeys([*ORDER, *OURS, "umap-learn-gmm"]):
        of_method = [run for run in shown if run["method"] == method]
        for state in dict.fromkeys(run.get("state") for run in of_method):
            its = [run for run in of_method if run.get("state") == state]
            days = sorted({run["date"] for run in its})
            sets = "all" if len(its) == len(of_method) else ", ".join(dict.fromkeys(run["dataset"] for run in its))
            rows.append((method, len(its), " to ".join(dict.fromkeys([days[0], days[-1]])), state or "", sets))
    versions = sorted({f"{name} {v}" for run in shown for name, v in run["versions"].items() if v})
    machines = sorted({f"{run['cores']} cores with {run['cpu']}" for run in shown})
    table = markdown(("method", "runs", "days", "state of the code", "sets"), rows)
    return f"{table}\n\nMachines: {'; '.join(machines)}.\nVersions: {', '.join(versions)}."


def thousands(number):
    return "" if number is None else f"{number:,}"


def markdown(header, rows):
    """A table that can be read as it is, too: columns have one width."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def drawn(records, sets, state=None):
    """A dot for the mean of each method, a row per set, with a line from the worst run to the best."""
    from matplotlib.figure import Figure

    runs = grouped(of_one_state(records, state))
    methods = [m for m in ORDER if any(m == method for _, method in runs)]
    parts = {part: [s for s in sets.values() if s.held_out == held_out] for part, held_out in PARTS.items()}
    figure = Figure(figsize=(8, 1.6 + 0.34 * len(sets)), layout="constrained")
    axes = figure.subplots(2, sharex=True, height_ratios=[max(1, len(members)) for members in parts.values()])
    for axis, (part, members) in zip(axes, parts.items(), strict=True):
        for place, member in enumerate(members):
            for method in methods:
                if some := values(runs, member, method, headline(member)):
                    beside = 0.07 * (methods.index(method) - (len(methods) - 1) / 2)
                    draw_runs(axis, place + beside, [100 * value for value in some], method)
        axis.set_yticks(range(len(members)), [s.name + " (NMI)" * s.by_meaning for s in members])
        axis.set_ylim(len(members) - 0.5, -0.5)
        axis.set_title({"developing": "for developing", "held-out": "held out"}[part], loc="left", fontsize=10)
        axis.grid(axis="both", color="#e4e4e4", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("accuracy in %, or NMI where it says so: mean, and from the worst seed to the best")
    handles = [axes[0].plot([], [], **style(method), linestyle="", label=method)[0] for method in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(5, max(1, len(methods))), **LEGEND)
    return figure


LEGEND = {"frameon": False, "fontsize": 9, "columnspacing": 1.2, "handletextpad": 0.1}


def draw_runs(axis, place, percent, method):
    colour, above = style(method)["color"], 3 if method in OURS else 2
    axis.plot([min(percent), max(percent)], [place, place], color=colour, linewidth=1.2, zorder=above)
    axis.plot(statistics.mean(percent), place, **style(method), zorder=above)


def style(method):
    ours = method in OURS
    marker = "D" if method in WITH_WEIGHTS else "o"
    return {"color": COLOURS[COLOUR_OF[method]], "marker": marker, "markersize": 8 if ours else 5}


# Ours in the most striking colours of the palette.
COLOUR_OF = dict(zip(ORDER, (3, 0, 2, 6, 5, 8, 9, 1, 4), strict=True))
