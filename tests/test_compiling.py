"""A file of C++ as a library: compiled once, in a folder of the user alone; where it fails, the log says why."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
from pathlib import Path

import pytest

from atrous.compiling import _is_mine, cpp_compiler, loaded

pytestmark = pytest.mark.skipif(cpp_compiler() is None, reason="there is no C++ compiler")

_ANSWER = 'extern "C" int answer() { return %d; }\n'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of C++ whose function returns 42."""
    path = tmp_path / "answer.cpp"
    path.write_text(_ANSWER % 42)
    return path


def _loaded(source: Path, cache: Path) -> ctypes.CDLL | None:
    return loaded(source, flags=["-O1"], made_with=["version 1"], wanted_by="trainer.key: PyTorch's own", cache=cache)


def _answer(library: ctypes.CDLL | None) -> int:
    assert library is not None
    return int(library.answer())


def test_it_is_compiled_once_and_again_where_its_source_changes(source: Path, tmp_path: Path) -> None:
    def compiled() -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in tmp_path.glob("cache/compiled-*/answer-*.so")}

    assert _answer(_loaded(source, tmp_path / "cache")) == 42
    first = compiled()
    assert _answer(_loaded(source, tmp_path / "cache")) == 42
    assert compiled() == first
    source.write_text(_ANSWER % 43)
    assert _answer(_loaded(source, tmp_path / "cache")) == 43
    assert len(compiled()) == 2


def test_it_is_compiled_again_where_a_header_beside_it_changes(source: Path, tmp_path: Path) -> None:
    source.write_text(
        '# include "a.h"  // for what it includes\n#include "stdlib.h"\nextern "C" int answer() { return kAnswer; }\n'
    )
    (tmp_path / "a.h").write_text('#pragma once\n#include "a.h"\n#include "the.h"\n')
    for answer in (42, 43):
        (tmp_path / "the.h").write_text(f"constexpr int kAnswer = {answer};\n")
        assert _answer(_loaded(source, tmp_path / "cache")) == answer


def test_what_somebody_else_could_have_written_is_not_loaded(source: Path, tmp_path: Path) -> None:
    assert _answer(_loaded(source, tmp_path)) == 42
    (library,) = tmp_path.glob("compiled-*/answer-*.so")
    library.unlink()  # what is loaded stays whole
    library.write_bytes(b"planted")
    library.chmod(0o777)
    assert _answer(_loaded(source, tmp_path)) == 42
    assert library.read_bytes()[1:4] == b"ELF"
    (tmp_path / "link").symlink_to(library)
    assert _is_mine(library)
    assert not _is_mine(tmp_path / "link")
    assert sorted(path.suffix for path in library.parent.iterdir()) == [".lock", ".sha256", ".so"]


@pytest.mark.parametrize("damaged", [".so", ".sha256"])
def test_a_file_that_was_cut_off_is_compiled_again(source: Path, tmp_path: Path, damaged: str) -> None:
    assert _answer(_loaded(source, tmp_path)) == 42
    (library,) = tmp_path.glob("compiled-*/answer-*.so")
    whole, path = library.read_bytes(), library.with_suffix(damaged)
    cut_off = path.read_bytes()[: path.stat().st_size // 2]
    path.unlink()  # what is loaded stays whole
    path.write_bytes(cut_off)
    assert _answer(_loaded(source, tmp_path)) == 42
    assert library.read_bytes() == whole
    assert path.stat().st_size == 2 * len(cut_off) + (path.stat().st_size % 2)


def test_a_file_that_cannot_be_loaded_is_compiled_again_once(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _answer(_loaded(source, tmp_path)) == 42
    (library,) = tmp_path.glob("compiled-*/answer-*.so")
    library.unlink()
    library.write_bytes(b"of another machine")
    library.chmod(0o700)
    library.with_suffix(".sha256").write_text(hashlib.sha256(b"of another machine").hexdigest())
    assert _answer(_loaded(source, tmp_path)) == 42
    source.write_text("int unfinished(); int here = unfinished();\n")  # compiles; loading finds no such function
    with caplog.at_level(logging.WARNING):
        assert _loaded(source, tmp_path) is None
    assert "unfinished" in caplog.text


def test_nothing_is_written_into_a_folder_that_others_can_write(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / f"compiled-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        assert _loaded(source, tmp_path) is None
    assert "can be written by others" in caplog.text
    assert list(folder.iterdir()) == []


def test_a_compiler_that_fails_or_is_missing_is_logged_with_the_key_and_what_it_said(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "bin" / "broken"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no headers here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with caplog.at_level(logging.WARNING):
        assert _loaded(source, tmp_path / "cache") is None
    assert "trainer.key: PyTorch's own" in caplog.text
    assert "no headers here" in caplog.text
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "none")
    with caplog.at_level(logging.INFO):
        assert _loaded(source, tmp_path / "cache") is None
    assert "no C++ compiler" in caplog.text


def test_a_cache_that_cannot_be_written_is_logged_with_its_path(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert _loaded(source, tmp_path / "file") is None
    assert str(tmp_path / "file") in caplog.text
