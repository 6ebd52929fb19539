"""A fork of the server behaves as a process that was started: its output, folder, variables and exit code."""

import os
import tempfile
from pathlib import Path

from .forking import Forkserver

_PROGRAM = """
import os, sys
print(os.getcwd(), sys.argv[1:], os.environ["WORD"], "json" in sys.modules, flush=True)
print("complaint", file=sys.stderr)
os.environ["WORD"] = "changed"
sys.exit(int(sys.argv[1]))
"""


def _run(server: Forkserver, program: str, *arguments: str, folder: Path) -> tuple[int, str, str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        code = server.run(program, *arguments, cwd=folder, environment={"WORD": "own"}, out=out, err=err, seconds=60)
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def test_a_fork_ends_with_its_own_code_and_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    with Forkserver(["json"], os.environ) as server:
        for number in ("3", "0"):
            code, out, err = _run(server, _PROGRAM, number, "two words", folder=tmp_path)
            assert code == int(number)
            assert out == f"{tmp_path} ['{number}', 'two words'] own True\n"
            assert err == "complaint\n"


def test_an_exception_and_a_signal_end_the_fork_alone(tmp_path: Path) -> None:
    with Forkserver(["json"], os.environ) as server:
        code, _, err = _run(server, "raise ValueError('broken')", folder=tmp_path)
        assert (code, err.splitlines()[-1]) == (1, "ValueError: broken")
        assert _run(server, "import os; os.kill(os.getpid(), 9)", folder=tmp_path)[0] == -9
        assert _run(server, "print('still here')", folder=tmp_path) == (0, "still here\n", "")
