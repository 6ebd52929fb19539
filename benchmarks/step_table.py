"""The table of training steps: what a way took, what it did with the machine, what it held in memory."""

import statistics
from collections.abc import Mapping

from benchmarks.figures import Measured, Spread, middle
from benchmarks.steps import name_of

COLUMNS = (
    "network, manner",
    "precision",
    "s per step (range)",
    "CPU s",
    "images/s",
    "GFLOP per step",
    "GFLOP/s",
    "of the peak",
    "MiB",
    "MiB of the step",
)


def rows(
    measured: Measured,
    ways: Mapping[str, tuple[str, str]],
    operations: Mapping[str, float],
    peaks: Mapping[str, float],
    *,
    batch: int,
) -> list[list[str]]:
    """A row per way.

    Args:
        measured: by `network: manner`; ways that are not there get no row.
        ways: (network, manner) by label.
        operations: of a step, by network.
        peaks: operations per second of a convolution, by precision.
        batch: images per step.
    """
    found = []
    for label, (key, manner) in ways.items():
        turns = measured.get(name_of(key, manner))
        if turns is None:
            continue
        seconds = Spread.of([second for turn in turns for second in turn["seconds"]])
        rate, precision = operations[key] / seconds.median, turns[0]["precision"]
        found.append(
            [
                label,
                precision,
                seconds.text("", digits=3),
                f"{statistics.median(middle(turn, 'cpu_seconds') for turn in turns):.2f}",
                f"{batch / seconds.median:.2f}",
                f"{operations[key] / 1e9:.0f}",
                f"{rate / 1e9:.0f}",
                f"{100 * rate / peaks[precision]:.0f}%",
                str(max(turn["peak_mib"] for turn in turns)),
                str(max(turn["step_mib"] for turn in turns)),
            ]
        )
    return found
