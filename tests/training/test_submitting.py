"""A run that ends in a file for a test server, after a training that it starts from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ..conftest import archived_pictures

ROW = ("+experiment=deeplabv3/table13", "scale=smoke", "rows=[deeplabv3-coarse]")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    ended = _sweep(folder)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "outputs"


def _sweep(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "atrous.commands.train", "-m", *ROW]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.exhaustive
def test_the_archive_holds_a_prediction_of_every_test_image_and_nothing_was_scored_on_val(store: Path) -> None:
    (archive,) = store.glob("runs/*/seed0/evaluation/ms_flip_os8/submission_plain.zip")
    found = archived_pictures(archive)
    assert sorted(found) == [f"test_{index:06d}.png" for index in range(4)]
    assert {picture.shape for picture in found.values()} == {(129, 129)}
    assert max(int(np.max(picture)) for picture in found.values()) < 11
    run = archive.parents[2]
    assert json.loads((run / "results.json").read_text())["evaluations"] == {}
    parent = Path(json.loads((run / "run.json").read_text())["parent"])
    assert json.loads((store.parent / parent / "status.json").read_text())["state"] == "done"


@pytest.mark.exhaustive
def test_a_second_sweep_finds_the_archive_and_writes_none(store: Path) -> None:
    (archive,) = store.glob("runs/*/seed0/evaluation/ms_flip_os8/submission_plain.zip")
    before = archive.stat().st_mtime_ns
    ended = _sweep(store.parent)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "done before" in ended.stdout
    assert archive.stat().st_mtime_ns == before
