"""A table beside its measurements: its rows, their seeds, and what follows from them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.studies.reports.store import DamagedRun
from atrous.studies.table import Row, Table


@dataclass(frozen=True)
class SeedResult:
    """One training of a row: its state, and its score once it is done (0 to 1)."""

    seed: int
    state: str
    folder: Path
    step: int
    max_steps: int
    score: float | None
    reason: str = ""
    submission: Path | None = None


@dataclass(frozen=True)
class OtherBudget:
    """A training with another budget than its row's, or after one with another budget: told, never a result."""

    seed: int
    folder: Path
    steps: int
    full_steps: int

    def __str__(self) -> str:
        if self.steps > self.full_steps:
            return f"longer budget: seed {self.seed} has {self.steps} steps, the row {self.full_steps}"
        if self.steps == self.full_steps:
            return f"another budget before it: seed {self.seed} starts from a training with other steps than the row's"
        return f"unfinished budget: seed {self.seed} has {self.steps} of {self.full_steps} steps"


@dataclass(frozen=True)
class RowResult:
    """A row and what was measured of it; only finished trainings with the full budget count.

    Where it is held against another row, whose seeds are `baseline`, its number is what it has more, seed by seed.
    `missing` are the seeds that were asked for and have no run; `code` holds the versions and commits of atrous that
    trained it.
    """

    row: Row
    command: str
    seeds: tuple[SeedResult, ...] = ()
    other_budgets: tuple[OtherBudget, ...] = ()
    missing: tuple[int, ...] = ()
    parameters: int | None = None
    multiply_adds: int | None = None
    size: tuple[int, int] | None = None
    seconds: float | None = None
    code: tuple[str, ...] = ()
    metric: str = "miou"
    baseline: tuple[SeedResult, ...] = ()

    @property
    def scores(self) -> list[float]:
        """The metric in percent, or the gain in points, one per finished seed."""
        of_seed = {seed.seed: 100 * seed.score for seed in self.seeds if seed.score is not None}
        if not self.row.against:
            return list(of_seed.values())
        base = {seed.seed: 100 * seed.score for seed in self.baseline if seed.score is not None}
        return [score - base[seed] for seed, score in of_seed.items() if seed in base]

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds in points; None with fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def paper(self) -> float | None:
        """What the paper reports of the metric, in percent."""
        return self.row.paper.get(self.metric)

    @property
    def difference(self) -> float | None:
        """Measured minus paper, in points."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def is_open(self) -> bool:
        """Whether the row could have a result and has none yet."""
        return not self.row.unreachable and self.mean is None and not any(seed.submission for seed in self.seeds)

    @property
    def state(self) -> str:
        """What is to be said of the row beside its score."""
        if self.row.unreachable:
            return f"not reproduced: {self.row.unreachable}"
        notes = [_note(seed) for seed in self.seeds if seed.score is None]
        if self.seeds and self.missing:
            which = ", ".join(map(str, self.missing))
            notes.append(f"{'seeds' if len(self.missing) > 1 else 'seed'} {which} not trained")
        notes += [str(run) for run in self.other_budgets]
        if not self.seeds:
            notes.insert(0, "not trained")
        elif self.row.against and self.mean is None and any(seed.score is not None for seed in self.seeds):
            has_any = any(seed.score is not None for seed in self.baseline)
            what = "no finished seed in common with" if has_any else "no gain without a result of"
            notes.append(f"{what} {self.row.against}")
        return "; ".join(notes) or "done"


@dataclass(frozen=True)
class TableResult:
    """A table beside its measurements."""

    table: Table
    rows: tuple[RowResult, ...]
    damaged: tuple[DamagedRun, ...] = ()
    aside: tuple[Path, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of its runs, those with another budget included."""
        return tuple(folder for row in self.rows for folder in (*_folders(row.seeds), *_folders(row.other_budgets)))

    @property
    def compared(self) -> tuple[RowResult, ...]:
        """The rows whose numbers can stand side by side: gains, where the table has any, and scores otherwise."""
        return tuple(row for row in self.rows if row.row.against) or self.rows

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(paper, measured) of the rows that are compared and have both."""
        return [(row.paper, row.mean) for row in self.compared if row.paper is not None and row.mean is not None]

    @property
    def agreement(self) -> float | None:
        """Kendall's tau between the paper's scores and the measured means; None with fewer than two rows of both."""
        if len(self.pairs) < 2:
            return None
        from scipy.stats import kendalltau

        tau = float(kendalltau(*zip(*self.pairs, strict=True)).statistic)
        return None if math.isnan(tau) else tau

    @property
    def is_touched(self) -> bool:
        """Whether the store has anything of the table."""
        return any(row.seeds or row.other_budgets for row in self.rows)


def _folders(runs: Sequence[SeedResult | OtherBudget]) -> Iterator[Path]:
    return (run.folder for run in runs)


def _note(seed: SeedResult) -> str:
    how_far = f" at step {seed.step} of {seed.max_steps}" if seed.state in ("running", "stopped", "failed") else ""
    reason = f": {seed.reason}" if seed.state == "failed" else ""
    return f"seed {seed.seed} {seed.state}{how_far}{reason}"
