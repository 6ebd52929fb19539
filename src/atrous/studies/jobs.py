"""One training as a process tree of its own, started from its run folder and watched through it."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from hydra import compose
from omegaconf import DictConfig

from atrous.building import build_datasets
from atrous.errors import AtrousError
from atrous.run_store import RunFolder
from atrous.studies.checks import check
from atrous.studies.configuration import Config, resolve
from atrous.studies.identity import Identity, identify
from atrous.studies.parents import parent_overrides

PROGRAM = ("-m", "atrous.training.job")
GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.2


class JobError(AtrousError):
    """A training that ended without a result; its folder says why."""

    exit_code = 1


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
    def devices(self) -> int:
        """Processes, and GPUs where there are any."""
        return int(self.config["trainer"]["devices"])

    @property
    def todo(self) -> list[str]:
        """Protocols without a result; all of them where the training is not done."""
        wanted = list(self.config["protocols"])
        return self.folder.missing_protocols(wanted) if self.folder.is_done else wanted

    def score(self) -> float:
        """The mIoU of the first protocol that was asked for, 0 to 1."""
        return float(self.folder.results()["evaluations"][self.config["protocols"][0]]["miou"])


def prepare(config: DictConfig, overrides: list[str]) -> Job:
    """Check a config, its data set included, and find its place in the store.

    Raises:
        AtrousError: for anything that can be known to fail.
    """
    plain = resolve(config)
    check(plain)
    of_parent = parent_overrides(plain, overrides)
    parent = None
    if of_parent is not None:
        parent = prepare(compose(config_name="train", overrides=of_parent), of_parent)
    identity = identify(plain, parent=None if parent is None else parent.identity)
    job = Job(plain, identity, identity.folder(plain["store"]), tuple(overrides), parent)
    if job.todo:
        build_datasets(plain["data"])
    return job


def run(
    job: Job,
    *,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> str:
    """Train and measure what is missing; wait for the end.

    Args:
        job: what to run.
        environment: variables of the process tree, e.g. CUDA_VISIBLE_DEVICES.
        capture: print into the run's log.txt instead of the terminal.
        cancelled: asked while waiting; True ends the process tree.

    Returns:
        `done`, `skipped` (nothing was missing) or `stopped` (on request, goes on next time).

    Raises:
        JobError: with the reason and the place of the log.
    """
    if job.parent is not None and job.todo and not job.parent.folder.is_done:
        outcome = run(job.parent, environment=environment, capture=capture, cancelled=cancelled)
        if outcome == "stopped":
            return outcome
    with job.folder.lock() as lock:
        if not job.todo:
            return "skipped"
        _write_folder(job)
        process = _start(job, {**os.environ, **(environment or {})}, lock, capture=capture)
        try:
            code = _wait(process, cancelled)
        except BaseException:
            _end(process)
            _note_stop(job)
            raise
        if code != 0 and cancelled():
            _note_stop(job)
        return _outcome(job, code)


def process_environment(environment: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """The variables that a job's processes start with.

    Threads that wait for each other sleep. By default they spin, which several times over slows a step down where
    they share the cores with anything else: the loader's workers, or another run.

    Args:
        environment: what is set already, and wins over the waiting.
        threads: of the process, 0 for PyTorch's default.
    """
    bound = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    return {"OMP_WAIT_POLICY": "PASSIVE", **environment, **bound}


def _write_folder(job: Job) -> None:
    facts = {
        "name": job.identity.name,
        "key": job.identity.key,
        "family": job.identity.family,
        "seed": job.identity.seed,
        "max_steps": job.config["recipe"]["max_steps"],
        "command": job.command,
        "table": job.config["table"],
        "row": job.config["row"],
        "parent": None if job.parent is None else str(job.parent.folder.path),
    }
    job.folder.create(config_yaml=yaml.safe_dump(job.config, sort_keys=False), facts=facts)
    if not job.folder.is_done:
        job.folder.set_status("queued", host=socket.gethostname(), max_steps=job.config["recipe"]["max_steps"])


def _start(job: Job, environment: dict[str, str], lock: int, *, capture: bool) -> "subprocess.Popen[bytes]":
    environment = process_environment(environment, threads=job.config["trainer"]["threads"])
    command = [sys.executable, *PROGRAM, str(job.folder.path), *job.todo]
    settings: dict[str, Any] = {"env": environment, "pass_fds": (lock,), "start_new_session": True}
    if not capture:
        return subprocess.Popen(command, **settings)
    with job.folder.log_file.open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **settings)


def _wait(process: "subprocess.Popen[bytes]", cancelled: Callable[[], bool]) -> int:
    while (code := process.poll()) is None:
        if cancelled():
            _end(process)
        time.sleep(_POLL_SECONDS)
    return code


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the whole tree: first ask, so that it can save, then insist."""
    for number, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue


def _note_stop(job: Job) -> None:
    """Say in the folder that the job was ended on request, where the job itself could not."""
    if job.folder.status()["state"] in ("queued", "running"):
        job.folder.set_status("stopped", reason="ended on request before it could save")


def _outcome(job: Job, code: int) -> str:
    status = job.folder.status()
    if status["state"] == "stopped" or (code == 0 and status["state"] == "done"):
        return str(status["state"])
    if status["state"] != "failed":
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code} without a result"
        job.folder.set_status("failed", reason=reason, exit_code=code)
    reason = job.folder.status()["reason"]
    title = f"{job.config['row'] or job.identity.name} (seed {job.identity.seed})"
    raise JobError(f"{title} failed: {reason}\n  folder: {job.folder.path}")
