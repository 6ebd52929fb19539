"""Numbers out of measurements: a median with its range, ratios turn by turn, a straight line with its r^2."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Figures = dict[str, Any]  # of one process: what it printed as JSON
Measured = Mapping[str, Sequence[Figures]]  # by way, one entry per turn


@dataclass(frozen=True)
class Spread:
    """A median and the range around it.

    Attributes:
        median: of the values.
        low: the smallest.
        high: the largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, unit: str = "x", *, digits: int = 2) -> str:
        """As `2.39x (2.31 - 2.44)`."""
        return f"{self.median:.{digits}f}{unit} ({self.low:.{digits}f} - {self.high:.{digits}f})"


def middle(figures: Figures, key: str) -> float:
    """The figure of a process: itself, or the median where it was measured several times."""
    value = figures[key]
    return float(statistics.median(value) if isinstance(value, list) else value)


def ratio(measured: Measured, above: str, below: str, *, key: str = "seconds") -> Spread:
    """How many times larger one way's figure is than another's.

    Args:
        measured: both ways; turns that only one of them took are left out.
        above: the way whose figure is divided.
        below: the way that it is divided by.
        key: of the figure.

    Returns:
        Ratios are taken within a turn, which slows both alike where the machine is busy; their median and range.
    """
    pairs = zip(measured[above], measured[below], strict=False)
    return Spread.of([middle(one, key) / middle(other, key) for one, other in pairs])


def least(measured: Measured, names: Sequence[str], *, key: str = "seconds") -> str:
    """The way whose figure is the smallest in the median over its turns."""
    return min(names, key=lambda name: statistics.median(middle(turn, key) for turn in measured[name]))


@dataclass(frozen=True)
class Line:
    """y = slope * x + intercept by least squares.

    Attributes:
        slope: of the line.
        intercept: its value at 0.
        r_squared: the share of y's variance that it explains, 1 for points on a line.
    """

    slope: float
    intercept: float
    r_squared: float

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> "Line":
        """The line of at least two different x."""
        slope, intercept = np.polyfit(np.asarray(x, float), np.asarray(y, float), 1)
        values = np.asarray(y, float)
        left = float(((values - (slope * np.asarray(x, float) + intercept)) ** 2).sum())
        all_of_it = float(((values - values.mean()) ** 2).sum())
        return cls(float(slope), float(intercept), 1.0 if all_of_it == 0 else 1 - left / all_of_it)
