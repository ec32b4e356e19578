"""How a model came to be, in words: what made it, on what, where, and how long it took."""

from collections.abc import Mapping
from typing import Any

from clusterloom.errors import printable
from clusterloom.estimators.base import ImageClusterer

METHODS = {
    "ConvVAEClusterer": "a convolutional variational autoencoder with a category encoder",
    "VAEClusterer": "a variational autoencoder of flattened pixels with a category encoder",
    "DECClusterer": "deep embedded clustering (DEC)",
    "AutoencoderClusterer": "an autoencoder with k-means",
}
_NOT_SETTINGS = {"run_dir", "resume", "tracker", "verbose"}


def python_call(model: ImageClusterer) -> str:
    """What makes the model again in Python: the parameters that are not the defaults, and the seed."""
    defaults = type(model)().get_params()
    changed = {k: v for k, v in model.get_params().items() if k not in _NOT_SETTINGS and v != defaults[k]}
    changed |= {"random_state": model.about_["seed"]}
    arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"{type(model).__name__}({arguments}).fit(images)"


def about_rows(model: ImageClusterer, recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table on how the model came to be."""
    about = model.about_
    height, width, channels = model.image_shape_
    colours = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    rows = [
        ("method", f"{type(model).__name__}, {METHODS[type(model).__name__]}"),
        ("trained on", f"{printable(str(about.get('data', 'an array of images')))}, {about['images']:,} images"),
        ("image size", f"{height} × {width}, {colours}"),
        ("pixels, SHA-256", str(about.get("data_sha256", ""))),
        ("clusters", str(model.n_clusters_)),
        ("seed", str(about["seed"])),
        ("epochs", f"{len(model.history_):,}"),
        ("time", duration(float(about["seconds"]))),
        ("device", f"{about['device']}, {about['precision']}, {_counted(about['threads'], 'thread')}"),
        ("processes", str(about["processes"])),
    ]
    views = ", ".join(f"{name.replace('_', ' ')} {plain(v)}" for name, v in recipe.get("views", {}).items() if v)
    stages = ", ".join(f"{name} {duration(s)}" for name, s in recipe.get("stage_seconds", {}).items())
    rows += [("views, chosen from the images", views), ("time of each stage", stages)]
    return [(name, value) for name, value in rows if value]


def settings_rows(model: ImageClusterer) -> list[tuple[str, str]]:
    """Parameters of the estimator by name."""
    return [(name, plain(v)) for name, v in sorted(model.get_params().items()) if name not in _NOT_SETTINGS]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> duration(3.21), duration(75), duration(7384)
        ('3.2 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plain(value: Any) -> str:
    """A setting as Python writes it, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(plain(v) for v in value) + ")"
    return repr(value)
