"""Tables in and out: predictions as CSV or parquet, labels from files."""

import contextlib
import csv
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from clusterloom.data.boundary import only_data_errors
from clusterloom.data.ids import decode_id, encode_id
from clusterloom.data.images import ImageSet, encode_labels
from clusterloom.errors import DataError, printable
from clusterloom.files import new_file
from clusterloom.marks import PARQUET_MARK
from clusterloom.targets import check_file

_ROWS_PER_WRITE = 10_000
_MISSING_PARQUET = "parquet needs pyarrow: pip install 'clusterloom[parquet]', or write a .csv"


@dataclass(frozen=True)
class Labels:
    """True labels: class numbers, shape (N,), and the name of each class."""

    numbers: np.ndarray
    names: tuple[str, ...]


def labels_of(images: ImageSet, file: Path | None) -> Labels | None:
    """True labels of images: those of a file if one is given, otherwise the data's own, if there are any.

    Raises:
        DataError: the file cannot be used; see `read_labels`.
    """
    if file is not None:
        return Labels(*read_labels(file, images.ids))
    return None if images.labels is None else Labels(images.labels, images.class_names)


def prediction_columns(
    ids: Sequence[str], predicted: Mapping[str, np.ndarray], names: Sequence[str] = ()
) -> dict[str, Any]:
    """One row per image, by column.

    Args:
        ids: Id of each image.
        predicted: What `ImageClusterer.predictions` returns.
        names: What the clusters are called, if they are called anything.

    Returns:
        id, cluster, name if there are any, probability, runner_up, runner_up_probability, score (nats), outlier; the
        runner-up is empty (-1, 0) where there is one cluster only.
    """
    proba = predicted["proba"]
    rows = np.arange(len(proba))
    cluster = proba.argmax(1)
    columns: dict[str, Any] = {"id": ids, "cluster": cluster}
    if any(names):
        columns["name"] = [names[k] for k in cluster.tolist()]
    columns["probability"] = proba[rows, cluster]
    if proba.shape[1] > 1:
        others = proba.copy()
        others[rows, cluster] = -1
        runner_up = others.argmax(1)
        columns |= {"runner_up": runner_up, "runner_up_probability": proba[rows, runner_up]}
    else:
        columns |= {"runner_up": np.full(len(proba), -1), "runner_up_probability": np.zeros(len(proba), np.float32)}
    return columns | {"score": predicted["score"], "outlier": predicted["outlier"]}


def check_table_target(target: str, overwrite: bool) -> None:
    """Refuse a name that `write_table` cannot or should not write, before any work is done for it.

    Args:
        target: As for `write_table`.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        DataError: the name ends in something else, its folder is missing, a file is there, or pyarrow is missing.
    """
    if target == "-":
        return
    path = Path(target)
    check_file(path, [".csv", ".parquet"], overwrite, ", or - for the screen")
    if path.suffix.lower() == ".parquet":
        require_pyarrow()


def write_table(columns: Mapping[str, Any], target: str) -> None:
    """Write columns as CSV, or as parquet where the name ends so; "-" is CSV on standard output.

    A file appears whole or not at all, and takes the place of one that is there. Some thousand rows are in memory as
    text at a time.

    Args:
        columns: Values by column name; arrays, or sequences of text. Ids, in the column of that name, are written as
            `clusterloom.data.ids.encode_id` does, so that none is lost and no two become one.
        target: The file, or "-".

    Raises:
        DataError: see `check_table_target`.
    """
    with table_writer(target) as write:
        for block in _blocks(columns):
            write(block)


@contextlib.contextmanager
def table_writer(target: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A table that is written block by block, as `write_table` writes one at once.

    Args:
        target: The file, or "-".

    Yields:
        What writes a block of rows: columns as for `write_table`, the same ones each time.

    Raises:
        DataError: see `check_table_target`.
    """
    check_table_target(target, overwrite=True)
    if target == "-":
        yield _csv_writer(sys.stdout)
        return
    path = Path(target)
    with new_file(path) as file:
        if path.suffix.lower() == ".parquet":
            with _parquet_writer(file) as write:
                yield write
        else:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            yield _csv_writer(text)
            text.detach()  # writes the rest, and leaves the file open


def text_rows(columns: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of a table as text that stays on its line: of each value what a CSV file has.

    Args:
        columns: As for `write_table`.

    Yields:
        One tuple per row, in the order of the columns.

    Example:
        >>> list(text_rows({"id": ["a\\tb"], "score": np.array([-0.1234567]), "outlier": np.array([True])}))
        [('a\\\\tb', '-0.123457', 'true')]
    """
    for block in _blocks(columns):
        yield from zip(*(map(_formatter(name, values), values) for name, values in block.items()), strict=True)


def _blocks(columns: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for start in range(0, len(next(iter(columns.values()))), _ROWS_PER_WRITE):
        yield {name: values[start : start + _ROWS_PER_WRITE] for name, values in columns.items()}


def _csv_writer(file: IO[str]) -> Callable[[Mapping[str, Any]], None]:
    writer = csv.writer(file, lineterminator="\n")
    named = False

    def write(columns: Mapping[str, Any]) -> None:
        nonlocal named
        if not named:
            writer.writerow(columns)
            named = True
        writer.writerows(text_rows(columns))

    return write


def _formatter(name: str, values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return encode_id if name == "id" else printable
    return {"f": "{:.6g}".format, "b": lambda flag: "true" if flag else "false", "i": int}[values.dtype.kind]


@contextlib.contextmanager
def _parquet_writer(file: IO[bytes]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Row groups of some thousand rows, however small the blocks are: readers look at each group."""
    pyarrow = require_pyarrow()
    writer: Any = None
    waiting: list[Any] = []

    def flush() -> None:
        nonlocal writer
        if waiting:
            table = pyarrow.concat_tables(waiting).combine_chunks()
            table = table.replace_schema_metadata({PARQUET_MARK: b"table"})
            writer = writer or pyarrow.parquet.ParquetWriter(file, table.schema)
            writer.write_table(table)
            waiting.clear()

    def write(columns: Mapping[str, Any]) -> None:
        texts = {k: map(_formatter(k, v), v) for k, v in columns.items() if not isinstance(v, np.ndarray)}
        text = {name: pyarrow.array(list(values), pyarrow.string()) for name, values in texts.items()}
        waiting.append(pyarrow.table({**columns, **text}))
        if sum(map(len, waiting)) >= _ROWS_PER_WRITE:
            flush()

    try:
        yield write
        flush()
    finally:
        if writer is not None:
            writer.close()


def require_pyarrow(missing: str = _MISSING_PARQUET) -> Any:
    """The package pyarrow with its module parquet.

    Raises:
        DataError: it is not installed; the text is `missing`.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(missing) from None
    return pyarrow


def read_labels(path: Path, ids: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """True labels from a file, in the order of `ids`.

    Args:
        path: .npy with integers or text (str or bytes), shape (N,); or .csv with the columns id and label, ids as
            `write_table` writes them; or text with one label per line.
        ids: Id of each image.

    Returns:
        Class numbers, shape (N,), int64, and the name of each class, whole numbers in their own order.

    Raises:
        DataError: the file cannot be read, or does not have exactly one label for each image.
    """
    name = printable(str(path))
    with only_data_errors(name):
        if path.suffix.lower() == ".npy":
            labels = np.load(path, allow_pickle=False)
            if not isinstance(labels, np.ndarray):
                raise DataError(f"{name}: holds several arrays; expected one")
        elif path.suffix.lower() == ".csv":
            labels = _labels_by_id(path, ids, name)
        else:
            labels = np.array(path.read_text(encoding="utf-8-sig").split("\n"))
            labels = labels[:-1] if len(labels) and labels[-1] == "" else labels
    if labels.shape != (len(ids),):
        raise DataError(
            f"{name}: expected one label for each of {len(ids)} images, got an array of shape {labels.shape}"
        )
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "surrogateescape")
    if labels.dtype.kind not in "biuU":
        raise DataError(f"{name}: labels are {labels.dtype}; expected whole numbers or text")
    with contextlib.suppress(ValueError, OverflowError):  # text that is not all whole numbers stays text
        labels = labels.astype(np.int64)
    return encode_labels(labels)


def _labels_by_id(path: Path, ids: Sequence[str], name: str) -> np.ndarray:
    by_id: dict[str, str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:  # Excel puts a byte order mark before the first name
        rows = csv.DictReader(file)
        for row in rows if {"id", "label"} <= set(rows.fieldnames or ()) else ():
            if row["id"] is None:
                raise DataError(f"{name}: line {rows.line_num} has no id")
            if not row["label"]:
                raise DataError(f"{name}: the row of {printable(str(row['id']))!r} has no label")
            if by_id.setdefault(decode_id(row["id"]), row["label"]) != row["label"]:
                raise DataError(f"{name}: {printable(row['id'])!r} has two labels")
    if not by_id:
        raise DataError(f"{name}: expected a first line with the column names id and label, and at least one row")
    missing = [id_ for id_ in ids if id_ not in by_id]
    if missing:
        others = f" and {len(missing) - 1} other images" if len(missing) > 1 else ""
        raise DataError(f"{name}: no label for {encode_id(missing[0])!r}{others}")
    return np.array([by_id[id_] for id_ in ids])
