"""A folder for TensorBoard's embedding projector: tensors, a table, and all images on one sheet.

The limits are those of its page (`vz_projector`), which reads the first 100,000 rows and sheets of up to 8192 x 8192
pixels.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clusterloom.console import ProgressReport, no_progress
from clusterloom.corrections.assignment import Assignment
from clusterloom.data.images import ImageSet, limited_rows
from clusterloom.export.columns import image_columns
from clusterloom.files import write_atomically
from clusterloom.pictures import png_bytes, to_picture
from clusterloom.predictions import Predictions
from clusterloom.tables import text_rows

MOST_ROWS = 100_000
MOST_PIXELS = 8192  # along a side of the sheet
_EMBEDDING = """embeddings {{
  tensor_name: "{name}"
  tensor_path: "{name}.tsv"
  tensor_shape: {rows}
  tensor_shape: {dimensions}
  metadata_path: "metadata.tsv"
  sprite {{
    image_path: "sprite.png"
    single_image_dim: {width}
    single_image_dim: {height}
  }}
}}
"""


def write_projector(
    folder: Path,
    images: ImageSet,
    predictions: Predictions,
    corrections: Assignment | None = None,
    progress: ProgressReport = no_progress,
) -> None:
    """Fill a folder that `tensorboard --logdir` opens: the latents and the map, with the images as points.

    Args:
        folder: Empty.
        images: The images; beyond 100,000 a fixed random choice of them.
        predictions: What the model says of them.
        corrections: The clusters as a user has corrected them; None where nobody has.
        progress: Told how far it is.
    """
    rows = limited_rows(len(images), MOST_ROWS)
    # It looks for principal axes in whatever it is given, and wants three dimensions at least for its first view.
    tensors = {"latents": _widened(predictions.latents[rows]), "map": _widened(predictions.position[rows])}
    for name, tensor in tensors.items():
        write_atomically(folder / f"{name}.tsv", _tensor_bytes(tensor))
    write_atomically(
        folder / "metadata.tsv", _table_bytes(_chosen(image_columns(images, predictions, corrections), rows))
    )
    progress("drawing the sheet of images", 0, 0)
    sheet, (width, height) = sprite_sheet(images, rows)
    write_atomically(folder / "sprite.png", png_bytes(sheet))
    config = [
        _EMBEDDING.format(name=name, rows=len(tensor), dimensions=tensor.shape[1], width=width, height=height)
        for name, tensor in tensors.items()
    ]
    write_atomically(folder / "projector_config.pbtxt", "".join(config).encode("ascii"))


def sprite_sheet(images: ImageSet, rows: np.ndarray) -> tuple[Image.Image, tuple[int, int]]:
    """Images side by side, row by row, as many to a row as there are rows.

    Args:
        images: The images.
        rows: Which of them, in which order, shape (M,).

    Returns:
        The sheet, and the width and height in pixels of one image on it: its own, or smaller where all of them would
        not fit.
    """
    per_side = math.ceil(math.sqrt(len(rows)))
    height, width = images.image_shape[:2]
    scale = min(1.0, MOST_PIXELS // per_side / max(height, width))
    tile = max(1, int(width * scale)), max(1, int(height * scale))
    sheet = Image.new("RGB" if images.shown(0).shape[-1] >= 3 else "L", (per_side * tile[0], per_side * tile[1]))
    for position, row in enumerate(rows):
        picture = to_picture(images.shown(row))
        if picture.size != tile:
            picture = picture.resize(tile, Image.Resampling.BOX)
        y, x = divmod(position, per_side)
        sheet.paste(picture, (x * tile[0], y * tile[1]))
    return sheet, tile


def _widened(tensor: np.ndarray) -> np.ndarray:
    return np.pad(tensor, ((0, 0), (0, max(0, 3 - tensor.shape[1]))))


def _tensor_bytes(tensor: np.ndarray) -> bytes:
    # As text: the projector takes a file of plain numbers for text wherever its bytes happen to be valid UTF-8.
    return "".join("\t".join(f"{value:.6g}" for value in row) + "\n" for row in tensor.tolist()).encode("ascii")


def _table_bytes(columns: Mapping[str, Any]) -> bytes:
    # The page labels points by the first column that is not numbers: the cluster says more than the id.
    clusters = {"cluster": [f"cluster {k}" for k in columns["cluster"]]}
    columns = clusters | {name: values for name, values in columns.items() if name != "cluster"}
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in text_rows(columns))]
    return "".join(line + "\n" for line in lines).encode("utf-8")


def _chosen(columns: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    return {
        name: values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        for name, values in columns.items()
    }
