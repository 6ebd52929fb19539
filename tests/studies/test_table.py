"""Tables as data: every file composes at every scale, says what the paper says, and each row is a plain command."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.errors import ConfigError
from atrous.resources import conf_folder, experiments_folder
from atrous.studies.checks import check
from atrous.studies.configuration import Config, resolve
from atrous.studies.identity import identify
from atrous.studies.table import Sweep, merge, substitute, without_budget

Compose = Callable[..., DictConfig]
Swept = Callable[..., tuple[DictConfig, Sweep]]

TABLES = sorted(
    path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in experiments_folder().rglob("*.yaml")
)
SCALES = sorted(path.stem for path in (conf_folder() / "scale").glob("*.yaml"))

# mIoU in percent on PASCAL VOC 2012 val, copied from the papers by hand.
PAPERS = {
    # arXiv:1706.05587, Table 1: output strides 8 to 256, ResNet-50 with block7
    "deeplabv3/table1": [75.18, 73.88, 70.06, 59.99, 42.34, 20.29],
    # arXiv:1802.02611, Table 1: 8 to 64 channels of the decoder's 1x1 convolution, ResNet-101
    "deeplabv3plus/table1": [77.61, 77.92, 78.16, 78.21, 77.94],
    # arXiv:1802.02611, Table 3: ResNet-101, from top to bottom
    "deeplabv3plus/table3": [
        *(77.21, 78.51, 79.45, 79.77),
        *(78.85, 80.09, 80.22, 79.35, 80.43, 80.57),
        *(75.43, 77.37, 77.80, 77.92),
    ],
    # arXiv:1802.02611, Table 5: Xception-65, from top to bottom
    "deeplabv3plus/table5": [
        *(79.17, 80.57, 80.79, 79.64, 81.15, 81.34),
        *(79.93, 81.38, 81.44, 80.22, 81.60, 81.63),
        *(79.79, 81.21, 80.02, 81.39),
        *(82.20, 83.34, 82.45, 83.58),
        *(83.03, 84.22, 83.39, 84.56),
    ],
}


def _config(composed: Compose, overrides: list[str]) -> Config:
    return resolve(composed(*overrides))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_every_table_can_be_run_at_every_scale(
    swept: Swept, composed: Compose, tmp_path: Path, table: str, scale: str
) -> None:
    _, sweep = swept(f"+experiment={table}", f"scale={scale}", f"data.root={tmp_path}")
    assert sweep.table.name == table
    trained = {}
    for row, overrides in sweep.jobs():
        config = _config(composed, overrides)
        check(config)
        assert (config["table"], config["row"]) == (table, row.name)
        assert config["protocols"][0] == row.protocol
        trained[row.overrides] = (identify(config).name, config["protocols"])
    assert len({name for name, _ in trained.values()}) == len(trained), "two trainings are the same run"
    for row in sweep.table.rows:
        assert bool(row.unreachable) or row.protocol in trained[row.overrides][1], f"{row.name} is not measured"


@pytest.mark.parametrize("table", TABLES)
def test_tables_say_what_the_papers_say(swept: Swept, table: str) -> None:
    _, sweep = swept(f"+experiment={table}")
    assert [row.paper["miou"] for row in sweep.table.rows] == PAPERS[table]
    assert sweep.table.scale == "paper"
    assert sweep.table.is_reproduction


def test_deeplabv3_table1_is_resnet50_with_block7_at_each_output_stride(swept: Swept, composed: Compose) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", "data.root=.")
    for row, overrides in sweep.jobs():
        config = _config(composed, overrides)
        assert config["output_stride"] == row.columns["output_stride"]
        assert (config["model"]["_target_"], config["model"]["blocks"]) == ("atrous.DeepLabV3Cascade", 7)
        assert (config["backbone"]["units"], config["backbone"]["unit"]) == ([3, 4, 6, 3], "bottleneck")
        recipe = config["recipe"]
        assert (recipe["max_steps"], recipe["batch_size"], recipe["crop_size"]) == (30000, 16, 513)
        assert recipe["optimizer"]["lr"] == 0.007
        assert config["data"]["train"]["split"] == "train_aug"


def test_deeplabv3plus_table1_is_resnet101_with_one_decoder_convolution(swept: Swept, composed: Compose) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table1", "data.root=.")
    for row, overrides in sweep.jobs():
        config = _config(composed, overrides)
        assert config["model"]["low_level_channels"] == row.columns["channels"]
        assert config["model"]["decoder_convolutions"] == [[3, 256]]
        assert config["backbone"]["units"] == [3, 4, 23, 3]
        assert config["output_stride"] == 16


@pytest.mark.parametrize("scale", [name for name in SCALES if name != "paper"])
def test_a_scale_substitutes_network_and_data_and_is_no_reproduction(
    swept: Swept, composed: Compose, tmp_path: Path, scale: str
) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", f"scale={scale}", f"data.root={tmp_path}")
    assert not sweep.table.is_reproduction
    assert sweep.table.scale == scale
    for row, overrides in sweep.jobs():
        config = _config(composed, overrides)
        assert config["backbone"]["width"] == 8
        assert "VOC" not in config["data"]["train"]["_target_"]
        assert config["output_stride"] == row.columns["output_stride"]


def test_what_the_user_says_wins_over_table_scale_and_row(swept: Swept, composed: Compose) -> None:
    _, sweep = swept(
        "+experiment=deeplabv3/table1",
        "scale=smoke",
        "backbone=resnet34",
        "model=deeplabv3_cascade",
        "recipe.max_steps=5",
        "model.blocks=6",
        "data.val.length=3",
        "rows=[os8]",
    )
    config = _config(composed, sweep.jobs()[0][1])
    assert config["backbone"]["units"] == [3, 4, 6, 3]
    assert config["recipe"]["max_steps"] == 5
    assert config["model"]["blocks"] == 6
    assert config["data"]["val"]["length"] == 3


def test_rows_and_seeds_choose_the_jobs(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", "scale=smoke", "rows=[os256,os8]", "seed=3,5")
    chosen = [
        (row.name, override) for row, overrides in sweep.jobs() for override in overrides if override[:5] == "seed="
    ]
    assert chosen == [("os8", "seed=3"), ("os256", "seed=3"), ("os8", "seed=5"), ("os256", "seed=5")]
    _, many = swept("+experiment=deeplabv3/table1", "seed=range(3)")
    assert many.seeds == (0, 1, 2)


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
    runs = [identify(_config(composed, overrides)) for _, overrides in sweep.jobs()]
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
    assert _config(composed, list(row.overrides))["recipe"]["optimizer"]["lr"] == 0.2


def test_group_choices_come_before_values_and_the_last_of_a_key_counts() -> None:
    assert merge(["model.blocks=6", "backbone=tiny", "model.blocks=7", "model=deeplabv3_cascade"]) == [
        "backbone=tiny",
        "model=deeplabv3_cascade",
        "model.blocks=7",
    ]


def test_substitution_touches_only_the_values_it_names() -> None:
    table = {"backbone": {"resnet101": "tiny"}}
    given = ["backbone=resnet101", "backbone=resnet50", "data=voc", "model.multi_grid=[1,2,4]"]
    assert substitute(given, table) == ["backbone=tiny", *given[1:]]


def test_a_cut_budget_can_be_told_from_what_was_asked() -> None:
    assert without_budget(["+experiment=a/b", "recipe.max_steps=1", "seed=1,2"]) == ["+experiment=a/b", "seed=1,2"]


@pytest.mark.parametrize("table", TABLES)
def test_a_row_as_a_plain_command_is_the_same_run(swept: Swept, composed: Compose, table: str) -> None:
    _, sweep = swept(f"+experiment={table}", "scale=shapes", "seed=2")
    for row, overrides in sweep.jobs()[:2]:
        plain = shlex.split(shlex.join([*row.overrides, "seed=2"]))
        assert identify(_config(composed, plain)) == identify(_config(composed, overrides))


def test_rows_that_differ_in_their_protocol_share_a_training(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table3", "scale=smoke", "seed=0,1")
    jobs = sweep.jobs()
    assert len(jobs) == 4 * 2, "two output strides with and without decoder, two seeds"
    assert "protocols=[single_os16,single_os8,ms_os8,ms_flip_os8]" in jobs[0][1]


def test_rows_that_cannot_be_trained_are_kept_and_never_started(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table5", "scale=smoke")
    reasons = {row.name: row.unreachable for row in sweep.table.rows if row.unreachable}
    assert len(reasons) == 8
    assert "JFT-300M" in reasons["decoder-sc-jft-single-os16"]
    assert len(sweep.jobs()) == 3
    assert not {row.name for row, _ in sweep.jobs()} & set(reasons)
