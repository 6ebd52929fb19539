"""Mistakes in a table's own file, and keys that are not there: one line with the key and what would be right."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from atrous.commands.explain import explain
from atrous.errors import ConfigError
from atrous.resources import conf_folder
from atrous.studies.composing import raised_by_hydra
from atrous.studies.schema import register
from hydra_plugins.atrous_experiments import ExperimentsSource

HEAD = "# @package experiment\ndefaults: [/experiment_schema@_here_, _self_]\ntable: p/t\npaper: P\ntitle: T\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [{name: a, overrides: [], colums: {x: 1}}]", "unknown key 'colums' in a row; did you mean columns?"),
        ("sclae: 1\nrows: []", "unknown key 'sclae'; there are table, paper, title, "),
        ("rows: [{name: a, overrides: [], paper: {miou: high}}]", "paper.miou='high' is not a number"),
        ("rows: [{name: a, overrides: [], paper: 70.0}]", "paper is a float, not names with values: paper: {NAME"),
        ("rows: [{name: a, overrides: seed=1}]", "overrides is not a list: write its entries in brackets, "),
    ],
)
def test_a_mistake_in_a_tables_file_is_told_with_the_file_and_the_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "experiment" / "p").mkdir(parents=True)
    (tmp_path / "experiment" / "p" / "t.yaml").write_text(f"{HEAD}{text}\n")
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        with pytest.raises(HydraException) as caught:
            compose(config_name="train", overrides=[f"hydra.searchpath=[file://{tmp_path}]", "+experiment=p/t"])
        assert explain(caught.value, config_name="train").startswith(f"experiments/p/t.yaml: {message}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.root=/images", "unknown key 'data.root'; did you mean data_root?"),
        ("data.val.limit=2", "unknown key 'data.val.limit'; data is null here and has no keys until one is chosen"),
        ("data.num_workers=2", "unknown key 'data.num_workers'; data is null here .* add data=NAME, one of camvid, "),
    ],
)
def test_a_key_of_data_that_was_not_chosen_is_told_with_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(HydraException) as caught:
        _composed("evaluate", "run=R", override)
    assert re.match(message, explain(caught.value, config_name="evaluate"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "hydra/launcher=slurm",
            "hydra/launcher=slurm does not exist; there are local, basic, submitit_slurm, submitit_local, ray",
        ),
        ("hydra/launcher=submitit", "hydra/launcher=submitit does not exist (did you mean submitit_slurm?); there are"),
        ("hydra/sweeper=tpe", "hydra/sweeper=tpe does not exist; there are study, optuna, optuna_learning_rate"),
        ("hydra/job_logging=file", "there is no config 'hydra/job_logging/file'"),
    ],
)
def test_a_launcher_or_sweeper_that_is_none_is_told_with_those_that_are(override: str, message: str) -> None:
    with pytest.raises(HydraException) as caught:
        _composed("train", override)
    assert explain(caught.value, config_name="train").startswith(message)


@pytest.mark.parametrize(
    ("plugin", "override", "message"),
    [
        ("submitit", "hydra/launcher=submitit_slurm", "hydra/launcher=submitit_slurm needs .* 'atrous\\[slurm\\]'"),
        ("ray", "hydra/launcher=ray", "hydra/launcher=ray needs .* 'atrous\\[ray\\]'"),
        ("optuna", "hydra/sweeper=optuna_learning_rate", "hydra/sweeper=optuna needs .* 'atrous\\[optuna\\]'"),
    ],
)
def test_a_launcher_or_sweeper_that_is_not_installed_is_told_with_its_package(
    plugin: str, override: str, message: str
) -> None:
    if find_spec(plugin) is not None:
        pytest.skip(f"{plugin} is installed")
    with pytest.raises(HydraException) as caught:
        _composed("train", override)
    assert re.match(message, explain(caught.value, config_name="train"))


def test_a_tilde_that_hydra_does_not_read_is_told_with_what_would_be_right() -> None:
    for text in ("data.root=~/data", "recipe.pretrained=/home/a.ckpt,~/b.ckpt", "protocols=[~/a]"):
        with pytest.raises(HydraException) as caught:
            _composed("train", "data=voc", text)
        assert "~ is the home folder of a user that there is" in explain(caught.value, config_name="train"), text
    with pytest.raises(HydraException) as caught:
        _composed("train", "rows=os8,[")
    assert "~" not in explain(caught.value, config_name="train")


def test_a_key_that_is_removed_and_set_is_not_said_to_be_meant() -> None:
    with pytest.raises(HydraException) as caught:
        _composed("train", "~seed", "seed=1")
    told = explain(caught.value, config_name="train")
    assert told == "unknown key 'seed'; it was removed (~seed) and is set all the same"


def test_a_key_that_another_choice_has_is_not_said_to_be_removed() -> None:
    with pytest.raises(HydraException) as caught:
        _composed("train", "model=deeplabv3", "model.decoder_convolutions=[[3,64]]")
    told = explain(caught.value, config_name="train")
    assert told == "unknown key 'model.decoder_convolutions'; it is a key of model=deeplabv3plus: add that"


def test_a_config_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "t.yaml").write_bytes(HEAD.encode() + b'trend: "\xff"\nrows: []\n')
    with pytest.raises(ConfigError, match=r"^experiments/p/t\.yaml: not UTF-8"):
        ExperimentsSource(provider="atrous", path=f"experiments://{tmp_path}").load_config("experiment/p/t")
    (tmp_path / "experiment").symlink_to(tmp_path)
    with pytest.raises(UnicodeDecodeError) as caught:  # of somebody's own folder, which Hydra reads itself
        _composed("train", f"hydra.searchpath=[file://{tmp_path}]", "+experiment=p/t")
    assert raised_by_hydra(caught.value)


def test_what_omegaconf_falls_over_is_hydras_error_only_where_hydra_called_it() -> None:
    with pytest.raises(AssertionError) as caught:
        _composed("train", "logger.wandb.images=1")
    assert raised_by_hydra(caught.value)
    with pytest.raises(AssertionError) as caught:
        OmegaConf.update(_composed("train"), "logger.wandb.images", 1)
    assert not raised_by_hydra(caught.value)


def _composed(config_name: str, *overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        return compose(config_name=config_name, overrides=list(overrides))
