"""Process trees: whom a run consists of, what ends with whom, and which signals are left alone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from atrous import processes
from atrous.processes import Interrupted, Interrupts

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found in /proc")

# Starts a grandchild in a session of its own, as torchrun does, and sleeps; both write their number.
_TREE = """
import os, subprocess, sys, time
code = '''
import os, signal, sys, time
{prologue}
open(sys.argv[1] + "/grandchild", "w").write(str(os.getpid()))
time.sleep(60)
'''
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=True)
time.sleep(60)
"""
_DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def _tree(folder: Path, *, prologue: str = "pass") -> "subprocess.Popen[bytes]":
    leader = subprocess.Popen(
        [sys.executable, "-c", _TREE.format(prologue=prologue), str(folder)],
        env={**os.environ, **processes.mark(folder)},
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not (folder / "grandchild").is_file() or not (folder / "grandchild").read_text():
        assert time.monotonic() < end, "the grandchild does not start"
        time.sleep(0.05)
    return leader


@pytest.fixture
def tree(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A leader and its grandchild, which hears no SIGTERM."""
    leader = _tree(tmp_path, prologue=_DEAF)
    yield leader
    processes.end_members(tmp_path, patience=0)
    leader.wait()


@needs_proc
def test_a_run_consists_of_all_that_was_started_for_it(tree: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    grandchild = int((tmp_path / "grandchild").read_text())
    assert processes.members(tmp_path) == {tree.pid: os.getpid(), grandchild: tree.pid}
    assert processes.members(tmp_path / "another") == {}


@needs_proc
def test_the_processes_of_a_folder_whose_name_is_not_utf_8_are_found(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"o\xffd")
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleeper, env={**os.environ, **processes.mark(folder)}) as process:
        found = processes.members(folder)
        process.kill()
    assert found == {process.pid: os.getpid()}


@needs_proc
def test_only_the_head_of_a_tree_is_asked_and_what_will_not_end_is_made_to(
    tree: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    began = time.monotonic()
    processes.end_tree(tree, tmp_path, patience=0.5, hurried=lambda: False)
    assert time.monotonic() - began >= 0.5
    assert tree.returncode == -signal.SIGTERM
    assert processes.members(tmp_path) == {}


@needs_proc
def test_haste_does_not_wait(tree: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    began = time.monotonic()
    processes.end_tree(tree, tmp_path, patience=30, hurried=lambda: True)
    assert time.monotonic() - began < 10
    assert processes.members(tmp_path) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word to a child whose parent dies is Linux's")
def test_a_program_whose_starter_is_gone_is_not_begun(tmp_path: Path) -> None:
    program = [sys.executable, "-c", f"open({str(tmp_path / 'begun')!r}, 'w')"]
    command = processes.bound_command(*program)
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "begun").is_file()
    (tmp_path / "begun").unlink()
    of_another = [str(os.getppid()) if word == str(os.getpid()) else word for word in command]
    done = subprocess.run(of_another, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"process {os.getppid()} ended before its job began" in done.stderr
    assert not (tmp_path / "begun").exists()


def test_the_first_signal_interrupts_and_later_ones_ask_for_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert isinstance(caught.value, KeyboardInterrupt)
        assert caught.value.number == signal.SIGTERM
        for number in (signal.SIGTERM, signal.SIGHUP):  # a shell's beside the kernel's, of one closed terminal
            os.kill(os.getpid(), number)
        assert not interrupts.hurried()
        monkeypatch.setattr(processes, "_AT_ONCE_SECONDS", 0.0)
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupts.hurried()
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.hurried()
    assert signal.getsignal(signal.SIGTERM) == before


def test_signals_that_are_ignored_or_handled_by_others_stay_as_they_are() -> None:
    handlers: dict[int, signal.Handlers | Callable[..., None]]
    handlers = {signal.SIGHUP: signal.SIG_IGN, signal.SIGTERM: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with Interrupts():
            assert {number: signal.getsignal(number) for number in handlers} == handlers
            with Interrupts():
                assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
