"""Figures that matplotlib draws: what speaks for each number of clusters, and a model's networks.

Each is a PNG file, made of a figure alone, without pyplot and its state for the whole process. Matplotlib is imported
where it is needed, for it takes a second.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clusterloom.marks import PNG_SOFTWARE
from clusterloom.networks.describe import Part, size
from clusterloom.recipe.cluster_count.advice import doubt_about
from clusterloom.recipe.cluster_count.evidence import AGREED, Evidence, best_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EVIDENCE_TITLES = {
    "score": "score: modularity, stability, and what each further cluster must bring",
    "modularity": "modularity: neighbours in the same cluster, beyond chance",
    "stability": "stability: how far all that was asked keeps the images of a cluster together",
    "agreement": f"agreement: pairs of spaces that find the same clusters (above {AGREED} and apart: first)",
}


def cluster_count_plot(evidence: Sequence[Evidence]) -> bytes:
    """A PNG file of what speaks for each number of clusters, with the choice ringed, and thinly the next best two."""
    from matplotlib.figure import Figure

    chosen, *others = best_counts(evidence)
    numbers = [e.n_clusters for e in evidence]
    figure = Figure(figsize=(7, 9), layout="constrained")
    panels = figure.subplots(len(_EVIDENCE_TITLES), 1, sharex=True)
    for panel, (name, title) in zip(panels, _EVIDENCE_TITLES.items(), strict=True):
        values = [getattr(e, name) for e in evidence]
        panel.plot(numbers, values, "o-", color="#0072b2", linewidth=1, markersize=5)
        for k, width in [(chosen, 2.0), *((k, 0.7) for k in others)]:
            at = values[numbers.index(k)]
            panel.plot(k, at, "o", markersize=13, markerfacecolor="none", color="#d55e00", markeredgewidth=width)
        panel.set_title(title, loc="left", fontsize=10)
        panel.grid(alpha=0.3)
    next_best = f", and the next best, {' and '.join(map(str, others))}" if others else ""
    doubt = doubt_about(evidence)
    panels[-1].set_xlabel(
        f"number of clusters; ringed: the chosen one, {chosen}{next_best}" + (f"\nin doubt: {doubt}" if doubt else "")
    )
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    return _png_bytes(figure, 110)


def network_figure(parts: Sequence[Part], title: str) -> bytes:
    """A PNG file of a network as the paper's figure 1 draws it: data in solid boxes, networks in dashed ones.

    The height of a data box is the logarithm of how many numbers it holds.

    Args:
        parts: As `clusterloom.networks.describe.describe` gives them.
        title: Above the picture.
    """
    from matplotlib.figure import Figure

    row, category = _middle_row(parts), next(part for part in parts if part.name == "category encoder")
    widths = [1.0 if isinstance(item, Part) else 0.66 for item in row]
    middles = [sum(widths[:at]) + widths[at] / 2 for at in range(len(row))]
    figure = Figure(figsize=(1.7 * sum(widths), 6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, sum(widths)), ylim=(-5.3, 2.6))
    axes.set_title(title, fontsize=11)
    axes.axis("off")
    places: dict[str, float] = {}
    for item, x, width in zip(row, middles, widths, strict=True):
        if isinstance(item, Part):
            _network_box(axes, x, 0.0, item)
        else:
            places[item[0]] = x
            _data_box(axes, x, 0.0, *item)
        if x > middles[0]:
            _arrow(axes, (x - width / 2 - 0.06, 0), (x - width / 2 + 0.06, 0))
    start, below = places.get(category.reads, middles[0]), -0.85 - 0.14 * float(np.log2(np.prod(category.input_shape)))
    _network_box(axes, start + 0.83, -3.9, category)
    _data_box(axes, start + 1.66, -3.9, "clusters", category.output_shape)
    _arrow(axes, (start, below), (start + 0.38, -3.9), connectionstyle="angle,angleA=90,angleB=0")
    _arrow(axes, (start + 1.27, -3.9), (start + 1.39, -3.9))
    return _png_bytes(figure, 100)


def _middle_row(parts: Sequence[Part]) -> list[tuple[str, tuple[int, ...]] | Part]:
    """From the image to its reconstruction: data, by name and shape, and networks in turns."""
    by_name = {part.name: part for part in parts}
    encoder, decoder = by_name["encoder"], by_name["decoder"]
    convs = [part for part in parts if part.name.startswith("Con_Layer")]
    row: list[tuple[str, tuple[int, ...]] | Part] = [("image", (convs or [encoder])[0].input_shape)]
    for part in convs:
        row += [part, ("output", part.output_shape)]
    if convs:
        row += [("features", encoder.input_shape)]
    row += [encoder, ("mean,\nlog-variance", encoder.output_shape), ("z", (encoder.output_shape[0] // 2,)), decoder]
    row += [("output, cut", decoder.output_shape)]
    if mirror := by_name.get("TranCon_Layer1"):
        row += [mirror, ("new image", mirror.output_shape)]
    return row


def _arrow(axes: Any, start: tuple[float, float], end: tuple[float, float], **style: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", **style})


def _data_box(axes: Any, x: float, y: float, name: str, shape: tuple[int, ...]) -> None:
    from matplotlib.patches import Rectangle

    height = 0.4 + 0.28 * float(np.log2(np.prod(shape)))
    axes.add_patch(Rectangle((x - 0.14, y - height / 2), 0.28, height, facecolor="#cfe3f1", edgecolor="black"))
    text = f"{name}\n{size(shape)}".replace(" = ", "\n")
    axes.text(x, y - height / 2 - 0.12, text, ha="center", va="top", fontsize=8)


def _network_box(axes: Any, x: float, y: float, part: Part) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.43, y - 1.3), 0.86, 2.6, fill=False, linestyle="--", edgecolor="black"))
    layers = "\n".join(part.layers[:7]).replace(", ", ",\n")
    more = f"\n... {len(part.layers)} in all" if len(part.layers) > 7 else ""
    axes.text(x, y + 1.2, part.name, ha="center", va="top", fontsize=9, weight="bold")
    axes.text(x, y - 0.02, layers + more, ha="center", va="center", fontsize=7 if len(part.layers) > 4 else 8)
    axes.text(x, y - 1.22, f"{part.parameters:,} parameters", ha="center", va="bottom", fontsize=7)


def _png_bytes(figure: "Figure", dots_per_inch: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": PNG_SOFTWARE})
    return buffer.getvalue()
