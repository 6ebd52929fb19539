"""A run folder that was tampered with runs nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from atrous.run_store import RunFolder

from .conftest import Trained, run_command


@pytest.mark.every(4)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize(
    ("name", "key"),
    [("evaluate", "model"), pytest.param("evaluate", "data.val", marks=pytest.mark.exhaustive), ("export", "backbone")],
)
def test_a_tampered_config_of_a_run_runs_nothing(tmp_path: Path, trained: Trained, name: str, key: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.rows[0], run)
    config = RunFolder(run).config()
    node: dict[str, Any] = config["data"] if key == "data.val" else config
    harm = {"_target_": "atrous.studies.pool.subprocess.run", "args": ["touch", str(tmp_path / "harm")]}
    node[key.rsplit(".", maxsplit=1)[-1]] = harm
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = {"evaluate": ["protocol=ms_os8"], "export": ["format=safetensors", f"output={tmp_path / 'out'}"]}[name]
    ended = run_command(name, f"run={run}", *arguments, cwd=tmp_path, computes=True)
    assert ended.code == 2
    assert "_target_" in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "harm").exists()
