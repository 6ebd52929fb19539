"""A run whose machine died is taken up by the next that is asked for it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import COMMAND, SMALL, runs, train


@pytest.mark.exhaustive
def test_a_run_that_was_killed_with_its_whole_machine_goes_on_elsewhere(tmp_path: Path) -> None:
    arguments = [*SMALL, "recipe.max_steps=300", "trainer.checkpoint_every=2", "trainer.val_every=300"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=environment, start_new_session=True)
    status = _wait_for_step(tmp_path, 5)
    for victim in (process.pid, int(str(status["pid"]))):
        os.kill(victim, signal.SIGKILL)
    process.wait()
    (folder,) = tmp_path.glob("outputs/runs/*/seed0")
    before = json.loads((folder / "status.json").read_text())
    assert before["state"] == "running", "nobody was left to say otherwise"
    ended = train(*arguments, "trainer.stop_at_step=12", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in ended.stdout.splitlines() if "  loss " in line]
    assert 1 < steps[0] <= int(before["step"]) + 1, "from the last checkpoint"
    (run,) = runs(tmp_path / "outputs").values()
    assert run["status"]["state"] == "stopped"


@pytest.mark.exhaustive
def test_a_run_that_is_being_trained_is_waited_for(tmp_path: Path) -> None:
    """The lock is held by every process of the tree, so a launcher that died alone does not free it."""
    arguments = [*SMALL, "recipe.max_steps=2"]
    first = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    second = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    said = [process.communicate(timeout=600)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert sum("done before, nothing to train" in text for text in said) == 1


def _wait_for_step(folder: Path, step: int) -> dict[str, object]:
    end = time.monotonic() + 300
    while True:
        files = list(folder.glob("outputs/runs/*/seed0/status.json"))
        status: dict[str, object] = json.loads(files[0].read_text()) if files else {}
        if int(str(status.get("step", 0))) >= step:
            return status
        assert time.monotonic() < end, "the training does not start"
        time.sleep(0.05)
