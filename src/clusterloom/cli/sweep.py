"""`clusterloom sweep`: many settings, ranked without labels."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import (
    DataArgument,
    Reading,
    Talk,
    grouped,
)


@grouped
def sweep(
    data: DataArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for the models, the table and the plot.", metavar="FOLDER")
    ],
    reading: Reading,
    talk: Talk,
) -> None:
    """Try many settings, rank them without labels. The same command resumes a sweep, or helps one that is running."""
    raise NotImplementedError
