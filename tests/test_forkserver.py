"""A fork of the server behaves as a process that was started: its output, folder, variables, session and exit code."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous import forkserver, processes
from atrous.forkserver import Fork, Forkserver

pytestmark = pytest.mark.skipif(not forkserver.is_supported(), reason="forks of a server are for Linux")

_PROGRAM = """
import os, sys
print(os.getcwd(), sys.argv[1:], os.environ["WORD"], "json" in sys.modules, __name__, flush=True)
print("complaint", file=sys.stderr)
os.environ["WORD"] = "changed"
sys.exit(int(sys.argv[1]))
"""
_SLEEP = "import time; print(flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _file(program: str) -> str:
    path = Path.cwd() / f"program{len(list(Path.cwd().iterdir()))}.py"
    path.write_text(program)
    return str(path)


def _run(server: Forkserver, *command: str, folder: Path) -> tuple[int, str, str]:
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        fork = server.start(command, {"WORD": "own"}, out=out.fileno(), err=err.fileno(), folder=folder)
        code = fork.wait(60)
        out.seek(0)
        err.seek(0)
        return code, out.read(), err.read()


def _start(server: Forkserver, program: str, environment: dict[str, str]) -> Fork:
    """Start a program and wait until it has printed a line."""
    reading, writing = os.pipe()
    try:
        fork = server.start([_file(program)], environment, out=writing, err=2)
    finally:
        os.close(writing)
    with os.fdopen(reading) as printed:
        assert printed.readline() == "\n"
    return fork


def _wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_fork_ends_with_its_own_code_and_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    with Forkserver(["json"], os.environ) as server:
        for number in ("3", "0"):
            code, out, err = _run(server, _file(_PROGRAM), number, "two words", folder=tmp_path)
            assert code == int(number)
            assert out == f"{tmp_path} ['{number}', 'two words'] own True __main__\n"
            assert err == "complaint\n"


def test_modules_and_files_run_as_python_runs_them(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(_PROGRAM)
    with Forkserver(["json"], os.environ) as server:
        for command in (["program.py"], ["-m", "program"]):
            code, out, _ = _run(server, *command, "5", folder=tmp_path)
            assert (code, out) == (5, f"{tmp_path} ['5'] own True __main__\n")


def test_an_exception_and_a_signal_end_the_fork_alone(tmp_path: Path) -> None:
    with Forkserver(["json"], os.environ) as server:
        code, _, err = _run(server, _file("raise ValueError('broken')"), folder=tmp_path)
        assert (code, err.splitlines()[-1]) == (1, "ValueError: broken")
        assert _run(server, _file("import os; os.kill(os.getpid(), 9)"), folder=tmp_path)[0] == -9
        assert _run(server, _file("print('still here')"), folder=tmp_path) == (0, "still here\n", "")


def test_a_fork_is_known_by_the_mark_of_its_run_as_what_it_starts_is(tmp_path: Path) -> None:
    program = "import subprocess; print(flush=True); subprocess.run(['sleep', '60'])"
    with Forkserver([], os.environ) as server:
        fork = _start(server, program, {**os.environ, **processes.mark(tmp_path)})
        _wait_for(lambda: len(processes.members(tmp_path)) == 2)
        assert fork.pid in processes.members(tmp_path)
        processes.end_tree(fork, tmp_path, patience=1, hurried=lambda: False)
        assert not processes.members(tmp_path)
        assert fork.poll() == -signal.SIGTERM


def test_an_environment_may_be_large(tmp_path: Path) -> None:
    large = {f"LARGE{number}": "x" * 100_000 for number in range(10)}
    with Forkserver([], os.environ) as server:
        assert _start(server, "import os; assert len(os.environ['LARGE9']) == 100_000; print()", large).wait(30) == 0


def test_a_fork_leads_a_session_of_its_own_and_can_be_asked_to_end() -> None:
    with Forkserver([], os.environ) as server:
        fork = _start(server, _SLEEP, dict(os.environ))
        assert os.getsid(fork.pid) == fork.pid != os.getpid()
        with pytest.raises(subprocess.TimeoutExpired):
            fork.wait(0.05)
        fork.terminate()
        assert fork.wait(10) == -signal.SIGTERM


def test_a_fork_ends_with_its_server_and_reads_as_killed() -> None:
    server = Forkserver([], os.environ)
    fork = _start(server, _SLEEP, dict(os.environ))
    process = fork.pid
    server.close(kill=True)
    _wait_for(lambda: not Path(f"/proc/{process}").exists())
    other = Forkserver([], os.environ)
    fork = _start(other, _SLEEP, dict(os.environ))
    parent = int(Path(f"/proc/{fork.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert fork.wait(10) == -signal.SIGKILL
    with pytest.raises(ConnectionError):
        other.start([_file("")], {}, out=1, err=2)
    other.close()


def test_a_server_that_still_imports_ends_in_place_of_the_fork(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import time; time.sleep(60)")
    with Forkserver(["slow_module"], {**os.environ, "PYTHONPATH": str(tmp_path)}) as server:
        fork = server.start([_file("")], dict(os.environ), out=1, err=2)
        assert fork.poll() is None
        fork.terminate()
        assert fork.wait(10) == -signal.SIGKILL


def test_a_module_that_cannot_be_imported_is_the_forks_own_error(tmp_path: Path) -> None:
    with Forkserver(["no_such_module"], os.environ) as server:
        code, _, err = _run(server, _file("import no_such_module"), folder=tmp_path)
    assert (code, err.splitlines()[-1]) == (1, "ModuleNotFoundError: No module named 'no_such_module'")
