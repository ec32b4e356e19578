"""A parquet file for Embedding Atlas: every image with its place on the map and what the model says of it."""

from pathlib import Path
from typing import IO, Any

from clusterloom.console import ProgressReport, no_progress
from clusterloom.corrections.assignment import Assignment
from clusterloom.data.ids import encode_id
from clusterloom.data.images import ImageSet
from clusterloom.export.columns import image_columns
from clusterloom.marks import PARQUET_MARK
from clusterloom.pictures import png_bytes, to_picture
from clusterloom.predictions import Predictions
from clusterloom.tables import require_pyarrow

_KIND = b"atlas"
_ROWS_PER_GROUP = 10_000


def is_atlas(path: Path) -> bool:
    """Whether a file is one that `write_atlas` made."""
    pyarrow = require_pyarrow()
    try:
        return bool((pyarrow.parquet.read_schema(path).metadata or {}).get(PARQUET_MARK) == _KIND)
    except (OSError, pyarrow.ArrowException):
        return False


def write_atlas(
    file: IO[bytes],
    images: ImageSet,
    predictions: Predictions,
    corrections: Assignment | None = None,
    progress: ProgressReport = no_progress,
) -> None:
    """Write the file: the columns of `image_columns` and `image`, a struct of encoded bytes and path.

    That struct is the one of Hugging Face datasets, so `load_images` and other tools read the file as well. Some
    thousand pictures are in memory at a time.

    Args:
        file: Opened for writing.
        images: The images.
        predictions: What the model says of them.
        corrections: The clusters as a user has corrected them; None where nobody has.
        progress: Told how far it is.
    """
    pyarrow = require_pyarrow()
    columns = image_columns(images, predictions, corrections)
    types = {"image": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}), "id": pyarrow.string()}
    types |= {name: pyarrow.array(values[:1]).type for name, values in columns.items() if name != "id"}
    schema = pyarrow.schema(types, metadata={PARQUET_MARK: _KIND})
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(images), _ROWS_PER_GROUP):
            progress("writing images", start, len(images))
            rows = slice(start, start + _ROWS_PER_GROUP)
            part: dict[str, Any] = {name: values[rows] for name, values in columns.items()}
            part["id"] = list(map(encode_id, part["id"]))
            part["image"] = [
                {"bytes": png_bytes(to_picture(image), made=False), "path": id_}
                for image, id_ in zip(images.shown(rows), part["id"], strict=True)
            ]
            writer.write_table(pyarrow.table(part, schema=schema))
    progress("writing images", len(images), len(images))
