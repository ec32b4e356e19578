"""What a sweep tries: knobs with values or ranges, and the settings that they come to. Fixed before anything runs.

A plan that is fixed beforehand can be divided among workers, resumed, and extended by nobody's accident: a setting is
known by its place in it.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import qmc

from clusterloom.errors import SettingsError
from clusterloom.estimators.methods import method_named
from clusterloom.settings import OPTION_NAMES

MOST_SETTINGS = 100_000


@dataclass(frozen=True)
class Varied:
    """One knob that is varied.

    Attributes:
        name: The estimator's parameter.
        values: What it may be; empty for a range.
        low: The range's lower end; where both ends are whole numbers, so are the values.
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
            >>> Varied("epochs", low=1, high=4).at(0.99), Varied("kl_weight", low=0.01, high=1.0, log=True).at(0.5)
            (4, 0.1)
        """
        if self.values:
            return self.values[int(place * len(self.values))]
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        low, high = (self.low - 0.5, self.high + 0.5) if whole else (self.low, self.high)
        value = low * (high / low) ** place if self.log else low + place * (high - low)
        return min(max(round(value), self.low), self.high) if whole else float(f"{value:.4g}")


def parse_varied(method: str, text: str) -> Varied:
    """A knob as the command line has it: NAME=A,B,C for values, NAME=LOW..HIGH for a range, NAME=log:LOW..HIGH.

    Example:
        >>> parse_varied("vae", "latent-dim=10,20").values
        (10, 20)
        >>> parse_varied("guided", "kl_weight=log:0.01..1")
        Varied(name='kl_weight', values=(), low=0.01, high=1.0, log=True)

    Raises:
        SettingsError: the text is none of these, or the method does not take it.
    """
    name, _, right = text.partition("=")
    name = name.strip().replace("-", "_")
    name = OPTION_NAMES.get(name, name)
    if not name.isidentifier() or not right:
        raise SettingsError(f"{text!r}: expected NAME=A,B,C or NAME=LOW..HIGH")
    if ".." not in right:
        return Varied(name, tuple(parse_values(method, name, right.split(","))))
    log = right.startswith("log:")
    ends = parse_values(method, name, right.removeprefix("log:").split(".."))
    if len(ends) != 2 or not all(type(end) in (int, float) for end in ends) or not ends[0] < ends[1]:
        raise SettingsError(f"{text!r}: a range needs two numbers, the lower one first")
    if log and ends[0] <= 0:
        raise SettingsError(f"{text!r}: a range in the logarithm needs numbers above 0")
    low, high = ends if all(isinstance(end, int) for end in ends) else map(float, ends)
    return Varied(name, low=low, high=high, log=log)


def parse_values(method: str, name: str, texts: Sequence[str]) -> list[Any]:
    """Values of one parameter of a method as the command line has them, A:B for a list.

    Example:
        >>> parse_values("guided", "conv_filters", ["16:32", "auto"])
        [(16, 32), 'auto']

    Raises:
        SettingsError: the method has no such parameter, or a text is no value of it.
    """
    settings = method_named(method).Settings
    return [settings.parse(name, text.strip()) for text in texts]


def settings_of(knobs: Sequence[Varied], trials: int | None, seed: int) -> list[dict[str, Any]]:
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
    if trials is None and (ranges := [knob.name for knob in knobs if not knob.values]):
        raise SettingsError(f"--vary {ranges[0]} is a range: say with --trials how many settings to draw")
    wanted = trials or math.prod(len(knob.values) for knob in knobs)
    if wanted > MOST_SETTINGS:
        raise SettingsError(f"{wanted:,} settings are too many; {MOST_SETTINGS:,} are the most that a sweep tries")
    drawn: Iterable[Sequence[Any]] = itertools.product(*(knob.values for knob in knobs))
    if trials is not None:
        rows = qmc.Sobol(len(knobs), seed=seed).random_base2(max(trials - 1, 1).bit_length())[:trials]
        drawn = ([knob.at(float(place)) for knob, place in zip(knobs, row, strict=True)] for row in rows)
    settings = [dict(zip(names, values, strict=True)) for values in drawn]
    return list({repr(setting): setting for setting in settings}.values())
