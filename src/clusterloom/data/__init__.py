"""Images in: folders, arrays, parquet files and built-in data sets, all as one `ImageSet` of 8-bit images."""

from clusterloom.data.arrays import arrange
from clusterloom.data.builtin import BUILTIN, fetch
from clusterloom.data.find_parts import parts_in
from clusterloom.data.images import ImageSet
from clusterloom.data.load import holds_pictures, load_images, source_folder, stream_images
from clusterloom.data.parts import some_shards

__all__ = [
    "BUILTIN",
    "ImageSet",
    "arrange",
    "fetch",
    "holds_pictures",
    "load_images",
    "parts_in",
    "some_shards",
    "source_folder",
    "stream_images",
]
