"""The overhead's accounts, from files as a run leaves them."""

import os
from pathlib import Path

import pytest
from benchmarks.overhead import accounts, windows

from atrous.run_store import RunFolder


def test_windows_are_read_off_the_metrics_without_the_first(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,train/images_per_second,val/miou\n5,1,\n10,8,\n10,,0.5\n15,4,\n")
    assert windows(file, batch_size=16) == [2.0, 4.0]


def test_a_job_is_accounted_from_its_config_to_its_end(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(config_yaml="{}", facts={})
    run.add_results(training={"seconds": 3.0}, evaluations={"single": {"seconds": 0.5}, "ms": {"seconds": 0.25}})
    run.set_status("done", step=2)
    ended = run.status()["updated"]
    os.utime(run.config_file, (ended - 10, ended - 10))
    found = accounts(run)
    assert (found["training"], found["evaluation"]) == (3.0, 0.75)
    assert found["job"] == pytest.approx(10, abs=0.01)
