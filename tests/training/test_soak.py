"""A long training keeps to its memory and closes its files."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import soak

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


def test_a_start_is_not_taken_for_a_training_that_was_too_short_to_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [soak.Sample(0.5 * place, count, 100.0 + place, 8) for place, count in enumerate([2] * 20 + [4] * 7)]
    looks = iter(samples)
    monkeypatch.setattr(soak, "look", lambda *_: next(looks))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    ended = iter([None] * len(samples))
    process = SimpleNamespace(pid=1, returncode=0, poll=lambda: next(ended, 0))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(SystemExit, match="7 looks at 1 epochs tell nothing: ask for more --epochs"):
        soak.watch(1, tmp_path, every=0.5)
