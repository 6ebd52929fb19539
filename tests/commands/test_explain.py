"""Mistakes in a table's own file: one line with the file, the key and what would be right."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from atrous.commands.explain import explain
from atrous.resources import conf_folder
from atrous.studies.schema import register

HEAD = "# @package experiment\ndefaults: [/experiment_schema@_here_, _self_]\ntable: p/t\npaper: P\ntitle: T\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows: [{name: a, overrides: [], colums: {x: 1}}]", "unknown key 'colums' in a row; did you mean columns?"),
        ("sclae: 1\nrows: []", "unknown key 'sclae'; there are table, paper, title, "),
        ("rows: [{name: a, overrides: [], paper: {miou: high}}]", "paper.miou='high' is not a number"),
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
