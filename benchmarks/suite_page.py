"""What the suite's results file says, as tables for docs/suite.md. suite.py is the command for it."""

import re
import statistics

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
TITLES = {"developing": "for developing", "held-out": "held out"}
FEWEST_PEERS = 2  # on a set that counts in the verdict
ONE_RUN = "Figures without a deviation are of one run."


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
    made["verdict"] = f"{verdict(everything, runs)}\n\n{where_run(everything, runs, 'ae-umap-gmm')}. {ONE_RUN}"
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
    """The page with tables, by name, as they are to be: what stands between `<!-- NAME -->` and `<!-- end -->`.

    Text in the middle of a line stays there. A marker must not begin such a line, which would end the paragraph.
    """
    for name, text in made.items():
        place = rf"(<!-- {name} -->)(\n?).*?(<!-- end -->)"

        def as_it_is_to_be(found, text=text):
            return f"{found[1]}\n\n{text}\n\n{found[3]}" if found[2] else f"{found[1]}{text}{found[3]}"

        page, count = re.subn(place, as_it_is_to_be, page, flags=re.DOTALL)
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
    """On how many sets the recipe without weights is first, and where it is below a peer by more than the deviation.

    Peers are those without weights. Sets on which fewer than `FEWEST_PEERS` of them were run are not counted.
    """
    lost, first, left_out = [], {False: [], True: []}, []
    for member in members:
        ours, others = values(runs, member, "guided", headline(member)), of_peers(runs, member)
        if not ours or not others:
            continue
        best = max(others, key=lambda m: statistics.mean(others[m]))
        behind = statistics.mean(others[best]) - statistics.mean(ours)
        deviation = max(statistics.stdev(some) if len(some) > 1 else 0.0 for some in (ours, others[best]))
        if behind > deviation:
            of_nmi = of_number(runs, member, best) if member.by_meaning else ""
            lost.append(f"{member.name} ({best}, by {100 * behind:.1f} points{of_nmi})")
        if len(others) < FEWEST_PEERS:
            left_out.append(member.name)
        else:
            first[member.held_out].append(behind <= 0)
    won = [one for part in first.values() for one in part]
    if not won and not left_out:
        return "`guided` has not been run yet."
    parts = [f"{sum(first[held_out])} of {len(first[held_out])} {TITLES[part]}" for part, held_out in PARTS.items()]
    said = [f"`guided` is first on {sum(won)} of {len(won)} sets: {' and '.join(parts)}."]
    if left_out:
        said.append(f"Not counted, since fewer than two other methods were run there: {', '.join(left_out)}.")
    if lost:
        said.append(f"It is below a peer by more than the deviation on: {'; '.join(lost)}.")
    else:
        said.append("It is below no peer by more than the deviation.")
    return " ".join(said)


def where_run(members, runs, method, named=True):
    """On how many sets a method was run, on how many of them once, and (`named`) which are missing."""
    found = {s.name: len(values(runs, s, method, headline(s))) for s in members}
    missing = [name for name, count in found.items() if not count]
    text = f"`{method}` was run on {len(found) - len(missing)} of {len(found)} sets"
    if once := sum(count == 1 for count in found.values()):
        text += f", on {once} of them with one seed"
    return text + (f", and not on {', '.join(missing)}" if named and missing else "")


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
        for s in judged_by_number(members, runs)
        if (found := values(runs, s, "guided-auto", "n_clusters"))
    ]
    if not rows:
        return "Not run yet."
    return f"It is found {how_often(members, runs)}.\n\n{markdown(('set', 'kinds', 'found, by seed', 'purity'), rows)}"


def judged_by_number(members, runs):
    """Sets of distinct kinds on which the number of clusters was looked for."""
    return [s for s in members if s.distinct and (s.name, "guided-auto") in runs]


def how_often(members, runs):
    """On how many sets the number of clusters is found, seed by seed."""
    off = {}
    for member in judged_by_number(members, runs):
        for run in runs[member.name, "guided-auto"]:
            off.setdefault(run["seed"], []).append(abs(run["n_clusters"] - member.k) / member.k)
    return ", ".join(
        f"with seed {seed} exactly on {some.count(0)} of {len(some)} sets"
        f" and within 15 % on {sum(one <= 0.15 for one in some)}"
        for seed, some in sorted(off.items())
    )


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
