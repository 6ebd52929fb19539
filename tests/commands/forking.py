"""Console scripts as forks of a process that has imported what they import: seconds less for each.

    python forking.py DESCRIPTOR MODULE...

A fork has its own memory, folder, environment, output and exit code, as a process that was started has; of Python's
start and of the imports it has the result. (The forkserver of multiprocessing knows one set of modules and ends its
processes without what `atexit` holds, coverage's figures among it.)
"""

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

_LONGEST = 1 << 17  # of a request, bytes


class Forkserver:
    """Runs programs with some modules imported already.

    Args:
        modules: their names.
        environment: in which they are imported.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, str(Path(__file__).resolve()), str(other.fileno()), *modules]
            self._process = subprocess.Popen(command, env=dict(environment), pass_fds=(other.fileno(),))

    def run(
        self,
        program: str,
        *arguments: str,
        cwd: Path,
        environment: Mapping[str, str],
        out: IO[str],
        err: IO[str],
        seconds: float,
    ) -> int:
        """Run Python source as `python -c` would, and wait for its end.

        Args:
            program: the source.
            *arguments: `sys.argv[1:]`.
            cwd: its folder.
            environment: all of its variables.
            out: its stdout.
            err: its stderr.
            seconds: after which TimeoutError is raised.

        Returns:
            The exit code.
        """
        request = json.dumps([program, arguments, str(cwd), dict(environment)]).encode()
        assert len(request) < _LONGEST, "a request is one packet"
        self._socket.settimeout(seconds)
        socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
        return int(self._socket.recv(64))

    def __enter__(self) -> "Forkserver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()


def _serve(connection: socket.socket) -> str:
    """Fork for every request; in the fork, return the program that is to run."""
    while True:
        request, descriptors, *_ = socket.recv_fds(connection, _LONGEST, 2)
        if not request:
            sys.exit()
        child = os.fork()
        if child == 0:
            connection.close()
            program, arguments, cwd, environment = json.loads(request)
            _become(descriptors, arguments, cwd, environment)
            return str(program)
        for descriptor in descriptors:
            os.close(descriptor)
        _, status = os.waitpid(child, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(descriptors: Sequence[int], arguments: list[str], cwd: str, environment: dict[str, str]) -> None:
    for descriptor, place in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    sys.path[0] = ""


if __name__ == "__main__":
    _connection = socket.socket(fileno=int(sys.argv[1]))
    for _name in sys.argv[2:]:
        importlib.import_module(_name)
    exec(compile(_serve(_connection), "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
