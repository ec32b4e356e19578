"""`clusterloom predict`: the cluster of each image, as a table or as sorted folders."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

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

if TYPE_CHECKING:
    import numpy as np

    from clusterloom.console import Output
    from clusterloom.corrections.assignment import Assignment
    from clusterloom.data import ImageSet
    from clusterloom.estimators.base import ImageClusterer
    from clusterloom.export.cluster_folders import ClusterFolders

_SHOWN = 5  # problems with shards


@grouped
def predict(
    model: ModelArgument,
    data: DataArgument,
    reading: Reading,
    talk: Talk,
    out_folder: Annotated[
        str | None,
        typer.Argument(metavar="OUT_FOLDER", help="Folder or address for a table of each shard of DATA."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="Table, NAME.csv or NAME.parquet; - (the default) for the screen.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="With OUT_FOLDER, do share I of N, from 0: 0/8 is the first of eight."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|auto", help="With OUT_FOLDER, use a Ray cluster; auto starts one if needed."),
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(help="Also put the images into FOLDER, a folder per cluster.", metavar="FOLDER")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Sort links into FOLDER rather than copies.")] = False,
    overwrite: Overwrite = False,
    corrections: Corrections = False,
    as_json: Json = False,
) -> None:
    """Assign images to clusters: tables, or sorted folders.

    A table has one row per image: id, cluster, probability, runner-up, score and outlier flag. With OUT_FOLDER, the
    same command again makes only the tables that are missing.
    """
    from clusterloom.console import is_main_process
    from clusterloom.data import source_folder
    from clusterloom.errors import DataError, SettingsError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.export.cluster_folders import check_sort_target
    from clusterloom.tables import check_table_target

    if out_folder is not None:
        if out is not None or sort_into is not None or link or corrections or overwrite or reading.limit is not None:
            raise SettingsError(
                "OUT_FOLDER does without --out, --sort-into, --link, --corrections, --overwrite and --limit"
            )
        _predict_shards(model, data, out_folder, reading, talk, shard, ray, as_json)
        return
    if shard is not None or ray is not None:
        raise SettingsError("--shard and --ray need OUT_FOLDER, which a table for each shard goes to")
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
        with _Results(out, sort_into, source, link, overwrite, fitted.cluster_names_) as results:
            if corrections:  # they are those of a whole set, so that all of it is read at once
                images = reading.load(data, output, like=fitted)
                predicted = fitted.predictions(images, progress=output.progress)
                results.add(images, predicted, _corrected(model, fitted, images, predicted, output))
            else:
                for block in reading.stream(data, output, fitted, _block_size(fitted)):
                    results.add(block, fitted.predictions(block))
                    output.progress("predicting", results.images, 0)
        if not is_main_process():
            return
        if table is not None:
            output.say(f"{results.images:,} rows: {printable(str(out))} ({results.outliers:,} flagged as outliers)")
        if sort_into is not None:
            output.say(
                f"{results.images:,} images by cluster, in {results.n_folders} sub-folders: {printable(str(sort_into))}"
            )
        if as_json:
            output.json(
                {
                    "images": results.images,
                    "outliers": results.outliers,
                    "out": out,
                    "sorted_into": sort_into and str(sort_into),
                }
            )


def _predict_shards(
    model: Path,
    data: str,
    out_folder: str,
    reading: Reading,
    talk: Talk,
    shard: str | None,
    ray: str | None,
    as_json: bool,
) -> None:
    """A table for each shard that has none yet."""
    from clusterloom.batch_inference.run import Outcome, predict_units
    from clusterloom.batch_inference.tables_folder import TablesFolder
    from clusterloom.batch_inference.units import read_share
    from clusterloom.data import parts_in
    from clusterloom.errors import DataError, SettingsError, printable
    from clusterloom.estimators.methods import load_model
    from clusterloom.tables import require_pyarrow

    share = (0, 1) if shard is None else read_share(shard)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("OUT_FOLDER is not for several processes of torchrun; start each by --shard I/N")
    require_pyarrow("tables of shards are parquet: pip install 'clusterloom[parquet]'")
    parts, folder = parts_in(data), TablesFolder(out_folder)
    if parts is None:
        raise DataError(
            f"{printable(data)} has no shards: OUT_FOLDER is for .parquet and .tar files in a folder or at an address, "
            "and for lists of addresses; for other images use --out TABLE"
        )
    wanted = reading.wanted(data, load_model(model))
    with talk.output() as output:

        def tell(outcome: Outcome) -> None:
            output.progress(f"{outcome.done:,} tables, {outcome.images:,} images", outcome.done, 0)

        outcome = predict_units(model, data, parts, wanted, folder, share, ray, tell)
        output.say(
            f"{outcome.done:,} tables with {outcome.images:,} images: {folder} ({outcome.outliers:,} flagged as "
            f"outliers); {outcome.there_already:,} tables were there already"
            + (f"; left out: {outcome.skipped:,}, the first {outcome.first_skipped}" if outcome.skipped else "")
        )
        if as_json:
            output.json({**vars(outcome), "out": str(folder)})
    if outcome.problems:
        more = [f"and {len(outcome.problems) - _SHOWN} more"] if len(outcome.problems) > _SHOWN else []
        raise DataError(f"without a table: {'; '.join([*outcome.problems[:_SHOWN], *more])}")


def _corrected(
    model: Path,
    fitted: "ImageClusterer",
    images: "ImageSet",
    predicted: dict[str, "np.ndarray"],
    output: "Output",
) -> "Assignment":
    """The clusters as they were corrected; where nothing was, the table has the columns of corrections all the same."""
    from clusterloom.corrections.assignment import Assignment
    from clusterloom.corrections.read import read_assignment

    labels, n_clusters = predicted["proba"].argmax(1), predicted["proba"].shape[1]
    found = read_assignment(model, images, labels, n_clusters, fitted.cluster_names_, output.progress)
    if found is None:
        output.say("nothing has been corrected on the local page of these images")
    return found or Assignment(labels, n_clusters)


def _block_size(fitted: "ImageClusterer") -> int:
    from clusterloom.inference import block_size

    return block_size(fitted.image_shape_, fitted.compute().processes().num_processes)


class _Results(ExitStack):
    """Where predictions go, block by block: a table, sorted folders, both or neither. The first process alone writes.

    Attributes:
        images: How many there have been so far.
        outliers: How many of these were flagged.
    """

    def __init__(
        self,
        out: str | None,
        sort_into: Path | None,
        source: Path | None,
        link: bool,
        overwrite: bool,
        names: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._names = names
        self.images = self.outliers = 0
        self._out, self._sort_into, self._source, self._link, self._overwrite = out, sort_into, source, link, overwrite
        self._write: Any = None
        self._sort: ClusterFolders | None = None

    def __enter__(self) -> Self:
        from clusterloom.console import is_main_process
        from clusterloom.export.cluster_folders import sorting_into
        from clusterloom.tables import table_writer

        if is_main_process() and self._out is not None:
            self._write = self.enter_context(table_writer(self._out))
        if is_main_process() and self._sort_into is not None:
            self._sort = self.enter_context(
                sorting_into(self._sort_into, self._source, link=self._link, overwrite=self._overwrite)
            )
        return self

    @property
    def n_folders(self) -> int:
        """How many clusters have images so far, where they are sorted."""
        return 0 if self._sort is None else len(self._sort.clusters)

    def add(
        self, images: "ImageSet", predicted: dict[str, "np.ndarray"], corrected: "Assignment | None" = None
    ) -> None:
        """Write what was predicted of some images, and where a user has put them."""
        from clusterloom.corrections.apply import corrected_columns
        from clusterloom.tables import prediction_columns

        self.images += len(images)
        self.outliers += int(predicted["outlier"].sum())
        columns = prediction_columns(images.ids, predicted, self._names if corrected is None else ())
        if corrected is not None:
            columns = corrected_columns(columns, corrected)
        if self._write is not None:
            self._write(columns)
        if self._sort is not None:
            self._sort.add(images, columns["cluster"])
