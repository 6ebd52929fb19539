"""Many trainings on one machine: k devices each, as many at once as fit."""

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import takewhile

from atrous import forkserver
from atrous.errors import AtrousError, ConfigError, StoreError
from atrous.processes import Interrupts
from atrous.studies import jobs
from atrous.studies.job_process import JobServer
from atrous.studies.jobs import Job

_LOOK_AGAIN_SECONDS = 0.5
_NVIDIA_SMI_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `done`, `skipped`, `stopped`, `failed` or `cancelled`, and the error of a failure."""

    state: str
    error: AtrousError | None = None


def visible_gpus() -> list[str]:
    """Indices of the CUDA devices of this machine, without importing torch.

    Raises:
        ConfigError: nvidia-smi does not answer.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        entries = (entry.strip() for entry in listed.split(","))
        return list(takewhile(_is_gpu, entries))  # CUDA sees none behind the first that it does not know
    if shutil.which("nvidia-smi") is None:
        return []
    listing = ["nvidia-smi", "-L"]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, check=False, timeout=_NVIDIA_SMI_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"`nvidia-smi -L` has not listed the GPUs within {_NVIDIA_SMI_SECONDS} s: name them, as "
            "CUDA_VISIBLE_DEVICES=0,1, or use trainer.accelerator=cpu"
        ) from None
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


def _is_gpu(entry: str) -> bool:
    """Whether an entry of CUDA_VISIBLE_DEVICES names a device: not so -1, nor SLURM's NoDevFiles."""
    return re.fullmatch(r"\d+|(GPU|MIG)-.+", entry) is not None


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
    on_stop: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Run every job, a slot each; one failure does not stop the others unless `fail_fast`.

    A run that another sweep holds is put off: jobs that are free come first, then it is looked at again until it has
    a result, or is free because its holder ended without one.

    Args:
        todo: the jobs.
        slots: the environments in which jobs may run, one job in each at a time.
        fail_fast: whether the first failure ends the others.
        on_change: told (index of a job, its new state): running, elsewhere, or how it ended.
        on_stop: told when the first signal has come and jobs are asked to end.

    Raises:
        KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, after every process tree has ended, which a second one hastens;
            what has run can be gone on with by the same command.
    """
    work = _Work(todo, fail_fast=fail_fast, on_change=on_change)
    with Interrupts() as interrupts, ThreadPoolExecutor(max_workers=len(slots)) as executor:
        work.hurried = interrupts.hurried
        try:
            workers = [executor.submit(work.run_in, slot) for slot in slots]
            for worker in wait(workers, return_when=FIRST_EXCEPTION).done:
                worker.result()
        except BaseException:
            work.stop.set()
            on_stop()
            raise
    return [work.outcomes[index] for index in range(len(todo))]


class _Work:
    """The jobs that are still to be run, taken one by one by the slots."""

    def __init__(self, todo: Sequence[Job], *, fail_fast: bool, on_change: Callable[[int, str], None]) -> None:
        self._todo, self._fail_fast, self._on_change = todo, fail_fast, on_change
        self._waiting, self._elsewhere = deque(range(len(todo))), set[int]()
        self.stop = threading.Event()
        self.outcomes: dict[int, Outcome] = {}
        self.hurried: Callable[[], bool] = lambda: False

    def run_in(self, slot: Mapping[str, str]) -> None:
        """Run jobs in a slot until none is left."""
        with JobServer(jobs.IMPORTS) as server:
            self._run_all(slot, server if self._may_fork(slot) else None)

    def _may_fork(self, slot: Mapping[str, str]) -> bool:
        """Whether jobs share their imports; a GPU belongs to the process that first speaks with its driver."""
        return len(self._todo) > 1 and "CUDA_VISIBLE_DEVICES" not in slot and forkserver.is_supported()

    def _run_all(self, slot: Mapping[str, str], server: JobServer | None) -> None:
        while True:
            try:
                index = self._waiting.popleft()
            except IndexError:
                return
            outcome = self._run(index, slot, server)
            if outcome.state == "elsewhere":
                self._put_off(index)
                continue
            self.outcomes[index] = outcome
            if outcome.state == "failed" and self._fail_fast:
                self.stop.set()
            self._on_change(index, outcome.state)

    def _run(self, index: int, slot: Mapping[str, str], server: JobServer | None) -> Outcome:
        if self.stop.is_set():
            return Outcome("cancelled")
        try:
            state = jobs.run(
                self._todo[index],
                environment=slot,
                capture=True,
                cancelled=self.stop.is_set,
                hurried=self.hurried,
                on_busy=lambda: False,
                on_start=lambda: self._on_change(index, "running"),
                server=server,
            )
            return Outcome(state)
        except (AtrousError, OSError) as error:
            told = error if isinstance(error, AtrousError) else StoreError(f"{self._todo[index].folder.path}: {error}")
            return Outcome("cancelled" if self.stop.is_set() else "failed", told)

    def _put_off(self, index: int) -> None:
        """Look at a run that another sweep holds after the free ones, and not all the time."""
        if index not in self._elsewhere:
            self._elsewhere.add(index)
            self._on_change(index, "elsewhere")
        self._waiting.append(index)
        if self._elsewhere.issuperset(self._waiting):
            self.stop.wait(_LOOK_AGAIN_SECONDS)
