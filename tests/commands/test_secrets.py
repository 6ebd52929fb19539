"""A run folder that was tampered with runs nothing, and no secret of the environment is written into one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from atrous.run_store import RunFolder

from .conftest import Trained, run_command

SECRETS = {
    "WANDB_API_KEY": "5ecre7" * 6 + "beef",  # pragma: allowlist secret
    "HF_TOKEN": "hf_thisIsNobodysToken",
    "AWS_SECRET_ACCESS_KEY": "nobodysSecretAccessKey",  # pragma: allowlist secret
}


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


@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
def test_no_secret_of_the_environment_is_written_down(tmp_path: Path) -> None:
    overrides = [
        "backbone=tiny",
        "backbone.units=[1,1,1,1]",
        "backbone.width=4",
        "model=deeplabv3",
        "recipe.max_steps=1",
    ]
    overrides += ["model.aspp_channels=8", "recipe.batch_size=2", "recipe.crop_size=33", "data.num_workers=0"]
    overrides += ["data.train.length=2", "data.train.size=33", "data.val.length=1", "data.val.size=33", "logger=wandb"]
    ended = run_command("train", *overrides, "logger.wandb.mode=offline", cwd=tmp_path, environment=SECRETS)
    assert ended.code == 0, ended.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    for secret in SECRETS.values():
        assert secret not in ended.out + ended.err
        assert not [path for path in files if secret.encode() in path.read_bytes()]
