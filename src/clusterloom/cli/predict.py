"""`clusterloom predict`: the cluster of each image, as a table or as sorted folders."""

from pathlib import Path
from typing import Annotated

import typer

from clusterloom.cli.options import (
    Corrections,
    DataArgument,
    Json,
    ModelArgument,
    Overwrite,
    Reading,
    Talk,
    grouped,
    owning,
)


@grouped
def predict(
    model: ModelArgument,
    data: DataArgument,
    reading: Reading,
    talk: Talk,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Table, NAME.csv or NAME.parquet; - (the default) for the screen.")
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(help="Also put the images into FOLDER, a folder per cluster.", metavar="FOLDER")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Sort links into FOLDER rather than copies.")] = False,
    overwrite: Overwrite = False,
    corrections: Corrections = False,
    as_json: Json = False,
) -> None:
    """Assign images to clusters: a table, or sorted folders.

    The table has one row per image: id, cluster, probability, runner-up, score and outlier flag.
    """
    from clusterloom.console import is_main_process
    from clusterloom.corrections.apply import corrected_columns
    from clusterloom.corrections.assignment import Assignment
    from clusterloom.corrections.read import read_assignment
    from clusterloom.data import source_folder
    from clusterloom.errors import DataError, SettingsError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.export.cluster_folders import check_sort_target
    from clusterloom.export.cluster_folders import sort_into as sort_into_folders
    from clusterloom.tables import check_table_target, prediction_columns, write_table

    if out is None and sort_into is None and not as_json:
        out = "-"
    if out is not None:
        if Path(out).is_file() and Path(data).is_file() and Path(out).samefile(data):
            raise DataError(f"--out {printable(out)} is DATA itself; choose another")
        check_table_target(out, overwrite)
    if link and sort_into is None:
        raise SettingsError("--link needs --sort-into FOLDER, which the links go to")
    source = source_folder(data)
    if sort_into is not None:
        check_sort_target(sort_into, source, overwrite, link)
    fitted = load_model(model)
    table = None if out in (None, "-") else Path(out)
    with talk.output() as output, owning(table, sort_into):
        images = reading.load(data, output, like=fitted)
        predicted = fitted.predictions(images, progress=output.progress)
        if not is_main_process():
            return
        columns = prediction_columns(images.ids, predicted)
        if corrections:
            assignment = read_assignment(model, images, columns["cluster"], fitted.n_clusters_, output.progress)
            if assignment is None:
                output.say("nothing has been corrected on the local page of these images")
                # The table has the columns that were asked for all the same.
                assignment = Assignment(columns["cluster"], fitted.n_clusters_)
            columns = corrected_columns(columns, assignment)
        outliers = int(predicted["outlier"].sum())
        if out is not None:
            write_table(columns, out, output.progress)
            if out != "-":
                output.say(f"{len(images):,} rows: {printable(out)} ({outliers:,} flagged as outliers)")
        if sort_into is not None:
            n_folders = sort_into_folders(
                sort_into,
                images,
                columns["cluster"],
                source,
                link=link,
                overwrite=overwrite,
                progress=output.progress,
            )
            output.say(f"{len(images):,} images by cluster, in {n_folders} sub-folders: {printable(str(sort_into))}")
        if as_json:
            output.json(
                {"images": len(images), "outliers": outliers, "out": out, "sorted_into": sort_into and str(sort_into)}
            )
