"""A sweep on this machine: every job is checked before the first one starts, then the pool runs them."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from rich.console import Console

from atrous.errors import AtrousError
from atrous.hardware import usable_cores
from atrous.studies import jobs, pool
from atrous.studies.composing import naming_row
from atrous.studies.live import LiveView


def launch(
    job_overrides: Sequence[Sequence[str]],
    compose: Callable[[Sequence[str]], DictConfig],
    *,
    jobs_at_once: int | None,
    fail_fast: bool,
) -> list[JobReturn]:
    """Run one job per list of overrides.

    Args:
        job_overrides: the jobs.
        compose: makes a config of a job's overrides.
        jobs_at_once: upper limit, None for as many as fit.
        fail_fast: whether the first failure ends the others.

    Returns:
        One JobReturn per job, with its mIoU or its error.

    Raises:
        AtrousError: when any job cannot be run; nothing has been started then.
    """
    todo = prepare_all(job_overrides, compose, starts_here=True)
    first = todo[0]
    slots = pool.slots_for(
        gpus=pool.visible_gpus() if first.config["trainer"]["accelerator"] != "cpu" else [],
        devices=max(job.devices for job in todo),
        threads=first.config["trainer"]["threads"],
        cores=usable_cores(),
        wanted=jobs_at_once,
    )
    console = Console()
    console.print(f"{len(todo)} runs, {min(len(slots), len(todo))} at a time")
    with LiveView(todo, console, slots=len(slots)) as view:
        outcomes = pool.run_all(todo, slots, fail_fast=fail_fast, on_change=view.on_change, on_stop=view.on_stop)
    return [_as_return(job, outcome) for job, outcome in zip(todo, outcomes, strict=True)]


def prepare_all(
    job_overrides: Sequence[Sequence[str]],
    compose: Callable[[Sequence[str]], DictConfig],
    *,
    starts_here: bool = False,
) -> list[jobs.Job]:
    """Check the jobs of a sweep, for any launcher.

    Args:
        job_overrides: the jobs.
        compose: makes a config of a job's overrides.
        starts_here: whether they will be made on this machine, which is asked then.

    Raises:
        ConfigError: names the row of the first that cannot be run; nothing is written then.
        RowError: the same, where Hydra cannot even compose it.
    """
    todo = []
    for overrides in job_overrides:
        row = next((text[4:] for text in overrides if text.startswith("row=")), None)
        with naming_row(row):
            todo.append(jobs.prepare(compose(overrides), list(overrides), starts_here=starts_here))
    for text, count in Counter(text for job in todo for text in job.warnings).items():
        print(f"warning: {text} ({count} of {len(todo)} runs)", file=sys.stderr)  # noqa: T201
    return todo


def _as_return(job: jobs.Job, outcome: pool.Outcome) -> JobReturn:
    result = JobReturn(overrides=job.overrides, task_name="train")
    if outcome.state in ("done", "skipped"):
        result.status, result.return_value = JobStatus.COMPLETED, job.score()
    else:
        error = outcome.error or AtrousError(f"{job.folder.path}: {outcome.state}")
        result.status, result.return_value = JobStatus.FAILED, why_without_result(job, error)
    return result


def why_without_result(job: jobs.Job, error: AtrousError) -> AtrousError:
    """The error of a job that has no result, or that it was stopped as asked, for any launcher."""
    if not job.is_stopped_as_asked:
        return error
    return jobs.StoppedAsAskedError(f"{job.folder.path}: stopped at trainer.stop_at_step, as asked")
