"""How clusterloom knows again what it made: pictures are never data, and a folder is not written over for another."""

import json
from pathlib import Path

# A PNG file with the text `Software: clusterloom` is a picture that clusterloom made: never data.
PNG_SOFTWARE = "clusterloom"
_PNG_START = 4096  # bytes
# A parquet file whose metadata have this name is a table or an export of ours; the value says which.
PARQUET_MARK = b"clusterloom"
# Folders that clusterloom made: the file that tells, and names in the JSON object that it holds.
_FOLDER_MARKS = {
    "model": ("config.json", {"format_version", "settings"}),
    "export": ("export.json", {"clusterloom_export"}),
    "predictions": ("_manifest.json", {"clusterloom_predictions"}),
}


def is_our_picture(file: Path) -> bool:
    """Whether a file is a PNG picture that clusterloom made, whole or damaged."""
    if file.suffix.lower() != ".png" or not file.is_file():
        return False
    mark = b"tEXtSoftware\0" + PNG_SOFTWARE.encode()  # which comes before the pixels
    with file.open("rb") as opened:
        return mark in opened.read(_PNG_START)


def folder_kind(folder: Path) -> str | None:
    """What a folder is if clusterloom made it, whole or damaged: "model", "export", "predictions"; else None."""
    for kind, (file, names) in _FOLDER_MARKS.items():
        if names <= _json_keys(folder / file):
            return kind
    return None


def _json_keys(path: Path) -> set[str]:
    """Names in the JSON object that a file holds; none where it is missing or holds something else."""
    if not path.is_file():  # opening a pipe would wait for ever
        return set()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return set()
    return set(found) if isinstance(found, dict) else set()
