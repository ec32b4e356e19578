"""Commands that show what a model found, or hand it over to tools that do."""

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


@app.command()
def export(
    model: ModelArgument,
    to: Annotated[str, typer.Option(help="atlas, tensorboard, huggingface-folder or onnx.", metavar="FORM")],
    out: Annotated[Path, typer.Option(help="NAME.parquet for atlas, a folder for the others.")],
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Images, as for fit; onnx can do without.", show_default=False),
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
