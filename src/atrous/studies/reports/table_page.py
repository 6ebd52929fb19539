"""The page of a table: the trend as a chart, paper and measurement side by side, and links to every run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path, PurePosixPath
from statistics import fmean

from atrous.html import card, cards
from atrous.studies.reports.charts import trend_chart
from atrous.studies.reports.forms import cells, row_columns
from atrous.studies.reports.frame import between, frame, label_of, link, listed, run_page
from atrous.studies.reports.pictures import picture_name
from atrous.studies.reports.rows import RowResult, TableResult
from atrous.studies.reports.words import agreement_of, choice_of, code_of, legend_of, seeds_of

FORMS = {"table.md": "Markdown", "table.csv": "CSV", "table.tex": "LaTeX"}


def render_page(result: TableResult, *, page: PurePosixPath, way: Sequence[tuple[str, str]] = ()) -> str:
    """A page that works from a file, without a network.

    Args:
        result: The table.
        page: Where it lies in its site, whose pages of runs it links to; the other forms lie beside it.
        way: (text, address) of the pages above it.
    """
    table = result.table
    parts = [f"<p>{escape(table.title)}</p>", _cards(result)]
    parts += [f"<p>{escape(line)}</p>" for line in (choice_of(table), *agreement_of(result)) if line]
    if result.rows:
        parts += ["<h2>Trend</h2>", trend_chart(result)]
    picture = picture_name(result)
    if picture is not None:
        alt = escape(table.title)
        parts.append(f'<h2>Figure</h2><figure><img class="figure" alt="{alt}" src="{picture}"></figure>')
    parts += [f'<p class="soft">The paper: {escape(table.trend)}</p>'] if table.trend else []
    if result.rows:
        parts += ["<h2>Table</h2>", _table(result, page), f'<p class="soft">{escape(legend_of(result))}</p>']
        parts += [f'<p class="soft">{escape(code_of(result))}</p>'] if code_of(result) else []
        forms = " · ".join(link(title, name) for name, title in FORMS.items())
        parts.append(f"<p>The same as {forms}</p>")
    else:
        parts.append("<p>Nothing of it is trained: it is counted and drawn.</p>")
    if table.deviations:
        parts.append("<h2>What deviates from the paper</h2>")
        parts.append(f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in table.deviations)}</ul>")
    parts += listed("Damaged run folders, left out", [damaged.reason for damaged in result.damaged])
    parts += listed("Run folders moved or copied aside, left out", list(map(str, result.aside)))
    if result.rows:
        commands = escape("\n".join(row.command for row in result.rows))
        parts.append(f"<h2>The command of each row</h2><pre>{commands}</pre>")
    return frame(table.paper or table.name, "".join(parts), label=label_of(table), way=way)


def _cards(result: TableResult) -> str:
    trained = [row for row in result.rows if not row.row.unreachable]
    measured = sum(not row.is_open for row in trained)
    only_shown = len(result.rows) - len(trained)
    detail = f"{only_shown} more shown only" if only_shown else ""
    parts = [card(f"{measured} of {len(trained)}", "rows measured", detail=detail)]
    if result.agreement is not None:
        parts.append(card(f"{result.agreement:+.2f}", "Kendall tau", detail="+1: the paper's order", main=True))
    parts.append(card(seeds_of(result) or "0", "seeds per row"))
    differences = [abs(row.difference) for row in result.rows if row.difference is not None]
    if differences and result.table.is_reproduction:
        parts.append(card(f"{fmean(differences):.2f}", "mean distance from the paper", detail="in points"))
    spreads = [row.spread for row in result.rows if row.spread is not None]
    if spreads:
        parts.append(card(f"{fmean(spreads):.2f}", "mean deviation over seeds", detail="in points"))
    return cards(parts)


def _table(result: TableResult, page: PurePosixPath) -> str:
    rows = cells(result)
    words, has_state = row_columns(result), any(row.state != "done" or row.row.note for row in result.rows)
    head = "".join(f'<th class="{_css(name, words)}">{escape(name)}</th>' for name in rows[0])
    head = f"<th>#</th>{head}" + ('<th class="state">state</th>' if has_state else "")
    lines = []
    for number, (row, texts) in enumerate(zip(result.rows, rows, strict=True), start=1):
        shown = {name: escape(text) for name, text in texts.items()}
        shown["seeds"] = _seeds(row, page, result.folders)
        line = "".join(f'<td class="{_css(name, words)}">{text}</td>' for name, text in shown.items())
        state = "; ".join(text for text in (row.state, row.row.note) if text)
        end = f'<td class="state">{escape(state)}</td>' if has_state else ""
        lines.append(f'<tr><td class="soft">{number}</td>{line}{end}</tr>')
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _seeds(row: RowResult, page: PurePosixPath, among: Sequence[Path]) -> str:
    """A link to the page of each run, those with another budget included."""
    runs = [(f"{seed.seed}", seed.folder) for seed in row.seeds]
    runs += [(f"{run.seed} ({run.steps} steps)", run.folder) for run in row.other_budgets]
    return " · ".join(link(text, between(page, run_page(folder, among))) for text, folder in runs)


def _css(name: str, words: Sequence[str]) -> str:
    return name if name in ("paper", "measured") else ("text" if name in words else "value")
