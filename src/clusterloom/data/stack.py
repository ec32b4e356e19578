"""Single files of pictures: TIFF and FITS stacks, and large pictures that are cut into tiles."""

from pathlib import Path

from clusterloom.data.boundary import only_data_errors
from clusterloom.data.cache import entry_folder, file_stamp
from clusterloom.data.decoding import Picture
from clusterloom.data.images import ImageSet, limit_note, limited_rows
from clusterloom.data.one_picture import Frame, Stack
from clusterloom.data.options import MAX_CHANNELS, ReadOptions
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
    with only_data_errors(name), Stack(str(path)) as stack:
        if stack.frames == 1 and options.tile is None:
            channels = getattr(stack.picture, "channels", 1)
            of = f" of {channels} channels" if channels > MAX_CHANNELS else ""
            raise DataError(
                f"{printable(name)} is a single picture{of}; name the folder that holds the pictures, or cut it up "
                f"with --tile 64"
            )
        chosen = limited_rows(stack.frames, options.limit).tolist()
        ids = [path.name] if stack.frames == 1 else [str(frame) for frame in chosen]
        entry = read_pictures(
            lambda: (Picture(id_, Frame(stack, frame)) for id_, frame in zip(ids, chosen, strict=True)),
            len(chosen),
            entry_folder(options.cache_dir, stack=file_stamp(path), options=options.as_key()),
            options,
            name,
        )
        n_frames = stack.frames
    notes = [*entry.facts["notes"], *([limit_note(len(chosen), n_frames)] if len(chosen) < n_frames else [])]
    return ImageSet(entry.images, entry.facts["ids"], None, (), name, tuple(notes), entry.pixel_range)
