"""A table's rows: what they are held against, what they share, and those that are never trained."""

import dataclasses
import json
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from atrous.studies.table import Sweep, Table

pytestmark = pytest.mark.slow

Swept = Callable[..., tuple[DictConfig, Sweep]]
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
