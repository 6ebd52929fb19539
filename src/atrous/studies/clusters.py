"""A sweep by a launcher that is not ours: submitit (SLURM, or its local stand-in), Ray, or Hydra's own basic one.

Every job is checked before the first is submitted, what has nothing to do is not submitted, and how a job ended is
read from its folder. Launchers hand back what their jobs returned in order, and raise for the first that died on its
node; by then the others are on their way, so they are waited for all the same.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from rich.console import Console

from atrous.errors import AtrousError, ConfigError
from atrous.studies.jobs import Job
from atrous.studies.local import prepare_all, why_without_result
from atrous.studies.queues import Queue, queue_of
from atrous.studies.ranks import check_tasks

POLL_SECONDS = 10.0
GRACE_SECONDS = 60.0  # between the end of a job and its result being seen on a shared folder
_JOB_DIED = ("UncompletedJobError", "RayError")


class LaunchError(AtrousError):
    """A launcher that could not start the jobs."""

    exit_code = 1


def launch(
    launcher: Launcher, settings: Mapping[str, Any], job_overrides: Sequence[Sequence[str]], *, fail_fast: bool
) -> list[JobReturn]:
    """Run one job per list of overrides; needs an initialised Hydra.

    Args:
        launcher: who runs the jobs.
        settings: its config, `hydra.launcher`.
        job_overrides: the jobs.
        fail_fast: only our own launcher can do that.

    Returns:
        One JobReturn per job, with its mIoU or its error.

    Raises:
        ConfigError: when any job cannot be run; nothing has been submitted then.
        LaunchError: the launcher could not start them.
    """
    name = str(settings["_target_"]).rsplit(".", 1)[-1]
    if fail_fast:
        raise ConfigError(f"fail_fast=true: {name} starts all runs and cannot end them; use hydra/launcher=local")
    todo = prepare_all(job_overrides, lambda overrides: compose(config_name="train", overrides=list(overrides)))
    for job in todo:
        check_tasks(settings, nodes=job.config["trainer"]["nodes"], devices=job.devices)
    missing = [job for job in todo if job.todo]
    Console().print(f"{len(todo)} runs: {len(missing)} for {name}, {len(todo) - len(missing)} done before")
    errors = _submit(launcher, settings, missing) if missing else {}
    return [_as_return(job, errors.get(job.folder.path, "")) for job in todo]


def _submit(launcher: Launcher, settings: Mapping[str, Any], missing: Sequence[Job]) -> dict[Path, str]:
    """Hand jobs to the launcher and wait until none is on its way; errors by the folders of the jobs."""
    overrides, queue = [list(job.overrides) for job in missing], queue_of(launcher, settings)
    try:
        returns = _called(lambda: launcher.launch(overrides, initial_job_idx=0), queue)
    except Exception as error:
        if not _says_that_a_job_died(error):
            raise LaunchError(f"{settings['_target_']} could not start the runs: {error}") from error
        while queue is not None and not queue.is_empty():
            time.sleep(POLL_SECONDS)
        lost = f"its process died: {str(error).strip().splitlines()[0]}"
        return {job.folder.path: lost for job in missing if job.folder.status()["state"] != "failed"}
    ended = zip(missing, returns, strict=False)
    return {job.folder.path: str(one._return_value) for job, one in ended if one.status != JobStatus.COMPLETED}


def _says_that_a_job_died(error: BaseException) -> bool:
    return any(kind.__name__ in _JOB_DIED for kind in type(error).__mro__)


def _called(call: Callable[[], Sequence[JobReturn]], queue: Queue | None) -> Sequence[JobReturn]:
    """What a launcher returns; where it would not notice that a job is gone, what it has until the queue is empty."""
    if queue is None or queue.launcher_notices_deaths:
        return call()
    returns: list[JobReturn] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            returns.extend(call())
        except BaseException as error:
            raised.append(error)  # and raised again where it can be dealt with

    thread, idle = threading.Thread(target=work, daemon=True), 0.0
    thread.start()
    while thread.is_alive() and idle < GRACE_SECONDS:
        thread.join(POLL_SECONDS)
        idle = idle + POLL_SECONDS if queue.is_empty() else 0.0
    if raised:
        raise raised[0]
    return returns


def _as_return(job: Job, error: str) -> JobReturn:
    """How a job ended, by its folder."""
    result = JobReturn(overrides=job.overrides, task_name="train")
    if not job.todo:
        result.status, result.return_value = JobStatus.COMPLETED, job.score()
        return result
    status = job.folder.status()
    reason = error or str(status.get("reason") or f"{status['state']}, without a result")
    text = reason if reason.startswith(job.title) else f"{job.title}: {reason}\n  folder: {job.folder.path}"
    result.status, result.return_value = JobStatus.FAILED, why_without_result(job, AtrousError(text))
    return result
