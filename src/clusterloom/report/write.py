"""The command: looks at a model and at images, and writes the page and, if wanted, pictures beside it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from clusterloom.console import is_main_process
from clusterloom.data import ImageSet
from clusterloom.errors import DataError, SettingsError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.load import load_model
from clusterloom.files import write_atomically
from clusterloom.pictures import image_grid, png_bytes
from clusterloom.report import charts, map_picture
from clusterloom.report.contents import Contents, Labels, Seen, Subject, contents, new_images, pictures_of
from clusterloom.survey import survey
from clusterloom.tables import read_labels

_SUFFIXES = (".html", ".htm")


class Source(Protocol):
    """Reads images as a model needs them; `clusterloom.commands.DataOptions` is one."""

    def load_for(self, model: ImageClusterer, console: Console) -> ImageSet:
        """The images, in the size and colour that the model was trained on."""


@dataclass(frozen=True)
class ReportOptions:
    """What to write.

    Attributes:
        out: The page; None puts it beside the model, as `MODEL.report.html`.
        pictures: Also write PNG files, into a folder beside the page.
        labels: File of true labels, in place of the data's own; see `clusterloom.tables.read_labels`.
    """

    out: Path | None = None
    pictures: bool = False
    labels: Path | None = None


def report(model_path: Path, source: Source | None, options: ReportOptions, console: Console) -> None:
    """Write a report on a model, with what it says of images where a source is given. What is there is replaced.

    Raises:
        ModelError: the model cannot be used.
        DataError: the images or labels cannot be used, or the page cannot be put where it is to go.
        SettingsError: labels without images.
    """
    out = options.out or _beside(model_path)
    folder = out.with_name(out.stem + "-pictures") if options.pictures else None
    _check_target(out, folder)
    if options.labels is not None and source is None:
        raise SettingsError("--labels says what images show; name the images as DATA too")
    model = load_model(model_path)
    subject = _subject(model, source, options.labels, console)
    if not is_main_process():
        return
    content = contents(subject)
    write_atomically(out, render(content).encode("utf-8", "backslashreplace"))
    console.print(f"report: {printable(str(out))}", soft_wrap=True, highlight=False, markup=False)
    if folder is not None:
        _write_pictures(folder, subject, content)
        console.print(f"pictures: {printable(str(folder))}", soft_wrap=True, highlight=False, markup=False)


def render(content: Contents) -> str:
    """The page: HTML that needs nothing but itself, and no script."""
    environment = Environment(
        loader=PackageLoader("clusterloom.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": "{:,}".format, "percent": percent, "number": number}
    return environment.get_template("page.html").render(page=content, charts=charts)


def percent(share: float) -> str:
    r"""A share with one decimal, never rounded up to all or down to nothing; its spaces do not break.

    Example:
        >>> [percent(share).replace("\u00a0", " ") for share in (0.9876, 0.99996, 1.0, 0.0001)]
        ['98.8 %', '>99.9 %', '100 %', '<0.1 %']
    """
    if share in (0, 1):
        return f"{share:.0%}".replace("%", "\u00a0%")
    if not 0.0005 <= share < 0.9995:
        return "<0.1\u00a0%" if share < 0.5 else ">99.9\u00a0%"
    return f"{100 * share:.1f}\u00a0%"


def number(value: float) -> str:
    """A number with three significant digits or so, as charts and tables need them.

    Example:
        >>> number(1234.5), number(45.678), number(0.12345), number(-2.5), number(0.0)
        ('1,234', '45.7', '0.123', '-2.50', '0.00')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def _beside(model_path: Path) -> Path:
    """MODEL.report.html, never in the model directory: `.` and `..` are followed to their names first."""
    named = model_path if model_path.name not in ("", "..") else model_path.resolve()
    return Path(f"{named}.report.html")


def _check_target(out: Path, pictures: Path | None) -> None:
    name = printable(str(out))
    if out.is_dir():
        raise DataError(f"--out {name} is a folder; name the file to write, such as {name}/report.html")
    if out.suffix.lower() not in _SUFFIXES:
        raise DataError(f"--out {name}: expected a name that ends in .html")
    if not out.parent.is_dir():
        raise DataError(f"--out {name}: the folder {printable(str(out.parent))} does not exist")
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise DataError(f"--pictures go into a folder {printable(str(pictures))}, but a file of that name is there")


def _subject(model: ImageClusterer, source: Source | None, labels_file: Path | None, console: Console) -> Subject:
    if source is None:
        return Subject(model)
    images = source.load_for(model, console)
    labels = None if images.labels is None else Labels(images.labels, images.class_names)
    if labels_file is not None:
        labels = Labels(*read_labels(labels_file, images.ids))
    return Subject(model, Seen(images, survey(model, images, _teller(console)), labels))


def _teller(console: Console) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if is_main_process():
            console.print(line, soft_wrap=True, highlight=False, markup=False)

    return tell


def _write_pictures(folder: Path, subject: Subject, content: Contents) -> None:
    """The page's pictures as PNG files; those of an earlier report are removed, anything else there is kept."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("cluster-*.png"):
        old.unlink()
    model, seen = subject.model, subject.seen
    if seen is not None:
        drawn = map_picture.draw(seen.survey, [cluster.style for cluster in content.clusters])
        write_atomically(folder / "map.png", png_bytes(map_picture.with_labels(drawn)))
        if content.outliers:
            rows = [one.row for one in content.outliers]
            write_atomically(folder / "outliers.png", png_bytes(image_grid([seen.images.images[rows]])))
    for cluster in content.clusters:
        shown = {} if seen is None else pictures_of(cluster, seen.images)
        made = new_images(model, cluster.number)
        for kind, images in {**shown, **({"new": made} if len(made) else {})}.items():
            write_atomically(folder / f"cluster-{cluster.number}-{kind}.png", png_bytes(image_grid([images])))
