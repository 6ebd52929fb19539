"""One training as a process tree: what is written, how it ends, what is said about it."""

import shlex
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from atrous import run_process
from atrous.errors import ConfigError, DataError, StoreError
from atrous.studies import jobs
from atrous.studies.jobs import JobError

from .conftest import FakeJobs


def test_preparing_a_job_writes_nothing(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    job = jobs.prepare(composed(f"store={tmp_path / 'store'}"), [])
    assert not (tmp_path / "store").exists()
    assert job.todo == ["single"]
    assert job.devices == 1


def test_a_data_folder_without_the_data_set_is_refused_before_the_start(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="VOCdevkit"):
        jobs.prepare(composed("data=voc", f"data.root={tmp_path}", f"store={tmp_path / 'store'}"), [])
    with pytest.raises(ConfigError, match=r"data\.root has no value"):
        jobs.prepare(composed("data=voc"), [])


def test_the_command_of_a_run_survives_a_shell(fake_jobs: FakeJobs) -> None:
    overrides = ("model.decoder_convolutions=[[3,256]]", "data.root=/with space/$HOME", "seed=1")
    job = fake_jobs.job("a")
    job = jobs.Job(job.config, job.identity, job.folder, overrides)
    assert shlex.split(job.command) == ["atrous-train", *overrides]


def test_a_run_leaves_its_config_its_identity_and_its_log(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("os8", seed=3)
    assert jobs.run(job, capture=True) == "done"
    assert yaml.safe_load(job.folder.config_file.read_text()) == job.config
    facts = job.folder.facts()
    assert (facts["name"], facts["key"], facts["family"], facts["seed"]) == ("net-os8", "key-os8", "family-os8", 3)
    assert (facts["max_steps"], facts["row"], facts["command"]) == (2, "os8", "atrous-train row=os8")
    assert job.folder.log_file.read_text() == "trained os8\n"
    assert job.score() == pytest.approx(0.016 + 0.03)


def test_a_finished_run_is_skipped_and_a_new_protocol_measured(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    assert [jobs.run(job), jobs.run(job)] == ["done", "skipped"]
    more = jobs.Job({**job.config, "protocols": ["single", "ms_os8"]}, job.identity, job.folder, job.overrides)
    assert more.todo == ["ms_os8"]
    assert jobs.run(more) == "done"
    assert more.todo == []


def test_a_finished_run_of_somebody_else_is_skipped_without_its_lock(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    assert jobs.run(job) == "done"
    (job.folder.path / "lock").unlink()
    (job.folder.path / "lock").mkdir()  # root, too, cannot take this one
    assert jobs.run(job) == "skipped"
    more = jobs.Job({**job.config, "protocols": ["ms_os8"]}, job.identity, job.folder, job.overrides)
    with pytest.raises(StoreError, match=r"cannot be locked, to write into it, \(Is a directory\)"):
        jobs.run(more)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("fail", "the loss is nan"), ("kill", "killed by SIGKILL"), ("vanish", "without a result")],
)
def test_a_protocol_that_cannot_be_measured_costs_a_finished_run_nothing(
    fake_jobs: FakeJobs, behaviour: str, reason: str
) -> None:
    job = fake_jobs.job("a")
    jobs.run(job)
    more = jobs.Job({**job.config, "protocols": ["single", "ms_os8"]}, job.identity, job.folder, job.overrides)
    fake_jobs.behave(a=behaviour)
    with pytest.raises(JobError, match=reason):
        jobs.run(more)
    assert job.folder.status()["state"] == "done"
    assert reason in job.folder.status()["last_failure"]
    assert job.todo == []
    assert more.todo == ["ms_os8"], "what is missing, and no more"
    fake_jobs.behave()
    assert jobs.run(more) == "done"
    assert "last_failure" not in job.folder.status()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("fail", "the loss is nan at step 1"), ("kill", "killed by SIGKILL"), ("vanish", "without a result")],
)
def test_a_job_without_a_result_is_failed_with_its_reason(fake_jobs: FakeJobs, behaviour: str, reason: str) -> None:
    fake_jobs.behave(a=behaviour)
    job = fake_jobs.job("a", seed=2)
    with pytest.raises(JobError, match=rf"^a \(seed 2\) failed: .*{reason}") as caught:
        jobs.run(job, capture=True)
    assert str(job.folder.path) in str(caught.value)
    assert job.folder.status()["state"] == "failed"
    assert reason in job.folder.status()["reason"]


def test_a_failed_run_can_be_run_again(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    fake_jobs.behave(a="kill")
    with pytest.raises(JobError):
        jobs.run(job)
    fake_jobs.behave()
    assert jobs.run(job) == "done"
    assert "reason" not in job.folder.results()


@pytest.mark.parametrize("behaviour", ["hang", "stubborn"])
def test_a_cancelled_job_ends_soon_even_if_it_will_not(
    fake_jobs: FakeJobs, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "GRACE_SECONDS", 0.5)
    fake_jobs.behave(a=behaviour)
    job, cancelled = fake_jobs.job("a"), threading.Event()

    def cancel_when_it_runs() -> bool:
        if job.folder.status()["state"] == "running":
            cancelled.set()
        return cancelled.is_set()

    assert jobs.run(job, capture=True, cancelled=cancel_when_it_runs) == "stopped"
    assert job.folder.status()["state"] == "stopped"
    assert not fake_jobs.job("a").folder.is_done


def test_a_job_whose_steps_are_long_has_the_time_of_three_to_save(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    assert job.grace_seconds == jobs.GRACE_SECONDS
    jobs.run(job)
    for speed, seconds in ((0.25, 3 * job.config["recipe"]["batch_size"] / 0.25), (0.0, 0.0)):
        job.folder.set_status("running", images_per_second=speed)
        assert job.grace_seconds == jobs.GRACE_SECONDS + seconds
    (job.folder.path / "status.json").write_text("damaged")
    assert job.grace_seconds == jobs.GRACE_SECONDS


def test_threads_of_a_job_are_limited_before_it_starts(fake_jobs: FakeJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process, "PROGRAM", ("-c", "import os; print(os.environ['OMP_NUM_THREADS'])"))
    job = fake_jobs.job("a", threads=3)
    with pytest.raises(JobError, match="without a result"):
        jobs.run(job, capture=True)
    assert job.folder.log_file.read_text() == "3\n"


def test_a_job_that_was_killed_is_started_again_as_often_as_asked(
    fake_jobs: FakeJobs, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_jobs.behave(a="kill_once", b="kill")
    assert jobs.run(fake_jobs.job("a", restarts=1), capture=True) == "done"
    assert "a (seed 0): killed by SIGKILL, at step 0: started again" in capsys.readouterr().err
    status = fake_jobs.job("a").folder.status()
    assert "reason" not in status
    with pytest.raises(JobError, match="killed by SIGKILL; it was started again 2x before"):
        jobs.run(fake_jobs.job("b", restarts=2), capture=True)
    assert [event[0] for event in fake_jobs.events() if event[3] == "b"] == ["start"] * 3
    with pytest.raises(JobError, match="killed by SIGKILL\n"):
        jobs.run(fake_jobs.job("b", restarts=0), capture=True)


@pytest.mark.parametrize("behaviour", ["fail", "vanish"])
def test_a_job_that_failed_by_itself_is_not_started_again(fake_jobs: FakeJobs, behaviour: str) -> None:
    fake_jobs.behave(a=behaviour)
    with pytest.raises(JobError):
        jobs.run(fake_jobs.job("a", restarts=3), capture=True)
    assert [event[0] for event in fake_jobs.events()] == ["start"]


def test_a_job_whose_folder_was_removed_is_not_started_again(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(a="removed")
    job = fake_jobs.job("a", restarts=3)
    with pytest.raises(JobError, match=r"the run's folder was removed or renamed while the run went on\n"):
        jobs.run(job, capture=True)
    assert [event[0] for event in fake_jobs.events()] == ["start"]
    assert not job.folder.path.exists()


def test_a_job_that_is_killed_after_its_result_was_written_is_not_started_again(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(a="late")
    assert jobs.run(fake_jobs.job("a", restarts=3), capture=True) == "done"
    assert [event[0] for event in fake_jobs.events()] == ["start"]
