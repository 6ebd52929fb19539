"""Which jobs of a sweep a cluster still has, asked of the cluster itself."""

import os
import subprocess
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from hydra.plugins.launcher import Launcher

_SUBMITTED = "_submitted.pkl"
_SQUEUE_SECONDS = 120


class Queue(Protocol):
    """The jobs of one sweep.

    Attributes:
        launcher_notices_deaths: whether Hydra's launcher returns or raises by itself when a job's process dies.
    """

    launcher_notices_deaths: bool

    def is_empty(self) -> bool:
        """Whether jobs were submitted and none of them waits or runs any more."""


def queue_of(launcher: Launcher, settings: Mapping[str, Any]) -> Queue | None:
    """The queue behind a launcher, None where the launcher runs the jobs itself.

    Args:
        launcher: that will submit the jobs, and has not yet.
        settings: its config.
    """
    target = str(settings["_target_"])
    if "submitit" in target:
        folder = Path(str(launcher.params["submitit_folder"]))  # type: ignore[attr-defined]
        kind = _SlurmQueue if target.endswith("SlurmLauncher") else _LocalQueue
        return kind(folder)
    return _RayQueue() if "hydra_ray_launcher" in target else None


class _SubmititQueue:
    """What submitit has put into its folder since this object was made."""

    def __init__(self, folder: Path) -> None:
        parts = [part for part in folder.parts if not part.startswith("%")]
        self._folder = Path(*parts[: next((i for i, part in enumerate(parts) if "%" in part), len(parts))])
        self._before = set(self._all_jobs())

    def _all_jobs(self) -> list[str]:
        return [path.name.removesuffix(_SUBMITTED) for path in self._folder.rglob(f"*{_SUBMITTED}")]

    def _jobs(self) -> list[str]:
        return sorted(set(self._all_jobs()) - self._before)


class _SlurmQueue(_SubmititQueue):
    """submitit asks sacct, which knows nothing where SLURM keeps no accounts; squeue always knows."""

    launcher_notices_deaths = False

    def is_empty(self) -> bool:
        jobs = self._jobs()
        if not jobs:
            return False
        user = str(os.getuid())
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={user}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SQUEUE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return False  # not known; asked again
        return done.returncode == 0 and not set(done.stdout.split()) & set(jobs)


class _LocalQueue(_SubmititQueue):
    """The processes of submitit's local executor, each named by its number."""

    launcher_notices_deaths = True

    def is_empty(self) -> bool:
        jobs = self._jobs()
        return bool(jobs) and not any(_is_running(int(job)) for job in jobs)


class _RayQueue:
    """The tasks of this process in its Ray cluster."""

    launcher_notices_deaths = True

    def is_empty(self) -> bool:
        mine = import_module("ray").get_runtime_context().get_job_id()
        tasks = import_module("ray.util.state").list_tasks(filters=[("job_id", "=", mine)], limit=10_000)
        return all(task.state in ("FINISHED", "FAILED") for task in tasks)


def _is_running(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
