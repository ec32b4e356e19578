"""Commands that show a model to people."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import Channels, ImageSize, Limit, ModelArgument, SkipBad, data_options, talk

app = typer.Typer()


@app.command()
def explore(
    model: ModelArgument,
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Images to look at; without them, what the model alone can show."),
    ] = None,
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
    from clusterloom.explore import ServeOptions
    from clusterloom.explore import explore as serve

    console = talk()
    folder = None
    load = None
    if data is not None:
        options = data_options(data, image_size, channels, skip_bad, limit)
        load = lambda fitted: options.load_for(fitted, console)  # noqa: E731
        folder = options.folder
    serve(model, load, ServeOptions(port, browser, folder, export_dir), console)
