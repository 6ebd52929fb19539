"""Charts of a report as SVG: the trend over the rows of a table, a small picture of it, and curves of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from atrous.studies.metrics import title_of
from atrous.studies.reports.forms import word_of
from atrous.studies.reports.rows import RowResult, TableResult

Points = Sequence[tuple[float, float]]
_LETTER = 0.56  # mean width of a letter, in heights of its font


@dataclass(frozen=True)
class _Plane:
    """A rectangle of an SVG and the values at its edges."""

    width: int
    height: int
    left: int
    bottom: int
    low: float
    high: float
    right_value: float = 1.0
    top: int = 26
    right: int = 12

    def x(self, value: float) -> float:
        return self.left + (self.width - self.left - self.right) * value / self.right_value

    def y(self, value: float) -> float:
        return self.top + (self.height - self.top - self.bottom) * (self.high - value) / (self.high - self.low)

    def grid(self) -> str:
        lines = []
        for tick in _ticks(self.low, self.high, 8):
            y = self.y(tick)
            lines.append(f'<path d="M{self.left} {y:.1f}H{self.width - self.right}" stroke="var(--line)"/>')
            lines.append(f'<text x="{self.left - 7}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        return "".join(lines)

    def svg(self, parts: Sequence[str], *, title: str, css: str = "") -> str:
        box = f'viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(title)}"'
        return f'<svg class="{css}" {box}>{"".join(parts)}</svg>'


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
    plane = _Plane(120, 30, 4, 4, min(values) - pad, max(values) + pad, max(1, len(rows) - 1), top=4, right=4)
    xs = [plane.x(index) for index in range(len(rows))]
    parts = _lines(plane, rows, xs, radius=2.2, stroke=1.6)
    return plane.svg(parts, title="paper and measured, row by row", css="spark")


def curve(points: Points, *, title: str) -> str:
    """One value over the steps of a training; empty without points."""
    if not points:
        return ""
    shown = _thinned(points, 300)
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    pad = 0.05 * (high - low) or abs(high) or 1.0
    plane = _Plane(
        460, 220, 62, 38, 0.0 if 0 <= low - pad < 0.4 * high else low - pad, high + pad, max(x for x, _ in shown) or 1
    )
    line = " ".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in shown)
    parts = [plane.grid(), f'<text x="4" y="15">{escape(title)}</text>']
    parts += [
        f'<text x="{plane.x(tick):.1f}" y="{plane.height - 20}" text-anchor="middle">{tick:g}</text>'
        for tick in _ticks(0, plane.right_value, 5)
    ]
    parts.append(f'<text x="{plane.width - plane.right}" y="{plane.height - 4}" text-anchor="end">step</text>')
    parts.append(f'<polyline points="{line}" fill="none" stroke="var(--first)" stroke-width="2"/>')
    if len(shown) <= 12:
        parts += [
            f'<circle cx="{plane.x(x):.1f}" cy="{plane.y(y):.1f}" r="3.5" fill="var(--first)"/>' for x, y in shown
        ]
    return plane.svg(parts, title=title)


def _trend(result: TableResult, *, width: int, height: int, css: str) -> str:
    rows = result.compared
    reach = [(row.mean or 0) + sign * (row.spread or 0) for row in rows if row.mean is not None for sign in (-1, 1)]
    values = [*reach, *(row.paper for row in rows if row.paper is not None)]
    pad = max(0.5, 0.06 * (max(values) - min(values)))
    floor = -math.inf if any(row.row.against for row in rows) else 0.0
    plane = _Plane(width, height, 44, 46, max(floor, min(values) - pad), max(values) + pad, max(1, len(rows)))
    xs = [plane.x(index + 0.5) for index in range(len(rows))]
    parts = [plane.grid(), *_names(plane, result, rows, xs), *_lines(plane, rows, xs, radius=4.5, stroke=2.5)]
    for x, row in zip(xs, rows, strict=True):
        if row.mean is not None and row.spread is not None:
            top, bottom = plane.y(row.mean + row.spread), plane.y(row.mean - row.spread)
            ends = f"M{x - 5:.1f} {top:.1f}h10M{x - 5:.1f} {bottom:.1f}h10M{x:.1f} {top:.1f}V{bottom:.1f}"
            parts.append(f'<path d="{ends}" stroke="var(--first)" stroke-width="1.6" fill="none"/>')
    if any(row.mean is not None for row in rows):
        parts.append('<text x="4" y="15" style="fill:var(--first)">● measured</text>')
    if any(row.paper is not None for row in rows):
        parts.append('<text x="96" y="15" style="fill:var(--second)">● paper</text>')
    return plane.svg(parts, title=f"{title_of(result.table.metric)} by row", css=css)


def _lines(plane: _Plane, rows: Sequence[RowResult], xs: Sequence[float], *, radius: float, stroke: float) -> list[str]:
    parts = []
    for attribute, colour in (("paper", "var(--second)"), ("mean", "var(--first)")):
        values = [(x, getattr(row, attribute)) for x, row in zip(xs, rows, strict=True)]
        points = [(x, plane.y(value)) for x, value in values if value is not None]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{stroke}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>' for x, y in points]
    return parts


def _names(plane: _Plane, result: TableResult, rows: Sequence[RowResult], xs: Sequence[float]) -> list[str]:
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


def _ticks(low: float, high: float, number: int) -> list[float]:
    """Round values from low to high, about so many."""
    rough = (high - low) / number
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(index * step, 12) for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _thinned(points: Points, number: int) -> list[tuple[float, float]]:
    """Means of neighbours, so that about so many points are left."""
    size = math.ceil(len(points) / number)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], math.fsum(y for _, y in group) / len(group)) for group in groups]
