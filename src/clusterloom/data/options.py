"""What a caller may ask of every reader."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterloom.console import ProgressReport, no_progress
from clusterloom.data.pixels import PixelRange, range_text
from clusterloom.errors import SettingsError

MAX_ASKED_SIDE = 4096
MAX_CHANNELS = 16
_LEAST_TILE = 4
_MOST = sys.float_info.max


@dataclass(frozen=True)
class ReadOptions:
    """How images are read; see `clusterloom.data.load_images`, whose arguments these are.

    Raises:
        SettingsError: a value is out of range.
    """

    image_size: tuple[int, int] | None = None
    channels: int | tuple[int, ...] | None = None
    skip_bad: bool = False
    limit: int | None = None
    pixel_range: PixelRange | None = None
    cache_dir: Path | None = None
    progress: ProgressReport = no_progress
    tile: int | None = None
    show: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.image_size is not None and not _is_pair(self.image_size, int, 1, MAX_ASKED_SIDE):
            raise SettingsError(
                f"image_size is {self.image_size!r}; expected height and width from 1 to {MAX_ASKED_SIDE} pixels"
            )
        if isinstance(self.channels, Sequence):
            _check_picks(self.channels)
        elif self.channels not in (None, 1, 3):
            raise SettingsError(
                f"channels is {self.channels!r}; expected 1 for grey, 3 for colour, or the channels that are wanted, "
                f"numbered from 0, such as 0,2"
            )
        if self.show is not None and (len(self.show) not in (1, 3) or not all(_is_channel(c) for c in self.show)):
            raise SettingsError(
                f"show is {self.show!r}; expected one channel, to be shown in grey, or three, as red, green and blue, "
                f"numbered from 0"
            )
        if self.tile is not None and (type(self.tile) is not int or not _LEAST_TILE <= self.tile <= MAX_ASKED_SIDE):
            raise SettingsError(f"tile is {self.tile!r}; expected a side from {_LEAST_TILE} to {MAX_ASKED_SIDE} pixels")
        if self.limit is not None and (type(self.limit) is not int or self.limit < 1):
            raise SettingsError(f"limit is {self.limit!r}; expected a whole number of images, at least 1")
        if self.pixel_range is not None and not _is_range(self.pixel_range):
            raise SettingsError(
                f"pixel_range is {self.pixel_range!r}; expected two finite numbers, the smaller first, or two tuples "
                f"with a number for each channel"
            )

    @property
    def picks(self) -> tuple[int, ...] | None:
        """The channels that are wanted, as they are; None where all are, or grey or colour."""
        return tuple(self.channels) if isinstance(self.channels, Sequence) else None

    @property
    def kind(self) -> int | None:
        """1 for grey, 3 for colour; None where nothing was said, or channels are picked."""
        return self.channels if isinstance(self.channels, int) else None

    @property
    def reading(self) -> dict[str, Any]:
        """What later images have to be read with as well, see `clusterloom.data.ImageSet`."""
        chosen: dict[str, Any] = {"channels": self.picks, "tile": self.tile, "shown": self.show}
        known = {name: value for name, value in chosen.items() if value is not None}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}

    def as_key(self) -> dict[str, Any]:
        """What the result depends on, as JSON values, for a cache key."""
        return {
            "image_size": self.image_size,
            "channels": self.channels,
            "tile": self.tile,
            "skip_bad": self.skip_bad,
            "limit": self.limit,
            "pixel_range": self.pixel_range,
        }

    def unused_range_note(self) -> list[str]:
        """The note on a range that was given for pixels that are 8 bit already; none without a range."""
        if self.pixel_range is None:
            return []
        given = range_text(self.pixel_range)
        return [f"8-bit pixels taken as they are: the range given, {given}, is for other numbers"]


def check_shown(show: tuple[int, ...] | None, n_channels: int) -> None:
    """Refuse channels that cannot be shown, for images do not have them.

    Raises:
        SettingsError: there are not so many.
    """
    if show is not None and max(show) >= n_channels:
        raise SettingsError(f"show is {show!r}; expected channels below {n_channels}, for the images have so many")


def _is_channel(value: Any) -> bool:
    return type(value) is int and value >= 0


def _check_picks(picks: Sequence[int]) -> None:
    good = all(_is_channel(pick) for pick in picks)
    if not good or not 1 <= len(picks) <= MAX_CHANNELS or len(set(picks)) < len(picks):
        raise SettingsError(
            f"channels is {tuple(picks)!r}; expected 1 to {MAX_CHANNELS} different channels, numbered from 0"
        )


def _is_range(values: Any) -> bool:
    if _is_pair(values, (int, float), -_MOST, _MOST):
        return bool(values[0] <= values[1])
    if not _is_pair_of_sequences(values):
        return False
    return all(_is_pair(pair, (int, float), -_MOST, _MOST) and pair[0] <= pair[1] for pair in zip(*values, strict=True))


def _is_pair_of_sequences(values: Any) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 2
        and all(isinstance(value, tuple) and value for value in values)
        and len(values[0]) == len(values[1])
    )


def _is_pair(values: Any, kind: Any, least: float, most: float) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 2
        and all(isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most for value in values)
    )
