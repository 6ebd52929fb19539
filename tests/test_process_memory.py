"""The memory of a program is told apart from that of the one that started it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from atrous import process_memory

_CHILD = "from atrous.process_memory import peak_mib; held = bytearray(50 << 20); print(peak_mib())"
_PARENT = """
import subprocess, sys
held = bytearray(b"1") * (300 << 20)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def _output_of(*arguments: str) -> int:
    command = [sys.executable, "-c", *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_program_has_no_part_in_the_memory_of_the_one_that_started_it() -> None:
    assert _output_of(_PARENT, _CHILD) < 200


def test_memory_that_is_taken_counts() -> None:
    program = "from atrous.process_memory import peak_mib; before = peak_mib(); held = bytearray(b'1') * (64 << 20); "
    program += "print(peak_mib() - before)"
    assert 60 <= _output_of(program) <= 100


@pytest.mark.parametrize(("platform", "expected"), [("darwin", 2), ("linux", 2048)])
def test_without_the_kernels_word_it_is_in_mebibytes_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, expected: int
) -> None:
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: type("Usage", (), {"ru_maxrss": 2 << 20}))
    assert process_memory.peak_mib() == expected
