"""The papers' tables as data: each composes at every scale and says what the paper says, and each row is a command."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.resources import conf_folder, experiments_folder
from atrous.studies.checks import check
from atrous.studies.configuration import Config, resolve
from atrous.studies.identity import identify
from atrous.studies.parents import compose_parent, identity_of
from atrous.studies.table import Sweep

from .papers_miou import PAPERS

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]
Swept = Callable[..., tuple[DictConfig, Sweep]]

TABLES = sorted(
    path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in experiments_folder().rglob("*.yaml")
)
SCALES = sorted(path.stem for path in (conf_folder() / "scale").glob("*.yaml"))
TRAINED = enumerate(table for table in TABLES if table != "deeplabv3/figure4")


def _config(composed: Compose, overrides: list[str]) -> Config:
    return resolve(composed(*overrides))


@pytest.mark.every(4)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize(
    "scale", [scale if scale == "shapes" else pytest.param(scale, marks=pytest.mark.exhaustive) for scale in SCALES]
)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_every_table_can_be_run_at_every_scale(
    swept: Swept, composed: Compose, tmp_path: Path, table: str, scale: str
) -> None:
    _, sweep = swept(f"+experiment={table}", f"scale={scale}", f"data.root={tmp_path}")
    assert sweep.table.name == table
    names, measured, jobs = set(), set(), sweep.jobs()
    looked_at = jobs[::3] if scale == "shapes" else jobs  # a third of a second each
    for row, overrides in looked_at:
        config = _config(composed, overrides)
        check(config)
        assert (config["table"], config["row"]) == (table, row.name)
        assert config["protocols"][0] == row.protocol
        names.add(identify(config).name)
        measured |= {(row.overrides, protocol) for protocol in config["protocols"]}
    assert len(names) == len(looked_at), "two trainings are the same run"
    for row in sweep.table.rows:
        is_looked_at = any(row.overrides == job.overrides for job, _ in looked_at)
        assert row.unreachable or not is_looked_at or (row.overrides, row.protocol) in measured, row.name


@pytest.mark.every(3)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize("table", PAPERS)
def test_tables_say_what_the_papers_say(swept: Swept, table: str) -> None:
    _, sweep = swept(f"+experiment={table}")
    assert [row.paper.get("miou") for row in sweep.table.rows] == PAPERS[table]
    assert sweep.table.scale == "paper"
    assert sweep.table.is_reproduction


def test_the_table_without_miou_shows_the_errors_on_imagenet(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table4")
    assert [(row.paper["top1_error"], row.paper["top5_error"]) for row in sweep.table.rows] == [
        (22.4, 6.02),
        (20.19, 5.17),
    ]
    assert sweep.jobs() == []


def test_figure_5_says_what_the_decoder_gains_near_outlines(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/figure5")
    assert sweep.table.metric == "trimap"
    gains = {row.name: (row.against, row.paper["trimap"]) for row in sweep.table.rows if row.paper}
    assert gains == {
        "resnet101-decoder": ("resnet101-bilinear", 4.8),
        "xception65-decoder": ("xception65-bilinear", 5.4),
    }


def test_every_table_and_figure_of_both_papers_is_there() -> None:
    of_v3 = [f"deeplabv3/table{number}" for number in range(1, 14)]
    of_v3 += [f"deeplabv3/{name}" for name in ("figure4", "cascade_with_aspp", "bootstrapping")]
    of_v3plus = [f"deeplabv3plus/table{number}" for number in (1, 2, 3, 4, 5, 6, "7a", "7b")]
    assert set(TABLES) == {*of_v3, *of_v3plus, "deeplabv3plus/figure5"}


def test_rows_for_a_test_server_train_on_trainval_after_two_stages_and_are_not_scored(
    swept: Swept, composed: Compose
) -> None:
    _, sweep = swept("+experiment=deeplabv3/table7", "data.root=.")
    ((row, overrides),) = sweep.jobs()
    chain: list[tuple[Config, list[str]]] = []
    current: tuple[Config, list[str]] | None = (_config(composed, overrides), overrides)
    while current is not None:
        chain.append(current)
        current = compose_parent(*current)
    last, second, first = (config for config, _ in chain)
    assert (last["submission"], second["submission"], first["submission"]) == ("voc", None, None)
    assert (last["data"]["train"]["split"], last["output_stride"]) == ("trainval", 8)
    assert last["recipe"]["batch_norm"]["frozen"]
    assert last["data"]["bootstrap"]["classes"] == ["bicycle", "chair", "diningtable", "pottedplant", "sofa"]
    assert (second["data"]["train"]["split"], second["output_stride"]) == ("train_aug", 16)
    assert second["recipe"]["optimizer"]["lr"] == 0.0001
    assert not second["recipe"]["batch_norm"]["frozen"]
    assert not second["data"]["allow_shared_samples"]
    assert first["data"]["train"]["_target_"] == "atrous.data.CocoVoc"
    assert first["recipe"]["optimizer"]["lr"] == 0.007
    assert row.paper == {"miou": 85.7}


@pytest.mark.every(4)
@pytest.mark.parametrize(
    ("child", "parent"),
    [("deeplabv3/table7", "deeplabv3/table6"), ("deeplabv3/table13", "deeplabv3/table12")],
)
@pytest.mark.parametrize("scale", ["paper", "shapes"])
def test_a_row_for_a_test_server_starts_from_a_training_of_another_table(
    swept: Swept, composed: Compose, child: str, parent: str, scale: str
) -> None:
    _, sweep = swept(f"+experiment={child}", f"scale={scale}", "data.root=.")
    ((_, overrides),) = sweep.jobs()
    before = compose_parent(_config(composed, overrides), overrides)
    assert before is not None
    _, others = swept(f"+experiment={parent}", f"scale={scale}", "data.root=.")
    assert identity_of(*before) in [identity_of(_config(composed, job), job) for _, job in others.jobs()]


@pytest.mark.exhaustive
def test_tables_that_contain_the_same_model_share_its_training(swept: Swept, composed: Compose) -> None:
    names: dict[str, set[str]] = {}
    for table in ("table5", "table6", "table8", "table9", "table10"):
        _, sweep = swept(f"+experiment=deeplabv3/{table}", "data.root=.", f"recipe.pretrained={__file__}")
        for _, overrides in sweep.jobs():
            names.setdefault(identify(_config(composed, overrides)).name, set()).add(table)
    assert [tables for tables in names.values() if len(tables) > 1] == [
        {"table5", "table6", "table8", "table9", "table10"}
    ]


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


@pytest.mark.every(3)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
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


@pytest.mark.every(8)
@pytest.mark.no_cover  # what it runs is counted in other tests, where it takes half the time
@pytest.mark.parametrize(
    "table", [pytest.param(name, marks=() if number % 3 == 0 else pytest.mark.exhaustive) for number, name in TRAINED]
)
def test_a_row_as_a_plain_command_is_the_same_run(swept: Swept, composed: Compose, table: str) -> None:
    _, sweep = swept(f"+experiment={table}", "scale=shapes", "seed=2")
    for row, overrides in sweep.jobs()[-1:]:
        plain = shlex.split(shlex.join([*row.overrides, "seed=2"]))
        assert identify(_config(composed, plain)) == identify(_config(composed, overrides))
