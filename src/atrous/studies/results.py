"""What the run store holds of a table: every row's seeds, and what is missing."""

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose

from atrous.run_store import RunFolder, all_runs
from atrous.studies.configuration import resolve
from atrous.studies.identity import Identity
from atrous.studies.parents import identity_of
from atrous.studies.table import Row, Sweep, Table


@dataclass(frozen=True)
class SeedResult:
    """One training of a row: its state, and its score once it is done (0 to 1)."""

    seed: int
    state: str
    folder: Path
    step: int
    max_steps: int
    miou: float | None
    reason: str = ""


@dataclass(frozen=True)
class RowResult:
    """A row and what was measured of it; only finished trainings with the full budget count."""

    row: Row
    command: str
    seeds: tuple[SeedResult, ...]
    cut: tuple[str, ...]
    parameters: int | None
    multiply_adds: int | None
    size: tuple[int, int] | None
    seconds: float | None

    @property
    def scores(self) -> list[float]:
        """The mIoU in percent, one per finished seed."""
        return [100 * seed.miou for seed in self.seeds if seed.miou is not None]

    @property
    def mean(self) -> float | None:
        """Mean mIoU in percent."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds in points; None with fewer than two."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def paper(self) -> float | None:
        """The paper's mIoU in percent."""
        return self.row.paper.get("miou")

    @property
    def difference(self) -> float | None:
        """Measured minus paper, in points."""
        return None if self.mean is None or self.paper is None else self.mean - self.paper

    @property
    def state(self) -> str:
        """What is to be said of the row beside its score."""
        if self.row.unreachable:
            return f"not reproduced: {self.row.unreachable}"
        open_seeds = [seed for seed in self.seeds if seed.miou is None]
        notes = []
        for seed in open_seeds:
            how_far = (
                f" at step {seed.step} of {seed.max_steps}" if seed.state in ("running", "stopped", "failed") else ""
            )
            notes.append(
                f"seed {seed.seed} {seed.state}{how_far}{': ' + seed.reason if seed.state == 'failed' else ''}"
            )
        notes += self.cut
        if not self.seeds:
            notes.insert(0, "not trained")
        return "; ".join(notes) or "done"


@dataclass(frozen=True)
class TableResult:
    """A table beside its measurements."""

    table: Table
    rows: tuple[RowResult, ...]

    @property
    def agreement(self) -> float | None:
        """Kendall's tau between the paper's scores and the measured means; None with fewer than two rows of both."""
        pairs = [(row.paper, row.mean) for row in self.rows if row.paper is not None and row.mean is not None]
        if len(pairs) < 2:
            return None
        from scipy.stats import kendalltau

        tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
        return None if math.isnan(tau) else tau

    @property
    def is_complete(self) -> bool:
        """Whether every row has a score."""
        return all(row.mean is not None for row in self.rows)


def collect(sweep: Sweep, *, store: Path) -> TableResult:
    """Look up every row of a sweep in the store; needs an initialised Hydra, trains nothing."""
    runs = all_runs(store)
    facts = [(run, run.facts()) for run in runs]
    return TableResult(sweep.table, tuple(_collect_row(sweep, row, facts) for row in sweep.table.rows))


def _collect_row(sweep: Sweep, row: Row, runs: Sequence[tuple[RunFolder, dict[str, Any]]]) -> RowResult:
    identity, max_steps = _identify(row, sweep.seeds[0])
    runs = [] if row.unreachable else runs
    mine = [(run, facts) for run, facts in runs if facts["name"] == identity.name]
    seeds = tuple(_seed_result(run, facts, row.protocol) for run, facts in mine)
    cut = tuple(
        f"unfinished budget: seed {facts['seed']} has {facts['max_steps']} of {max_steps} steps"
        for run, facts in runs
        if facts["family"] == identity.family and facts["max_steps"] < max_steps
    )
    done = [run.results() for (run, _), seed in zip(mine, seeds, strict=True) if seed.miou is not None]
    model = done[0]["model"] if done else {}
    return RowResult(
        row=row,
        command=_command(row, sweep.seeds[0], [facts["command"] for _, facts in mine]),
        seeds=tuple(sorted(seeds, key=lambda seed: seed.seed)),
        cut=cut,
        parameters=model.get("parameters"),
        multiply_adds=model.get("multiply_adds"),
        size=tuple(model["size"]) if model else None,
        seconds=statistics.fmean(result["training"]["seconds"] for result in done) if done else None,
    )


def _identify(row: Row, seed: int) -> tuple[Identity, int]:
    overrides = [*row.overrides, f"seed={seed}"]
    plain = resolve(compose(config_name="train", overrides=overrides), needs_root=False)
    return identity_of(plain, overrides), int(plain["recipe"]["max_steps"])


def _seed_result(run: RunFolder, facts: dict[str, Any], protocol: str) -> SeedResult:
    status, evaluations = run.status(), run.results().get("evaluations", {})
    is_measured = status["state"] == "done" and protocol in evaluations
    return SeedResult(
        seed=facts["seed"],
        state=status["state"] if status["state"] != "done" or is_measured else f"not evaluated under {protocol}",
        folder=run.path,
        step=status.get("step", 0),
        max_steps=facts["max_steps"],
        miou=evaluations[protocol]["miou"] if is_measured else None,
        reason=str(status.get("reason", "")).splitlines()[0] if status.get("reason") else "",
    )


def _command(row: Row, seed: int, used: Sequence[str]) -> str:
    if used:
        return used[0]
    return shlex.join(["atrous-train", *row.overrides, f"seed={seed}", f"protocols=[{row.protocol}]"])
