"""`clusterloom explore`: the local page."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clusterloom.cli.options import LabelsFile, ModelArgument, OptionalData, Reading, Talk, grouped

if TYPE_CHECKING:
    from clusterloom.console import ProgressReport
    from clusterloom.data import ImageSet
    from clusterloom.estimators.base import ImageClusterer


@grouped
def explore(
    model: ModelArgument,
    reading: Reading,
    talk: Talk,
    data: OptionalData = None,
    labels: LabelsFile = None,
    port: Annotated[int, typer.Option(help="Where to listen, on 127.0.0.1; 0 for any free port.", min=0, max=65535)] = (
        8765
    ),
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    export_dir: Annotated[
        Path | None, typer.Option(help="Folder that exports go to. Default: MODEL.exports.", metavar="FOLDER")
    ] = None,
) -> None:
    """Open a local page to look around and to correct clusters.

    It has a map of the images, galleries, new images, and a place to drop images of your own.
    """
    from clusterloom.data import source_folder
    from clusterloom.errors import SettingsError
    from clusterloom.estimators.methods import load_model
    from clusterloom.explore.server import explore as serve
    from clusterloom.predictions import MOST_SHOWN

    if labels is not None and data is None:
        raise SettingsError("--labels says what images show; name the images as DATA too")
    source = None if data is None else source_folder(data)
    with talk.output() as output:
        # The page itself shows how far reading is.
        def load(fitted: "ImageClusterer", progress: "ProgressReport") -> "ImageSet":
            images = reading.load(str(data), output, like=fitted, progress=progress)
            if len(images) > MOST_SHOWN:
                output.say(
                    f"the page shows {MOST_SHOWN:,} of them, chosen at random (seeded, without a look at labels); "
                    "clusterloom evaluate and report have the totals of all"
                )
            return images

        serve(
            load_model(model),
            model,
            None if data is None else load,
            output.result,
            output.say,
            port=port,
            browser=browser,
            source=source,
            export_dir=export_dir,
            labels_file=labels,
            refit_command=None if data is None else lambda old, new: _refit_command(old, data, new, reading),
        )


def _refit_command(model: Path, data: str, out: Path, reading: Reading) -> list[str]:
    """What fits a model again with the images that the page shows."""
    options = [*reading.arguments(), "--overwrite", "--out", str(out)]
    return [sys.executable, "-m", "clusterloom", "refit", *options, "--", str(model), data]
