"""What makes a paper's table another one: what the user changes, crosses and leaves out."""

import re
from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from atrous.studies.table import Sweep

pytestmark = pytest.mark.slow

Swept = Callable[..., tuple[DictConfig, Sweep]]


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
