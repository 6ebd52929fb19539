"""Charts of a report as SVG: the trend over the rows of a table, a small picture of it, and curves of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from atrous.studies.metrics import title_of
from atrous.studies.reports.forms import word_of
from atrous.studies.reports.rows import RowResult, TableResult
from atrous.svg import Plane, Points

_LETTER = 0.56  # mean width of a letter, in heights of its font


def trend_chart(result: TableResult) -> str:
    """The metric over the rows: the paper's line, and ours with bars of one standard deviation.

    Drawn twice, for a desk and for a phone. Rows are named where the names fit, and numbered as in the table otherwise.
    """
    if not any(value is not None for row in result.compared for value in (row.paper, row.mean)):
        what = "Nothing" if all(row.mean is None for row in result.rows) else "No gain"
        return f'<p class="soft">{what} measured yet.</p>'
    return _trend(result, width=780, height=340, css="wide") + _trend(result, width=360, height=290, css="narrow")


def sparkline(result: TableResult) -> str:
    """The trend as a picture of a few letters' size; empty where nothing is known."""
    rows = result.compared
    values = [value for row in rows for value in (row.paper, row.mean) if value is not None]
    if len(values) < 2:
        return ""
    pad = max(0.5, 0.06 * (max(values) - min(values)))
    plane = Plane(120, 30, 4, 4, min(values) - pad, max(values) + pad, max(1, len(rows) - 1), top=4, right=4)
    parts = _lines(plane, rows, range(len(rows)), radius=2.2, stroke=1.6)
    return plane.svg(parts, title="paper and measured, row by row", css="spark")


def curve(points: Points, *, title: str) -> str:
    """One value over the steps of a training; empty without points."""
    if not points:
        return ""
    shown = _thinned(points, 300)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    pad = 0.05 * (high - low) or abs(high) or 1.0
    plane = Plane(
        460, 220, 62, 38, 0.0 if 0 <= low - pad < 0.4 * high else low - pad, high + pad, max(x for x, _ in shown) or 1
    )
    parts = [plane.rows(8), f'<text x="4" y="15">{escape(title)}</text>', plane.columns(5)]
    parts.append(f'<text x="{plane.width - plane.right}" y="{plane.height - 4}" text-anchor="end">step</text>')
    parts.append(plane.curve(shown, "--first", stroke=2, radius=3.5 if len(shown) <= 12 else 0))
    return plane.svg(parts, title=title)


def _trend(result: TableResult, *, width: int, height: int, css: str) -> str:
    rows = result.compared
    reach = [(row.mean or 0) + sign * (row.spread or 0) for row in rows if row.mean is not None for sign in (-1, 1)]
    values = [*reach, *(row.paper for row in rows if row.paper is not None)]
    pad = max(0.5, 0.06 * (max(values) - min(values)))
    floor = -math.inf if any(row.row.against for row in rows) else 0.0
    plane = Plane(width, height, 44, 46, max(floor, min(values) - pad), max(values) + pad, max(1, len(rows)))
    middles = [index + 0.5 for index in range(len(rows))]
    xs = [plane.x(middle) for middle in middles]
    parts = [plane.rows(8), *_names(plane, result, rows, xs), *_lines(plane, rows, middles, radius=4.5, stroke=2.5)]
    for x, row in zip(xs, rows, strict=True):
        if row.mean is not None and row.spread is not None:
            top, bottom = plane.y(row.mean + row.spread), plane.y(row.mean - row.spread)
            ends = f"M{x - 5:.1f} {top:.1f}h10M{x - 5:.1f} {bottom:.1f}h10M{x:.1f} {top:.1f}V{bottom:.1f}"
            parts.append(f'<path d="{ends}" stroke="var(--first)" stroke-width="1.6" fill="none"/>')
    if any(row.mean is not None for row in rows):
        parts.append('<text x="4" y="15" style="fill:var(--first)">● measured</text>')
    if any(row.paper is not None for row in rows):
        parts.append('<text x="112" y="15" style="fill:var(--second)">● paper</text>')
    return plane.svg(parts, title=f"{title_of(result.table.metric)} by row", css=css)


def _lines(plane: Plane, rows: Sequence[RowResult], at: Sequence[float], *, radius: float, stroke: float) -> list[str]:
    parts = []
    for attribute, colour in (("paper", "--second"), ("mean", "--first")):
        values = [(x, getattr(row, attribute)) for x, row in zip(at, rows, strict=True)]
        points = [(x, value) for x, value in values if value is not None]
        parts.append(plane.curve(points, colour, stroke=stroke, radius=radius))
    return parts


def _names(plane: Plane, result: TableResult, rows: Sequence[RowResult], xs: Sequence[float]) -> list[str]:
    """Names below the chart, or the numbers that the rows have in the table."""
    names = [", ".join(map(word_of, row.row.columns.values())) or row.row.name for row in rows]
    title = ", ".join(dict.fromkeys(name for row in rows for name in row.row.columns)) or "row"
    slot = (plane.width - plane.left - plane.right) / len(rows)
    if max(len(name) for name in names) * 13 * _LETTER > slot - 6 or len(title) * 13 * _LETTER > plane.width - 20:
        every = math.ceil(18 / slot)  # a number of two digits takes 18 pixels
        names = [str(result.rows.index(row) + 1) if place % every == 0 else "" for place, row in enumerate(rows)]
        title = "row of the table below"
    y = plane.height - 26
    parts = [
        f'<text x="{x:.1f}" y="{y}" text-anchor="middle">{escape(name)}</text>'
        for x, name in zip(xs, names, strict=True)
    ]
    return [
        *parts,
        f'<text x="{plane.width / 2:.0f}" y="{plane.height - 6}" text-anchor="middle">{escape(title)}</text>',
    ]


def _thinned(points: Points, number: int) -> list[tuple[float, float]]:
    """Means of neighbours, so that about so many points are left."""
    size = math.ceil(len(points) / number)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]
