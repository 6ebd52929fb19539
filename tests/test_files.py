"""Atomic writes: the old file or the new one, never something between."""

import json
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from atrous.files import write_atomically, write_json, write_text


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


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644
