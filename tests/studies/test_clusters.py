"""Sweeps by launchers that are not ours: checked before, submitted only where needed, read from the store after."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.studies import clusters, jobs
from atrous.studies.clusters import LaunchError

from .conftest import FakeJobs

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]
SUBMITIT = {"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}
BASIC = {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}


class UncompletedJobError(RuntimeError):
    """As submitit names its own."""


class SerialLauncher:
    """Runs jobs one by one, as Hydra's basic launcher does; some of them die as on a node that is gone."""

    def __init__(self, composed: Compose, *, deadly: Sequence[str] = ()) -> None:
        self._composed, self._deadly = composed, deadly
        self.submitted: list[list[str]] = []
        self.params = {"submitit_folder": "/nowhere/%j"}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        assert initial_job_idx == 0
        self.submitted = [list(overrides) for overrides in job_overrides]
        returns, died = [], False
        for overrides in job_overrides:
            if set(self._deadly) & set(overrides):
                died = True
                continue
            result = JobReturn(overrides=overrides)
            try:
                job = jobs.prepare(self._composed(*overrides), list(overrides))
                jobs.run(job, capture=True)
                result.status, result.return_value = JobStatus.COMPLETED, job.score()
            except ValueError as error:
                result.status, result.return_value = JobStatus.FAILED, error
            returns.append(result)
        if died:
            raise UncompletedJobError("Job 1_0 has not produced any output (state: NODE_FAIL)\nand much more")
        return returns


@pytest.fixture
def launcher(composed: Compose, fake_jobs: FakeJobs) -> SerialLauncher:
    return SerialLauncher(composed)


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Overrides of one job per output stride."""
    fixed = [f"store={tmp_path / 'store'}", "trainer.accelerator=cpu"]
    return lambda *strides: [[f"output_stride={stride}", f"row=os{stride}", *fixed] for stride in strides]


def launch(launcher: Any, overrides: list[list[str]], settings: dict[str, Any] = BASIC, **options: Any) -> list[Any]:
    """How each job ended: its mIoU or its error."""
    returns = clusters.launch(launcher, settings, overrides, **{"fail_fast": False, **options})
    assert [list(one.overrides or ()) for one in returns] == overrides
    return [one._return_value for one in returns]


Sweep = Callable[..., list[list[str]]]


def test_every_job_is_run_and_its_score_given_back(launcher: SerialLauncher, sweep: Sweep) -> None:
    assert launch(launcher, sweep(8, 16)) == pytest.approx([0.008, 0.016])


def test_what_is_done_is_not_submitted(launcher: SerialLauncher, sweep: Sweep) -> None:
    launch(launcher, sweep(16))
    assert launch(launcher, sweep(8, 16)) == pytest.approx([0.008, 0.016])
    assert launcher.submitted == sweep(8)
    launcher.submitted = []
    launch(launcher, sweep(8, 16))
    assert launcher.submitted == []


def test_nothing_is_submitted_when_one_job_cannot_be_run(launcher: SerialLauncher, sweep: Sweep) -> None:
    with pytest.raises(ConfigError, match=r"row os12: .*output_stride=12"):
        launch(launcher, sweep(8, 12))
    assert launcher.submitted == []


def test_a_job_that_fails_leaves_the_others(launcher: SerialLauncher, sweep: Sweep, fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(os8="fail")
    failed, score = launch(launcher, sweep(8, 16))
    assert str(failed).startswith("os8 (seed 0) failed: the loss is nan at step 1")
    assert score == pytest.approx(0.016)


def test_a_job_that_died_on_its_node_loses_no_other(composed: Compose, sweep: Sweep, fake_jobs: FakeJobs) -> None:
    fake_jobs.behave(os32="fail")
    died, score, failed = launch(SerialLauncher(composed, deadly=["row=os8"]), sweep(8, 16, 32))
    assert "os8 (seed 0): its process died: Job 1_0 has not produced any output (state: NODE_FAIL)" in str(died)
    assert score == pytest.approx(0.016)
    assert "the loss is nan at step 1" in str(failed)


class _Queue:
    """A cluster that has jobs until `ended` is set."""

    def __init__(self, *, launcher_notices_deaths: bool) -> None:
        self.ended, self.launcher_notices_deaths = threading.Event(), launcher_notices_deaths

    def is_empty(self) -> bool:
        return self.ended.is_set()


@pytest.fixture
def with_queue(monkeypatch: pytest.MonkeyPatch) -> Callable[[_Queue], None]:
    """Puts a queue behind every launcher, and looks at it often."""
    monkeypatch.setattr(clusters, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(clusters, "GRACE_SECONDS", 0.5)
    return lambda queue: monkeypatch.setattr(clusters, "queue_of", lambda *_: queue)


def test_jobs_are_waited_for_after_the_launcher_has_given_up(
    composed: Compose, sweep: Sweep, fake_jobs: FakeJobs, with_queue: Callable[[_Queue], None]
) -> None:
    queue = _Queue(launcher_notices_deaths=True)
    with_queue(queue)

    class GivesUp(SerialLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            def run_late() -> None:
                SerialLauncher(composed).launch(job_overrides[1:], 0)
                queue.ended.set()

            threading.Thread(target=run_late).start()
            raise UncompletedJobError("gone")

    died, score = launch(GivesUp(composed), sweep(8, 16))
    assert "gone" in str(died)
    assert score == pytest.approx(0.016)


def test_a_launcher_that_waits_for_a_job_which_is_gone_is_left(
    composed: Compose, sweep: Sweep, fake_jobs: FakeJobs, with_queue: Callable[[_Queue], None]
) -> None:
    queue = _Queue(launcher_notices_deaths=False)
    with_queue(queue)

    class WaitsForever(SerialLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            super().launch(job_overrides[1:], initial_job_idx)
            queue.ended.set()
            threading.Event().wait()
            return []

    died, score = launch(WaitsForever(composed), sweep(8, 16))
    assert "missing, without a result" in str(died)
    assert score == pytest.approx(0.016)


def test_a_cluster_that_cannot_be_reached_is_an_error_of_the_launcher(composed: Compose, sweep: Sweep) -> None:
    class Absent(SerialLauncher):
        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            raise RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?')

    with pytest.raises(LaunchError, match=r"BasicLauncher could not start the runs: Could not detect \"srun\""):
        launch(Absent(composed), sweep(8))


_HOLDER = """
import sys, time
from pathlib import Path
from atrous.run_store import RunFolder
folder = RunFolder(Path(sys.argv[1]))
with folder.lock():
    folder.set_status("running", host="another-machine", pid=1, step=1)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_taken_up_when_the_process_that_had_it_is_dead(fake_jobs: FakeJobs) -> None:
    job = fake_jobs.job("a")
    command = [sys.executable, "-c", _HOLDER, str(job.folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert jobs.run(job, capture=True, on_busy=lambda: False) == "elsewhere", "while it lives"
        holder.kill()
    assert job.folder.status()["state"] == "running", "nobody was left to say otherwise"
    assert jobs.run(job, capture=True, on_busy=lambda: False) == "done"


def test_fail_fast_is_refused_where_it_cannot_be_kept(launcher: SerialLauncher, sweep: Sweep) -> None:
    with pytest.raises(ConfigError, match=r"fail_fast=true: SlurmLauncher .* hydra/launcher=local"):
        launch(launcher, sweep(8), SUBMITIT, fail_fast=True)
