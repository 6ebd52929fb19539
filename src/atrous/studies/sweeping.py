"""A sweep from the command line to the report."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from rich.console import Console

from atrous.errors import AtrousError, ConfigError
from atrous.files import write_json
from atrous.studies.report import write_report
from atrous.studies.results import collect
from atrous.studies.table import Row, Sweep, Table, sweep_of, without_budget


class SweepError(AtrousError):
    """Some runs of a sweep have no result."""

    exit_code = 1


def run_sweep(config: DictConfig, arguments: Sequence[str], launcher: Launcher) -> list[JobReturn]:
    """Train what is missing of a sweep, then report.

    Args:
        config: the composed config of the command line.
        arguments: its overrides.
        launcher: who runs the jobs.

    Raises:
        SweepError: lists the runs that failed; the others are kept.
    """
    sweep = sweep_of(config, arguments)
    store = Path(config.store)
    if not sweep.table.paper:
        save_sweep(sweep, store)
    returns = list(launcher.launch([overrides for _, overrides in sweep.jobs()], initial_job_idx=0))
    asked_in_full = sweep_of(config, without_budget(arguments)) if sweep.table.paper else sweep
    report_sweep(asked_in_full, store=store, output=None)
    failed = [str(job._return_value) for job in returns if job.status != JobStatus.COMPLETED]
    if failed:
        raise SweepError("\n".join([f"{len(failed)} of {len(returns)} runs have no result", *failed]))
    return returns


def wide_console() -> Console:
    """The terminal, or 120 columns where the output goes to a file."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def report_sweep(sweep: Sweep, *, store: Path, output: str | None) -> Path:
    """Print a sweep's table and write its report.

    Returns:
        The folder of the report.
    """
    measured = collect(sweep, store=store)
    folder = Path(output) if output else store / "reports" / sweep.table.slug
    write_report(measured, folder, console=wide_console())
    return folder


def save_sweep(sweep: Sweep, store: Path) -> None:
    """Keep a sweep that no paper has, so that atrous-report can show it again."""
    write_json(store / "sweeps" / f"{sweep.table.name}.json", dataclasses.asdict(sweep))


def load_sweep(store: Path, name: str) -> Sweep:
    """A sweep that was saved.

    Raises:
        ConfigError: lists the sweeps that there are.
    """
    path = store / "sweeps" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in path.parent.glob("*.json"))) or "none"
        raise ConfigError(f"sweep={name!r} is not in {path.parent}; there are: {known}")
    content: dict[str, Any] = json.loads(path.read_text())
    rows = tuple(Row(**{**row, "overrides": tuple(row["overrides"])}) for row in content["table"].pop("rows"))
    deviations = tuple(content["table"].pop("deviations"))
    return Sweep(Table(**content["table"], rows=rows, deviations=deviations), tuple(content["seeds"]))
