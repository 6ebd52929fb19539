"""The process tree of one run: how it starts, is waited for, and ends with all that it started."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console

from atrous import full_memory, processes
from atrous.forkserver import Forkserver
from atrous.processes import Leader
from atrous.run_store import RunFolder

_POLL_SECONDS = 0.2
_SPINS = "20000"  # of GNU's OpenMP, which PyTorch's builds for Linux have; it overrules the policy


class JobServer:
    """Starts jobs, one after the other, as forks of a process that has imported what they import.

    The process is there from the first job on. It is made anew for a job with other variables, since libraries read
    theirs while they are loaded, and when something has killed it.

    Args:
        modules: what is imported.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = modules
        self._server: Forkserver | None = None
        self._environment: Mapping[str, str] = {}

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], mark: Mapping[str, str], *, log: int, lock: int
    ) -> Leader:
        """Start `python *command`; it ends with the thread that started the first job.

        Args:
            command: what Python is to run, with its arguments.
            environment: the variables of the process.
            mark: of the run, beside them.
            log: the descriptor of its stdout and stderr.
            lock: the descriptor of the run's lock.
        """
        options: dict[str, Any] = {"out": log, "err": log, "keep": (lock,)}
        if self._server is not None and environment == self._environment:
            with suppress(ConnectionError):
                return self._server.start(command, {**environment, **mark}, **options)
        self.close()
        self._server, self._environment = Forkserver(self._modules, environment, output=log), dict(environment)
        return self._server.start(command, {**environment, **mark}, **options)

    def close(self) -> None:
        """End the process."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> "JobServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class JobProcess:
    """Starts a run's process and ends it; whoever starts it holds the run's lock.

    Args:
        folder: of the run.
        patience: tells when a process is asked to end how many seconds it has to save.
        hurried: asked while it ends; True does not wait until it has saved.
        server: what starts it where its output is captured; a process of its own from the start if None.

    Attributes:
        ran_out_of_memory: whether the last one was killed by somebody else while the kernel ended processes for lack of
            memory.
    """

    folder: RunFolder
    patience: Callable[[], float]
    hurried: Callable[[], bool]
    server: JobServer | None = None
    ran_out_of_memory: bool = field(default=False, init=False)

    def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        lock: int,
        capture: bool,
        cancelled: Callable[[], bool],
    ) -> int:
        """Run a command to its end, alone in the folder; on Ctrl-C, and when cancelled, nothing of it is left.

        Args:
            command: what Python is to run, with its arguments; it ends when the calling thread does.
            environment: of the process.
            lock: the descriptor of the run's lock, which the process holds on to.
            capture: print into the run's log.txt instead of the terminal.
            cancelled: asked while waiting; True ends the process tree.

        Returns:
            The exit code.
        """
        self._end_orphans()
        watch, is_ended = full_memory.Watch(), False
        leader = self._start(command, environment, lock, capture=capture)
        try:
            while (code := leader.poll()) is None:
                watch.look()
                if cancelled():
                    is_ended = True
                    self._end(leader)
                time.sleep(_POLL_SECONDS)
        except BaseException:
            if not capture:
                seconds = f"for up to {self.patience():.0f} seconds"
                said = f"stopping: it saves where it is ({seconds}; Ctrl-C again ends it at once)"
                print(said, file=sys.stderr, flush=True)  # noqa: T201
            self._end(leader)
            raise
        finally:
            if not capture:
                _leave_bar(is_killed=(leader.poll() or 0) < 0)
        if code != 0:
            self._end_orphans()
        self.ran_out_of_memory = code == -signal.SIGKILL and not is_ended and watch.has_killed()
        return code

    def _start(self, command: Sequence[str], environment: Mapping[str, str], lock: int, *, capture: bool) -> Leader:
        mark = processes.mark(self.folder.path)
        bound = processes.bound_command(sys.executable, *command)
        settings: dict[str, Any] = {
            "env": {**environment, **mark},
            "pass_fds": (lock,),
            "start_new_session": True,
        }
        if not capture:
            return subprocess.Popen(bound, **settings)
        with self.folder.log_file.open("ab") as log:
            if self.server is not None:
                return self.server.start(command, environment, mark, log=log.fileno(), lock=lock)
            return subprocess.Popen(bound, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **settings)

    def _end(self, leader: Leader) -> None:
        processes.end_tree(leader, self.folder.path, patience=self.patience(), hurried=self.hurried)

    def _end_orphans(self) -> None:
        """What is left of a job whose leader was killed: nobody may write into the folder beside the next one."""
        processes.end_members(self.folder.path, patience=self.patience(), hurried=self.hurried)


def _leave_bar(*, is_killed: bool) -> None:
    """A bar whose process was ended leaves the cursor hidden; one whose process was killed, at the end of its line."""
    terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
    for stream in terminals:
        Console(file=stream).show_cursor()
    if terminals and is_killed:
        print(file=terminals[-1], flush=True)


def process_environment(environment: Mapping[str, str], trainer: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a job's processes start with.

    A thread that waits for another one spins for less than a millisecond, in which most waits end, and then sleeps:
    waking threads up cost a training step of Xception-65 about a tenth. By default it spins for milliseconds, which
    slows a step down several times over where the cores are shared with the loader's workers or another run. Processes
    that share the cores without a bound on their threads do not spin. Memory comes in huge pages where the kernel has
    them on request (Linux, glibc 2.35): a large map then costs a few page faults instead of thousands.

    Args:
        environment: what is set already, and wins.
        trainer: the config's section: `threads` of a process, 0 for PyTorch's default; `devices`, its processes.
    """
    threads, variables = trainer["threads"], dict(environment)
    if "OMP_WAIT_POLICY" not in environment:
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
        if threads or trainer["devices"] == 1:
            variables.setdefault("GOMP_SPINCOUNT", _SPINS)
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in tunables:
        tunables = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    variables["GLIBC_TUNABLES"] = tunables
    if threads:
        variables["OMP_NUM_THREADS"] = str(threads)
    return variables
