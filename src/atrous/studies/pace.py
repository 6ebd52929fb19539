"""How long a sweep still takes, from the steps that its jobs have made while it was watched."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean


@dataclass
class Pace:
    """Seconds per job and for the whole.

    Args:
        rows: the row of every job; jobs of a row take equally long, whatever their seed.
        steps: optimiser steps of every job.
        clock: seconds since some moment.
    """

    rows: Sequence[str]
    steps: Sequence[int]
    clock: Callable[[], float] = time.monotonic
    _first: dict[int, tuple[float, int]] = field(default_factory=dict)
    _per_step: dict[int, float] = field(default_factory=dict)
    _at: dict[int, int] = field(default_factory=dict)

    def see(self, index: int, step: int) -> None:
        """A running job was seen at a step."""
        now = self.clock()
        began, first = self._first.setdefault(index, (now, step))
        if step > max(first, self._at.get(index, first)):
            self._per_step[index] = (now - began) / (step - first)
        self._at[index] = max(step, self._at.get(index, 0))

    def left(self, index: int) -> float | None:
        """Seconds that a job still takes; None while that cannot be known."""
        per_step = self._per_step.get(index, self._expected(self.rows[index]))
        return None if per_step is None else per_step * (self.steps[index] - self._at.get(index, 0))

    def _expected(self, row: str) -> float | None:
        of_row = [seconds for index, seconds in self._per_step.items() if self.rows[index] == row]
        known = of_row or list(self._per_step.values())
        return fmean(known) if known else None

    def left_in_all(self, is_ours: Mapping[int, bool], slots: int) -> float | None:
        """Seconds until every open job has ended; None while that cannot be known.

        Args:
            is_ours: the open jobs, and whether they are run by this sweep.
            slots: jobs of this sweep that run at once.
        """
        left = {index: self.left(index) for index in is_ours}
        known = {index: seconds for index, seconds in left.items() if seconds is not None}
        if not known:
            return None
        ours = sum(seconds for index, seconds in known.items() if is_ours[index])
        return max(ours / max(1, slots), *known.values())
