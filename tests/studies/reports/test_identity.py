"""Rows that no run can be are told without composing them, and no row that a run is gets lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.run_store import RunFolder
from atrous.studies.configuration import resolve
from atrous.studies.reports import identity
from atrous.studies.reports.identity import Identified, Identifier, Remembered
from atrous.studies.reports.store import Store, StoredRun
from atrous.studies.table import Row, Sweep

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


@pytest.mark.parametrize(
    "overrides",
    [
        ("recipe.pretrained=weights/x.pth",),
        ("recipe.pretrained='weights/x.pth'",),
        ("recipe.pretrained=named",),
        ("recipe.pretrained=null", "parent=['recipe.pretrained=weights/x.pth']"),
        pytest.param(
            ("parent=['parent=[\\'recipe.pretrained=weights/x.pth\\']','recipe.pretrained=null']",),
            marks=pytest.mark.exhaustive,
        ),
        ("data=folder", "data.root=.", "data.classes=weights/x.pth"),
        ("data=folder", "data.root=.", "data.classes=null", "data.val.classes=weights/x.pth"),
    ],
)
def test_a_row_is_another_one_when_a_file_that_it_starts_from_is(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    names = []
    identifier = _identifier(tmp_path, composed(*overrides))
    for content in ("before", "after"):
        for file in ("weights/x.pth", "named"):
            Path(file).write_text(content)
        identified = identifier(Row("row", overrides, {}), 0)
        assert identified is not None
        names.append(identified.name)
    assert names[0] != names[1]


@pytest.mark.parametrize("overrides", [("recipe.pretrained=imagenet",), ("parent=['recipe.pretrained=null']",)])
def test_a_row_that_starts_from_no_file_is_composed_once(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    identifier, made = _identifier(tmp_path, composed(*overrides)), list[Row]()

    def identify_row(row: Row, seed: int) -> Identified:
        made.append(row)
        return Identified("name", ("family",), seed)

    monkeypatch.setattr(identity, "identify_row", identify_row)
    assert (
        identifier(Row("row", overrides, {}), 0)
        == identifier(Row("row", overrides, {}), 0)
        == Identified("name", ("family",), 0)
    )
    assert len(made) == 1
