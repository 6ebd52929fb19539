"""Atomic writes: the old file or the new one, never something between."""

import errno
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest
import torch

from atrous.errors import ConfigError
from atrous.files import (
    NoSpaceError,
    append_text,
    check_writable,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "grüße")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "grüße"


def test_json_is_read_back_in_the_order_it_was_given(tmp_path: Path) -> None:
    value = {"b": 1, "a": [1.5, None, "x"]}
    write_json(tmp_path / "x.json", value)
    assert list(json.loads((tmp_path / "x.json").read_text()).items()) == list(value.items())


@pytest.mark.parametrize("error", [RuntimeError("disk full"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "x", "old")

    def fail(stream: BinaryIO) -> None:
        stream.write(b"new but not all of i")
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / "x", fail)
    assert (tmp_path / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_cannot_be_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", object())
    assert (tmp_path / "x.json").read_text() == "1\n"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_what_was_written_is_for_the_umask_to_say(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "x", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_what_is_appended_follows_what_was_there(tmp_path: Path) -> None:
    for text in ("grüße\r\n", "1\n"):
        append_text(tmp_path / "x", text)
    assert (tmp_path / "x").read_bytes() == "grüße\r\n1\n".encode()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_cannot_be_appended_names_its_file_and_the_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NoSpaceError, match=f"no space left in {tmp_path}: x needs about 0.01 MiB"):
        append_text(tmp_path / "x", "1\n")


def test_what_cannot_be_appended_for_another_reason_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        append_text(tmp_path, "1\n")


@pytest.mark.parametrize("name", ["a" * 300, "new/" + "é" * 200, "new/er/" + "b" * 256, "new/a\0b", "new/\ud83d"])
def test_a_folder_whose_name_no_disk_takes_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^given cannot be used: .*; give another folder$"):
        check_writable(tmp_path / name, given="given")
    with pytest.raises((OSError, ValueError)):
        write_text(tmp_path / name / "x", "")


@pytest.mark.parametrize("name", ["", ".", "a" * 255, "new/er/" + "b" * 255, "new/../er", "link/new"])
def test_a_folder_that_can_be_made_passes_and_is_not_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    check_writable(tmp_path / name)
    assert {path.name for path in tmp_path.rglob("*")} == {"there", "link"}


def test_a_file_that_cannot_fit_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    free, begun = shutil.disk_usage(tmp_path).free, list[BinaryIO]()
    write_text(tmp_path / "x", "old")
    with pytest.raises(NoSpaceError) as caught:
        write_atomically(tmp_path / "x", begun.append, size=2 * free)
    mebibytes = float(str(caught.value).partition("needs about ")[2].split()[0])
    assert mebibytes == pytest.approx(2 * free / 2**20, rel=0.01)
    assert f"no space left in {tmp_path}: x " in str(caught.value)
    assert begun == []
    assert (tmp_path / "x").read_text() == "old"


def test_bytes_are_refused_by_a_disk_without_room_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    write_bytes(tmp_path / "small", b"x" * 100)
    with pytest.raises(NoSpaceError, match=r"large needs about 0\.01 MiB"):
        write_bytes(tmp_path / "large", b"x" * 101)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


_WRITER = """
import resource, sys
from pathlib import Path
import torch
from atrous.files import NoSpaceError, write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_atomically(Path(sys.argv[1]), lambda stream: torch.save(torch.zeros(1 << 20), stream))
except NoSpaceError as error:
    print(error)
"""


@pytest.mark.exhaustive
def test_a_checkpoint_that_grows_too_large_says_so_and_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "last.ckpt", "old")
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "last.ckpt")]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert f"no space left in {tmp_path}: last.ckpt needs more than 1 MiB" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"last.ckpt": b"old"}


@pytest.fixture
def disk_of_three_mebibytes(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        is_mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        is_mounted = False
    if not is_mounted:
        pytest.skip("a small disk cannot be mounted here: it takes root, on Linux")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_where_a_line_is_appended(disk_of_three_mebibytes: Path) -> None:
    (disk_of_three_mebibytes / "filler").write_bytes(b"x" * (3 << 20))
    with pytest.raises(NoSpaceError, match=r"metrics\.csv needs about 0\.01 MiB, 0 MiB are free"):
        append_text(disk_of_three_mebibytes / "metrics.csv", "1\n")


def test_a_full_disk_keeps_the_last_good_checkpoint_and_room_for_the_reason(disk_of_three_mebibytes: Path) -> None:
    path = disk_of_three_mebibytes / "last.ckpt"
    path.write_bytes(b"x" * (1 << 20))
    with pytest.raises(NoSpaceError, match=r"last.ckpt needs more than 2 MiB, 2 MiB are free"):
        write_atomically(path, lambda stream: torch.save(torch.zeros(1 << 20), stream))
    size = (1 << 20) + 4096  # it would fit, but for the reserve
    with pytest.raises(NoSpaceError, match=r"last.ckpt needs about 2\.004 MiB, 2 MiB are free"):
        write_text(path, "y" * size)
    assert path.read_bytes() == b"x" * (1 << 20)
    write_json(disk_of_three_mebibytes / "status.json", {"state": "failed"})
    assert sorted(entry.name for entry in disk_of_three_mebibytes.iterdir()) == ["last.ckpt", "status.json"]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EFBIG, "a limit on the size of a file is reached (ulimit -f); raise it and"),
        (errno.EDQUOT, "the quota is used up; raise it and"),
        (errno.ENOSPC, "MiB are free; free some and"),
    ],
)
def test_a_limit_below_the_disks_room_is_told_as_what_it_is(tmp_path: Path, number: int, why: str) -> None:
    def write(_stream: object) -> None:
        raise OSError(number, "no")

    with pytest.raises(NoSpaceError, match=re.escape(f"{why} run the same command again")):
        write_atomically(tmp_path / "file", write)
