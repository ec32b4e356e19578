"""How clusterloom knows again what it made: pictures are never data, and a folder is not written over for another."""

import json
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path
from typing import Any

# A PNG file with the text `Software: clusterloom` is a picture that clusterloom made: never data.
PNG_SOFTWARE = "clusterloom"
_PNG_START = 4096  # bytes
# A parquet file whose metadata have this name is a table or an export of ours; the value says which.
PARQUET_MARK = b"clusterloom"
FACTS = "export.json"  # what a folder is, for people, for programs, and for whoever would replace it or read it as data
LEFT_BY_VIEWERS = (".DS_Store", "Thumbs.db", "desktop.ini")  # by whatever shows a folder on macOS and Windows
# Folders that clusterloom made: the file that tells, and names in the JSON object that it holds.
_FOLDER_MARKS = {
    "model": ("config.json", {"format_version", "settings"}),
    "export": (FACTS, {"clusterloom_export"}),
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
        if names <= _read_json(folder / file).keys():
            return kind
    return None


def write_facts(folder: Path, kind: str, facts: dict[str, Any]) -> None:
    """Say in a folder that clusterloom made it, and what is in it; called when all of it is there.

    Args:
        folder: The folder.
        kind: What it holds.
        facts: JSON values.
    """
    known = {"clusterloom_export": kind, "clusterloom": version("clusterloom"), **facts}
    known["files"] = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    (folder / FACTS).write_bytes(json.dumps(known, indent=2).encode("ascii"))


def stranger_in(folder: Path, kinds: Collection[str]) -> str | None:
    """The name of something that was not there when `write_facts` was called with one of some kinds, if there is any.

    A folder of another kind has nothing but strangers.
    """
    facts = _read_json(folder / FACTS)
    listed = facts.get("files") if facts.get("clusterloom_export") in kinds else None
    files = [str(name) for name in listed] if isinstance(listed, list) else []
    ours = {FACTS, *files, *(parent.as_posix() for name in files for parent in Path(name).parents)}
    found = (path for path in folder.rglob("*") if path.name not in LEFT_BY_VIEWERS)
    return next((name for path in found if (name := path.relative_to(folder).as_posix()) not in ours), None)


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; an empty one where it is missing or holds something else."""
    if not path.is_file():  # opening a pipe would wait for ever
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
