"""`clusterloom report`: one HTML file to send."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import Corrections, LabelsFile, ModelArgument, OptionalData, Reading, Talk, grouped, owning


@grouped
def report(
    model: ModelArgument,
    reading: Reading,
    talk: Talk,
    data: OptionalData = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="The page, NAME.html; an earlier report is replaced. Default: MODEL.report.html.",
            metavar="FILE",
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Also write PNG files, into NAME-pictures beside the page.")
    ] = False,
    labels: LabelsFile = None,
    corrections: Corrections = True,
) -> None:
    """Write one HTML file to send.

    It shows the clusters, their images, a map, scores, and how the model was made.
    """
    from clusterloom.errors import SettingsError
    from clusterloom.estimators.methods import load_model
    from clusterloom.report.files import report_target, write_report

    target = report_target(model, out, pictures)
    if labels is not None and data is None:
        raise SettingsError("--labels says what images show; name the images as DATA too")
    fitted = load_model(model)
    with talk.output() as output, owning(target):
        images = None if data is None else reading.load(data, output, like=fitted)
        write_report(
            fitted,
            images,
            target,
            pictures=pictures,
            labels=labels,
            corrections_of=model if corrections else None,
            tell=output.say,
            progress=output.progress,
        )
