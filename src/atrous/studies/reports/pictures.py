"""The figure that belongs to a table, drawn beside its page: Figure 4 is counted, Figure 5 comes from the store."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from atrous.errors import ConfigError
from atrous.evaluation.entry import trimap_points
from atrous.run_store import RunFolder
from atrous.studies.reports.rows import RowResult, TableResult
from atrous.studies.table import Table

PICTURES = ("figure4", "trimap")


def picture_name(result: TableResult) -> str | None:
    """The file's name, None for a table without a picture or with nothing to draw yet."""
    if not result.table.picture:
        return None
    if result.table.picture not in PICTURES:
        raise ConfigError(f"{result.table.name}: picture={result.table.picture!r} is none of {', '.join(PICTURES)}")
    is_empty = result.table.picture == "trimap" and not any(trimap_curve(row) for row in result.rows)
    return None if is_empty else f"{result.table.picture}.png"


def write_picture(result: TableResult, folder: Path) -> Path | None:
    """Draw the table's picture into `folder`.

    Returns:
        The file, None where there is nothing to draw.

    Raises:
        ConfigError: the table asks for a picture that does not exist.
    """
    if picture_name(result) is None:
        return None
    from atrous.studies.figures import draw_curves, draw_figure4

    if result.table.picture == "figure4":
        return draw_figure4(folder)
    curves = {", ".join(map(str, _label(row))): trimap_curve(row) for row in result.rows}
    return draw_curves(
        {name: points for name, points in curves.items() if points},
        folder,
        name=result.table.picture,
        title=_title(result.table),
        x_title="width of the band in pixels",
    )


def trimap_curve(row: RowResult) -> list[tuple[float, float]]:
    """(width in pixels, mean IoU in percent) over the finished seeds of a row; bands without pixels are left out."""
    found: dict[float, list[float]] = {}
    for seed in row.seeds:
        if seed.score is None:
            continue
        for width, value in trimap_points(RunFolder(seed.folder).results()["evaluations"][row.row.protocol]):
            found.setdefault(width, []).append(100 * value)
    return [(width, fmean(values)) for width, values in sorted(found.items())]


def _title(table: Table) -> str:
    if table.is_reproduction:
        return table.paper
    return f"{table.paper}, scale {table.scale}{', changed' if table.changes else ''}"


def _label(row: RowResult) -> list[object]:
    columns = dict(row.row.columns)
    if "decoder" in columns:
        columns["decoder"] = "decoder" if columns["decoder"] else "bilinear upsampling"
    return list(columns.values()) or [row.row.name]
