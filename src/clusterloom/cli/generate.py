"""`clusterloom generate`: new images of each cluster."""

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterloom.cli.options import MAX_SEED, ModelArgument, Overwrite, Talk, check_picture_target, grouped, owning

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE = 1000  # images of a cluster in memory
_SEEDS_APART = 1_000_003  # from one such part to the next, so that no cluster draws what another does
_MOST_IN_A_PICTURE = 10_000
_OTHER_PICTURES = (".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".pdf")
_GENERATED = re.compile(r"cluster-\d+(/\d{5,}\.png)?")  # what is written into a folder


@grouped
def generate(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="A grid (NAME.png), or a folder for one PNG per image.")],
    talk: Talk,
    cluster: Annotated[int | None, typer.Option(min=0, help="One cluster only; by default all of them.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, max=10**9, help="New images per cluster.")] = 16,
    spread: Annotated[float, typer.Option(help="Factor on deviations from the class mean; 0 is its mean image.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the random numbers.", min=0, max=MAX_SEED)] = 0,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Keep also images that the model would put into another cluster.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="What the decoder alone makes, not refined: softer, of the same latents.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Generate new images of each cluster."""
    import numpy as np

    from clusterloom.console import is_main_process
    from clusterloom.device import memory_errors_named
    from clusterloom.errors import SettingsError, TrainingError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.files import new_directory, write_atomically
    from clusterloom.pictures import image_grid, png_bytes

    is_grid = out.suffix.lower() == ".png"
    if is_grid:
        check_picture_target(out, overwrite)
    else:
        _check_folder(out, overwrite)
    fitted = load_model(model)
    if not fitted.generates:
        raise SettingsError(f"{printable(str(model))}: method {fitted.method} makes no new images")
    empty = [k for k, size in enumerate(fitted.cluster_sizes_.tolist()) if size == 0]
    if cluster in empty:
        raise SettingsError(f"cluster {cluster} has no images to learn from")
    clusters = [k for k in range(fitted.n_clusters_) if k not in empty] if cluster is None else [cluster]
    total = n * len(clusters)
    if is_grid and total > _MOST_IN_A_PICTURE:
        most = f"{_MOST_IN_A_PICTURE:,}"
        raise SettingsError(f"-n {n}: one picture shows {most} images at most; give --out the name of a folder")
    with talk.output() as output, owning(out):

        def made(k: int) -> Iterator[np.ndarray]:
            """New images of a cluster, some at a time, shape (m, H, W, 1 or 3)."""
            for part, start in enumerate(range(0, n, _AT_ONCE)):
                output.progress("new images", clusters.index(k) * n + start, total)
                m = min(_AT_ONCE, n - start)
                state = (seed + k + part * _SEEDS_APART) % (MAX_SEED + 1)
                yield fitted.shown(fitted.to_unit(fitted.sample(m, k, spread, state, not unchecked, plain)))

        try:
            with memory_errors_named():
                if is_grid:
                    rows = [np.concatenate(list(made(k))) for k in clusters]
                    # A single cluster is shown as a square rather than as one long row.
                    lines = rows if cluster is None else np.array_split(rows[0], max(1, round(n**0.5)))
                    labels = [f"cluster {k}" for k in clusters] if cluster is None else None
                    if is_main_process():
                        write_atomically(out, png_bytes(image_grid(lines, labels)))
                else:
                    with new_directory(out) if is_main_process() else nullcontext() as folder:
                        for k in clusters:
                            for part, images in enumerate(made(k)):
                                if folder is not None:
                                    _write_pictures(folder / f"cluster-{k}", images, part * _AT_ONCE)
        except TrainingError as error:
            raise SettingsError(f"-n {n}: so many images at once do not fit into memory") from error
        output.progress("new images", total, total)
        if not is_main_process():
            return
        how = " by the decoder alone" if plain and fitted.refines else ""
        output.say(f"{total:,} new images{how}: {printable(str(out))}")
        if cluster is None and empty:
            names = ", ".join(f"cluster {k}" for k in empty)
            output.say(f"none of {names}, which {'has' if len(empty) == 1 else 'have'} no images to learn from")


def _check_folder(path: Path, overwrite: bool) -> None:
    from clusterloom.errors import DataError, printable
    from clusterloom.model_dir.format import LEFT_BY_VIEWERS

    out = printable(str(path))
    if path.suffix.lower() in _OTHER_PICTURES and not path.is_dir():
        raise DataError(f"--out {out}: pictures are written as PNG; give a name that ends in .png, or a folder's")
    if path.exists() and not path.is_dir():
        raise DataError(f"--out {out} is a file; give the name of a folder, or of a picture that ends in .png")
    if path.is_dir() and any(path.iterdir()):
        if not overwrite:
            raise DataError(f"--out {out} exists and is not an empty folder; choose another, or pass --overwrite")
        for inside in path.rglob("*"):
            if not (_GENERATED.fullmatch(inside.relative_to(path).as_posix()) or inside.name in LEFT_BY_VIEWERS):
                raise DataError(
                    f"--out {out} holds {printable(inside.name)}, which generate did not write; move it away"
                )


def _write_pictures(folder: Path, images: "np.ndarray", first: int) -> None:
    from clusterloom.pictures import png_bytes, to_picture

    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images, first):
        (folder / f"{i:05d}.png").write_bytes(png_bytes(to_picture(image)))
