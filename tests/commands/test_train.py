"""atrous-train: help, completion, --cfg, and a small table from the first command to the report."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from atrous.resources import conf_folder, experiments_folder

from .conftest import SMOKE_TABLE, Run, Trained


def test_help_shows_how_to_start_and_what_there_is_to_choose(atrous: Run) -> None:
    ended = atrous("train", "--help")
    assert ended.code == 0
    lines = ended.out.splitlines()
    listed = " ".join(ended.out.split())
    assert f"backbone: {', '.join(choices_of('backbone'))}" in listed
    assert f"experiment: {', '.join(tables())}" in listed
    assert "  atrous-train -m +experiment=deeplabv3/table1 scale=shapes seed=0,1,2" in lines
    assert "schema" not in ended.out
    assert max(map(len, lines)) <= 120
    assert ended.heavy == []


def test_the_config_can_be_shown_with_overrides_on_either_side_of_a_flag(atrous: Run, tmp_path: Path) -> None:
    for arguments in (("--cfg", "job", "seed=4"), ("seed=4", "--cfg", "job"), ("seed=1", "--cfg", "job", "seed=4")):
        ended = atrous("train", *arguments)
        assert ended.code == 0
        assert yaml.safe_load(ended.out)["seed"] == 4
    assert list(tmp_path.iterdir()) == []


def choices_of(group: str) -> list[str]:
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def tables() -> list[str]:
    folder = experiments_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


@pytest.mark.parametrize(("word", "choices"), [("+experiment=", tables), ("recipe=", partial(choices_of, "recipe"))])
def test_choices_are_completed_in_the_shell(atrous: Run, word: str, choices: Callable[[], list[str]]) -> None:
    ended = atrous("train", "-sc", "query=bash", COMP_LINE=f"atrous-train {word}")
    assert ended.out.split() == [f"{word}{choice}" for choice in choices()]


@pytest.mark.slow
def test_a_table_is_trained_and_reported(trained: Trained) -> None:
    assert trained.ended.code == 0, trained.ended.err
    assert trained.ended.heavy == [], "the sweep itself stays light: every job is a process of its own"
    assert len(trained.rows) == 2
    for run in trained.rows:
        assert json.loads((run / "status.json").read_text())["state"] == "done"
        assert (run / "checkpoints" / "last.ckpt").is_file()
        assert (run / "metrics.csv").is_file()
        results = json.loads((run / "results.json").read_text())
        assert results["training"]["steps"] == 2
        assert results["evaluations"]["single"]["images"] == 4
    assert "not a measurement: two steps" in trained.ended.out


@pytest.mark.slow
def test_the_same_table_again_trains_nothing(trained: Trained) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*.ckpt")}
    ended = trained.run("train", "-m", *SMOKE_TABLE)
    assert ended.code == 0
    assert ended.out.count("done before") == 2
    assert {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*.ckpt")} == before


@pytest.mark.slow
def test_the_command_of_a_row_is_the_same_run(trained: Trained) -> None:
    for run in trained.rows:
        command = json.loads((run / "run.json").read_text())["command"]
        ended = trained.run("train", *shlex.split(command)[1:])
        assert ended.code == 0
        assert f"run: {run.relative_to(trained.folder)}" in ended.out
        assert "nothing to train; mIoU" in ended.out


@pytest.mark.slow
def test_ctrl_c_ends_the_job_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = ["-m", "atrous.commands.train", "backbone=tiny", "data.train.length=8", "data.val.length=2"]
    arguments += [
        "recipe.batch_size=2",
        "recipe.max_steps=100000",
        "trainer.threads=1",
        "data.num_workers=0",
        "trainer.log_every=1",
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    status = _wait_for_step(tmp_path, 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"stopping: it saves where it is \(for up to \d\d+ seconds; ", err)
    assert "error: interrupted; the same command goes on where it stopped" in err
    assert "before it could save" not in err
    after = _status(tmp_path)
    assert after["state"] == "stopped"
    assert int(str(after["step"])) >= 1
    assert not Path(f"/proc/{status['pid']}").exists()
    assert len(list(tmp_path.glob("outputs/runs/*/seed0/checkpoints/last.ckpt"))) == 1


def _status(folder: Path) -> dict[str, object]:
    files = list(folder.glob("outputs/runs/*/seed0/status.json"))
    content: dict[str, object] = json.loads(files[0].read_text()) if files else {}
    return content


def _wait_for_step(folder: Path, step: int) -> dict[str, object]:
    end = time.monotonic() + 300
    while int(str(_status(folder).get("step", 0))) < step:
        assert time.monotonic() < end, "the training does not start"
        time.sleep(0.1)
    return _status(folder)
