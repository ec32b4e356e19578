"""`clusterloom export`: images and clusters for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import Corrections, ModelArgument, Overwrite, Reading, Talk, grouped, owning


@grouped
def export(
    model: ModelArgument,
    to: Annotated[str, typer.Option(help="atlas, tensorboard, huggingface-folder or onnx.", metavar="FORM")],
    out: Annotated[Path, typer.Option("-o", "--out", help="NAME.parquet for atlas, a folder for the others.")],
    reading: Reading,
    talk: Talk,
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="Images, as fit takes them; onnx can do without."),
    ] = None,
    overwrite: Overwrite = False,
    corrections: Corrections = True,
) -> None:
    """Hand images and clusters, or the networks, over to other tools.

    Images come with all that the model says of them, networks as ONNX files.
    """
    from clusterloom.estimators.methods import load_model
    from clusterloom.export.formats import check_export, write_export

    check_export(to, out, data is not None, overwrite)
    fitted = load_model(model)
    with talk.output() as output, owning(out):
        images = None if data is None else reading.load(data, output, like=fitted)
        write_export(
            fitted,
            to,
            out,
            images,
            corrections_of=model if corrections else None,
            tell=output.say,
            progress=output.progress,
        )
