"""Which of several ranks' ends is told as the reason, and whether another try is worth it."""

import errno
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any
from unittest.mock import Mock, patch

import pytest
import torch
import torch.distributed as dist
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.nn.parallel import DistributedDataParallel

from atrous import full_memory, run_files
from atrous.exit_codes import FAILED, TEMPORARY
from atrous.files import NoSpaceError, write_bytes
from atrous.run_store import RunFolder
from atrous.training import job, measuring, run
from atrous.training.checkpoints import Checkpoints
from atrous.training.csv_log import CsvLog
from atrous.training.job import note_deaths


@pytest.mark.parametrize(
    ("said", "codes", "code", "reason"),
    [
        # One rank raises and says why; torchrun then ends the other, whose death explains nothing.
        ("the loss is nan", {0: 1, 1: -SIGTERM}, FAILED, "the loss is nan"),
        ("the loss is nan", {1: -SIGTERM}, FAILED, "the loss is nan"),
        # One is killed; what the other says of its lost connection follows from that.
        ("connection reset by peer", {0: 1, 1: -SIGKILL}, TEMPORARY, "rank 1 was killed by SIGKILL"),
        (None, {0: -SIGTERM, 1: -SIGKILL}, TEMPORARY, "rank 1 was killed by SIGKILL"),
        # All were ended from outside.
        (None, {0: -SIGTERM, 1: -SIGTERM}, TEMPORARY, "rank 0 was killed by SIGTERM, rank 1 was killed by SIGTERM"),
        # One hung, and its watchdog has told where.
        ("rank 0 showed no sign of life", {0: TEMPORARY, 1: -SIGTERM}, TEMPORARY, "rank 0 showed no sign of life"),
        # One waited for another that hung so that it did not even end when it was asked (SIGSTOP, a dead disk).
        (
            "rank 0 showed no sign of life",
            {0: TEMPORARY, 1: -SIGKILL},
            TEMPORARY,
            "rank 0 showed no sign of life; rank 1 was killed by SIGKILL, as torchrun does with one that has not ended "
            "half a minute after it was asked",
        ),
        (None, {0: 3}, FAILED, "ranks ended without a reason: 0 (exit code 3)"),
    ],
)
def test_the_first_cause_is_the_reason(
    said: str | None, codes: dict[int, int], code: int, reason: str, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    if said is not None:
        folder.set_status("failed", reason=said)
    assert note_deaths(folder, codes) == code
    assert folder.status()["state"] == "failed"
    assert folder.status()["reason"] == reason


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (5, "ended by SIGHUP before it could save: the steps since its last checkpoint are lost"),
        (6, "ended by SIGHUP in its evaluation: its training is saved, its evaluation will begin again"),
    ],
)
def test_ranks_that_are_ended_say_whether_that_was_in_the_training_or_behind_it(
    steps: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def torchrun(_arguments: list[str]) -> None:
        raise SignalException("asked", signal.SIGHUP)

    folder, before = RunFolder(tmp_path), signal.getsignal(signal.SIGTERM)
    folder.create(config_yaml="trainer: {nodes: 1, devices: 2}\nrecipe: {max_steps: 6}\n", facts={})
    folder.add_results(training={"steps": steps})
    folder.set_status("running")
    monkeypatch.setattr(torch.distributed.run, "main", torchrun)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert job.main([str(tmp_path), "single"]) == FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (folder.status()["state"], folder.status()["reason"]) == ("stopped", told.partition(":")[0])
    assert capsys.readouterr().err == f"{told}\n"


def test_the_code_of_the_rank_that_told_why_counts_also_where_another_ended_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("failed", reason="a worker of the loader was killed", exit_code=TEMPORARY)
    assert note_deaths(folder, {0: 1, 1: -SIGTERM}) == TEMPORARY
    assert folder.status()["reason"] == "a worker of the loader was killed"


def test_a_rank_that_was_killed_while_memory_ran_out_is_told_so(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")
    assert note_deaths(folder, {0: 1, 1: -SIGKILL}, is_memory_full=True) == TEMPORARY
    assert folder.status()["reason"].startswith("rank 1 was killed by SIGKILL: the kernel ended a process")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON file can be written any more."""

    def refuse(path: Path, _: object) -> None:
        raise NoSpaceError(f"no space left in {path.parent}")

    monkeypatch.setattr(run_files, "write_json", refuse)


@pytest.mark.parametrize("error", [ValueError("the loss is nan"), NoSpaceError("the loss is nan")])
@pytest.mark.usefixtures("full_disk")
def test_a_reason_that_finds_no_room_is_printed_and_the_job_ends_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    (tmp_path / "config.yaml").write_text("trainer: {nodes: 1, devices: 1}")
    monkeypatch.setattr(run, "train_and_evaluate", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert job.main([str(tmp_path), "single"]) == FAILED
    said = capsys.readouterr().err
    assert f"{tmp_path}: failed: " in said
    assert f"the loss is nan; but status.json does not say so: no space left in {tmp_path}" in said


@pytest.mark.parametrize(("codes", "code"), [({0: -SIGKILL}, TEMPORARY), ({0: 3}, FAILED)])
@pytest.mark.usefixtures("full_disk")
def test_ranks_that_died_on_a_full_disk_keep_their_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], codes: dict[int, int], code: int
) -> None:
    assert note_deaths(RunFolder(tmp_path), codes) == code
    assert "rank" in capsys.readouterr().err


def test_ranks_whose_status_cannot_be_read_keep_their_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "status.json").write_text('{"format": 99}')
    assert note_deaths(RunFolder(tmp_path), {0: -SIGKILL}) == TEMPORARY
    assert "rank 0 was killed by SIGKILL; but status.json does not say so" in capsys.readouterr().err


def test_what_lightning_asks_of_pytorch_for_several_ranks_is_not_warned_of(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            job._quieten()
            DistributedDataParallel(torch.nn.Linear(1, 1), broadcast_buffers=False)
    finally:
        dist.destroy_process_group()
    assert [str(each.message) for each in said] == []


def _remove(folder: RunFolder) -> None:
    shutil.rmtree(folder.path)


def _log(folder: RunFolder) -> None:
    log = CsvLog(folder.path / "metrics.csv")
    _remove(folder)
    log.log_metrics({"train/loss": 1.0}, 1)


def _save(folder: RunFolder) -> None:
    _remove(folder)
    Checkpoints(folder=folder, every=1).on_train_end(Mock(global_step=1), Mock())


def _measure(folder: RunFolder) -> None:
    def evaluate(*_: Any, **__: Any) -> dict[str, Mock]:
        _remove(folder)
        return {"single": Mock(**{"records.save": lambda path: write_bytes(path, b"records")})}

    with patch.multiple(measuring, evaluate_protocols=evaluate, scored_on=lambda *_: {}, feeding_of=Mock()):
        measuring.measure(folder, {}, Mock(), Mock(), {"single": "single"})


def _note(folder: RunFolder) -> None:
    _remove(folder)
    folder.set_status("running", evaluating="1/2")


def _add(folder: RunFolder) -> None:
    _remove(folder)
    folder.add_results(training={"steps": 1})


@pytest.mark.parametrize("write", [_log, _save, _measure, _note, _add])
def test_a_folder_that_is_removed_under_its_run_is_told_in_a_line_and_not_made_anew(
    write: Callable[[RunFolder], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(config_yaml="trainer: {nodes: 1, devices: 1}\n", facts={})
    monkeypatch.setattr(run, "train_and_evaluate", lambda *_: write(folder))
    assert job.main([str(folder.path), "single"]) == FAILED
    said = capsys.readouterr().err
    assert said == f"error: {folder.path}: the run's folder was removed or renamed while the run went on\n"
    assert not folder.path.exists()


def test_a_file_in_the_place_of_the_checkpoints_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.create(config_yaml="trainer: {nodes: 1, devices: 1}\n", facts={})
    (tmp_path / "checkpoints").touch()
    monkeypatch.setattr(run, "train_and_evaluate", lambda *_: write_bytes(folder.last_checkpoint, b"state"))
    assert job.main([str(tmp_path), "single"]) == FAILED
    told = f"{tmp_path / 'checkpoints'}: File exists; move it away and run the same command again"
    assert capsys.readouterr().err == f"error: {told}\n"
    assert folder.status()["reason"] == told


def test_a_full_memory_that_a_file_of_the_run_meets_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.create(config_yaml="trainer: {nodes: 1, devices: 1}\n", facts={})
    full = Mock(side_effect=OSError(errno.ENOMEM, "Cannot allocate memory", str(folder.last_checkpoint)))
    monkeypatch.setattr(run, "train_and_evaluate", full)
    monkeypatch.setattr(full_memory, "advice", lambda *_, **__: "Lower it")
    assert job.main([str(tmp_path), "single"]) == FAILED
    assert folder.status()["reason"].startswith("out of memory in training ([Errno 12] Cannot allocate memory")


def test_a_folder_in_the_place_of_a_checkpoint_is_named_and_not_the_file_that_was_to_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.create(config_yaml="trainer: {nodes: 1, devices: 1}\n", facts={})
    folder.best_checkpoint.mkdir(parents=True)
    monkeypatch.setattr(run, "train_and_evaluate", lambda *_: write_bytes(folder.best_checkpoint, b"state"))
    assert job.main([str(tmp_path), "single"]) == FAILED
    told = f"{folder.best_checkpoint}: Is a directory; move it away and run the same command again"
    assert capsys.readouterr().err == f"error: {told}\n"
