"""Single files of pictures: TIFF and FITS stacks, and large pictures that are cut into tiles."""

from pathlib import Path

from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.decoding import Picture
from clusterloom.data.images import ImageSet, limit_note, limited_rows
from clusterloom.data.one_picture import Frame, frames_in
from clusterloom.data.options import ReadOptions
from clusterloom.data.pictures import read_pictures
from clusterloom.errors import DataError, printable


def read_stack(path: Path, name: str, options: ReadOptions) -> ImageSet:
    """Read the frames of a file as pictures, by the same rule as pictures in folders.

    Args:
        path: The file: TIFF or FITS, or with `options.tile` any picture.
        name: What the user named, for messages.
        options: How pictures are read.

    Returns:
        The images, identified by the numbers of their frames; tiles of a file with one picture by its name.

    Raises:
        DataError: the file is damaged, or it is a single picture that is not to be cut into tiles.
    """
    with only_data_errors(name):
        n_frames = frames_in(str(path))
        if n_frames == 1 and options.tile is None:
            raise DataError(
                f"{printable(name)} is a single picture; name the folder that holds the pictures, or cut it up with "
                f"--tile 64"
            )
        chosen = limited_rows(n_frames, options.limit).tolist()
        ids = [path.name] if n_frames == 1 else [str(frame) for frame in chosen]
        entry = read_pictures(
            lambda: (Picture(id_, Frame(str(path), frame)) for id_, frame in zip(ids, chosen, strict=True)),
            len(chosen),
            entry_folder(options.cache_dir, stack=file_stamp(path), options=options.as_key()),
            options,
            name,
        )
    notes = [*entry.facts["notes"], *([limit_note(len(chosen), n_frames)] if len(chosen) < n_frames else [])]
    return ImageSet(entry.images, entry.facts["ids"], None, (), name, tuple(notes), entry.pixel_range)
