"""A sweep from the command line to the report."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from atrous.errors import AtrousError, ConfigError, StoreError
from atrous.files import check_writable, write_bytes, write_json
from atrous.studies import clusters
from atrous.studies.checks import check
from atrous.studies.command_line import sweep_of
from atrous.studies.composing import naming_row
from atrous.studies.configuration import resolve
from atrous.studies.jobs import StoppedAsAskedError
from atrous.studies.overrides import without_budget
from atrous.studies.ranks import check_tasks, refuse_sweep
from atrous.studies.reports.identity import identify_row
from atrous.studies.reports.report import write_report
from atrous.studies.reports.results import collect
from atrous.studies.table import Sweep, Table
from atrous.studies.table_classes import check_class
from atrous.terminal import say

_OUR_LAUNCHER = "hydra_plugins.atrous_local_launcher.LocalLauncher"


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
        SweepError: lists the runs that failed; the others are kept. One that `trainer.stop_at_step` ended has not.
    """
    refuse_sweep(os.environ)
    sweep = sweep_of(config, arguments)
    store = Path(config.store)
    if config.experiment is not None:
        check_class(sweep.table, metric=config.experiment.metric)
    _check_reports(sweep, store)
    asked_in_full = sweep_of(config, without_budget(arguments)) if sweep.table.paper else sweep
    _check_untrained(asked_in_full, is_cut=asked_in_full != sweep)
    with nullcontext() if sweep.table.paper else _saved(sweep, store):
        returns = _launch(config, [overrides for _, overrides in sweep.jobs()], launcher)
    unreported = _reported(asked_in_full, store)
    without = [job._return_value for job in returns if job.status != JobStatus.COMPLETED]
    failed = [str(error) for error in without if not isinstance(error, StoppedAsAskedError)]
    if len(failed) < len(without):
        asked = f"{len(without) - len(failed)} of {len(returns)} runs stopped at trainer.stop_at_step, as asked"
        say(wide_console(), f"{asked}; the same command without it goes on from there")
    if failed:
        failed.insert(0, f"{len(failed)} of {len(returns)} runs have no result")
    if failed or unreported:
        raise SweepError("\n".join([*unreported, *failed]))
    return returns


def _check_untrained(asked_in_full: Sweep, *, is_cut: bool) -> None:
    """Refuse what only the report reads: a row's budget that the user's replaces, and what rows are held against."""
    for row in asked_in_full.table.rows:
        if is_cut and not row.unreachable and without_budget(row.overrides) != list(row.overrides):
            with naming_row(row.name):
                check(resolve(compose(config_name="train", overrides=list(row.overrides))))
    for row in asked_in_full.table.baselines:
        if not row.unreachable:
            with naming_row(row.name):
                identify_row(row, asked_in_full.seeds[0])


def _check_reports(sweep: Sweep, store: Path) -> None:
    """Refuse a store whose folders beside those of the runs cannot be written."""
    beside = [] if sweep.table.paper else [_file(store, sweep.table.slug).parent]
    try:
        for folder in (store / "reports" / sweep.table.slug, *beside):
            check_writable(folder, given=f"store={str(store)!r}")
    except ConfigError as error:
        raise ConfigError(f"{error}; atrous-report with output=FOLDER reports what is trained there") from None


def _reported(sweep: Sweep, store: Path) -> list[str]:
    """Report, and return why that failed: the runs that failed are told in any case."""
    try:
        report_sweep(sweep, store=store, output=None)
    except OSError as error:
        return [f"the report cannot be written ({error}); atrous-report output=FOLDER writes it elsewhere"]
    return []


@contextmanager
def _saved(sweep: Sweep, store: Path) -> Iterator[None]:
    """Keep a sweep that no paper has, unless it is refused: then what was kept under its name stays."""
    path = _file(store, sweep.table.slug)
    before = path.read_bytes() if path.is_file() else None  # which may be damaged
    made = [folder for folder in path.parents if not folder.exists()]
    save_sweep(sweep, store)
    try:
        yield
    except clusters.LaunchError:
        raise  # some of its runs may have been started
    except Exception:  # none was: what fails later is in what the launcher returns
        if before is None:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # something may have come into one
                for folder in made:
                    folder.rmdir()
        else:
            write_bytes(path, before)
        raise


def _launch(config: DictConfig, job_overrides: Sequence[Sequence[str]], launcher: Launcher) -> list[JobReturn]:
    """Run the jobs; our own launcher does by itself what others leave to us."""
    if not job_overrides:
        return []  # a figure that is only drawn, or a table of which nothing can be trained here
    settings: Any = OmegaConf.to_container(config.hydra.launcher)
    if settings["_target_"] == _OUR_LAUNCHER:
        check_tasks(settings, nodes=config.trainer.nodes, devices=config.trainer.devices)
        return list(launcher.launch(job_overrides, initial_job_idx=0))
    return clusters.launch(launcher, settings, job_overrides, fail_fast=config.fail_fast)


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
    """Keep a sweep that no paper has, so that atrous-report can show it again; one of chosen rows has its own place."""
    write_json(_file(store, sweep.table.slug), dataclasses.asdict(sweep))


def _file(store: Path, name: str) -> Path:
    return store / "sweeps" / f"{name}.json"


def load_sweep(store: Path, name: str) -> Sweep:
    """A sweep that was saved.

    Raises:
        ConfigError: lists the sweeps that there are.
        StoreError: its file is damaged.
    """
    path = _file(store, name)
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in path.parent.glob("*.json"))) or "none"
        raise ConfigError(f"sweep={name!r} is not in {path.parent}; there are: {known}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        asks = bool(content.get("asks_for_seeds", True))  # sweeps of before do not say so, and were trained at theirs
        sweep = Sweep(Table.from_plain(content["table"]), tuple(content["seeds"]), asks_for_seeds=asks)
        sweep.jobs()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{path}: not a sweep that was saved ({type(error).__name__}: {error}); the sweep's own command, "
            "atrous-train -m, writes it anew"
        ) from None
    return sweep
