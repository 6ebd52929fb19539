"""metrics.csv: appended to, and cut back to the checkpoint on resume."""

import csv
from pathlib import Path

from atrous.training.csv_log import CsvLog


def _steps(path: Path) -> list[str]:
    with path.open(newline="") as stream:
        return [row["step"] for row in csv.DictReader(stream)]


def test_a_resumed_run_drops_the_lines_behind_its_checkpoint_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    for step in (10, 20, 30):
        log.log_metrics({"train/loss": 1 / step, "epoch": 0}, step)
    with path.open("a") as stream:
        stream.write("4")  # torn by a kill
    resumed = CsvLog(path, first_step=20)
    assert _steps(path) == ["10", "20"]
    resumed.log_metrics({"val/miou": 0.5}, 30)
    assert _steps(path) == ["10", "20", "30"]


def test_a_validation_that_is_made_again_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log = CsvLog(path)
    log.log_metrics({"train/loss": 0.1}, 20)
    log.log_metrics({"val/miou": 0.5}, 20)
    resumed = CsvLog(path, first_step=20)
    resumed.log_metrics({"val/miou": 0.5}, 20)
    resumed.log_metrics({"train/loss": 0.1}, 30)
    resumed.log_metrics({"val/miou": 0.6}, 30)
    assert _steps(path) == ["20", "20", "30", "30"]


def test_metrics_without_a_column_leave_no_line(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "metrics.csv")
    log.log_metrics({"epoch": 0.0}, 1)
    assert _steps(tmp_path / "metrics.csv") == []
