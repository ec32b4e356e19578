"""`export.json`: what a folder is, for people, for programs, and for whoever would replace it or read it as data."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from clusterloom.files import write_atomically

FACTS = "export.json"


def write_facts(folder: Path, kind: str, facts: dict[str, Any]) -> None:
    """Say in a folder that clusterloom made it.

    Args:
        folder: The folder.
        kind: What it holds.
        facts: JSON values.
    """
    known = {"clusterloom_export": kind, "clusterloom": version("clusterloom")}
    write_atomically(folder / FACTS, json.dumps(known | facts, indent=2).encode("ascii"))


def read_facts(folder: Path) -> dict[str, Any]:
    """What `write_facts` wrote; empty where it did not write."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) and "clusterloom_export" in facts else {}
