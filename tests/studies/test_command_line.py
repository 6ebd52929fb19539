"""What a command line may sweep: names that tell rows apart, protocols, and keys that make other trainings."""

import re
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, open_dict

from atrous.errors import ConfigError
from atrous.resources import conf_folder
from atrous.studies.command_line import sweep_of
from atrous.studies.configuration import resolve
from atrous.studies.identity import identify
from atrous.studies.table import Sweep

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]
Swept = Callable[..., tuple[DictConfig, Sweep]]


def test_protocols_of_a_sweep_are_rows_that_share_a_training(swept: Swept) -> None:
    _, sweep = swept("output_stride=8,16", "protocols=[single,ms_os8]")
    shown = [(row.name, dict(row.columns), row.protocol) for row in sweep.table.rows]
    assert shown == [
        (f"{stride}-{name}", {"output_stride": str(stride), "protocol": name}, name)
        for stride in (8, 16)
        for name in ("single", "ms_os8")
    ]
    jobs = [overrides for _, overrides in sweep.jobs()]
    assert [[text for text in overrides if "protocol" in text] for overrides in jobs] == [
        ["protocols=[single,ms_os8]"],
        ["protocols=[single,ms_os8]"],
    ]


def test_one_protocol_of_a_sweep_is_the_one_that_is_measured(swept: Swept) -> None:
    _, plain = swept("output_stride=8,16")
    _, other = swept("output_stride=8,16", "protocols=[ms_os8]")
    assert [row.protocol for row in other.table.rows] == ["ms_os8", "ms_os8"]
    assert [dict(row.columns) for row in other.table.rows] == [dict(row.columns) for row in plain.table.rows]
    assert other.table.name != plain.table.name, "its report is another one"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["protocols=[single],[ms_os8]"], r"protocols=\[a,b\] measures under both"),
        (["+experiment=deeplabv3/table1", "scale=shapes", "protocols=[ms_os8]"], "the rows of a table say theirs"),
        (
            ["+experiment=deeplabv3/table1", "experiment.title=x"],
            r"experiment\.title=x: a table and a scale are as their",
        ),
        (
            ["+experiment=deeplabv3/table1", "scale=smoke", "scale.label=x"],
            r"scale\.label=x: a table and a scale are as",
        ),
        (["output_stride=8,16", "row=mine"], "row=mine: a sweep sets row itself"),
        (["output_stride=8,16", "table=mine"], "table=mine: a sweep sets table itself"),
        (["trainer.tf32=true,false"], r"trainer\.tf32 is no part of what a training is"),
        (["data.root=/a,/b"], r"data\.root is no part of what a training is"),
        (["store=a,b"], "store is no part of what a training is"),
        (["seed=0,a"], "seed=a: a whole number from 0"),
    ],
)
def test_what_makes_no_rows_is_refused_with_what_would_be_right(swept: Swept, arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        swept(*arguments)


@pytest.mark.parametrize("own", ["runs=null", "output=reports", "sweep=null", "tflops=20"])
def test_what_only_a_report_has_is_no_part_of_its_rows(swept: Swept, own: str) -> None:
    table = ("+experiment=deeplabv3/table1", "scale=shapes")
    config, expected = swept(*table)
    assert sweep_of(config, [*table, own]) == expected


@pytest.mark.parametrize("choice", ["+experiment=deeplabv3/table1,deeplabv3/table2", "scale=shapes,smoke"])
def test_one_table_at_a_time(swept: Swept, choice: str) -> None:
    config, _ = swept("output_stride=8,16")
    with pytest.raises(ConfigError, match="one at a time; make reproduce-all makes every table"):
        sweep_of(config, [choice])


@pytest.mark.parametrize(
    "choice", ["+experiment='deeplabv3/table1'", "+experiment=deeplabv3/table1.yaml", "+experiment=./deeplabv3//table1"]
)
def test_a_table_may_be_named_as_hydra_takes_it(swept: Swept, choice: str) -> None:
    _, sweep = swept(choice, "scale=smoke")
    assert sweep.table.name == "deeplabv3/table1"


def test_values_that_begin_alike_and_letters_that_no_name_may_have_make_rows_of_their_own(swept: Swept) -> None:
    long = "albumentations.HueSaturationValue", "albumentations.GaussianBlur"
    both = ",".join(f"[{{_target_:{name}}}]" for name in long)
    _, sweep = swept(f"recipe.augmentation.transforms={both}")
    names = [row.name for row in sweep.table.rows]
    assert len(set(names)) == 2
    assert names[1] == f"{names[0]}-2"
    _, accents = swept("recipe.pretrained='/a/é','/b'")
    assert all(row.name.isascii() for row in accents.table.rows)


def test_equal_values_are_still_one_run_under_two_names(swept: Swept) -> None:
    with pytest.raises(ConfigError, match="the same run under two names"):
        swept("output_stride=8,8")


def test_rows_and_seeds_choose_the_jobs(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os256,os8]", "seed=3,5")
    chosen = [
        (row.name, override) for row, overrides in sweep.jobs() for override in overrides if override[:5] == "seed="
    ]
    assert chosen == [("os8", "seed=3"), ("os256", "seed=3"), ("os8", "seed=5"), ("os256", "seed=5")]
    _, many = swept("+experiment=deeplabv3/table1", "seed=range(3)")
    assert many.seeds == (0, 1, 2)


def test_a_glob_stands_for_the_configs_of_its_group(swept: Swept) -> None:
    table = swept("backbone=glob(resnet50*)", "seed=1")[1].table
    assert {row.columns["backbone"] for row in table.rows} == {
        path.stem for path in (conf_folder() / "backbone").glob("resnet50*.yaml")
    }
    assert len(table.rows) > 1


def test_a_seed_that_is_given_twice_is_one_run(swept: Swept) -> None:
    assert swept("output_stride=8,16", "seed=0,1,0")[1].seeds == (0, 1)


@pytest.mark.parametrize("nothing", ["backbone=glob(vgg*)", "recipe.optimizer.lr=glob(*)", "seed=range(0)"])
def test_a_sweep_over_nothing_is_refused_with_its_key(swept: Swept, nothing: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(nothing)} stands for no value"):
        swept(nothing)


def test_tiles_never_stand_in_a_table_of_a_paper(swept: Swept) -> None:
    config, _ = swept("+experiment=deeplabv3/table1", "scale=smoke")
    with open_dict(config):
        config.experiment.rows[0].protocol = "tiles_os16"
    with pytest.raises(ConfigError, match=r"row 'os8' has protocol tiles_os16: not whole images"):
        sweep_of(config, ["+experiment=deeplabv3/table1", "scale=smoke"])


def test_an_unknown_row_is_refused_with_the_rows_there_are(swept: Swept) -> None:
    with pytest.raises(ConfigError, match=r"rows: deeplabv3/table1 has no row 'os7'; it has os8, os16, "):
        swept("+experiment=deeplabv3/table1", "rows=[os7]")


def test_a_scale_without_a_table_is_refused(swept: Swept) -> None:
    with pytest.raises(ConfigError, match="scale"):
        swept("scale=smoke", "output_stride=8,16")


def test_rows_that_the_user_made_equal_are_refused(swept: Swept) -> None:
    with pytest.raises(ConfigError, match="'os8' and 'os16' are the same run"):
        swept("+experiment=deeplabv3/table1", "scale=smoke", "output_stride=8")


def test_a_free_sweep_is_every_combination_with_seeds_apart(swept: Swept, composed: Compose) -> None:
    _, sweep = swept("output_stride=8,16", "model.dropout=0.1,0.5", "recipe.max_steps=2", "seed=1,2")
    assert [dict(row.columns) for row in sweep.table.rows] == [
        {"output_stride": "8", "model.dropout": "0.1"},
        {"output_stride": "8", "model.dropout": "0.5"},
        {"output_stride": "16", "model.dropout": "0.1"},
        {"output_stride": "16", "model.dropout": "0.5"},
    ]
    runs = [identify(resolve(composed(*overrides))) for _, overrides in sweep.jobs()]
    assert len({(run.name, run.seed) for run in runs}) == 8
    assert len({run.name for run in runs}) == 4


def test_a_free_sweep_keeps_its_name_and_another_gets_its_own(swept: Swept) -> None:
    names = [
        swept(*text.split())[1].table.name for text in ("seed=1,2 output_stride=8,16", "output_stride=8,16 seed=1")
    ]
    assert names[0] == names[1], "seeds are not what is compared"
    assert swept("output_stride=8,32")[1].table.name != names[0]


def test_a_table_can_be_crossed_with_a_sweep(swept: Swept, composed: Compose) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", "scale=smoke", "recipe.optimizer.lr=0.1,0.2")
    assert len(sweep.table.rows) == 12
    row = sweep.table.rows[1]
    assert dict(row.columns) == {"output_stride": 8, "recipe.optimizer.lr": "0.2"}
    assert row.paper == {"miou": 75.18}
    assert resolve(composed(*row.overrides))["recipe"]["optimizer"]["lr"] == 0.2
