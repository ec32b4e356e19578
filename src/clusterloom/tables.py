"""Tables in and out: predictions as CSV or parquet, labels from files."""

import contextlib
import csv
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from clusterloom.data.boundary import only_data_errors
from clusterloom.data.images import encode_labels
from clusterloom.errors import DataError, printable
from clusterloom.files import write_atomically

_ROWS_PER_WRITE = 10_000
_MISSING_PARQUET = "parquet needs pyarrow: pip install 'clusterloom[parquet]', or write a .csv"


def prediction_columns(ids: Sequence[str], predicted: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One row per image, by column.

    Args:
        ids: Id of each image.
        predicted: What `ImageClusterer.predictions` returns.

    Returns:
        id, cluster, probability, runner_up, runner_up_probability, score (nats), outlier; the runner-up is empty
        (-1, 0) where there is one cluster only.
    """
    proba = predicted["proba"]
    rows = np.arange(len(proba))
    cluster = proba.argmax(1)
    columns: dict[str, Any] = {"id": ids, "cluster": cluster, "probability": proba[rows, cluster]}
    if proba.shape[1] > 1:
        others = proba.copy()
        others[rows, cluster] = -1
        runner_up = others.argmax(1)
        columns |= {"runner_up": runner_up, "runner_up_probability": proba[rows, runner_up]}
    else:
        columns |= {"runner_up": np.full(len(proba), -1), "runner_up_probability": np.zeros(len(proba), np.float32)}
    return columns | {"score": predicted["score"], "outlier": predicted["outlier"]}


def write_table(columns: Mapping[str, Any], target: str) -> None:
    """Write columns as CSV, or as parquet where the name ends so; "-" is CSV on standard output.

    A file appears whole or not at all. Characters that a line of text cannot hold are escaped in ids.

    Raises:
        DataError: the name ends in something else, its folder is missing, or pyarrow is.
    """
    if target == "-":
        _write_csv(columns, sys.stdout)
        return
    path = Path(target)
    check_table_target(target)
    if path.suffix.lower() == ".parquet":
        write_atomically(path, _parquet_bytes(columns))
    else:
        buffer = io.StringIO(newline="")
        _write_csv(columns, buffer)
        write_atomically(path, buffer.getvalue().encode("utf-8"))


def check_table_target(target: str) -> None:
    """Refuse a name that `write_table` cannot write, before any work is done for it.

    Raises:
        DataError: see `write_table`.
    """
    if target == "-":
        return
    path = Path(target)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataError(
            f"--out {printable(target)}: expected a name that ends in .csv or .parquet, or - for the screen"
        )
    if not path.parent.is_dir():
        raise DataError(f"--out {printable(target)}: the folder {printable(str(path.parent))} does not exist")
    if path.is_dir():
        raise DataError(f"--out {printable(target)} is a folder; give the name of a file")
    if path.suffix.lower() == ".parquet":
        require_pyarrow()


def text_rows(columns: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Rows of a table as text that stays on its line: of each value what a CSV file has.

    Args:
        columns: Values by column name, "id" among them; arrays, or sequences of text.

    Yields:
        One tuple per row, in the order of the columns.

    Example:
        >>> list(text_rows({"id": ["a\\tb"], "score": np.array([-0.1234567]), "outlier": np.array([True])}))
        [('a\\\\tb', '-0.123457', 'true')]
    """
    formats = {name: _formatter(values) for name, values in columns.items()}
    n = len(columns["id"])
    for start in range(0, n, _ROWS_PER_WRITE):
        stop = min(start + _ROWS_PER_WRITE, n)
        yield from zip(*(map(formats[c], columns[c][start:stop]) for c in columns), strict=True)


def _write_csv(columns: Mapping[str, Any], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(text_rows(columns))


def _formatter(values: Any) -> Any:
    kind = values.dtype.kind if isinstance(values, np.ndarray) else "U"
    return {"f": "{:.6g}".format, "b": lambda flag: "true" if flag else "false", "i": int}.get(kind, printable)


def _parquet_bytes(columns: Mapping[str, Any]) -> bytes:
    pyarrow = require_pyarrow()
    ids = [printable(id_) for id_ in columns["id"]]
    table = pyarrow.table({**columns, "id": ids})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue())


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
        path: .npy with integers or text (str or bytes), shape (N,); or .csv with the columns id and label; or text with
            one label per line.
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
    with path.open(encoding="utf-8-sig", newline="") as file:  # Excel puts a byte order mark before the first name
        rows = list(csv.DictReader(file))
    if not rows or not {"id", "label"} <= set(rows[0]):
        raise DataError(f"{name}: expected a first line with the column names id and label, and at least one row")
    by_id: dict[str, str] = {}
    for row in rows:
        if not row["label"]:
            raise DataError(f"{name}: the row of {printable(str(row['id']))!r} has no label")
        if by_id.setdefault(row["id"], row["label"]) != row["label"]:
            raise DataError(f"{name}: {printable(row['id'])!r} has two labels")
    missing = [id_ for id_ in map(printable, ids) if id_ not in by_id]
    if missing:
        raise DataError(f"{name}: no label for {missing[0]!r} and {len(missing) - 1} other images")
    return np.array([by_id[printable(id_)] for id_ in ids])
