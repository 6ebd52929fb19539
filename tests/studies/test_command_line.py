"""What a command line may sweep: names that tell rows apart, protocols, and keys that make other trainings."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.studies.command_line import sweep_of
from atrous.studies.table import Sweep

pytestmark = pytest.mark.slow

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
