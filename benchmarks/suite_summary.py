"""What the suite's results file says in short: for README.md, and what was to be reached for docs/guided.md."""

import statistics

from suite_page import (
    grouped,
    headline,
    how_often,
    judged_by_number,
    markdown,
    means,
    of_one_state,
    of_peers,
    spread,
    thousands,
    values,
    verdict,
    where_run,
)

# Rows of README.md: half of them held out; easy ones and hard ones, and what the recipe is behind on.
SHOWN = {
    "digits": "handwritten digits, 8 x 8 pixels",
    "mnist-2000": "MNIST, a sample",
    "mnist-70000": "MNIST, all of it",
    "fashion-70000": "Fashion-MNIST, all of it",
    "shapes": "drawings of shapes in random colours",
    "lowercase": "printed small letters in many fonts",
    "alphabet-52": "printed capitals and small letters",
    "textures-colour": "photographed textures in coloured lights",
    "microscope": "drawn cells as a microscope shows them",
    "icons": "icons of two desktops by folder (NMI)",
}
# Sets whose score stands in the text of README.md.
IN_TEXT = ("fashion-70000", "mnist-unequal", "capitals-unequal")
TIMED = {
    "digits": "1,797 digits",
    "mnist-2000": "2,000 images of MNIST",
    "mnist-10000": "10,000",
    "mnist-70000": "70,000",
    "emoji-2": "1,586 emoji of 64 x 64 pixels in colour",
}
WITH_BACKBONE = (
    "textures-grey",
    "textures-colour",
    "microscope",
    "flags-108",
    "emoji-2",
    "icons",
    "fashion-2000",
    "sprites",
    "digits",
    "letters-10",
    "numerals",
)
# Floor and goal of the accuracy in per cent, mean and in brackets the worst seed; of `guided` where no method is named.
ACCURACIES = (
    ("digits", "95 (92)", "97 (95)"),
    ("mnist-2000", "92 (88)", "96 (94)"),
    ("mnist-10000", "98.0", "98.6"),
    ("mnist-70000", "98.7", "99.0"),
    ("fashion-10000", "68", "72"),
    ("fashion-70000", "72", "75"),
    ("mnist-thinned", "95", "98"),
    ("letters-10", "90", "97"),
    ("textures-grey", "88", "95"),
    ("textures-grey", "98", "99.5", "guided-backbone"),
    ("shapes", "90", "98"),
    ("hues", "95", "99"),
)
RIGHT, SURE = 0.8, 0.1  # floor of the area under ROC, and ceiling of the calibration error, on every set


def summaries(records, sets, state=None):
    """Markdown by page and by the name of its place there; see `suite_page.tables`."""
    runs, everything = grouped(of_one_state(records, state)), list(sets.values())
    readme = {
        "suite-summary": summary([sets[name] for name in SHOWN if name in sets], runs),
        "suite-verdict": verdict(everything, runs),
        "suite-peer": where_run(everything, runs, "ae-umap-gmm", named=False),
        "suite-folders": folders(everything, runs),
        "suite-number": how_often(everything, runs),
        "suite-number-worst": farthest_off(everything, runs),
        "suite-seconds": seconds(sets, runs),
        "suite-too-sure": too_sure(runs),
    }
    readme |= {
        f"suite-{name}": mean(values(runs, sets[name], "guided", "accuracy")) for name in IN_TEXT if name in sets
    }
    guide = {
        "suite-aims": aims(sets, runs),
        "suite-backbone": beside_backbone([sets[name] for name in WITH_BACKBONE if name in sets], runs),
    }
    return {"README.md": readme, "docs/guided.md": guide}


def summary(members, runs):
    """The recipe beside the best of the other methods without pretrained weights."""
    rows = []
    for member in members:
        found = runs.get((member.name, "guided"), [{}])
        right = values(runs, member, "guided", "auroc")
        rows.append(
            (
                SHOWN.get(member.name, member.name),
                thousands(found[0].get("images")),
                member.k,
                "yes" * member.held_out,
                spread(values(runs, member, "guided", headline(member))),
                best_peer(member, runs),
                f"{statistics.mean(right):.2f}" if right else "",
            )
        )
    return markdown(("images", "how many", "kinds", "held out", "`guided`", "best of the others", "AUROC"), rows)


def best_peer(member, runs):
    """Its mean in per cent and its name, and whether it is the only one and was run once only."""
    peers = of_peers(runs, member)
    if not peers:
        return ""
    best = max(peers, key=lambda m: statistics.mean(peers[m]))
    alone, once = " (the only one)" * (len(peers) == 1), " (one run)" * (len(peers[best]) == 1)
    return f"{mean(peers[best])}, {best}{alone}{once}"


def mean(some):
    """In per cent."""
    return f"{100 * statistics.mean(some):.1f}" if some else ""


def folders(members, runs):
    """The NMI of sets that are judged by meaning, beside the best of the others."""
    found = ((s, mean(values(runs, s, "guided", "nmi")), best_peer(s, runs)) for s in members if s.by_meaning)
    return "; ".join(f"{s.name} {ours} ({best})" for s, ours, best in found if ours)


def farthest_off(members, runs, count=3):
    """The sets on which the number of clusters is worst: what was found, by seed, and how many kinds there are."""
    found = {s: values(runs, s, "guided-auto", "n_clusters") for s in judged_by_number(members, runs)}
    off = {s: statistics.mean(abs(number - s.k) / s.k for number in some) for s, some in found.items()}
    worst = sorted(off, key=lambda s: -off[s])[:count]
    return ", ".join(f"{s.name} ({' and '.join(map(str, found[s]))} for {s.k} kinds)" for s in worst)


def seconds(sets, runs):
    """Processor seconds of a run on samples of several sizes."""
    found = {name: values(runs, sets[name], "guided", "cpu_seconds") for name in TIMED if name in sets}
    return ", ".join(f"{TIMED[name]} {statistics.mean(some):.0f}" for name, some in found.items() if some)


def too_sure(runs):
    """By how many points the probabilities of 2,000 garments are higher than the accuracy."""
    found = runs.get(("fashion-2000", "guided"), [])
    above = [run["mean_probability"] - run["accuracy"] for run in found]
    return f"{100 * statistics.mean(above):.0f}" if above else ""


def beside_backbone(members, runs):
    """The recipe with a backbone and without, and the backbone's features alone."""
    methods = ("guided-backbone", "guided", "frozen-umap-gmm")
    rows = [
        (
            "held out: " * member.held_out + member.name + " (NMI)" * member.by_meaning,
            *(spread(values(runs, member, method, headline(member))) for method in methods),
        )
        for member in members
    ]
    return markdown(("", "with the backbone", "without", "its features alone, UMAP and mixture"), rows)


def aims(sets, runs):
    """What the recipe was to reach, beside what it reaches."""
    everything = list(sets.values())
    rows = [
        (f"{name}, accuracy in %" + ", with the backbone" * bool(method), floor, goal, reached)
        for name, floor, goal, *method in ACCURACIES
        if name in sets and (reached := spread(values(runs, sets[name], *(method or ["guided"]), "accuracy")))
    ]
    right, sure = (means(everything, runs, "guided", score) for score in ("auroc", "ece"))
    if right and sure:
        below, above = sum(value < RIGHT for value in right), sum(value > SURE for value in sure)
        rows += [
            (
                f"area under ROC of the probability for being right, mean of {len(right)} sets with wrong images",
                ".88, each .80",
                ".92",
                f"{statistics.mean(right):.3f}, below .80 on {below}",
            ),
            (
                f"calibration error, mean of {len(sure)} sets",
                ".06, each .10",
                ".03",
                f"{statistics.mean(sure):.3f}, above .10 on {above}",
            ),
        ]
    counts = [
        [abs(found - s.k) / s.k for found in values(runs, s, "guided-auto", "n_clusters")]
        for s in judged_by_number(everything, runs)
    ]
    if counts:
        within = [sum(max(off) <= limit for off in counts) for limit in (0.15, 0.1)]
        rows.append(
            (
                f"number of clusters, {len(counts)} sets of distinct kinds",
                "within 15 % on two thirds",
                "within 10 % on all",
                f"within 15 % on {within[0]}, within 10 % on {within[1]}",
            )
        )
    if "mnist-10000" in sets and (spent := values(runs, sets["mnist-10000"], "guided", "cpu_seconds")):
        rows.append(
            (
                "mnist-10000, processor seconds, one thread, without the second decoder",
                "100",
                "50",
                f"{statistics.mean(spent):.0f}",
            )
        )
    return markdown(("", "floor", "goal", "reached"), rows)
