"""Python programs as forks of a process that has imported what they import: seconds less for each.

Standard library only: `python -m atrous.forkserver DESCRIPTOR PARENT MODULE...` imports the modules and serves the one
that holds the other end of the socket. A fork has its own memory, folder, environment, session, output and exit code,
as a process that was started has; of Python's start and of the imports it has the result. (The forkserver of
multiprocessing runs functions instead of programs and ends them without what `atexit` holds.)
"""

import gc
import importlib
import json
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from atrous import processes

_POLL_SECONDS = 0.02
_STARTED, _ENDED = "started", "ended"  # with its process id, with its exit code


def is_supported() -> bool:
    """Whether there is a kernel that keeps messages apart, ends a fork with its server and shows environments."""
    return platform.system() == "Linux"


class Forkserver:
    """Runs programs one after the other, with some modules imported already.

    It ends when it is closed, and with the thread that made it.

    Args:
        modules: their names.
        environment: in which they are imported.
        output: the descriptor of what the imports have to say; this process's own stdout and stderr if None.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], *, output: int | None = None) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, "-m", "atrous.forkserver", str(other.fileno()), str(os.getpid()), *modules]
            self._process = subprocess.Popen(
                command,
                env={**environment, **processes.room_for_mark()},
                pass_fds=(other.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        out: int,
        err: int,
        folder: Path | None = None,
        keep: Sequence[int] = (),
    ) -> "Fork":
        """Start what `python *command` would run; one at a time.

        Args:
            command: `-m MODULE` or a file, and arguments.
            environment: all of its variables.
            out: the descriptor that is to be its stdout.
            err: the descriptor that is to be its stderr.
            folder: where it runs; this process's own if None.
            keep: descriptors that it is to hold open.

        Raises:
            ConnectionError: The server has ended.
        """
        with tempfile.TemporaryFile() as request:  # an environment may be larger than a packet
            request.write(json.dumps([list(command), str(folder or Path.cwd()), dict(environment)]).encode())
            request.flush()
            socket.send_fds(self._socket, [b"run"], [request.fileno(), out, err, *keep])
        return Fork(self._socket, self._process.pid)

    def __enter__(self) -> "Forkserver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(kill=kind is not None)

    def close(self, *, kill: bool = False) -> None:
        """End the server, which waits for what it runs."""
        self._socket.close()
        if kill:
            self._process.kill()
        self._process.wait()


class Fork:
    """A program that a forkserver runs, or will run once its imports are done.

    Args:
        connection: to the server, which has just got its request.
        server: the process of the server.
    """

    def __init__(self, connection: socket.socket, server: int) -> None:
        self._socket, self._server = connection, server
        self._pid: int | None = None
        self._code: int | None = None

    @property
    def pid(self) -> int:
        """Of the fork; of the server as long as there is none."""
        self.poll()
        return self._server if self._pid is None else self._pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs. That of SIGKILL where the server was killed."""
        while self._code is None:
            try:
                kind, _, number = self._socket.recv(64, socket.MSG_DONTWAIT).decode().partition(" ")
            except BlockingIOError:
                break
            except ConnectionError:
                kind, number = "", ""
            if kind == _STARTED:
                self._pid = int(number)
            else:
                self._code = int(number) if kind == _ENDED else -signal.SIGKILL
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, waited for.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"fork {self.pid}", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return code

    def terminate(self) -> None:
        """Ask it to end, as long as it runs; a server that still imports ends in its place."""
        if self.poll() is None:
            processes.ask_to_end(self.pid)


def _serve(connection: socket.socket) -> list[str]:
    """Fork for every request; in the fork, return the command."""
    while True:
        message, descriptors, *_ = socket.recv_fds(connection, 64, 8)
        if not message:
            sys.exit()
        server, child = os.getpid(), os.fork()
        if child == 0:
            with os.fdopen(descriptors[0], "rb") as request:
                request.seek(0)
                command, folder, environment = json.load(request)
            _become(descriptors[1:], folder, environment, server=server)
            connection.send(f"{_STARTED} {os.getpid()}".encode())
            connection.close()
            return list(command)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.send(f"{_ENDED} {os.waitstatus_to_exitcode(status)}".encode())


def _become(descriptors: Sequence[int], folder: str, environment: dict[str, str], *, server: int) -> None:
    os.setsid()
    processes.end_with(server)
    for descriptor, place in zip(descriptors[:2], (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(folder)
    processes.take_mark(environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = ""


def _run(command: list[str]) -> None:
    """Run the program as Python would have from the start."""
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    processes.end_with(int(sys.argv[2]))
    _connection = socket.socket(fileno=int(sys.argv[1]))
    for _name in sys.argv[3:]:
        with suppress(Exception):  # a fork that needs it meets the same error, and tells it as its own
            importlib.import_module(_name)
    gc.freeze()  # or the first collection in a fork would copy all of it
    _run(_serve(_connection))
