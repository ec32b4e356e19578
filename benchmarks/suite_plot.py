"""What the suite's results file says, as a plot for docs/suite.md. suite.py is the command for it."""

import statistics

from suite_page import ORDER, OURS, PARTS, TITLES, WITH_WEIGHTS, grouped, headline, of_one_state, values

from clusterloom.palette import COLOURS


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
        axis.set_title(TITLES[part], loc="left", fontsize=10)
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
