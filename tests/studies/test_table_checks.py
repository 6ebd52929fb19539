"""A table's file that cannot be meant is refused with its place, before anything is composed."""

import re
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from atrous.errors import ConfigError
from atrous.studies.schema import ExperimentConfig
from atrous.studies.table_checks import check_experiment

ROW = {"name": "a", "overrides": ["output_stride=8"]}


def _table(*rows: dict[str, Any], **changes: Any) -> DictConfig:
    content = {"table": "p/t", "paper": "A paper", "title": "A table", "rows": list(rows), **changes}
    config = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), content)
    assert isinstance(config, DictConfig)
    return config


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_table({"name": "a"}), r"row 'a' overrides nothing: give its overrides, or overrides: \[\]"),
        (_table({"overrides": []}), r"rows\[0\] has no name"),
        (_table(ROW, ROW), r"two rows 'a'"),
        (_table({**ROW, "protocol": "os7"}), r"row 'a': protocol 'os7' is unknown; there are .*single_os8"),
        (_table({**ROW, "protocol": "tiles_os8"}), r"row 'a' has protocol tiles_os8: not whole images"),
        (_table({**ROW, "against": "b"}), r"row 'a': against='b' is no other row; there are a"),
        (_table({**ROW, "against": "a"}), r"against='a' is no other row"),
        (_table({**ROW, "paper": {"miou": float("nan")}}), r"row 'a': paper\.miou=nan"),
        (_table({**ROW, "overrides": ["output_stride"]}), r"row 'a': overrides: 'output_stride' is not an override"),
        (
            _table({**ROW, "overrides": ["output_stride=8", "output_stride=16"]}),
            r"'output_stride=8' and 'output_stride=16' set the same key",
        ),
        (_table({**ROW, "overrides": ["output_stride=8,16"]}), r"row 'a': overrides: 'output_stride=8,16' is several"),
        (
            _table({**ROW, "overrides": ["trainer=3"]}),
            r"overrides: 'trainer=3' is no choice of trainer; .*debug",
        ),
        (_table({**ROW, "name": "a,b"}), r"the row name 'a,b' has other letters than a-z, 0-9 and -"),
        (_table({**ROW, "name": "A_b"}), r"the row name 'A_b' has other letters"),
        (_table(ROW, picture="pie"), r"picture='pie' is none of figure4, trimap"),
        (_table(ROW, metric="kappa"), r"metric='kappa' is none of miou, trimap and iou:CLASS"),
        (_table(ROW, metric="trimap"), r"metric=trimap needs boundary=true in overrides"),
        (_table(), r"rows=\[\] leaves nothing to train"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(table: DictConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^experiments/p/t\.yaml: .*" + message):
        check_experiment(table)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (_table({**ROW, "overrides": ["seed=${nope}"]}), r"row 'a': rows\[0\]\.overrides\[0\]: Interp.* 'nope'"),
        (_table({**ROW, "note": "${a:b}"}), r"row 'a': rows\[0\]\.note: Unsupported interpolation type a"),
        (_table(ROW, title="${nope}"), r"title: Interpolation key 'nope' not found; \\\$\{ leaves"),
    ],
)
def test_what_is_to_be_interpolated_and_is_not_there_is_told_with_its_place(table: DictConfig, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"^experiments/p/t\.yaml: {told}"):
        check_experiment(OmegaConf.create({"experiment": table}).experiment, place="p/t")


def test_a_table_that_was_copied_and_kept_the_place_of_the_first_is_refused() -> None:
    check_experiment(_table(ROW), place="p/t")
    with pytest.raises(ConfigError, match=r"^experiments/mine/t\.yaml: table='p/t' is another file's .* is mine/t$"):
        check_experiment(_table(ROW), place="mine/t")


def test_a_row_may_set_keys_of_a_group_in_braces() -> None:
    check_experiment(_table({**ROW, "overrides": ["recipe={max_steps: 5}", "trainer=default", "logger=[]", "~logger"]}))


def test_a_row_that_is_the_tables_own_run_says_so() -> None:
    check_experiment(_table({"name": "base", "overrides": []}, ROW))


def test_a_figure_that_is_only_drawn_needs_no_rows() -> None:
    check_experiment(_table(picture="figure4"))


@pytest.mark.parametrize(
    "text",
    [
        *("store=x", "seed=1", "~seed", "++row=x", "table=x", "protocols=[ms_os8]", "rows=[a]", "fail_fast=true"),
        *("scale=smoke", "+experiment=p/t", "+runs=x", "hydra/launcher=basic", "hydra.launcher.jobs=1"),
    ],
)
def test_what_the_sweep_says_for_all_rows_is_refused_in_a_table(text: str) -> None:
    told = rf"{re.escape(repr(text))} is (set by|for the command line of) the sweep"
    with pytest.raises(ConfigError, match=rf"^experiments/p/t\.yaml: row 'a': overrides: {told}"):
        check_experiment(_table({**ROW, "overrides": [text]}))
    with pytest.raises(ConfigError, match=rf"^experiments/p/t\.yaml: overrides: {told}"):
        check_experiment(_table(ROW, overrides=[text]))
