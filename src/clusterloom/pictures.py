"""Pictures of clusters: members and new images, laid out in grids."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clusterloom.networks.describe import Part, size
from clusterloom.recipe.cluster_count import Evidence, best_count, enough_modularity

_LABEL_PIXELS = 72
_GAP_PIXELS = 2
_HEAD_PIXELS = 18
_ASIDE_PIXELS = 24


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, rounded; uint8 as it is.

    Example:
        >>> to_uint8(np.array([[0.0, 0.5, 1.0]], np.float32))
        array([[  0, 128, 255]], dtype=uint8)
    """
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint(images * 255), 0, 255).astype(np.uint8)


def to_picture(image: np.ndarray) -> Image.Image:
    """One image (H, W, C) for Pillow: grey for one channel, RGB for three; of any other number the mean, in grey."""
    pixels = to_uint8(image)
    if pixels.shape[-1] == 3:
        return Image.fromarray(pixels)
    grey = pixels[..., 0] if pixels.shape[-1] == 1 else np.rint(pixels.mean(-1)).astype(np.uint8)
    return Image.fromarray(grey)


def image_grid(rows: Sequence[np.ndarray], labels: Sequence[str] | None = None, smallest: int = 28) -> Image.Image:
    """A picture with one row of images per entry, each labelled on the left; rows may have different lengths.

    Small images are enlarged by a whole factor without smoothing, so that every pixel can be seen.

    Args:
        rows: Images of each row, shape (n, H, W, C), uint8 or float in [0, 1]; n may be 0.
        labels: Text of each row; None leaves no room for it.
        smallest: Pixels that the shorter side of an image takes up at least.

    Returns:
        An RGB picture.
    """
    height, width = rows[0].shape[1:3]
    factor = max(1, -(-smallest // min(height, width)))
    tile_height, tile_width = height * factor + _GAP_PIXELS, width * factor + _GAP_PIXELS
    left = _LABEL_PIXELS if labels else 0
    columns = max(1, *(len(row) for row in rows)) if len(rows) > 1 else max(1, len(rows[0]))
    canvas = Image.new(
        "RGB", (left + columns * tile_width + _GAP_PIXELS, len(rows) * tile_height + _GAP_PIXELS), "white"
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(11)
    for y, row in enumerate(rows):
        top = y * tile_height + _GAP_PIXELS
        if labels:
            draw.multiline_text((4, top + 2), labels[y], fill="black", font=font, spacing=1)
        for x, image in enumerate(row):
            tile = to_picture(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + x * tile_width + _GAP_PIXELS, top))
    return canvas


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Pictures next to each other, each under its name."""
    width = sum(picture.width for picture in pictures.values()) + _ASIDE_PIXELS * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, _HEAD_PIXELS + max(p.height for p in pictures.values())), "white")
    draw, font, left = ImageDraw.Draw(canvas), ImageFont.load_default(12), 0
    for name, picture in pictures.items():
        draw.text((left + _GAP_PIXELS, 1), name, fill="black", font=font)
        canvas.paste(picture, (left, _HEAD_PIXELS))
        left += picture.width + _ASIDE_PIXELS
    return canvas


def member_grid(images: np.ndarray, proba: np.ndarray, sizes: np.ndarray, n: int = 16) -> Image.Image:
    """Members of every cluster, the surest first in each row and the least sure at its end.

    Args:
        images: Shape (N, H, W, C).
        proba: Probabilities, shape (N, K).
        sizes: Images of each cluster, for its label, shape (K,); `images` may be a sample of them.
        n: Images per row; half of them the surest, the others spread evenly over the rest.
    """
    clusters, confidence = proba.argmax(1), proba.max(1)
    rows, labels = [], []
    for k in range(proba.shape[1]):
        members = np.flatnonzero(clusters == k)
        members = members[np.argsort(-confidence[members], kind="stable")]
        spread = np.linspace(n // 2, max(len(members) - 1, n // 2), n - n // 2).astype(int)
        chosen = np.unique(np.concatenate([np.arange(n // 2), spread]))
        rows.append(images[members[chosen[chosen < len(members)]]])
        labels.append(f"cluster {k}\n{sizes[k]:,}")
    return image_grid(rows, labels)


def cluster_count_plot(evidence: Sequence[Evidence]) -> bytes:
    """A PNG file of what speaks for each number of clusters, with the choice ringed."""
    # The figure alone, without pyplot and its state for the whole process; imported here, for it takes a second.
    from matplotlib.figure import Figure

    chosen = best_count(evidence)
    numbers = [e.n_clusters for e in evidence]
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for panel, (name, title) in zip(panels, _EVIDENCE_TITLES.items(), strict=True):
        values = [getattr(e, name) for e in evidence]
        panel.plot(numbers, values, "o-", color="#0072b2", linewidth=1, markersize=5)
        at = numbers.index(chosen)
        panel.plot(chosen, values[at], "o", markersize=13, markerfacecolor="none", color="#d55e00")
        panel.set_title(title, loc="left", fontsize=10)
        panel.grid(alpha=0.3)
    panels[0].axhline(enough_modularity(evidence), color="#d55e00", linewidth=1, linestyle="--")
    panels[-1].set_xlabel(f"number of clusters; ringed: chosen, {chosen}")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


_EVIDENCE_TITLES = {
    "modularity": "modularity: neighbours in the same cluster, beyond chance; dashed: as good as the best",
    "stability": "stability: do two halves of the images lead to the same clusters?",
}


def network_figure(parts: Sequence[Part], title: str) -> bytes:
    """A PNG file of a network as the paper's figure 1 draws it: data in solid boxes, networks in dashed ones.

    The height of a data box is the logarithm of how many numbers it holds.

    Args:
        parts: As `clusterloom.networks.describe.describe` gives them.
        title: Above the picture.
    """
    from matplotlib.figure import Figure

    by_name = {part.name: part for part in parts}
    convs = [part for part in parts if part.name.startswith("Con_Layer")]
    encoder, decoder, category = by_name["encoder"], by_name["decoder"], by_name["category encoder"]
    latent_dim = encoder.output_shape[0] // 2
    # Along the middle, from the image to its reconstruction: data and networks in turns.
    row: list[tuple[str, tuple[int, ...]] | Part] = [("image", (convs or [encoder])[0].input_shape)]
    for part in convs:
        row += [part, ("output", part.output_shape)]
    if convs:
        row += [("features", encoder.input_shape)]
    row += [encoder, ("mean,\nlog-variance", encoder.output_shape), ("z", (latent_dim,)), decoder]
    row += [("output, cut", decoder.output_shape)]
    if "TranCon_Layer1" in by_name:
        mirror = by_name["TranCon_Layer1"]
        row += [mirror, ("new image", mirror.output_shape)]
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
    source = category.reads if category.reads in places else "image"
    start, below = places[source], -0.85 - 0.14 * float(np.log2(np.prod(category.input_shape)))
    _network_box(axes, start + 0.83, -3.9, category)
    _data_box(axes, start + 1.66, -3.9, "clusters", category.output_shape)
    _arrow(axes, (start, below), (start + 0.38, -3.9), connectionstyle="angle,angleA=90,angleB=0")
    _arrow(axes, (start + 1.27, -3.9), (start + 1.39, -3.9))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


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


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the contents of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
