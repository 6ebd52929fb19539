"""A search beyond the papers: the Optuna sweeper's config, and one that is really run where the extra is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from atrous.resources import conf_folder
from atrous.studies.schema import register

from .conftest import Run

SEARCH = conf_folder() / "hydra" / "sweeper" / "optuna_learning_rate.yaml"
needs_optuna = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None,
    reason="no hydra-optuna-sweeper: pip install 'atrous[optuna]'",
)


def test_what_is_searched_are_keys_of_a_run_with_values_that_it_takes() -> None:
    search: dict[str, Any] = yaml.safe_load(SEARCH.read_text())
    register()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        config = compose(config_name="train")
    for key, space in search["params"].items():
        (override,) = OverridesParser.create().parse_overrides([f"{key}={space}"])
        assert override.is_sweep_override()
        assert isinstance(OmegaConf.select(config, key, throw_on_missing=True), int | float), key
    assert search["direction"] == "maximize", "the command returns a mIoU"


@needs_optuna
@pytest.mark.exhaustive
def test_a_search_trains_its_trials_and_keeps_the_best(atrous: Run, tmp_path: Path) -> None:
    small = ["backbone=tiny", "recipe.crop_size=65", "recipe.max_steps=2", "recipe.batch_size=2"]
    small += ["data.train.length=8", "data.val.length=4", "data.val_batch_size=2", "data.num_workers=0"]
    small += ["trainer.threads=1", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    ended = atrous("train", "-m", "hydra/sweeper=optuna_learning_rate", *small)
    assert ended.code == 0, ended.err
    best = yaml.safe_load((tmp_path / "outputs" / "optimization_results.yaml").read_text())
    results = [yaml.safe_load(path.read_text()) for path in tmp_path.glob("outputs/runs/*/seed0/results.json")]
    scores = [result["evaluations"]["single"]["miou"] for result in results]
    assert len(scores) == 2
    assert best["best_value"] == max(scores)
    assert 0.001 <= best["best_params"]["recipe.optimizer.lr"] <= 0.2
