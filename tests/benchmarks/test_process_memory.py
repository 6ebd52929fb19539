"""The memory of a program is told apart from that of the one that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="Windows has no getrusage")

_ROOT = Path(__file__).resolve().parents[2]
_CHILD = "from benchmarks.process_memory import peak_mib; held = bytearray(50 << 20); print(peak_mib())"
_PARENT = """
import subprocess, sys
held = bytearray(b"1") * (300 << 20)
subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def _output_of(*arguments: str) -> int:
    command = [sys.executable, "-c", *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=_ROOT).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_program_has_no_part_in_the_memory_of_the_one_that_started_it() -> None:
    assert _output_of(_PARENT, _CHILD) < 200


def test_memory_that_is_taken_counts() -> None:
    program = (
        "from benchmarks.process_memory import peak_mib; before = peak_mib(); held = bytearray(b'1') * (64 << 20); "
    )
    program += "print(peak_mib() - before)"
    assert 60 <= _output_of(program) <= 100
