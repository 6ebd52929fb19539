"""Damaged files of a run: set aside and made anew by the run's own command, without training what is trained."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.errors import StoreError
from atrous.studies import jobs

from .conftest import FakeJobs


@pytest.mark.parametrize("name", ["results.json", "status.json", "run.json"])
def test_a_damaged_file_of_a_finished_run_is_kept_told_and_made_anew(
    fake_jobs: FakeJobs, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = fake_jobs.job("a")
    jobs.run(job, capture=True)
    sound = {path.name: json.loads(path.read_text()) for path in job.folder.path.glob("*.json")}
    (job.folder.path / name).write_text('{"truncat')
    jobs.run(job, capture=True)
    assert (job.folder.path / f"{name}.damaged-1").read_text() == '{"truncat'
    assert f"{job.folder.path / name} was damaged: kept as {name}.damaged-1" in capsys.readouterr().err
    mended = {path.name: json.loads(path.read_text()) for path in job.folder.path.glob("*.json")}
    assert mended == sound
    assert job.folder.is_done
    assert jobs.run(job) == "skipped"
    assert capsys.readouterr().err == ""


def test_a_damaged_identity_is_rewritten_without_a_new_start(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    jobs.run(job, capture=True)
    events = fake_jobs.events()
    (job.folder.path / "run.json").write_text("")
    assert jobs.run(job) == "skipped"
    assert job.folder.facts()["name"] == job.identity.name
    assert fake_jobs.events() == events


@pytest.mark.parametrize("name", ["results.json", "status.json", "run.json"])
def test_a_run_of_a_newer_version_is_refused_before_anything_is_written(
    composed: Callable[..., DictConfig], tmp_path: Path, name: str
) -> None:
    config = composed(f"store={tmp_path}")
    folder = jobs.prepare(config, []).folder.path
    folder.mkdir(parents=True)
    (folder / name).write_text('{"format": 2}')
    with pytest.raises(StoreError, match="newer version") as caught:
        jobs.prepare(config, [])
    assert str(folder) in str(caught.value)
    assert [path.name for path in folder.iterdir()] == [name]


def test_a_run_that_is_killed_after_its_result_was_written_is_done(fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(a="late")
    assert jobs.run(fake_jobs.job("a"), capture=True) == "done"
