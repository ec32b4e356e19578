"""The names and the version of what lies in a model directory::

    model.safetensors   weights and fitted arrays; its header has a hash of the settings
    config.json         format and package versions, settings, hashes of the other files
    metrics.jsonl       one line per epoch
    README.md           model card, for people; not read back
    *.png               pictures, if asked for; not read back

No pickle is ever written or read.
"""

import hashlib
import json
from typing import Any

FORMAT_VERSION = 2
CONFIG, CARD = "config.json", "README.md"
READ_BACK = ("model.safetensors", "metrics.jsonl")


def sha256(data: bytes) -> str:
    """The hash that stands for a file's contents, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def settings_sha256(settings: dict[str, Any]) -> str:
    """The hash that stands for the settings of a model, or of a sweep."""
    return sha256(json.dumps(settings, sort_keys=True).encode())
