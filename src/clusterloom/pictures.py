"""Pictures of clusters: members and new images, laid out in grids."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clusterloom.cluster_count import Evidence, best_count, enough_modularity

_LABEL_PIXELS = 72
_GAP_PIXELS = 2
_SMALLEST_TILE = 28


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


def image_grid(rows: Sequence[np.ndarray], labels: Sequence[str] | None = None) -> Image.Image:
    """A picture with one row of images per entry, each labelled on the left; rows may have different lengths.

    Small images are enlarged by a whole factor without smoothing, so that every pixel can be seen.

    Args:
        rows: Images of each row, shape (n, H, W, C), uint8 or float in [0, 1]; n may be 0.
        labels: Text of each row; None leaves no room for it.

    Returns:
        An RGB picture.
    """
    height, width = rows[0].shape[1:3]
    factor = max(1, -(-_SMALLEST_TILE // min(height, width)))
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


def png_bytes(picture: Image.Image) -> bytes:
    """A picture as the contents of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
