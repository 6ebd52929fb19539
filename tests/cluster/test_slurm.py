"""A table on a real SLURM through Hydra's submitit launcher; `make test-all` where SLURM and the extra are there."""

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import COMMAND, SMALL, TABLE, confusions, runs, train
from .slurm import missing_programs, running_slurm

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        bool(missing_programs()),
        reason=f"no {', '.join(missing_programs())}: apt-get install slurmctld slurmd slurm-client munge",
    ),
]
needs_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None
    or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None,
    reason="no hydra-submitit-launcher: pip install 'atrous[slurm]'",
)
TWO_TASKS = ("hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=30")


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment of a cluster of one node with two CPUs."""
    with running_slurm(cpus=2) as environment:
        yield environment


@needs_submitit
def test_a_table_with_two_tasks_per_job_equals_the_one_of_two_local_processes(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    table = (*TABLE, "recipe.batch_size=4", "recipe.precision=32-true", "trainer.devices=2")
    ended = train("-m", *table, *TWO_TASKS, "store=slurm", cwd=tmp_path, **slurm)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 runs: 2 for SlurmLauncher, 0 done before" in ended.stdout
    assert "not a measurement: two steps" in ended.stdout
    found = runs(tmp_path / "slurm")
    assert {row: run["status"]["state"] for row, run in found.items()} == {"os8": "done", "os16": "done"}
    assert {run["results"]["training"]["devices"] for run in found.values()} == {2}
    assert train("-m", *table, "store=local", cwd=tmp_path).returncode == 0
    assert confusions(found) == confusions(runs(tmp_path / "local"))
    again = train("-m", *table, *TWO_TASKS, "store=slurm", cwd=tmp_path, **slurm)
    assert "2 runs: 0 for SlurmLauncher, 2 done before" in again.stdout


@needs_submitit
def test_one_job_that_fails_on_its_node_leaves_the_other_and_the_exit_code_says_so(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    sweep = ("-m", *SMALL, "recipe.max_steps=2", "recipe.optimizer.lr=0.01,1e30", "trainer.devices=2", *TWO_TASKS)
    ended = train(*sweep, cwd=tmp_path, **slurm)
    assert ended.returncode == 1
    assert "1 of 2 runs have no result" in ended.stderr
    assert "the loss is nan" in ended.stderr
    assert sorted(run["status"]["state"] for run in runs_of(tmp_path)) == ["done", "failed"]


def test_a_preempted_job_goes_on_from_its_checkpoint_when_slurm_starts_it_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    """As on a node that SLURM takes away: every task is killed, and the job waits for the next node."""
    script = tmp_path / "job.sh"
    arguments = [
        *SMALL,
        "recipe.max_steps=60",
        "trainer.checkpoint_every=5",
        "trainer.devices=2",
        "trainer.val_every=60",
    ]
    command = " ".join(f"'{text}'" for text in (*COMMAND, *arguments))
    script.write_text(f"#!/bin/bash\nsrun -n 2 {command}\n")
    submit = ["sbatch", "--parsable", "--requeue", "-n", "2", "--open-mode=append", "--output=log", str(script)]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **slurm}
    done = subprocess.run(submit, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    step = _wait_for_step(tmp_path, 10)
    subprocess.run(["scontrol", "requeue", done.stdout.strip()], env=variables, check=True)
    log = tmp_path / "log"
    _wait_for(lambda: log.read_text().count("run: outputs/runs") == 2, tmp_path)
    _wait_for_step(tmp_path, 60)
    _wait_for(lambda: "mIoU" in log.read_text(), tmp_path)
    _, first, second = log.read_text().split("run: outputs/runs")
    assert _steps(first)[0] == 1
    assert _steps(second)[0] >= step - 5, "it goes on from a checkpoint"
    assert _steps(second)[-1] == 60
    (run,) = runs_of(tmp_path)
    assert run["status"]["state"] == "done"


def _steps(log: str) -> list[int]:
    return [int(line.split("/")[0].removeprefix("step ")) for line in log.splitlines() if "  loss " in line]


def runs_of(folder: Path) -> list[dict[str, Any]]:
    """The runs in outputs/."""
    return list({str(run["folder"]): run for run in runs(folder / "outputs").values()}.values())


def _wait_for_step(folder: Path, step: int) -> int:
    def reached() -> int:
        files = list(folder.glob("outputs/runs/*/seed0/status.json"))
        return int(json.loads(files[0].read_text()).get("step", 0)) if files else 0

    _wait_for(lambda: reached() >= step, folder)
    return reached()


def _wait_for(condition: object, folder: Path) -> None:
    assert callable(condition)
    end = time.monotonic() + 600
    while not condition():
        log = folder / "log"
        assert time.monotonic() < end, log.read_text() if log.is_file() else "the job does not start"
        time.sleep(0.5)
