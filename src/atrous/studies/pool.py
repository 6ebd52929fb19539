"""Many trainings on one machine: k devices each, as many at once as fit."""

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from atrous.errors import AtrousError, ConfigError
from atrous.studies import jobs
from atrous.studies.jobs import Job


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `done`, `skipped`, `stopped`, `failed` or `cancelled`, and the error of a failure."""

    state: str
    error: AtrousError | None = None


def visible_gpus() -> list[str]:
    """Indices of the CUDA devices of this machine, without importing torch."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [index for index in listed.split(",") if index.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


def slots_for(
    *, gpus: Sequence[str], devices: int, threads: int, cores: int, wanted: int | None
) -> list[dict[str, str]]:
    """The environments in which jobs may run at the same time.

    Args:
        gpus: CUDA devices; each belongs to at most one slot.
        devices: devices (processes) of a job.
        threads: CPU threads of a process, 0 where it takes all.
        cores: CPU cores.
        wanted: an upper limit, or on the CPU the number itself.

    Returns:
        One environment per job that may run at once.

    Raises:
        ConfigError: when a job needs more GPUs than there are, or no job may run.
    """
    if wanted is not None and wanted < 1:
        raise ConfigError(f"hydra.launcher.jobs={wanted}: at least 1, or null for as many as fit")
    if gpus:
        if devices > len(gpus):
            raise ConfigError(f"trainer.devices={devices}, but this machine shows {len(gpus)} GPUs ({', '.join(gpus)})")
        count = min(len(gpus) // devices, wanted or len(gpus))
        groups = [gpus[i * devices : (i + 1) * devices] for i in range(count)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]
    fitting = max(1, cores // (threads * devices)) if threads else 1
    return [{} for _ in range(wanted or fitting)]


def run_all(
    todo: Sequence[Job],
    slots: Sequence[Mapping[str, str]],
    *,
    fail_fast: bool = False,
    on_change: Callable[[int, str], None] = lambda index, state: None,
) -> list[Outcome]:
    """Run every job, a slot each; one failure does not stop the others unless `fail_fast`.

    Ctrl-C ends every process tree; what has run can be gone on with by the same command.
    """
    free: queue.Queue[Mapping[str, str]] = queue.Queue()
    for slot in slots:
        free.put(slot)
    stop = threading.Event()

    def work(index: int) -> Outcome:
        slot = free.get()
        try:
            if stop.is_set():
                return Outcome("cancelled")
            on_change(index, "running")
            outcome = Outcome(jobs.run(todo[index], environment=slot, capture=True, cancelled=stop.is_set))
        except AtrousError as error:
            outcome = Outcome("cancelled" if stop.is_set() else "failed", error)
            if fail_fast:
                stop.set()
        finally:
            free.put(slot)
        on_change(index, outcome.state)
        return outcome

    with ThreadPoolExecutor(max_workers=len(slots)) as executor:
        futures = [executor.submit(work, index) for index in range(len(todo))]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()
            raise
