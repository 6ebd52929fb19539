"""Process trees: who belongs to a run, how all of it ends, what ends with whom, and what signals ask for.

Standard library only: as a script, this file binds a program to the process that started it,
`python processes.py PARENT PROGRAM ARGUMENT...`, from the first milliseconds on.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol

MEETING = "ATROUS_MEETING"  # a name that the processes of one start of a run have in common, where others start them
_VARIABLE = "ATROUS_RUN_FOLDER"
_PR_SET_PDEATHSIG = 1
_LONGEST_PATH = 4096
_POLL_SECONDS = 0.05
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_ONCE_SECONDS = 0.5  # a signal that comes so soon after the first is the same one, delivered by two


class Leader(Protocol):
    """The process that leads a job: a `subprocess.Popen`, or a fork of a `Forkserver`."""

    @property
    def pid(self) -> int:
        """Its number."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, waited for."""

    def terminate(self) -> None:
        """Ask it to end."""


def mark(folder: Path) -> Mapping[str, str]:
    """The environment variable by which every process of a run is known, whoever started it."""
    return {_VARIABLE: str(folder.resolve())}


def room_for_mark() -> Mapping[str, str]:
    """The same variable with room for any folder, for a process whose forks `take_mark`."""
    return {_VARIABLE: "/" * _LONGEST_PATH}


def take_mark(environment: Mapping[str, str]) -> None:
    """Have /proc show a fork with the mark in `environment`, if it holds one: it shows what a process started with.

    Raises:
        ValueError: This process was not started with `room_for_mark`, or the folder does not fit.
    """
    if _VARIABLE not in environment:
        return
    folder, room = os.fsencode(environment[_VARIABLE]), len(os.environ.get(_VARIABLE, ""))
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    place = getenv(_VARIABLE.encode())
    if place is None or len(folder) > room:
        raise ValueError(f"no room for {_VARIABLE}={environment[_VARIABLE]}")
    ctypes.memmove(place, folder.ljust(room, b"\0"), room)


def bound_command(*program: str) -> list[str]:
    """A command line that runs `program` and has the kernel send it SIGTERM when the calling thread ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *program]


def members(folder: Path) -> dict[int, int]:
    """The living processes of a run on this machine, each with its parent.

    torchrun's ranks lead sessions of their own and a loader outlives its parent by seconds, so neither a process
    group nor a chain of parents would find them all. Empty where there is no /proc.
    """
    wanted, found = os.fsencode(f"{_VARIABLE}={folder.resolve()}"), {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or belongs to another user
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found.pop(os.getpid(), None)
    return found


def end_members(folder: Path, *, patience: float, hurried: Callable[[], bool] = lambda: False) -> None:
    """End every process of a run: first ask those that have no parent among them, so that they can save; then insist.

    Args:
        folder: of the run.
        patience: seconds between asking and insisting.
        hurried: asked while waiting; True insists at once.
    """
    asked = members(folder)
    for process in asked.keys() - {process for process, parent in asked.items() if parent in asked}:
        ask_to_end(process)
    end = time.monotonic() + patience
    while members(folder) and time.monotonic() < end and not hurried():
        time.sleep(_POLL_SECONDS)
    end = time.monotonic() + 5.0
    while (left := members(folder)) and time.monotonic() < end:
        for process in left:
            _send(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)


def end_tree(leader: Leader, folder: Path, *, patience: float, hurried: Callable[[], bool]) -> None:
    """End the job that `leader` leads with everything it started, and wait for it; see `end_members`."""
    if members(folder):
        end_members(folder, patience=patience, hurried=hurried)
    else:  # without /proc the group is all that is known
        leader.terminate()
        with suppress(subprocess.TimeoutExpired):
            leader.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


def ask_to_end(process: int) -> None:
    """Send SIGTERM, if it is still there."""
    _send(process, signal.SIGTERM)


def _send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


class Interrupted(KeyboardInterrupt):
    """A signal that asks the command to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP while jobs run: the first raises Interrupted, later ones ask for haste.

    Nobody is impatient who closes a terminal, of which both the kernel and the shell tell, or whose `timeout` sends its
    signal to a process and to its group: a SIGHUP asks for no haste, nor does what comes together with the first.
    Signals that are ignored (nohup) or that somebody else handles (submitit) stay as they are. Outside the main
    thread, where signals do not arrive, nothing is changed.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._is_hurried = False
        self._before: dict[signal.Signals, object] = {}

    def hurried(self) -> bool:
        """Whether a second signal has come, of somebody who repeats the first."""
        return self._is_hurried

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _ASKING:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise Interrupted(number)
        if number != signal.SIGHUP and now - self._first > _AT_ONCE_SECONDS:
            self._is_hurried = True


def end_with(parent: int, *, by: signal.Signals = signal.SIGTERM) -> None:
    """Have this process, and what it becomes by exec, end with its parent, also if that has ended already.

    Args:
        parent: its process; more exactly the thread that started this one.
        by: the signal that ends this one.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
        if os.getppid() != parent:
            sys.exit(f"process {parent} ended before its job began")


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606
