"""A table in W&B: its numbers as a W&B Table in a run of its own, and a workspace over its trainings."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

from atrous.boards.board import Board
from atrous.boards.log import read_records
from atrous.files import write_json
from atrous.studies import wandb_sync
from atrous.studies.reports.rows import RowResult, SeedResult, TableResult
from atrous.studies.table import Row, Table
from atrous.studies.wandb_table import PublishError, publish_table, table_of
from atrous.studies.wandb_workspace import build_workspace, definition


@pytest.fixture
def result(tmp_path: Path) -> TableResult:
    """Two rows that were trained twice and once, one that was not, and one that cannot be."""
    scores = {"os8": (0.6, 0.7), "os16": (0.5,), "os32": ()}
    rows = []
    for stride, (name, found) in zip((8, 16, 32), scores.items(), strict=True):
        seeds = []
        for seed, score in enumerate(found):
            run = tmp_path / "runs" / f"net-{name}" / f"seed{seed}"
            write_json(run / "run.json", {"format": 1, "key": f"key-{name}-{seed}", "name": f"net-{name}"})
            seeds.append(SeedResult(seed, "done", run, 2, 2, score))
        row = Row(name, (f"output_stride={stride}",), {"output_stride": stride}, {"miou": 80.0 - stride})
        rows.append(RowResult(row=row, command=f"atrous-train {name}", seeds=tuple(seeds)))
    jft = Row("jft", (), {"output_stride": 16, "pretrained": "JFT"}, {"miou": 86.9}, "ms_flip_os8", unreachable="JFT")
    rows.append(RowResult(row=jft, command="none"))
    table = Table(
        "deeplabv3/table1", "Strides", (), "DeepLabv3, Table 1", scale="shapes", scale_label="no reproduction"
    )
    return TableResult(table, tuple(rows))


def test_the_table_has_the_columns_of_the_report_and_its_numbers_unrounded(result: TableResult) -> None:
    columns, rows = table_of(result)
    of_row = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    os8 = of_row["os8"]
    assert os8["output_stride"] == "8"
    assert os8["seeds"] == 2
    assert os8["measured mean"] == pytest.approx(65.0)
    assert os8["measured std"] == pytest.approx(50**0.5)  # of 60 and 70, over n - 1
    assert os8["difference"] == pytest.approx(65.0 - 72.0)
    assert of_row["os32"]["measured mean"] is None
    assert of_row["jft"]["state"] == "not reproduced: JFT"
    assert of_row["jft"]["pretrained"] == "JFT"
    assert of_row["os8"]["pretrained"] is None


@pytest.fixture
def workspaces() -> Any:
    """The real package, where it is installed."""
    return pytest.importorskip("wandb_workspaces.workspaces", reason="pip install 'atrous[wandb-workspaces]'")


def test_the_workspace_shows_the_runs_of_the_table_and_groups_them_by_row(result: TableResult, workspaces: Any) -> None:
    content = definition(build_workspace(result, project="lab", entity="team"))
    section = content["spec"]["section"]
    names = [entry["name"] for entry in section["panelBankConfig"]["sections"]]
    assert names == ["mIoU by row", "Curves by row"]
    bars, curves = (entry["panels"] for entry in section["panelBankConfig"]["sections"])
    assert [panel["config"]["metrics"] for panel in bars] == [["single/miou"]]
    assert ["train/loss"] in [panel["config"]["metrics"] for panel in curves]
    assert {panel["config"]["xAxis"] for panel in curves} == {"trainer/global_step"}
    (runs,) = section["runSets"]
    assert runs["grouping"] == [{"section": "config", "name": "row.value"}]
    (shown,) = runs["filters"]["filters"]
    assert shown["key"] == {"section": "run", "name": "name"}  # W&B's server calls a run's id its name
    assert shown["value"] == ["key-os16-0", "key-os8-0", "key-os8-1"]
    assert content["displayName"] == "DeepLabv3, Table 1 (shapes)"


def test_the_workspace_of_a_table_at_a_scale_keeps_its_name(result: TableResult, workspaces: Any) -> None:
    names = {definition(build_workspace(result, project="lab", entity=None))["name"] for _ in range(2)}
    assert len(names) == 1


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login, and none of the settings that this machine may have."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.mark.usefixtures("alone")
def test_without_a_login_the_table_is_kept_on_disk_in_a_run_of_its_own(result: TableResult, tmp_path: Path) -> None:
    published = publish_table(result, project="lab", entity=None, mode="auto", folder=tmp_path / "report")
    assert (published.mode, published.run_id) == ("offline", "report-deeplabv3-table1-shapes")
    (file,) = (tmp_path / "report").glob(f"wandb/offline-run-*/run-{published.run_id}.wandb")
    messages: Any = wandb_internal_pb2
    logged = [messages.Record.FromString(content) for content in read_records(file)]
    (run,) = [record.run for record in logged if record.WhichOneof("record_type") == "run"]
    assert (run.job_type, run.run_group, run.project) == ("report", "deeplabv3/table1", "lab")
    (table,) = file.parent.glob("files/media/table/*.json")
    content = json.loads(table.read_text())
    assert content["columns"] == table_of(result)[0]
    assert content["data"][0][:2] == ["os8", "8"]
    assert content["data"][0][content["columns"].index("measured mean")] == pytest.approx(65.0)
    values = {item.key: item.value_json for record in logged for item in record.summary.update if item.key}
    assert json.loads(values["kendall tau"]) == pytest.approx(1.0)
    assert json.loads(values["scale label"]) == "no reproduction"
    assert "needs a login" in published.workspace or "pip install" in published.workspace


def test_with_the_package_the_definition_lies_beside_the_report(
    result: TableResult, tmp_path: Path, alone: None, workspaces: Any
) -> None:
    published = publish_table(result, project="lab", entity=None, mode="auto", folder=tmp_path / "report")
    file = tmp_path / "report" / "wandb_workspace.json"
    assert str(file) in published.workspace
    assert json.loads(file.read_text())["project"] == "lab"


def test_a_table_that_cannot_be_logged_is_an_error(result: TableResult, tmp_path: Path, alone: None) -> None:
    (tmp_path / "wandb").write_text("in the way")
    with pytest.raises(PublishError, match=f"the report in {tmp_path} is whole"):
        publish_table(result, project="lab", entity=None, mode="offline", folder=tmp_path)


def test_a_sync_beside_it_leaves_a_report_that_is_being_logged(
    result: TableResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    alone: None,
) -> None:
    store = tmp_path / "store"

    def sync_meanwhile(board: Board, *_: Any, **__: Any) -> None:
        end = time.monotonic() + 60
        while not list(store.rglob("*.wandb")) and time.monotonic() < end:
            time.sleep(0.05)
        wandb_sync.sync(store, dry_run=True)

    monkeypatch.setattr(Board, "log_table", sync_meanwhile)
    publish_table(result, project="lab", entity=None, mode="offline", folder=store / "reports" / "table1")
    said = capsys.readouterr().out
    assert "still being written, left for the next time: run-report-deeplabv3-table1-shapes" in said
    assert "nothing to send" in said
