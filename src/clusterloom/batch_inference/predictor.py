"""A model that makes the tables of units, one after the other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clusterloom.batch_inference.tables_folder import TablesFolder
from clusterloom.batch_inference.units import Unit
from clusterloom.data import stream_images
from clusterloom.errors import DataError, MissingPackageError, printable
from clusterloom.estimators.base import ImageClusterer
from clusterloom.estimators.methods import METHODS
from clusterloom.inference import block_size
from clusterloom.model_dir.contents import ModelContents, restored
from clusterloom.tables import prediction_columns, table_writer


class Done(NamedTuple):
    """What became of a unit.

    Args:
        table: Its table.
        images: How many images it has; 0 where there is a problem.
        outliers: How many of these were flagged.
        problem: Why there is no table, on one line; empty where there is one.
        skipped: Of each picture that could not be read and was left out its id and why, on one line.
    """

    table: str
    images: int
    outliers: int
    problem: str = ""
    skipped: tuple[str, ...] = ()


class UnitPredictor:
    """Predicts units with one model, which is made once.

    Args:
        contents: Of the model: they travel between machines, which need not see the model's directory.
        wanted: How pictures are read, keyword arguments of `stream_images`.
        folder: Where tables go.
    """

    def __init__(self, contents: ModelContents, wanted: Mapping[str, Any], folder: TablesFolder) -> None:
        method = METHODS[contents.settings["method"]]
        self._model: ImageClusterer = restored(method, contents, Path("model"))
        self._wanted, self._folder = wanted, folder

    def predict(self, unit: Unit) -> Done:
        """Make the table of a unit: it appears whole or not at all. Memory does not grow with its images.

        Raises:
            MissingPackageError: what the pictures are stored in needs a package that is not there.
            OSError: the table cannot be written.
        """
        stream = stream_images(unit.pictures(), self._model.image_shape_, **self._wanted)
        assert stream is not None, "parts are always streamed"
        images = outliers = 0
        try:
            with self._folder.writing(unit.table) as path, table_writer(str(path)) as write:
                try:
                    for block in stream.blocks(block_size(self._model.image_shape_)):
                        predicted = self._model.predictions(block)
                        write(prediction_columns(block.ids, predicted))
                        images, outliers = images + len(block), outliers + int(predicted["outlier"].sum())
                except MissingPackageError:
                    raise
                except DataError:
                    if stream.n_images or stream.problems:
                        raise
                    write(self._no_rows())  # a shard may be empty
        except MissingPackageError:
            raise
        except DataError as error:
            return Done(unit.table, 0, 0, str(error))
        skipped = tuple(f"{printable(problem.id)}: {problem.why}" for problem in stream.problems)
        return Done(unit.table, images, outliers, skipped=skipped)

    def _no_rows(self) -> dict[str, Any]:
        proba = np.empty((0, self._model.n_clusters_), np.float32)
        return prediction_columns([], {"proba": proba, "score": proba[:, 0], "outlier": proba[:, 0] > 0})
