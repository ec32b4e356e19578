"""What the suite's results file says in short: a table for README.md, and what was to be reached for docs/guided.md."""

import statistics

from suite_page import grouped, headline, markdown, means, of_one_state, of_peers, spread, values, verdict

SHOWN = (
    "digits",
    "mnist-2000",
    "mnist-70000",
    "fashion-2000",
    "fashion-70000",
    "letters-10",
    "letters-turned",
    "textures-grey",
    "thousand",
    "sprites",
    "blood",
    "scenes",
    "mnist-unequal",
    "capitals-unequal",
    "letters-26",
    "lowercase",
    "greek",
    "greek-turned",
    "textures-colour",
    "microscope",
    "parts",
    "hundred",
    "icons",
)
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
    """Markdown by the name of its place on a page; see `suite_page.tables`."""
    runs = grouped(of_one_state(records, state))
    return {
        "suite-summary": summary([sets[name] for name in SHOWN if name in sets], runs),
        "suite-verdict": verdict(list(sets.values()), runs),
        "suite-aims": aims(sets, runs),
        "suite-backbone": beside_backbone([sets[name] for name in WITH_BACKBONE if name in sets], runs),
    }


def summary(members, runs):
    """The recipe beside the best of the other methods without pretrained weights."""
    rows = []
    for member in members:
        score = headline(member)
        peers = {m: statistics.mean(some) for m, some in of_peers(runs, member).items()}
        best = max(peers, key=lambda m: peers[m], default=None)
        right = values(runs, member, "guided", "auroc")
        rows.append(
            (
                "held out: " * member.held_out + member.about + " (NMI)" * member.by_meaning,
                member.k,
                spread(values(runs, member, "guided", score)),
                f"{100 * peers[best]:.1f}, {best}" if best else "",
                f"{statistics.mean(right):.2f}" if right else "",
            )
        )
    return markdown(("images", "kinds", "`guided`", "best of the others", "AUROC"), rows)


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
        for s in everything
        if s.distinct and (s.name, "guided-auto") in runs
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
    if "mnist-10000" in sets and (seconds := values(runs, sets["mnist-10000"], "guided", "cpu_seconds")):
        rows.append(
            (
                "mnist-10000, processor seconds, one thread, without the second decoder",
                "100",
                "50",
                f"{statistics.mean(seconds):.0f}",
            )
        )
    return markdown(("", "floor", "goal", "reached"), rows)
