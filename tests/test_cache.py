"""Where weight files are kept, and that one process at a time works on one."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atrous.cache import cache_folder, locked
from atrous.errors import CheckpointError

WAITER = """
import sys, pathlib
from atrous.cache import locked
path = pathlib.Path(sys.argv[1])
print("ready", flush=True)
with locked(path):
    print(path.exists(), flush=True)
"""


def test_the_folder_is_the_arguments_the_environments_or_the_homes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ATROUS_CACHE", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "atrous"
    monkeypatch.setenv("ATROUS_CACHE", "~/weights")
    assert cache_folder() == tmp_path / "weights"
    assert cache_folder("~/given") == tmp_path / "given"


def test_a_second_process_waits_until_the_first_has_done_its_work(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with locked(path):
        waiter = subprocess.Popen([sys.executable, "-c", WAITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiter.wait(0.2)
        path.touch()
    output, _ = waiter.communicate(timeout=10)
    assert output == "True\n"


def test_a_holder_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "file"):
        raise RuntimeError
    with locked(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match=r"file/inside cannot be written .*give another folder as ATROUS_CACHE"),
        locked(tmp_path / "file" / "inside" / "x"),
    ):
        pass


def test_a_file_system_without_locks_is_an_error_that_names_the_folder_and_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(CheckpointError, match=rf"^{tmp_path} cannot be locked .*ATROUS_CACHE needs .* with flock$"),
        locked(tmp_path / "x"),
    ):
        pass
