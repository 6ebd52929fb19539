"""A table on a real local Ray cluster through Hydra's Ray launcher; `make test-all` where the extra is installed."""

import importlib.util
from pathlib import Path

import pytest

from .conftest import TABLE, confusions, runs, train

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None or importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None,
        reason="no Ray: pip install 'atrous[ray]'",
    ),
]
RAY = ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2")


def test_a_table_on_ray_equals_the_one_of_local_processes(tmp_path: Path) -> None:
    table = (*TABLE, "recipe.precision=32-true")
    ended = train("-m", *table, *RAY, "store=ray", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 runs: 2 for RayLauncher, 0 done before" in ended.stdout
    assert "not a measurement: two steps" in ended.stdout
    found = runs(tmp_path / "ray")
    assert {row: run["status"]["state"] for row, run in found.items()} == {"os8": "done", "os16": "done"}
    assert train("-m", *table, "store=local", cwd=tmp_path).returncode == 0
    assert confusions(found) == confusions(runs(tmp_path / "local"))
