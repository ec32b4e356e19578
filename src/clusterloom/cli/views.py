"""Commands that show a model, or hand it over to other programs."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import (
    Channels,
    ImageSize,
    Limit,
    ModelArgument,
    Overwrite,
    SkipBad,
    data_options,
    talk,
)

app = typer.Typer()

OptionalData = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="A folder of images, .npy, .npz, IDX, parquet, or a built-in name. Without: what the model alone tells.",
    ),
]


@app.command()
def report(
    model: ModelArgument,
    data: OptionalData = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The page, NAME.html; replaced if it is there. Default: MODEL.report.html.", metavar="FILE"),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also write PNG files, into NAME-pictures beside the page.")
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(help="Labels: .npy, .csv with columns id and label, or text with one per line.")
    ] = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Write one HTML file to send: clusters, their images, a map, scores, and how the model was made."""
    from clusterloom.report.write import ReportOptions
    from clusterloom.report.write import report as write_report

    source = None if data is None else data_options(data, image_size, channels, skip_bad, limit)
    write_report(model, source, ReportOptions(out, pictures, labels), talk())


@app.command()
def export(
    model: ModelArgument,
    to: Annotated[str, typer.Option(help="atlas, tensorboard, huggingface-folder or onnx.", metavar="FORM")],
    out: Annotated[Path, typer.Option(help="NAME.parquet for atlas, a folder for the others.")],
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Images, as fit takes them; onnx can do without."),
    ] = None,
    overwrite: Overwrite = False,
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Hand over to other tools: images with all that the model says of them, or its networks as ONNX files."""
    from clusterloom.export.command import ExportOptions
    from clusterloom.export.command import export as hand_over

    console = talk()
    images_for = None
    if data is not None:
        options = data_options(data, image_size, channels, skip_bad, limit)
        images_for = partial(options.load_for, console=console)
    tell = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    hand_over(model, ExportOptions(to, out, overwrite), images_for, tell)


@app.command()
def explore(
    model: ModelArgument,
    data: OptionalData = None,
    port: Annotated[int, typer.Option(help="Where to listen, on 127.0.0.1; 0 for any free port.", min=0, max=65535)] = (
        8765
    ),
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    export_dir: Annotated[
        Path | None, typer.Option(help="Folder that exports go to. Default: MODEL.exports.", metavar="FOLDER")
    ] = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    limit: Limit = None,
) -> None:
    """Open a local page: a map of the images, galleries, corrections of clusters, new images, your own dropped in."""
    from clusterloom.explore import explore as serve

    console = talk()
    folder = None
    load = None
    if data is not None:
        options = data_options(data, image_size, channels, skip_bad, limit)
        load = partial(options.load_for, console=console)
        folder = options.folder
    tell = partial(console.print, soft_wrap=True, highlight=False, markup=False)
    serve(model, load, tell, port=port, browser=browser, source=folder, export_dir=export_dir)
