"""A long training keeps to its memory and closes its files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads /proc")
def test_two_hundred_epochs_with_evaluation_take_no_more_memory_than_the_first_hundred(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--output", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "soak.png").stat().st_size > 0
    assert "Nothing grows after the first quarter." in (tmp_path / "soak.md").read_text()
