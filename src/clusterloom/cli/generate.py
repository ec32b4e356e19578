"""`clusterloom generate`: new images of each cluster."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterloom.cli.options import MAX_SEED, ModelArgument, Overwrite, Talk, grouped, owning

if TYPE_CHECKING:
    import numpy as np

    from clusterloom.estimators.base import ImageClusterer

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
    from clusterloom.console import is_main_process
    from clusterloom.device import memory_errors_named
    from clusterloom.errors import SettingsError, TrainingError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.targets import check_file

    is_grid = out.suffix.lower() == ".png"
    if is_grid:
        check_file(out, [".png"], overwrite)
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
        draw = partial(fitted.sample, spread=spread, checked=not unchecked, plain=plain)
        images = _NewImages(fitted, draw, clusters, n, seed, partial(output.progress, "new images"))
        try:
            with memory_errors_named():
                if is_grid:
                    _write_grid(out, images, one_cluster=cluster is not None)
                else:
                    _write_folder(out, images)
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
    from clusterloom.targets import check_folder

    if path.suffix.lower() in _OTHER_PICTURES and not path.is_dir():
        raise DataError(
            f"--out {printable(str(path))}: pictures are written as PNG; give a name that ends in .png, or a folder's"
        )
    check_folder(path, overwrite, _stranger_in)


def _stranger_in(folder: Path) -> str | None:
    from clusterloom.marks import LEFT_BY_VIEWERS

    found = (path for path in folder.rglob("*") if path.name not in LEFT_BY_VIEWERS)
    names = (path.relative_to(folder).as_posix() for path in found)
    return next((name for name in names if not _GENERATED.fullmatch(name)), None)


@dataclass(frozen=True)
class _NewImages:
    """New images, drawn as they are asked for.

    Args:
        fitted: The model, which knows how its images are shown.
        draw: Its `sample`, given how many, the cluster and the seed.
        clusters: Which ones.
        n: Images of each.
        seed: Fixes all of them.
        progress: Told how many there are, of how many.
    """

    fitted: "ImageClusterer"
    draw: Callable[..., "np.ndarray"]
    clusters: Sequence[int]
    n: int
    seed: int
    progress: Callable[[int, int], None]

    def parts_of(self, cluster: int) -> Iterator["np.ndarray"]:
        """Those of a cluster, some at a time, shape (m, H, W, 1 or 3) each, in [0, 1]."""
        for part, start in enumerate(range(0, self.n, _AT_ONCE)):
            self.progress(self.clusters.index(cluster) * self.n + start, self.n * len(self.clusters))
            state = (self.seed + cluster + part * _SEEDS_APART) % (MAX_SEED + 1)
            drawn = self.draw(min(_AT_ONCE, self.n - start), cluster, random_state=state)
            yield self.fitted.shown(self.fitted.to_unit(drawn))


def _write_grid(path: Path, images: _NewImages, one_cluster: bool) -> None:
    """One picture with a line for each cluster; a single one is shown as a square rather than as one long line."""
    import numpy as np

    from clusterloom.console import is_main_process
    from clusterloom.files import write_atomically
    from clusterloom.pictures import image_grid, png_bytes

    lines = [np.concatenate(list(images.parts_of(k))) for k in images.clusters]
    labels = None if one_cluster else [f"cluster {k}" for k in images.clusters]
    if one_cluster:
        lines = np.array_split(lines[0], max(1, round(images.n**0.5)))
    if is_main_process():
        write_atomically(path, png_bytes(image_grid(lines, labels)))


def _write_folder(path: Path, images: _NewImages) -> None:
    """A folder for each cluster, with a picture for each image."""
    from clusterloom.console import is_main_process
    from clusterloom.files import new_directory
    from clusterloom.pictures import png_bytes, to_picture

    with new_directory(path) if is_main_process() else nullcontext() as folder:
        for k in images.clusters:
            if folder is not None:
                (folder / f"cluster-{k}").mkdir()
            made = (image for part in images.parts_of(k) for image in part)
            for i, image in enumerate(made):  # every process draws, since all decode together
                if folder is not None:
                    (folder / f"cluster-{k}" / f"{i:05d}.png").write_bytes(png_bytes(to_picture(image)))
