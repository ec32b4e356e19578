"""Parquet files with encoded pictures, as Hugging Face datasets store them."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from clusterloom.data.boundary import is_our_defect, only_data_errors
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.decoding import Picture
from clusterloom.data.ids import RowIds, parse_tile
from clusterloom.data.images import ImageSet, encode_labels, limit_note, limited_rows
from clusterloom.data.one_picture import Source
from clusterloom.data.options import ReadOptions
from clusterloom.data.pictures import read_pictures
from clusterloom.errors import DataError, MissingPackageError, printable
from clusterloom.marks import PARQUET_MARK

LABEL_NAMES = ("label", "labels")
_PLAIN_NAMES = ("image", "bytes", "jpg", "png", "webp", "url", "path")
_BATCH_ROWS, _BATCH_BYTES = 128, 1 << 25  # at once, at most


def read_parquet(path: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read the pictures of a parquet file by way of the cache.

    The pictures are in a column of structs with the fields `bytes` and `path`: the one named `image`, otherwise the
    only such column. They become pixels by the same rule as pictures in folders. The paths identify them if each
    has one of its own, otherwise the row numbers do. Labels, if any, are in a column `label` of integers or text;
    names of classes in the metadata of Hugging Face datasets are used.

    Args:
        path: The file.
        name: What the user named, for messages.
        options: How pictures are read. With a limit, only the chosen pictures are decoded.

    Returns:
        The images.

    Raises:
        DataError: the file is damaged or has no such column, a picture cannot be read and `options.skip_bad` is off,
            or pyarrow is not installed.
    """
    parquet = _import_parquet(name)
    with only_data_errors(name), parquet.ParquetFile(path) as file:
        column = _find_pictures(file.schema_arrow, name)
        ids = _read_ids(file, column)
        if not ids:
            raise DataError(f"{printable(name)} holds no pictures: it has no rows")
        chosen = limited_rows(len(ids), options.limit)
        entry = read_pictures(
            lambda: _iterate(file, column, ids, chosen),
            len(chosen),
            entry_folder(options.cache_dir, parquet=file_stamp(path), options=options.as_key()),
            options,
            name,
        )
        kept: list[str] = entry.facts["ids"]
        pictures = [parse_tile(identifier).picture for identifier in kept] if options.tile else kept
        labels, class_names, label_notes = _read_labels(file, _rows_of(pictures, ids))
    limit_notes = [limit_note(len(chosen), len(ids))] if len(chosen) < len(ids) else []
    notes = (*entry.facts["notes"], *label_notes, *limit_notes)
    return ImageSet(entry.images, kept, labels, class_names, name, notes, entry.pixel_range)


def shard_pictures(file: IO[bytes], name: str, place: Callable[[str], Source]) -> "Iterator[Picture]":
    """The pictures of one of many parquet files, row by row, identified by the file and the row: `name#row`.

    They are in the column that `read_parquet` takes. Where there is none of structs, a column of bytes or of text is
    taken: `image`, `bytes`, `jpg`, `png`, `webp`, `url` or `path`. Text is the address of a picture, or its path from
    the folder of the file; so is the field `path` of a struct that has no bytes.

    Args:
        file: The file, open for reading and seeking.
        name: Of the file, as it is to stand in ids.
        place: Makes a picture's source of such a text.

    Yields:
        The pictures, with the label of the column that `read_parquet` takes too.

    Raises:
        DataError: there is no such column.
    """
    parquet = _import_parquet(name)
    with parquet.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        column = _find_pictures_or_addresses(schema, name)
        label = next((known for known in LABEL_NAMES if known in schema.names), None)
        row = 0
        columns = [column, *([label] if label else [])]
        class_names = _class_names(schema.metadata or {}, label) if label else ()
        for batch in opened.iter_batches(columns=columns, batch_size=_batch_rows(opened), use_threads=False):
            labels = batch.column(label).to_pylist() if label else [None] * len(batch)
            for value, known in zip(batch.column(column), labels, strict=True):
                yield Picture(f"{name}#{row}", _source_of(value.as_py(), place), _label_text(known, class_names))
                row += 1


def n_rows(file: IO[bytes], name: str) -> int:
    """How many rows a parquet file has."""
    with _import_parquet(name).ParquetFile(file) as opened:
        return int(opened.metadata.num_rows)


def is_ours(path: Path) -> bool:
    """Whether a parquet file is a table or an export that clusterloom wrote; of a damaged one reading says more."""
    parquet = _import_parquet(path.name)
    try:
        return PARQUET_MARK in (parquet.read_schema(path).metadata or {})
    except Exception as error:
        if is_our_defect(error):
            raise
        return False


def _source_of(value: Any, place: Callable[[str], Source]) -> Source:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return place(value)
    # A row without bytes becomes an empty picture, which is reported as one that cannot be read.
    return value if isinstance(value, bytes) else b""


def _label_text(value: Any, class_names: Sequence[str]) -> str | None:
    """A label by the rule of `read_parquet`: text, or a number from 0; None for what is missing or of another type."""
    if isinstance(value, int) and 0 <= value < len(class_names):
        return class_names[value]
    return str(value) if isinstance(value, str) or (isinstance(value, int) and value >= 0) else None


def _batch_rows(file: Any) -> int:
    """How many rows are in memory at once: few of large pictures."""
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=0)
    return int(min(max(_BATCH_BYTES // max(largest, 1), 1), _BATCH_ROWS))


def _find_pictures_or_addresses(schema: Any, name: str) -> str:
    import pyarrow.types

    types = pyarrow.types
    kinds = (types.is_binary, types.is_large_binary, types.is_string, types.is_large_string)
    if not any(_holds_pictures(field.type) for field in schema):
        for known in _PLAIN_NAMES:
            if known in schema.names and any(is_kind(schema.field(known).type) for is_kind in kinds):
                return known
    return _find_pictures(schema, name)


def _import_parquet(name: str) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingPackageError(
            f"{printable(name)}: reading parquet files needs pyarrow; run: pip install 'clusterloom[parquet]'"
        ) from None
    return pyarrow.parquet


def _find_pictures(schema: Any, name: str) -> str:
    columns = [field.name for field in schema if _holds_pictures(field.type)]
    if "image" in columns:
        return "image"
    if len(columns) == 1:
        return str(columns[0])
    found = ", ".join(f"{printable(field.name)} ({printable(str(field.type)[:80])})" for field in list(schema)[:10])
    raise DataError(
        f"{printable(name)}: expected a column 'image' of structs with the fields bytes and path; found: {found}"
    )


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types

    if not pyarrow.types.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return {"bytes", "path"} <= set(fields) and (
        pyarrow.types.is_binary(fields["bytes"]) or pyarrow.types.is_large_binary(fields["bytes"])
    )


def _read_ids(file: Any, column: str) -> "list[str] | RowIds":
    paths: list[str | None] = []
    for batch in file.iter_batches(columns=[f"{column}.path"], batch_size=65_536, use_threads=False):
        paths.extend((row or {}).get("path") for row in batch.column(0).to_pylist())
    if all(isinstance(path, str) and path for path in paths) and len(set(paths)) == len(paths):
        return [str(path) for path in paths]
    return RowIds(range(len(paths)))


def _iterate(file: Any, column: str, ids: "list[str] | RowIds", rows: NDArray[np.int64]) -> Iterator[Picture]:
    """The pictures of the chosen rows, a few rows in memory at a time."""
    wanted = np.zeros(len(ids), bool)
    wanted[rows] = True
    row = 0
    for batch in file.iter_batches(columns=[f"{column}.bytes"], batch_size=_batch_rows(file), use_threads=False):
        pictures = batch.column(0)
        for i in range(len(pictures)):
            if wanted[row]:
                # A row without bytes becomes an empty picture, which is reported as one that cannot be read.
                yield Picture(ids[row], (pictures[i].as_py() or {}).get("bytes") or b"")
            row += 1


def _rows_of(kept: list[str], ids: "list[str] | RowIds") -> NDArray[np.int64]:
    if isinstance(ids, RowIds):
        return np.array([int(identifier) for identifier in kept], np.int64)
    index = {identifier: row for row, identifier in enumerate(ids)}
    return np.array([index[identifier] for identifier in kept], np.int64)


def _read_labels(file: Any, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, tuple[str, ...], list[str]]:
    schema = file.schema_arrow
    column = next((name for name in LABEL_NAMES if name in schema.names), None)
    if column is None:
        return None, (), []
    values = [value for batch in file.iter_batches(columns=[column]) for value in batch.column(0).to_pylist()]
    chosen = [values[row] for row in rows]
    if not all(isinstance(value, str) or (isinstance(value, int) and value >= 0) for value in chosen):
        return None, (), [f"column {column!r} left out: some labels are missing, negative or of another type"]
    if len({type(value) for value in chosen}) > 1:
        return None, (), [f"column {column!r} left out: its labels are of several types"]
    note = f"labels from column {column!r}, for evaluation alone"
    class_names = _class_names(schema.metadata or {}, column)
    if class_names and isinstance(chosen[0], int) and max(chosen) < len(class_names):
        return np.array(chosen, np.int64), class_names, [note]
    return *encode_labels(np.array(chosen)), [note]


def _class_names(metadata: dict[bytes, bytes], column: str) -> tuple[str, ...]:
    """Names of classes from the metadata of Hugging Face datasets, or none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
        return tuple(printable(name) for name in names)
    except (KeyError, TypeError, ValueError):
        return ()
