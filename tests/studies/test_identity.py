"""The identity of a training: what changes it, what must not, and that it is the same everywhere."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.studies.configuration import resolve
from atrous.studies.identity import Identity, identify, tells_apart

pytestmark = pytest.mark.no_cover  # what it runs is counted in other tests, in half the time

Compose = Callable[..., DictConfig]


def _identity(composed: Compose, *overrides: str) -> Identity:
    return identify(resolve(composed(*overrides)))


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "override",
    [
        "model=deeplabv3",
        "model.low_level_channels=32",
        "backbone=resnet50",
        "backbone.width=32",
        "output_stride=8",
        "data.train.length=100",
        "data.val.length=10",
        "data.evaluation_size=[257,257]",
        "recipe.optimizer.lr=0.2",
        "recipe.max_steps=10",
        "recipe.augmentation.flip_probability=0.0",
        "recipe.precision=32-true",
        "trainer.accumulate=2",
    ],
)
def test_whatever_can_change_weights_or_scores_changes_the_run(composed: Compose, override: str) -> None:
    before, after = _identity(composed), _identity(composed, override)
    assert after.name != before.name
    assert after.key != before.key
    assert tells_apart(override.split("=", maxsplit=1)[0])


def test_a_key_tells_runs_apart_exactly_where_its_value_is_part_of_their_identity(
    changed: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, value in node.items():
            yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]

    base = {"data.bootstrap.classes": ["pole"]}
    others = {"seed", "recipe.pretrained", "data.classes", "parent"}  # the last two act through what reads them
    names = {key: identify(changed({**base, key: [12345]})).name for key in leaves(changed(base)) if key not in others}
    same = identify(changed(base)).name
    assert len(set(names.values())) > 30
    assert [key for key, name in names.items() if tells_apart(key) != (name != same)] == []
    assert [key for key in sorted(others) if tells_apart(key)] == ["data.classes", "parent", "recipe.pretrained"]


@pytest.mark.every(3)
@pytest.mark.parametrize(
    "override",
    [
        "data.num_workers=0",
        "data.val_batch_size=1",
        "trainer.devices=2",
        "trainer.threads=1",
        "trainer=debug",
        "trainer.stop_at_step=5",
        "logger=wandb",
        "store=elsewhere",
        "table=some/table",
        "row=r",
        "protocols=[ms_os8]",
    ],
)
def test_where_and_for_whom_it_runs_does_not_change_the_run(composed: Compose, override: str) -> None:
    assert _identity(composed, override) == _identity(composed)


def test_the_folder_of_the_data_does_not_change_the_run(composed: Compose) -> None:
    assert _identity(composed, "data=voc", "data.root=/a") == _identity(composed, "data=voc", "data.root=/b")


def test_the_seed_is_a_folder_below_the_run(composed: Compose) -> None:
    first, second = _identity(composed, "seed=1"), _identity(composed, "seed=2")
    assert first.name == second.name
    assert first.key != second.key
    assert first.folder("store").path == Path("store", "runs", first.name, "seed1")


def test_a_cut_run_is_of_the_same_family_and_nothing_else_is(composed: Compose) -> None:
    full = _identity(composed)
    assert _identity(composed, "recipe.max_steps=1", "seed=4").family == full.family
    assert _identity(composed, "recipe.batch_size=8").family != full.family


def test_initial_weights_count_by_content(composed: Compose, tmp_path: Path) -> None:
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (_identity(composed, f"recipe.pretrained={tmp_path / name}.pth") for name in "abc")
    assert a == b
    assert a != c
    with pytest.raises(ConfigError, match=r"recipe\.pretrained='gone\.pth' cannot be read"):
        _identity(composed, "recipe.pretrained=gone.pth")


@pytest.mark.parametrize("model", ["deeplabv3", "deeplabv3_cascade", "deeplabv3plus"])
def test_names_are_safe_on_every_file_system(composed: Compose, model: str) -> None:
    name = _identity(composed, f"model={model}", "output_stride=8").name
    assert re.fullmatch(r"[a-z0-9._-]{1,80}", name)


def test_identity_is_the_same_in_every_process(composed: Compose) -> None:
    script = (
        "from hydra import compose, initialize_config_dir\n"
        "from atrous.resources import conf_folder\n"
        "from atrous.studies.configuration import resolve\n"
        "from atrous.studies.identity import identify\n"
        "from atrous.studies.schema import register\n"
        "register()\n"
        "with initialize_config_dir(version_base='1.3', config_dir=str(conf_folder())):\n"
        "    print(identify(resolve(compose('train', ['output_stride=8', 'model.dropout=0.2']))))\n"
    )
    overrides = ("model.dropout=0.2", "output_stride=8")
    here = str(_identity(composed, *overrides))
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert done.stdout.strip() == here
