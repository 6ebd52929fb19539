"""What a job's processes are started with."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atrous import forkserver, full_memory
from atrous.run_store import RunFolder
from atrous.studies.job_process import JobProcess, JobServer, process_environment

ALONE = {"threads": 0, "devices": 1}


def test_waiting_threads_spin_shortly_and_memory_comes_in_huge_pages_unless_something_else_is_set() -> None:
    assert process_environment({}, ALONE) == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "20000",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    own = {"OMP_WAIT_POLICY": "ACTIVE", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0", "HOME": "/home/me"}
    assert process_environment(own, {"threads": 3, "devices": 1}) == {**own, "OMP_NUM_THREADS": "3"}
    assert process_environment({"GOMP_SPINCOUNT": "7"}, ALONE)["GOMP_SPINCOUNT"] == "7"
    other = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    tunables = process_environment(other, ALONE)["GLIBC_TUNABLES"]
    assert tunables == "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"


def test_threads_of_several_processes_spin_only_where_their_number_is_bounded() -> None:
    assert "GOMP_SPINCOUNT" not in process_environment({}, {"threads": 0, "devices": 2})
    assert "GOMP_SPINCOUNT" in process_environment({}, {"threads": 2, "devices": 2})


@pytest.mark.skipif(not forkserver.is_supported(), reason="jobs are forked on Linux")
def test_jobs_come_from_one_process_until_it_is_killed_or_the_variables_change(tmp_path: Path) -> None:
    program, log = tmp_path / "program.py", tmp_path / "log.txt"
    program.write_text("import os; print(os.getppid())")

    def parent(**variables: str) -> int:
        log.write_text("")
        with log.open("a") as stream:
            leader = server.start(
                [str(program)], {**os.environ, **variables}, {}, log=stream.fileno(), lock=stream.fileno()
            )
            assert leader.wait(30) == 0
        return int(log.read_text())

    with JobServer(["json"]) as server:
        first = parent()
        assert first == parent() != os.getpid()
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        second = parent()
        assert second == parent() != first
        assert parent(OMP_NUM_THREADS="3") != second
        assert not Path(f"/proc/{second}").exists(), "the one before does not stay beside it"


@pytest.mark.parametrize(
    ("ending", "kills", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 1, True),
        ("os.kill(os.getpid(), signal.SIGKILL)", 0, False),
        ("os.kill(os.getpid(), signal.SIGTERM)", 1, False),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); open('started', 'w'); time.sleep(60)", 1, False),
    ],
    ids=["out of memory", "killed by somebody", "ended by somebody", "killed by us"],
)
def test_a_process_that_was_killed_while_memory_ran_out_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, kills: int, told: bool
) -> None:
    counts = iter([3])
    monkeypatch.setattr(full_memory, "kills", lambda: next(counts, 3 + kills))
    monkeypatch.chdir(tmp_path)
    job = JobProcess(RunFolder(tmp_path), lambda: 0.5, lambda: False)
    with (tmp_path / "lock").open("w") as lock:
        command = ["-c", f"import os, signal, time; {ending}"]
        options: dict[str, Any] = {"lock": lock.fileno(), "capture": True, "cancelled": (tmp_path / "started").exists}
        assert job.run(command, dict(os.environ), **options) < 0
    assert job.ran_out_of_memory is told


ON_A_TERMINAL = """
import os, sys
from pathlib import Path
from atrous.run_store import RunFolder
from atrous.studies.job_process import JobProcess

bar = "import os, sys, signal; print('Training 3/30', end='', flush=True); " + sys.argv[2]
process = JobProcess(RunFolder(Path(sys.argv[1])), lambda: 5.0, lambda: False)
lock = os.open(os.devnull, os.O_RDONLY)
process.run(["-c", bar], dict(os.environ), lock=lock, capture=False, cancelled=lambda: False)
print("error: killed", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("ending", "lines"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", ["Training 3/30", "error: killed"]),
        ("print(); sys.exit(1)", ["Training 3/30", "error: killed"]),
    ],
)
def test_what_is_said_after_a_bar_whose_process_has_ended_begins_a_line(
    tmp_path: Path, ending: str, lines: list[str]
) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path), ending]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, check=False, timeout=60)
    assert ended.returncode == 0
    os.close(theirs)
    shown = b""
    while (part := _read(ours)) != b"":
        shown += part
    os.close(ours)
    assert shown.decode().replace("\x1b[?25h", "").splitlines() == lines


def _read(terminal: int) -> bytes:
    """The next bytes; none at the end, which Linux tells as an error."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""
