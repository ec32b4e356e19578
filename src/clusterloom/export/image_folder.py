"""A folder of images with a table, as Hugging Face's `imagefolder` reads it."""

from pathlib import Path

from clusterloom.console import ProgressReport, no_progress
from clusterloom.corrections.assignment import Assignment
from clusterloom.data.images import ImageSet
from clusterloom.export.columns import image_columns
from clusterloom.pictures import to_picture
from clusterloom.predictions import Predictions
from clusterloom.tables import write_table

_IMAGES_PER_FOLDER = 1000


def write_image_folder(
    folder: Path,
    images: ImageSet,
    predictions: Predictions,
    corrections: Assignment | None = None,
    progress: ProgressReport = no_progress,
) -> None:
    """Fill a folder with PNG files and `metadata.parquet`, the columns of `image_columns` by `file_name`.

    Files are named by the row, whatever the images' ids are, a thousand in each sub-folder. The table is parquet and
    not CSV, so that an id such as 007 stays the text that it is.

    Args:
        folder: Empty.
        images: The images.
        predictions: What the model says of them.
        corrections: The clusters as a user has corrected them; None where nobody has.
        progress: Told how far it is.
    """
    names = [f"images/{row // _IMAGES_PER_FOLDER:04d}/{row:07d}.png" for row in range(len(images))]
    for row, name in enumerate(names):
        if row % _IMAGES_PER_FOLDER == 0:
            progress("writing images", row, len(images))
            (folder / name).parent.mkdir(parents=True)
        # No fsync for each of them, which would take minutes: the whole folder gets its name once all are there.
        to_picture(images.shown(row)).save(folder / name)
    progress("writing images", len(images), len(images))
    write_table(
        {"file_name": names, **image_columns(images, predictions, corrections)}, str(folder / "metadata.parquet")
    )
