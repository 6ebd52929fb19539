"""A W&B workspace as code: what a table's runs look like side by side, built by the package wandb-workspaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from atrous.errors import ConfigError
from atrous.run_store import RunFolder
from atrous.studies.reports.rows import TableResult

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

_STEP = "trainer/global_step"


def build_workspace(result: TableResult, *, project: str, entity: str | None) -> Workspace:
    """The workspace of a table at a scale: mIoU by row, then curves with a line per row.

    Args:
        result: the table; the workspace shows exactly the runs that it is made of.
        project: of the runs.
        entity: of the runs; None where nobody is logged in, for a definition that is not saved.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from wandb_workspaces import expr
        from wandb_workspaces import workspaces as ws
        from wandb_workspaces.reports import v2 as wr
    except ImportError:
        raise ConfigError("W&B workspaces need a package: pip install 'atrous[wandb-workspaces]'") from None
    by_row, table = wr.Config("row"), result.table
    curves = {
        "Loss": "train/loss",
        "mIoU on val while it trains": "val/miou",
        "Images per second": "train/images_per_second",
    }
    sections = [
        ws.Section(
            name="mIoU by row",
            panels=[
                wr.BarPlot(
                    title=name, metrics=[name], groupby=by_row, groupby_aggfunc="mean", groupby_rangefunc="stddev"
                )
                for name in dict.fromkeys(f"{row.row.protocol}/miou" for row in result.rows if not row.row.unreachable)
            ],
            is_open=True,
        ),
        ws.Section(
            name="Curves by row",
            panels=[
                wr.LinePlot(
                    title=title, x=_STEP, y=[name], groupby=by_row, groupby_aggfunc="mean", groupby_rangefunc="minmax"
                )
                for title, name in curves.items()
            ],
            is_open=True,
        ),
    ]
    workspace = ws.Workspace(
        entity=entity or "",
        project=project,
        name=f"{table.paper or table.name} ({PurePosixPath(table.slug).name})" if table.scale else table.name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=_STEP),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("ID").isin(_run_ids(result))), groupby=[expr.Config("row")]
        ),
    )
    # The same name each time, so that saving again replaces the view.
    workspace._internal_name = f"nw-{hashlib.sha256(table.slug.encode()).hexdigest()[:11]}-v"
    return workspace


def definition(workspace: Workspace) -> dict[str, Any]:
    """What `save` would send: the view's name, its project, and its spec as W&B's server takes it."""
    view = workspace._to_model()
    spec: dict[str, Any] = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    return {"name": view.name, "displayName": view.display_name, "project": view.project, "spec": spec}


def _run_ids(result: TableResult) -> Sequence[str]:
    folders = [RunFolder(seed.folder) for row in result.rows for seed in row.seeds]
    return sorted({str(folder.facts()["key"]) for folder in folders})
