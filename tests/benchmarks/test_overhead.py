"""The overhead's accounts: steps that take turns, and files as a run leaves them."""

import os
import time
from pathlib import Path

import pytest
from benchmarks.overhead import accounts
from benchmarks.trainer_step import InTurns

from atrous.run_store import RunFolder


class _Clock:
    """A clock that only moves when it is told to."""

    now = 0.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


def test_steps_in_turn_are_timed_apart_and_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    others = iter([7.0, 3.0, 4.0])
    turns = InTurns(lambda: clock.pass_by(next(others)))
    for seconds in (50.0, 2.0, 5.0):
        clock.pass_by(seconds)
        turns.on_train_batch_end(None, None)  # type: ignore[arg-type]
    assert turns.seconds == [2.0, 5.0]  # the first step has no beginning
    assert turns.others == [3.0, 4.0]


def test_a_job_is_accounted_from_its_config_to_its_end(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(config_yaml="{}", facts={})
    run.add_results(
        training={"seconds": 3.0},
        evaluations={"single": {"miou": 0.5, "seconds": 0.5}, "ms": {"miou": 0.5, "seconds": 0.25}},
    )
    run.set_status("done", step=2)
    ended = run.status()["updated"]
    os.utime(run.config_file, (ended - 10, ended - 10))
    found = accounts(run)
    assert (found["training"], found["evaluation"]) == (3.0, 0.75)
    assert found["job"] == pytest.approx(10, abs=0.01)
