"""One training as a process tree of its own, started from its run folder and watched through it."""

import itertools
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hydra import compose
from omegaconf import DictConfig

from atrous import processes, run_files, run_process
from atrous.errors import AtrousError, StoreError
from atrous.exit_codes import is_of_the_machine
from atrous.run_store import RunFolder
from atrous.studies.checks import check
from atrous.studies.configuration import Config, resolve
from atrous.studies.endings import note_death, note_full_memory, note_restart, note_stop, staying_done
from atrous.studies.identity import Identity, identify
from atrous.studies.job_folder import check_images, set_damaged_aside, with_class_list, write_folder
from atrous.studies.job_process import JobProcess, JobServer, process_environment
from atrous.studies.machine_checks import check_machine
from atrous.studies.parents import parent_overrides
from atrous.studies.run_warnings import run_warnings
from atrous.studies.start_checks import check_start

IMPORTS = ("atrous.training.run",)  # of run_process.PROGRAM, what takes seconds
GRACE_SECONDS = 20.0


class JobError(AtrousError):
    """A training that ended without a result; its folder says why."""

    exit_code = 1


class StoppedAsAskedError(AtrousError):
    """What stands for the result of a training that `trainer.stop_at_step` ended: it has none yet, and none failed."""


@dataclass(frozen=True)
class Job:
    """A checked config, its identity and its folder, and the job whose weights it starts from: nothing is written."""

    config: Config
    identity: Identity
    folder: RunFolder
    overrides: tuple[str, ...]
    parent: "Job | None" = None

    @property
    def command(self) -> str:
        """The plain command line of this run."""
        return shlex.join(["atrous-train", *self.overrides])

    @property
    def title(self) -> str:
        """Its row, or what it is, and its seed, for messages."""
        return f"{self.config['row'] or self.identity.name} (seed {self.identity.seed})"

    @property
    def devices(self) -> int:
        """Processes, and GPUs where there are any."""
        return int(self.config["trainer"]["devices"])

    @property
    def todo(self) -> list[str]:
        """Protocols without a result; all of them where the training is not done."""
        wanted = list(self.config["protocols"])
        if not self.folder.is_done:
            return wanted
        return self.folder.missing_protocols(
            wanted, boundary=self.config["boundary"], submission=self.config["submission"]
        )

    @property
    def warnings(self) -> list[str]:
        """What can be run but is hardly meant, where there is still something to train."""
        return list(run_warnings(self.config)) if self.todo and not self.folder.is_done else []

    @property
    def grace_seconds(self) -> float:
        """How long its process may take to save when it is asked to end: behind a step, with others behind the next."""
        seconds = GRACE_SECONDS
        with suppress(StoreError):
            speed = self.folder.status().get("images_per_second") or math.inf
            seconds += 3 * self.config["recipe"]["batch_size"] / speed
        return seconds

    @property
    def is_stopped_as_asked(self) -> bool:
        """Whether it, or the training that it starts from, has ended at `trainer.stop_at_step`."""
        if self.parent is not None and not self.parent.folder.is_done:
            return self.parent.is_stopped_as_asked
        asked, status = self.config["trainer"]["stop_at_step"], self.folder.status()
        return bool(asked is not None and status["state"] == "stopped" and status.get("step", 0) >= asked)

    def score(self) -> float | None:
        """The mIoU of the first protocol that was asked for, 0 to 1; None where only a test server can tell."""
        if self.config["submission"] is not None:
            return None
        return float(self.folder.results()["evaluations"][self.config["protocols"][0]]["miou"])

    def outcome(self) -> str:
        """What the finished run has to show, in words."""
        score, protocol = self.score(), self.config["protocols"][0]
        if score is not None:
            return f"mIoU {100 * score:.2f}%"
        return f"submission {self.folder.submission_file(self.config['submission'], protocol)}"


def prepare(config: DictConfig, overrides: list[str], *, starts_here: bool = False) -> Job:
    """Check a config, its data set included, and find its place in the store; `starts_here` as for `check_machine`.

    Raises:
        AtrousError: for anything that can be known to fail.
    """
    plain = resolve(config)
    check(plain)
    of_parent = parent_overrides(plain, overrides)
    parent = None
    if of_parent is not None:
        parent = prepare(compose(config_name="train", overrides=of_parent), of_parent, starts_here=starts_here)
    identity = identify(plain, parent=None if parent is None else parent.identity)
    job = Job(with_class_list(plain), identity, identity.folder(plain["store"]), tuple(overrides), parent)
    job.folder.damaged()  # a newer version's folder is refused here, before anything is written
    check_images(job)
    if job.todo:
        check_machine(plain, starts_here=starts_here)
    if job.todo and not job.folder.is_done:
        check_start(plain, parent=None if parent is None else parent.config)
    return job


def run(
    job: Job,
    *,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
    hurried: Callable[[], bool] = lambda: False,
    on_busy: Callable[[], bool] | None = None,
    on_start: Callable[[], None] = lambda: None,
    restarts: int | None = None,
    server: JobServer | None = None,
) -> str:
    """Train and measure what is missing; wait for the end.

    Args:
        job: what to run.
        environment: variables of the process tree, e.g. CUDA_VISIBLE_DEVICES.
        capture: print into the run's log.txt instead of the terminal.
        cancelled: asked while waiting; True ends the process tree.
        hurried: asked while it ends; True does not wait until it has saved.
        on_busy: asked while another process holds the run; False gives up. By default it says who, and waits.
        on_start: told before a process starts.
        restarts: how often a process that the machine ended is started again; None for trainer.restarts.
        server: what starts its process; see `JobProcess`.

    Returns:
        `done`, `skipped` (nothing was missing), `stopped` (on request, goes on next time) or `elsewhere` (given up).

    Raises:
        JobError: with the reason and the place of the log.
    """
    if job.parent is not None and job.todo and not job.parent.folder.is_done:
        options: Any = {"environment": environment, "capture": capture, "cancelled": cancelled, "hurried": hurried}
        options |= {"on_busy": on_busy, "on_start": on_start, "restarts": restarts, "server": server}
        outcome = run(job.parent, **options)
        if outcome in ("stopped", "elsewhere"):
            return outcome
    if not job.todo and not job.folder.damaged():
        return "skipped"  # without the lock, which a reader of somebody else's store cannot take
    with processes.Interrupts() as interrupts, job.folder.lock(wait=on_busy) as lock:
        if lock is None:
            return "elsewhere"
        if set_damaged_aside(job) or job.todo:
            write_folder(job)
        if not job.todo:
            return "skipped"
        on_start()
        process = JobProcess(job.folder, lambda: job.grace_seconds, lambda: hurried() or interrupts.hurried(), server)
        variables = process_environment({**os.environ, **(environment or {})}, job.config["trainer"])
        again = job.config["trainer"]["restarts"] if restarts is None else restarts
        with staying_done(job.folder):
            try:
                code = _run_process(job, process, variables, again, lock=lock, capture=capture, cancelled=cancelled)
            except BaseException:
                if (lost := note_stop(job.folder)) and not capture:
                    print(lost, file=sys.stderr)  # noqa: T201
                raise
            return _outcome(job, code, is_cancelled=cancelled())


def _run_process(job: Job, process: JobProcess, variables: Mapping[str, str], restarts: int, **options: Any) -> int:
    """Run the job's process to its end, and again where the machine ended it; the exit code of the last."""
    for number in itertools.count(1):
        code = process.run([*run_process.PROGRAM, str(job.folder.path), *job.todo], variables, **options)
        if process.ran_out_of_memory:
            note_full_memory(job.folder)
        is_over = options["cancelled"]() or not job.todo or bool(run_files.gone(job.folder.path))
        if number > restarts or not is_of_the_machine(code) or is_over:
            break
        said = note_restart(job.folder, code, number=number, of=restarts)
        print(f"{job.title}: {said}", file=sys.stderr, flush=True)  # noqa: T201
    return code


def _outcome(job: Job, code: int, *, is_cancelled: bool) -> str:
    if is_cancelled:
        note_stop(job.folder)
    if not job.todo:
        return "done"  # what is killed after its result was written has one
    if is_cancelled or job.folder.status()["state"] == "stopped":
        return "stopped"
    raise JobError(f"{job.title} failed: {note_death(job.folder, code)}\n  folder: {job.folder.path}")
