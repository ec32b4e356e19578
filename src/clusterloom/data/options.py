"""What a caller may ask of every reader."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterloom.console import ProgressReport, no_progress
from clusterloom.errors import SettingsError

MAX_ASKED_SIDE = 4096
_MOST = sys.float_info.max


@dataclass(frozen=True)
class ReadOptions:
    """How images are read; see `clusterloom.data.load_images`, whose arguments these are.

    Raises:
        SettingsError: a value is out of range.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    skip_bad: bool = False
    limit: int | None = None
    pixel_range: tuple[float, float] | None = None
    cache_dir: Path | None = None
    progress: ProgressReport = no_progress

    def __post_init__(self) -> None:
        if self.image_size is not None and not _is_pair(self.image_size, int, 1, MAX_ASKED_SIDE):
            raise SettingsError(
                f"image_size is {self.image_size!r}; expected height and width from 1 to {MAX_ASKED_SIDE} pixels"
            )
        if self.channels not in (None, 1, 3):
            raise SettingsError(f"channels is {self.channels!r}; expected 1 for grey, 3 for colour, or nothing")
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise SettingsError(f"limit is {self.limit!r}; expected a whole number of images, at least 1")
        if self.pixel_range is not None and not (
            _is_pair(self.pixel_range, (int, float), -_MOST, _MOST) and self.pixel_range[0] <= self.pixel_range[1]
        ):
            raise SettingsError(f"pixel_range is {self.pixel_range!r}; expected two finite numbers, the smaller first")

    def as_key(self) -> dict[str, Any]:
        """What the result depends on, as JSON values, for a cache key."""
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "skip_bad": self.skip_bad,
            "limit": self.limit,
            "pixel_range": self.pixel_range,
        }

    def unused_range_note(self) -> list[str]:
        """The note on a range that was given for pixels that are 8 bit already; none without a range."""
        if self.pixel_range is None:
            return []
        low, high = self.pixel_range
        return [f"8-bit pixels taken as they are: the range given, {low:g} to {high:g}, is for other numbers"]


def _is_pair(values: Any, kind: Any, least: float, most: float) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 2
        and all(isinstance(value, kind) and least <= value <= most for value in values)
    )
