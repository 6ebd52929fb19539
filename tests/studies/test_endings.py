"""How a run ended is noted, or, on a disk that is full, printed: the noting never replaces the ending."""

import errno
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from atrous import full_memory, run_files
from atrous.files import NoSpaceError
from atrous.processes import Interrupted
from atrous.run_store import RunFolder
from atrous.studies import jobs
from atrous.studies.endings import note_death, note_full_memory, note_restart, note_stop

from .conftest import FakeJobs


def _fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: object) -> None:
        raise NoSpaceError(f"no space left in {path.parent}")

    monkeypatch.setattr(run_files, "write_json", refuse)


def test_endings_are_noted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running", step=3)
    assert note_death(folder, -SIGKILL) == "killed by SIGKILL"
    assert note_restart(folder, -SIGKILL, number=1, of=2).startswith("killed by SIGKILL, at step 3: started again")
    assert (folder.status()["state"], folder.status()["restarts"]) == ("queued", 1)
    again = note_death(folder, -SIGKILL)
    assert again == "killed by SIGKILL; it was started again 1x before (trainer.restarts)" == folder.status()["reason"]
    folder.set_status("running")
    assert note_death(folder, 3) == "exit code 3 without a result"
    assert note_stop(folder) == "ended on request before it could save: the steps since its last checkpoint are lost"
    assert folder.status()["reason"] == "ended on request before it could save (exit code 3 without a result)"
    assert not note_stop(folder)


@pytest.mark.parametrize(
    ("steps", "lost"), [(20, "its training is saved"), (15, "the steps since its last checkpoint")]
)
def test_a_run_that_ends_in_its_evaluation_has_lost_no_step(tmp_path: Path, steps: int, lost: str) -> None:
    folder = RunFolder(tmp_path)
    folder.create(config_yaml="recipe: {max_steps: 20}\n", facts={})
    folder.add_results(training={"steps": steps})
    folder.set_status("running", step=20, evaluating="1/7")
    assert lost in note_stop(folder)
    assert ("in its evaluation" in folder.status()["reason"]) is (steps == 20)


def test_a_run_whose_config_says_nothing_of_its_steps_is_noted_as_stopped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create(config_yaml="recipe: null\n", facts={})
    folder.add_results(training={"steps": 20})
    folder.set_status("running", step=20)
    assert "before it could save" in note_stop(folder)
    assert folder.status()["state"] == "stopped"


def test_endings_that_find_no_room_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running", step=3)
    _fill_disk(monkeypatch)
    said = f"; but status.json does not say so: no space left in {tmp_path}\n"
    assert note_death(folder, -SIGKILL) == "killed by SIGKILL"
    assert capsys.readouterr().err == f"{tmp_path}: failed: killed by SIGKILL{said}"
    note_stop(folder)
    assert capsys.readouterr().err == f"{tmp_path}: stopped: ended on request before it could save{said}"
    assert note_restart(folder, -SIGKILL, number=1, of=2).startswith("killed by SIGKILL, at step 3: started again")
    assert f"queued again: killed by SIGKILL{said}" in capsys.readouterr().err


@pytest.mark.parametrize("state", ["queued", "running", "done", "stopped", "failed"])
def test_full_memory_is_noted_where_nothing_else_was(tmp_path: Path, state: str) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status(state, reason="before")
    note_full_memory(folder)
    if state in ("queued", "running"):
        assert note_death(folder, -SIGKILL).startswith("killed by SIGKILL: the kernel ended a process meanwhile")
        assert folder.status()["exit_code"] == -SIGKILL
    else:
        assert (folder.status()["state"], folder.status().get("reason")) == (state, "before")


def test_a_job_that_is_killed_for_memory_is_failed_with_what_to_lower(
    fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([3])
    monkeypatch.setattr(full_memory, "kills", lambda: next(counts, 4))
    fake_jobs.behave(a="kill")
    with pytest.raises(jobs.JobError, match="killed by SIGKILL: the kernel ended a process meanwhile"):
        jobs.run(fake_jobs.job("a"), capture=True)


def test_an_ending_that_is_noted_without_a_reason_gets_its_exit_code(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("failed")
    assert note_death(folder, 3) == "exit code 3 without a result"


def test_a_signal_stays_the_ending_on_a_full_disk(
    fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> int:
        _fill_disk(monkeypatch)
        raise Interrupted(SIGTERM)

    monkeypatch.setattr(jobs, "_run_process", interrupt)
    with pytest.raises(Interrupted) as caught:
        jobs.run(fake_jobs.job("a"), capture=True)
    assert caught.value.number == SIGTERM
    assert "stopped: ended on request before it could save; but status.json does not say so" in capsys.readouterr().err


def test_a_job_that_was_cancelled_is_stopped_on_a_full_disk(
    fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*_: Any, **__: Any) -> int:
        _fill_disk(monkeypatch)
        return -SIGTERM

    monkeypatch.setattr(jobs, "_run_process", end)
    assert jobs.run(fake_jobs.job("a"), capture=True, cancelled=lambda: True) == "stopped"
    assert "but status.json does not say so" in capsys.readouterr().err


def test_the_folder_of_a_run_that_was_removed_is_not_made_anew_for_its_status(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "gone")
    assert note_death(folder, 1) == f"{folder.path}: the run's folder was removed or renamed while the run went on"
    assert not folder.path.exists()


def test_a_run_whose_disk_is_away_is_not_told_as_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, **_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    assert note_death(RunFolder(tmp_path), 1) == "exit code 1 without a result"
    assert "but status.json does not say so: [Errno 5] Input/output error" in capsys.readouterr().err
