"""Rows that no run can be are told without composing them, and no row that a run is gets lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.run_store import RunFolder
from atrous.studies.configuration import resolve
from atrous.studies.reports.identity import Identifier, Remembered
from atrous.studies.reports.store import Store, StoredRun
from atrous.studies.table import Sweep

pytestmark = pytest.mark.no_cover  # what it runs is counted in other tests, in half the time

Swept = Callable[..., tuple[DictConfig, Sweep]]
Compose = Callable[..., DictConfig]


def _identifier(tmp_path: Path, *configs: DictConfig) -> Identifier:
    runs = [StoredRun(RunFolder(tmp_path), {}, {}, {}, resolve(config, needs_root=False)) for config in configs]
    return Identifier(Store(tmp_path, tuple(runs)), Remembered(tmp_path / "remembered.json"))


@pytest.mark.every(2)
@pytest.mark.parametrize(
    ("table", "scale"),
    [("deeplabv3/table1", "smoke"), ("deeplabv3/table12", "camvid"), ("deeplabv3plus/table2", "paper")],
)
def test_a_row_could_always_be_the_run_that_it_made(
    swept: Swept, composed: Compose, tmp_path: Path, table: str, scale: str
) -> None:
    _, sweep = swept(f"+experiment={table}", f"scale={scale}")
    for row in sweep.table.rows[:2]:
        assert _identifier(tmp_path, composed(*row.overrides)).could_be(row.overrides)


MACHINE = ("trainer.threads=7", "data.num_workers=3", "data.val_batch_size=1", "recipe.max_steps=1", "seed=5")


def test_what_does_not_tell_runs_apart_does_not_here(swept: Swept, composed: Compose, tmp_path: Path) -> None:
    row = swept("+experiment=deeplabv3/table1", "scale=smoke")[1].table.rows[0]
    assert _identifier(tmp_path, composed(*row.overrides, *MACHINE)).could_be(row.overrides)


def test_another_network_recipe_or_data_set_is_another_run(swept: Swept, composed: Compose, tmp_path: Path) -> None:
    row = swept("+experiment=deeplabv3/table1", "scale=smoke")[1].table.rows[0]
    for other in ("output_stride=16", "recipe.batch_size=3", "data.train.length=9", "recipe.pretrained=imagenet"):
        assert not _identifier(tmp_path, composed(*row.overrides, other)).could_be(row.overrides), other
    row = swept("+experiment=deeplabv3/table1", "scale=camvid")[1].table.rows[0]
    assert not _identifier(tmp_path, composed(*row.overrides, "data=shapes")).could_be(row.overrides)
