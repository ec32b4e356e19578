"""What a sweep tries: knobs with values or ranges, and the settings that they come to. Fixed before anything runs.

A plan that is fixed beforehand can be divided among workers, resumed, and extended by nobody's accident: a setting is
known by its place in it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

from clusterloom.errors import SettingsError

MOST_SETTINGS = 100_000


@dataclass(frozen=True)
class Knob:
    """One parameter that is varied.

    Attributes:
        name: The estimator's parameter.
        values: What it may be; empty for a range.
        low: The range's lower end.
        high: Its upper end, included.
        log: Whether draws are uniform in the logarithm.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def at(self, place: float) -> Any:
        """The value at a place from 0 to 1, exclusive, along the values or the range.

        Example:
            >>> Knob("epochs", low=1, high=4).at(0.99), Knob("kl_weight", low=0.01, high=1.0, log=True).at(0.5)
            (4, 0.1)
        """
        if self.values:
            return self.values[int(place * len(self.values))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            low, high = self.low - 0.5, self.high + 0.5
            value = math.exp(_between(math.log(low), math.log(high), place)) if self.log else _between(low, high, place)
            return min(max(round(value), self.low), self.high)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = _between(low, high, place)
        return float(f"{math.exp(value) if self.log else value:.4g}")


def _between(low: float, high: float, place: float) -> float:
    return low + place * (high - low)


def parse_knob(text: str) -> Knob:
    """A knob as the command line has it: NAME=A,B,C for values, NAME=LOW..HIGH for a range, NAME=log:LOW..HIGH.

    Values are whole numbers, decimal numbers, true, false, none or words; A:B is a list of them, for parameters that
    take several numbers.

    Example:
        >>> parse_knob("latent-dim=10,20").values, parse_knob("conv_filters=16:32,auto").values
        ((10, 20), ((16, 32), 'auto'))
        >>> parse_knob("kl_weight=log:0.01..1")
        Knob(name='kl_weight', values=(), low=0.01, high=1.0, log=True)

    Raises:
        SettingsError: the text is none of these.
    """
    name, _, right = text.partition("=")
    name = name.strip().replace("-", "_")
    if not name.isidentifier() or not right:
        raise SettingsError(f"{text!r}: expected NAME=A,B,C or NAME=LOW..HIGH")
    if ".." not in right:
        return Knob(name, tuple(parse_value(part) for part in right.split(",")))
    log = right.startswith("log:")
    ends = [parse_value(end) for end in right.removeprefix("log:").split("..")]
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends) or not ends[0] < ends[1]:
        raise SettingsError(f"{text!r}: a range needs two numbers, the lower one first")
    if log and ends[0] <= 0:
        raise SettingsError(f"{text!r}: a range in the logarithm needs numbers above 0")
    if any(isinstance(end, float) for end in ends):
        ends = [float(end) for end in ends]
    return Knob(name, low=ends[0], high=ends[1], log=log)


def parse_value(text: str) -> Any:
    """A value as the command line has it.

    Example:
        >>> [parse_value(text) for text in ("3", "1e-3", "true", "none", "latent", "3:5")]
        [3, 0.001, True, None, 'latent', (3, 5)]
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if ":" in text:
        return tuple(parse_value(part) for part in text.split(":"))
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


_WORDS = {"true": True, "false": False, "none": None}


def settings_of(knobs: Sequence[Knob], trials: int | None, seed: int) -> list[dict[str, Any]]:
    """The settings to try.

    Args:
        knobs: What is varied.
        trials: How many settings to draw, evenly spread over the knobs (a scrambled Sobol sequence); None takes every
            combination, which needs values for all knobs.
        seed: Of the draws.

    Returns:
        Parameters by name, one dictionary each, none twice.

    Raises:
        SettingsError: there is nothing to vary, a knob occurs twice, a range has no number of trials, or there are too
            many settings.
    """
    names = [knob.name for knob in knobs]
    if not names:
        raise SettingsError("nothing is varied; give at least one --vary NAME=A,B,C")
    if twice := [name for name in names if names.count(name) > 1]:
        raise SettingsError(f"--vary {twice[0]} is given twice")
    if trials is None:
        if ranges := [knob.name for knob in knobs if not knob.values]:
            raise SettingsError(f"--vary {ranges[0]} is a range: say with --trials how many settings to draw")
        _check_number(math.prod(len(knob.values) for knob in knobs))
        drawn = [dict(zip(names, values, strict=True)) for values in itertools.product(*(k.values for k in knobs))]
    else:
        _check_number(trials)
        places = qmc.Sobol(len(knobs), seed=seed).random_base2(max(trials - 1, 1).bit_length())[:trials]
        drawn = [{k.name: k.at(float(p)) for k, p in zip(knobs, row, strict=True)} for row in places]
    return list({_key(setting): setting for setting in drawn}.values())


def _check_number(n_settings: int) -> None:
    if n_settings > MOST_SETTINGS:
        raise SettingsError(f"{n_settings:,} settings are too many; {MOST_SETTINGS:,} are the most that a sweep tries")


def _key(setting: Mapping[str, Any]) -> str:
    return repr(sorted(setting.items()))
