"""A folder of images with a table, as Hugging Face's `imagefolder` reads it."""

from collections.abc import Callable
from pathlib import Path

from clusterloom.data import ImageSet
from clusterloom.export.columns import image_columns
from clusterloom.pictures import to_picture
from clusterloom.predictions import Predictions
from clusterloom.tables import require_pyarrow, write_table

OPENED_BY = "datasets.load_dataset('imagefolder', data_dir={path!r})"
_MISSING = "--to huggingface-folder needs pyarrow for its table: pip install 'clusterloom[parquet]'"
_IMAGES_PER_FOLDER = 1000
_IMAGES_PER_LINE = 10_000


def check_installed() -> None:
    """Refuse early where the table cannot be written.

    Raises:
        DataError: pyarrow is not installed.
    """
    require_pyarrow(_MISSING)


def write_image_folder(folder: Path, images: ImageSet, predictions: Predictions, tell: Callable[[str], None]) -> None:
    """Fill a folder with PNG files and `metadata.parquet`, the columns of `image_columns` by `file_name`.

    Files are named by the row, whatever the images' ids are, a thousand in each sub-folder. The table is parquet and
    not CSV, so that an id such as 007 stays the text that it is.

    Args:
        folder: Empty.
        images: The images.
        predictions: What the model says of them.
        tell: Called with a line of text as the work goes on.
    """
    names = [f"images/{row // _IMAGES_PER_FOLDER:04d}/{row:07d}.png" for row in range(len(images))]
    for row, name in enumerate(names):
        if row % _IMAGES_PER_FOLDER == 0:
            (folder / name).parent.mkdir(parents=True)
        # No fsync for each of them, which would take minutes: the whole folder gets its name once all are there.
        to_picture(images.images[row]).save(folder / name)
        if (row + 1) % _IMAGES_PER_LINE == 0:
            tell(f"{row + 1:,} of {len(images):,} images written")
    write_table({"file_name": names, **image_columns(images, predictions)}, str(folder / "metadata.parquet"))
