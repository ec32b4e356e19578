"""What several seeds say of a claim: an interval for a weighted sum of means, and what follows from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any, TypeAlias

from scipy.stats import t as student

_CONFIDENCE = 0.95

Runs: TypeAlias = Mapping[Any, Sequence[Mapping[str, Any]]]  # records of all seeds, by setting


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of the mean scores of settings, which a claim wants above a number.

    Attributes:
        title: What it is, for the text.
        score: Name of the score in records.
        weights: By setting.
        above: The number.
        in_points: The score is a share, and differences are written in percentage points.
    """

    title: str
    score: str
    weights: Mapping[Any, float]
    above: float = 0.0
    in_points: bool = False

    def interval(self, runs: Runs) -> tuple[float, float, float]:
        """The sum, and the ends of its 95 % interval; they are infinite where a setting has one seed.

        Student's interval with the degrees of freedom of Welch (1947) and Satterthwaite (1946): settings may differ in
        how much seeds matter.

        Args:
            runs: Records of all seeds, by setting.

        Example:
            >>> runs = {name: [{"score": x + seed} for seed in range(3)] for name, x in (("a", 1.0), ("b", 4.0))}
            >>> less = Contrast("b less a", "score", {"a": -1, "b": 1})
            >>> [round(x, 2) for x in less.interval(runs)]
            [3.0, 0.73, 5.27]
            >>> less.interval({**runs, "a": [{"score": 1.0}]})
            (4.0, -inf, inf)
        """
        values = {setting: [run[self.score] for run in runs[setting]] for setting in self.weights}
        middle = sum(weight * fmean(values[setting]) for setting, weight in self.weights.items())
        seeds = {setting: len(of_setting) for setting, of_setting in values.items()}
        if min(seeds.values()) < 2:
            return middle, -math.inf, math.inf
        parts = {s: weight**2 * variance(values[s]) / seeds[s] for s, weight in self.weights.items()}
        squared = sum(parts.values())
        if squared == 0:
            return middle, middle, middle
        freedom = squared**2 / sum(part**2 / (seeds[s] - 1) for s, part in parts.items())
        reach = float(student.ppf((1 + _CONFIDENCE) / 2, freedom)) * math.sqrt(squared)
        return middle, middle - reach, middle + reach

    def verdict(self, runs: Runs) -> bool | None:
        """Whether the sum is above the number; None where its interval has it inside."""
        _, low, high = self.interval(runs)
        if low <= self.above <= high:
            return None
        return low > self.above

    def text(self, runs: Runs) -> str:
        """The sum and its interval, in words."""
        numbers = [self._number(x) for x in self.interval(runs) if math.isfinite(x)]
        unit = " points" if self.in_points else ""
        if len(numbers) == 1:
            return f"{self.title}: {numbers[0]}{unit}, one seed"
        wanted = f", wanted above {self._number(self.above)}" if self.above else ""
        return f"{self.title}: {numbers[0]}{unit} (95 % interval {numbers[1]} to {numbers[2]}{wanted})"

    def _number(self, x: float) -> str:
        return f"{100 * x:+.1f}" if self.in_points else f"{x:+.2f}"


def verdict(contrasts: Sequence[Contrast], runs: Runs) -> str:
    """Yes where every contrast is above its number, No where one is below, else Not decided."""
    found = [contrast.verdict(runs) for contrast in contrasts]
    if all(found):
        return "Yes"
    return "No" if False in found else "Not decided"
