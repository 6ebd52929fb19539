"""What the run store holds of a table: every row's seeds, and what is missing."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from atrous.studies.composing import naming_row
from atrous.studies.metrics import title_of, value_of
from atrous.studies.reports.identity import Identified, identify_row
from atrous.studies.reports.rows import OtherBudget, RowResult, SeedResult, TableResult
from atrous.studies.reports.store import Store, StoredRun, read_store
from atrous.studies.table import Row, Sweep

Identify = Callable[[Row, int], Identified | None]


def collect(sweep: Sweep, *, store: Path) -> TableResult:
    """Look up every row of a sweep in the store; needs an initialised Hydra, trains nothing."""
    return collect_from(read_store(store), sweep, identify=identify_row)


def collect_from(store: Store, sweep: Sweep, *, identify: Identify) -> TableResult:
    """Look up every row of a sweep among the runs of a store.

    Args:
        store: What was read.
        sweep: The rows.
        identify: Says who a row at a seed is; None where no run can be it.
    """
    metric = sweep.table.metric
    looked_up = (*sweep.table.rows, *sweep.table.baselines)
    found = {row.name: _collect_row(store, sweep, row, identify, metric) for row in looked_up}
    shown = [found[row.name] for row in sweep.table.rows]
    rows = [replace(row, baseline=found[row.row.against].seeds) if row.row.against else row for row in shown]
    return TableResult(sweep.table, tuple(rows), store.damaged, store.aside)


def measured_row(
    row: Row, runs: Sequence[StoredRun], *, metric: str, command: str, submission: str | None = None
) -> RowResult:
    """A row and the trainings that are it, one per seed."""
    results = [_seed_result(run, row.protocol, metric, submission) for run in runs]
    done = [run for run, seed in zip(runs, results, strict=True) if seed.score is not None or seed.submission]
    model = _first([run.results.get("model") for run in done])
    seconds = [run.results.get("training", {}).get("seconds") for run in done]
    known = [float(value) for value in seconds if value is not None]
    return RowResult(
        row=row,
        command=runs[0].facts["command"] if runs else command,
        seeds=tuple(sorted(results, key=lambda seed: seed.seed)),
        parameters=model.get("parameters"),
        multiply_adds=model.get("multiply_adds"),
        size=(model["size"][0], model["size"][1]) if model.get("size") else None,
        seconds=statistics.fmean(known) if known else None,
        code=tuple(sorted({str(run.results["training"]["atrous"]) for run in done if _knows_its_code(run)})),
        metric=metric,
    )


def _knows_its_code(run: StoredRun) -> bool:
    return "atrous" in run.results.get("training", {})


def _collect_row(store: Store, sweep: Sweep, row: Row, identify: Identify, metric: str) -> RowResult:
    command = shlex.join(["atrous-train", *row.overrides, f"seed={sweep.seeds[0]}", f"protocols=[{row.protocol}]"])
    with naming_row(f"{row.name} of {sweep.table.name}"):
        who = None if row.unreachable else identify(row, sweep.seeds[0])
    if who is None:
        return RowResult(row=row, command=command, metric=metric)
    mine = [run for run in store.runs if run.name == who.name]
    result = measured_row(row, mine, metric=metric, command=command, submission=who.submission)
    finished = {seed.seed for seed in result.seeds if seed.score is not None or seed.submission}
    other_budgets = tuple(
        OtherBudget(run.seed, run.folder.path, run.max_steps, who.max_steps)
        for run in store.runs
        if run.facts["family"] in who.families
        and run.name != who.name
        and run.seed not in finished
        and (run.max_steps <= who.max_steps or not mine)
    )
    return replace(result, other_budgets=other_budgets, missing=_missing(store, sweep, who.name, mine))


def _missing(store: Store, sweep: Sweep, name: str, runs: Sequence[StoredRun]) -> tuple[int, ...]:
    """The seeds that were asked for and have no run; of one whose folder is damaged that is told instead."""
    known = {run.folder.path for run in runs} | {damaged.path for damaged in store.damaged}
    asked = sorted(set(sweep.seeds)) if sweep.asks_for_seeds else []
    return tuple(seed for seed in asked if store.path / "runs" / name / f"seed{seed}" not in known)


def _seed_result(run: StoredRun, protocol: str, metric: str, server: str | None) -> SeedResult:
    entry = run.evaluations.get(protocol)
    score = None if entry is None or server is not None else value_of(entry, metric)
    archive = None
    state = run.state
    if server is not None and state == "done":
        path = run.folder.submission_file(server, protocol)
        archive = path if path.is_file() else None
        state = "predicted for the test server, which alone can score it" if archive else "not predicted yet"
    elif state == "done" and score is None:
        state = f"not evaluated under {protocol}" if entry is None else f"without {title_of(metric)} under {protocol}"
    step = int(run.status.get("step") or 0)
    return SeedResult(run.seed, state, run.folder.path, step, run.max_steps, score, run.reason, archive)


def _first(sections: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any]:
    return next((section for section in sections if section), {})
