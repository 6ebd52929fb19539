"""A loss that does not fall, told once, while there is still time to look."""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

WINDOW_STEPS = 100
_LEAST_ENTRIES = 5  # in each of the two windows: fewer say more about their batches than about the training
_FALL = 0.02
_LITTLE = 0.1


class Trend:
    """Compares the first two windows of a training.

    The rule: of the losses that are logged in the first 100 steps (at least 5 entries) and in the 100 after, the mean
    of the second window has to be at least 2% below that of the first. It is checked once, and only where there is
    something to learn: a mean below a tenth of ln(classes), the loss of a blind guess, passes, as in a fine-tuning.

    Args:
        classes: of the label space.
        every: steps between two logged losses.
    """

    def __init__(self, *, classes: int, every: int) -> None:
        self.window = max(WINDOW_STEPS, _LEAST_ENTRIES * every)
        self._little = _LITTLE * math.log(classes)
        self._first: list[float] = []
        self._second: list[float] = []
        self._is_over = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: a training that goes on late has nothing to say of its first windows."""
        return {"first": self._first, "second": self._second, "is_over": self._is_over}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._first, self._second = list(state["first"]), list(state["second"])
        self._is_over = bool(state["is_over"])

    def warning(self, steps: int, loss: float, *, lr: float) -> str | None:
        """Take a logged loss, and say what to look at when it is time and the loss has not fallen.

        Args:
            steps: since the training began.
            loss: the mean over the batch of that step.
            lr: the rate that it was taken with, for the message.
        """
        if self._is_over:
            return None
        (self._first if steps <= self.window else self._second).append(loss)
        if steps < 2 * self.window:
            return None
        self._is_over = True
        if len(self._first) < _LEAST_ENTRIES or len(self._second) < _LEAST_ENTRIES:
            return None
        before, after = fmean(self._first), fmean(self._second)
        if after < (1 - _FALL) * before or after < self._little:
            return None
        return (
            f"the loss is not falling: {before:.4g} on average over {self.window} steps, {after:.4g} over the next. "
            f"Look at recipe.optimizer.lr={lr:.4g} (try a third and three times that), at the crops with their labels "
            "(atrous-data show), and at the label space (atrous-data check)"
        )
