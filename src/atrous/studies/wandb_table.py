"""A table's report in W&B: a run with the numbers as a W&B Table, and a workspace over the trainings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous import run_lock
from atrous.boards.board import Board
from atrous.errors import AtrousError, ConfigError
from atrous.files import write_json
from atrous.studies.reports.rows import RowResult, TableResult
from atrous.studies.wandb_workspace import build_workspace, definition

NUMBERS = ("paper", "measured mean", "measured std", "difference", "seeds", "parameters", "Multiply-Adds", "state")
DEFINITION = "wandb_workspace.json"


class PublishError(AtrousError):
    """W&B did not take the table."""

    exit_code = 1


@dataclass(frozen=True)
class Published:
    """What became of a report in W&B.

    Attributes:
        mode: online; or offline, to be sent by `make wandb-sync`.
        run_id: of the run that holds the table.
        workspace: the address of the workspace, or why it was not saved and where its definition lies.
    """

    mode: str
    run_id: str
    workspace: str


def publish_table(
    result: TableResult, *, project: str, entity: str | None, mode: str, folder: Path, patience: float = 30.0
) -> Published:
    """Log a table to W&B and define its workspace.

    Args:
        result: the table.
        project: of the trainings.
        entity: of the trainings; None for the login's own.
        mode: online, offline, or auto (online when there is a login).
        folder: of the report; W&B's files and the workspace's definition go there.
        patience: seconds to wait for the server.

    Raises:
        PublishError: nothing was logged; stderr has the reason.
    """
    table = result.table
    run_id = f"report-{re.sub(r'[^a-z0-9._-]+', '-', table.slug.lower())}"
    run = {
        "project": project,
        "entity": entity,
        "dir": str(folder),
        "id": run_id,
        "group": table.name,
        "name": f"report {table.slug}",
        "job_type": "report",
        "tags": ["report", table.scale or "sweep"],
        "notes": f"{table.paper} {table.title}".strip(),
        "config": {
            "table": table.name,
            "scale": table.scale,
            "scale_label": table.scale_label,
            "changes": list(table.changes),
        },
    }
    with run_lock.hold(folder):  # make wandb-sync sends no half of it
        board = Board(run=run, mode=mode, patience=patience)
        columns, rows = table_of(result)
        board.log_table("table", columns=columns, rows=rows)
        is_logged = board.finish(_summary(result), exit_code=0)
    if not is_logged or board.mode is None:
        raise PublishError(
            f"{table.slug} was not logged to W&B (the reason stands above); the report in {folder} is whole"
        )
    return Published(board.mode, run_id, _save_workspace(result, project, board, folder / DEFINITION))


def table_of(result: TableResult) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the W&B Table: the paper's columns, then unrounded numbers in percent and points."""
    own = list(dict.fromkeys(str(name) for row in result.rows for name in row.row.columns))
    return ["row", *own, *NUMBERS], [_cells(row, own) for row in result.rows]


def _cells(row: RowResult, own: list[str]) -> list[Any]:
    named = {str(name): str(value) for name, value in row.row.columns.items()}
    numbers = [row.paper, row.mean, row.spread, row.difference, len(row.scores), row.parameters, row.multiply_adds]
    return [row.row.name, *(named.get(name) for name in own), *numbers, row.state]


def _summary(result: TableResult) -> dict[str, Any]:
    measured = {f"{row.row.name}/measured mean": row.mean for row in result.rows if row.mean is not None}
    return {
        "kendall tau": result.agreement,
        "scale": result.table.scale,
        "scale label": result.table.scale_label,
        "is reproduction": result.table.is_reproduction,
        **measured,
    }


def _save_workspace(result: TableResult, project: str, board: Board, file: Path) -> str:
    """Write the definition beside the report, and save the workspace where there is a login."""
    try:
        workspace = build_workspace(result, project=project, entity=board.entity)
    except ConfigError as error:
        return f"none: {error}"
    write_json(file, definition(workspace))
    if board.mode != "online":
        return f"not saved, as that needs a login; its definition is {file}"
    try:
        return str(workspace.save().url)
    except Exception as error:  # whatever the server says, the table is there already
        return f"not saved ({type(error).__name__}: {error}); its definition is {file}"
