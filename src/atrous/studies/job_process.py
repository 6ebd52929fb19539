"""The process tree of one run: how it starts, is waited for, and ends with all that it started."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atrous import processes
from atrous.run_store import RunFolder

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class JobProcess:
    """Starts a run's process and ends it; whoever starts it holds the run's lock.

    Args:
        folder: of the run.
        patience: seconds that a process has to save when it is asked to end.
        hurried: asked while it ends; True does not wait until it has saved.
    """

    folder: RunFolder
    patience: float
    hurried: Callable[[], bool]

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
            command: a program and its arguments; it ends when the calling thread does.
            environment: of the process.
            lock: the descriptor of the run's lock, which the process holds on to.
            capture: print into the run's log.txt instead of the terminal.
            cancelled: asked while waiting; True ends the process tree.

        Returns:
            The exit code.
        """
        self._end_orphans()
        leader = self._start(command, {**environment, **processes.mark(self.folder.path)}, lock, capture=capture)
        try:
            while (code := leader.poll()) is None:
                if cancelled():
                    self._end(leader)
                time.sleep(_POLL_SECONDS)
        except BaseException:
            self._end(leader)
            raise
        if code != 0:
            self._end_orphans()
        return code

    def _start(
        self, command: Sequence[str], environment: dict[str, str], lock: int, *, capture: bool
    ) -> "subprocess.Popen[bytes]":
        command = processes.bound_command(*command)
        settings: dict[str, Any] = {"env": environment, "pass_fds": (lock,), "start_new_session": True}
        if not capture:
            return subprocess.Popen(command, **settings)
        with self.folder.log_file.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **settings)

    def _end(self, leader: "subprocess.Popen[bytes]") -> None:
        processes.end_tree(leader, self.folder.path, patience=self.patience, hurried=self.hurried)

    def _end_orphans(self) -> None:
        """What is left of a job whose leader was killed: nobody may write into the folder beside the next one."""
        processes.end_members(self.folder.path, patience=self.patience, hurried=self.hurried)


def process_environment(environment: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """The variables that a job's processes start with.

    Threads that wait for each other sleep. By default they spin, which several times over slows a step down where
    they share the cores with anything else: the loader's workers, or another run. Memory comes in huge pages where the
    kernel has them on request (Linux, glibc 2.35): a large map then costs a few page faults instead of thousands.

    Args:
        environment: what is set already, and wins.
        threads: of the process, 0 for PyTorch's default.
    """
    bound = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" not in tunables:
        tunables = ":".join(filter(None, [tunables, "glibc.malloc.hugetlb=1"]))
    return {"OMP_WAIT_POLICY": "PASSIVE", **environment, "GLIBC_TUNABLES": tunables, **bound}
