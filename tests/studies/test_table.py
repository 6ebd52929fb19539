"""Tables as data: every file composes at every scale, says what the paper says, and each row is a plain command."""

import dataclasses
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from omegaconf import DictConfig, open_dict

from atrous.errors import ConfigError
from atrous.resources import conf_folder, experiments_folder
from atrous.studies.checks import check
from atrous.studies.command_line import sweep_of
from atrous.studies.configuration import Config, resolve
from atrous.studies.identity import identify
from atrous.studies.overrides import merge, parent_entry, parse, substitute, without_budget
from atrous.studies.parents import compose_parent, identity_of
from atrous.studies.table import Sweep, Table

pytestmark = pytest.mark.slow

Compose = Callable[..., DictConfig]
Swept = Callable[..., tuple[DictConfig, Sweep]]

TABLES = sorted(
    path.relative_to(experiments_folder()).with_suffix("").as_posix() for path in experiments_folder().rglob("*.yaml")
)
SCALES = sorted(path.stem for path in (conf_folder() / "scale").glob("*.yaml"))

# mIoU in percent on PASCAL VOC 2012 val, copied from the papers by hand.
PAPERS: dict[str, list[float | None]] = {
    # arXiv:1706.05587, text: the first row is the last of Table 5
    "deeplabv3/cascade_with_aspp": [77.21, None, None, None],
    "deeplabv3/bootstrapping": [None, None],
    # arXiv:1706.05587, Table 1: output strides 8 to 256, ResNet-50 with block7
    "deeplabv3/table1": [75.18, 73.88, 70.06, 59.99, 42.34, 20.29],
    # arXiv:1706.05587, Table 2: block4 to block7, ResNet-50, then ResNet-101
    "deeplabv3/table2": [
        *(64.81, 72.14, 74.29, 73.88),
        *(68.39, 73.21, 75.34, 75.76),
    ],
    # arXiv:1706.05587, Table 3: block4 to block7, for each multi-grid
    "deeplabv3/table3": [
        *(68.39, 73.21, 75.34, 75.76),
        *(70.23, 75.67, 76.09, 76.66),
        *(73.14, 75.78, 75.96, 76.11),
        *(73.45, 75.74, 75.85, 76.02),
        *(71.45, 74.30, 74.70, 74.62),
    ],
    # arXiv:1706.05587, Table 4: from top to bottom
    "deeplabv3/table4": [
        *(76.66, 78.05, 78.93, 79.35),
    ],
    # arXiv:1706.05587, Table 5: from top to bottom
    "deeplabv3/table5": [
        *(75.36, 75.93, 76.58, 76.46, 77.21),
    ],
    # arXiv:1706.05587, Table 6: from top to bottom
    "deeplabv3/table6": [
        *(77.21, 78.51, 79.45, 79.77, 82.70),
    ],
    # arXiv:1706.05587, Table 7: from top to bottom
    "deeplabv3/table7": [
        *(79.10, 79.30, 79.70, 80.20, 81.40, 81.80, 82.70, 83.10),
        *(83.60, 84.20, 84.90, 85.40, 86.30, 86.60, 86.80, 85.70),
        *(86.90,),
    ],
    # arXiv:1706.05587, Table 8: from top to bottom
    "deeplabv3/table8": [
        *(77.21, 75.95, 76.01, 67.22),
    ],
    # arXiv:1706.05587, Table 9: from top to bottom
    "deeplabv3/table9": [
        *(64.43, 75.76, 76.49, 77.21),
    ],
    # arXiv:1706.05587, Table 10: from top to bottom
    "deeplabv3/table10": [
        *(74.45, 77.21, 75.90, 75.62, 78.51, 75.75),
    ],
    # arXiv:1706.05587, Table 11: from top to bottom
    "deeplabv3/table11": [
        *(77.21, 77.15, 76.79, 77.02, 77.18, 76.69),
    ],
    # arXiv:1706.05587, Table 12: from top to bottom
    "deeplabv3/table12": [
        *(77.23, 77.82, 79.06, 79.30),
    ],
    # arXiv:1706.05587, Table 13: from top to bottom
    "deeplabv3/table13": [
        *(70.40, 71.10, 71.20, 71.60, 71.80, 71.80, 73.60, 74.10),
        *(74.30, 75.40, 77.30, 78.10, 79.20, 80.10, 80.50, 80.60),
        *(81.20, 81.30),
    ],
    # arXiv:1802.02611, Table 2: from top to bottom
    "deeplabv3plus/table2": [
        *(78.21, 78.85, 78.02, 77.25, 78.07, 78.61),
    ],
    # arXiv:1802.02611, Table 6: from top to bottom
    "deeplabv3plus/table6": [
        *(82.70, 83.10, 83.60, 84.20, 84.90, 85.40, 86.30, 86.60),
        *(86.80, 85.70, 86.90, 87.80, 89.00),
    ],
    # arXiv:1802.02611, Table 7a: from top to bottom
    "deeplabv3plus/table7a": [
        *(77.33, 78.79, 79.14, 79.55),
    ],
    # arXiv:1802.02611, Table 7b: from top to bottom
    "deeplabv3plus/table7b": [
        *(80.60, 81.20, 82.00, 81.30, 82.10),
    ],
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


FIGURE = ("+experiment=deeplabv3plus/figure5", "scale=smoke")


def test_a_row_keeps_what_it_is_held_against_where_that_is_not_chosen_and_does_not_train_it(swept: Swept) -> None:
    _, sweep = swept(*FIGURE, "rows=[resnet101-decoder]")
    assert [row.name for row in sweep.table.rows] == ["resnet101-decoder"]
    assert [row.name for row in sweep.table.baselines] == ["resnet101-bilinear"]
    assert len(sweep.jobs()) == 1
    assert Table.from_plain(json.loads(json.dumps(dataclasses.asdict(sweep.table)))) == sweep.table
    assert swept(*FIGURE)[1].table.baselines == ()


def test_in_a_crossed_table_rows_are_held_against_the_row_with_the_same_values(swept: Swept) -> None:
    _, sweep = swept(*FIGURE, "recipe.optimizer.lr=0.1,0.2")
    against = {row.name: row.against for row in sweep.table.rows if row.against}
    assert against == {
        f"{network}-decoder-{lr}": f"{network}-bilinear-{lr}"
        for network in ("resnet101", "xception65")
        for lr in ("0.1", "0.2")
    }


@pytest.mark.parametrize(
    "changes",
    [
        ("backbone=resnet101", "recipe.optimizer.lr=0.1"),
        pytest.param(("recipe.max_steps=9",), marks=pytest.mark.exhaustive),
    ],
)
def test_a_papers_table_that_the_user_changed_is_no_reproduction_and_says_what_was_changed(
    swept: Swept, changes: tuple[str, ...]
) -> None:
    _, sweep = swept("+experiment=deeplabv3/table1", "scale=paper", "data.root=/data", *changes)
    assert sweep.table.changes == changes
    assert not sweep.table.is_reproduction
    assert sweep.table.scale_label == f"not a reproduction: the paper's table, changed by {' '.join(changes)}"
    assert [text.split(": ")[1] for text in sweep.table.deviations[-len(changes) :]] == list(changes)
    assert re.fullmatch(r"deeplabv3/table1/paper-[0-9a-f]{8}", sweep.table.slug)
    again = swept("+experiment=deeplabv3/table1", *reversed(changes), "data.root=/other", "seed=1,2")[1].table
    assert again.slug == sweep.table.slug


def test_places_machines_and_values_that_the_rows_have_anyway_change_no_table(swept: Swept) -> None:
    place = ("scale=paper", "data.root=/data", "seed=0,1,2", "store=/store", "logger=wandb")
    machine = ("trainer.devices=8", "trainer.timeout_seconds=0", "data.num_workers=8", "data.val_batch_size=1")
    same = ("backbone=resnet101", "recipe.batch_size=16")
    _, sweep = swept("+experiment=deeplabv3/table12", *place, *machine, *same)
    assert (sweep.table.changes, sweep.table.is_reproduction) == ((), True)
    assert sweep.table.slug == "deeplabv3/table12/paper"


def test_what_is_crossed_with_a_papers_table_is_a_change_of_it(swept: Swept) -> None:
    table = ("+experiment=deeplabv3/table1", "scale=smoke", "recipe.crop_size=81")
    _, sweep = swept(*table, "recipe.optimizer.lr=0.1,0.2")
    assert sweep.table.changes == ("recipe.crop_size=81", "recipe.optimizer.lr=0.1,0.2")
    assert sweep.table.slug != swept(*table)[1].table.slug


def test_chosen_rows_have_a_report_of_their_own_unless_they_are_all(swept: Swept) -> None:
    table = ("+experiment=deeplabv3/table1", "scale=smoke")
    slugs = [swept(*table, f"rows=[{rows}]")[1].table.slug for rows in ("os8,os16", "os16,os8", "os8")]
    assert slugs[0] == slugs[1]
    assert len({*slugs, "deeplabv3/table1/smoke"}) == 3
    assert swept(*table, "rows=[os8,os16,os32,os64,os128,os256]")[1].table.slug == "deeplabv3/table1/smoke"


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


def test_substitution_reaches_into_parents_of_parents() -> None:
    given = parent_entry(["data=voc", parent_entry(["data=coco", "x='it'"])])
    (found,) = substitute([given], {"data": {"coco": "shapes_more", "voc": "shapes"}})
    assert found == parent_entry(["data=shapes", parent_entry(["data=shapes_more", "x='it'"])])


@pytest.mark.parametrize("text", ["a=b", "a='b'", "a='b\\'", 'a="b"', "a='b',\"c\"", "a\\'b\"c\\"])
def test_an_entry_of_parent_is_read_back_as_it_was(text: str) -> None:
    (override,) = parse([parent_entry([text])])
    (entry,) = cast(list[Any], override.value())
    assert str(getattr(entry, "text", entry)) == text


def test_a_cut_budget_can_be_told_from_what_was_asked() -> None:
    assert without_budget(["+experiment=a/b", "recipe.max_steps=1", "seed=1,2"]) == ["+experiment=a/b", "seed=1,2"]


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


def test_rows_that_differ_in_their_protocol_share_a_training(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table3", "scale=smoke", "seed=0,1")
    jobs = sweep.jobs()
    assert len(jobs) == 4 * 2, "two output strides with and without decoder, two seeds"
    assert "protocols=[single_os16,single_os8,ms_os8,ms_flip_os8]" in jobs[0][1]


def test_rows_that_cannot_be_trained_are_kept_and_never_started(swept: Swept) -> None:
    _, sweep = swept("+experiment=deeplabv3plus/table5", "scale=smoke")
    reasons = {row.name: row.unreachable for row in sweep.table.rows if row.unreachable}
    assert len(reasons) == 4
    assert "JFT-300M" in reasons["decoder-sc-jft-single-os16"]
    assert len(sweep.jobs()) == 4
    assert not {row.name for row, _ in sweep.jobs()} & set(reasons)
