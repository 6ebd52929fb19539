"""The report as one HTML page without any outside resource: a table, and a chart of paper and measurement."""

from html import escape

from atrous.html import document
from atrous.studies.results import RowResult, TableResult

_STYLE = """
.label { display: inline-block; padding: .15rem .6rem; border-radius: 1rem; background: var(--panel);
  border: 1px solid var(--line); font-size: .85rem }
td.state, th.state { text-align: left; white-space: normal }
td.paper { color: var(--second) } td.measured { color: var(--first); font-weight: 600 }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; overflow-x: auto;
  font-size: .8rem; line-height: 1.7 }
svg { max-width: 52rem } svg text { font-size: 13px }
"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 340, 50, 40, 20


def render_page(result: TableResult) -> str:
    """A page that works from a file, without a network."""
    from atrous.studies.report import cells, headline

    table, rows = result.table, [cells(row) for row in result.rows]
    head = "".join(f'<th class="{_css(name)}">{escape(name)}</th>' for name in rows[0])
    lines = "".join(
        "<tr>" + "".join(f'<td class="{_css(name)}">{escape(text)}</td>' for name, text in row.items()) + "</tr>"
        for row in rows
    )
    said = "".join(f"<p>{escape(line.replace('`', ''))}</p>" for line in headline(result))
    notes = "".join(f'<p class="soft">{escape(text)}</p>' for text in [table.trend, *table.deviations] if text)
    commands = escape("\n".join(row.command for row in result.rows))
    badge = "" if not table.scale else f'<p><span class="label">scale {escape(table.scale)}</span></p>'
    body = (
        f"<p>{escape(table.title)}</p>{badge}{said}"
        f"<h2>Trend</h2>{_chart(result)}{notes}"
        f'<h2>Table</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
        '<p class="soft">mIoU in percent, mean ± standard deviation over seeds, of the final weights. Multiply-Adds '
        "are the true count at the training crop; wall time is that of one training.</p>"
        f"<h2>The command of each row</h2><pre>{commands}</pre>"
    )
    return document(table.paper or table.name, body, style=_STYLE)


def _css(name: str) -> str:
    return name if name in ("state", "paper", "measured") else "value"


def _chart(result: TableResult) -> str:
    """The mIoU over the rows: the paper's line, and ours with a bar of one standard deviation."""
    values = [value for row in result.rows for value in (row.paper, row.mean) if value is not None]
    if not values:
        return '<p class="soft">Nothing measured yet.</p>'
    low, high = max(0.0, 10 * ((min(values) - 3) // 10)), min(100.0, 10 * ((max(values) + 12) // 10))
    step = (_WIDTH - _LEFT - 20) / max(1, len(result.rows))
    xs = [_LEFT + step * (index + 0.5) for index in range(len(result.rows))]

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [_grid(low, high, y(low), y(high)), *_names(result.rows, xs)]
    for attribute, colour in (("paper", "--second"), ("mean", "--first")):
        points = [
            (x, y(value))
            for x, row in zip(xs, result.rows, strict=True)
            if (value := getattr(row, attribute)) is not None
        ]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="var({colour})" stroke-width="2.5"/>')
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4.5" fill="var({colour})"/>' for px, py in points]
    for x, row in zip(xs, result.rows, strict=True):
        if row.mean is not None and row.spread is not None:
            top, bottom = y(min(100, row.mean + row.spread)), y(max(0, row.mean - row.spread))
            parts.append(f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="var(--first)" stroke-width="1.5"/>')
    legend = f'<text x="{_WIDTH - 190}" y="16" style="fill:var(--first)">● measured</text>'
    if result.table.paper:
        legend += f'<text x="{_WIDTH - 80}" y="16" style="fill:var(--second)">● paper</text>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="mIoU by row">{"".join(parts)}{legend}</svg>'


def _grid(low: float, high: float, y_low: float, y_high: float) -> str:
    lines = []
    for tick in range(int(low), int(high) + 1, 10 if high - low <= 60 else 20):
        y = y_low + (y_high - y_low) * (tick - low) / (high - low)
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 10}" stroke="var(--line)"/>')
        lines.append(f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    return "".join(lines)


def _names(rows: tuple[RowResult, ...], xs: list[float]) -> list[str]:
    titles = [", ".join(str(value) for value in row.row.columns.values()) or row.row.name for row in rows]
    shared = ", ".join(rows[0].row.columns)
    names = [
        f'<text x="{x:.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{escape(t)}</text>'
        for x, t in zip(xs, titles, strict=True)
    ]
    return [*names, f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{escape(shared)}</text>']
