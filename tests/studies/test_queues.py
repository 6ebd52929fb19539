"""What a cluster says about the jobs of a sweep, and what it means where it says nothing."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atrous.studies import queues

SLURM = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}


@pytest.fixture
def queue(tmp_path: Path) -> queues.Queue:
    """A queue to which job 7 has been submitted."""
    launcher: Any = SimpleNamespace(params={"submitit_folder": str(tmp_path / "jobs" / "%j")})
    found = queues.queue_of(launcher, SLURM)
    assert found is not None
    (tmp_path / "jobs" / "7").mkdir(parents=True)
    (tmp_path / "jobs" / "7" / "7_submitted.pkl").touch()
    return found


@pytest.mark.parametrize(
    ("squeue", "is_empty"),
    [("echo 7", False), ("echo 8", True), ("exit 1", False), ("exec sleep 100", False), (None, False)],
    ids=["has it", "has another", "fails", "hangs", "is missing"],
)
def test_a_slurm_queue_is_empty_only_where_squeue_says_so(
    queue: queues.Queue, squeue: str | None, is_empty: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    if squeue is not None:
        (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{squeue}\n")
        (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    if squeue == "exec sleep 100":
        monkeypatch.setattr(queues, "_SQUEUE_SECONDS", 0.1)
    assert queue.is_empty() == is_empty
