"""A table beside its measurements as text: cells, Markdown for a README, CSV, and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from atrous.studies.reports.rows import RowResult, TableResult
from atrous.studies.reports.words import code_of, headline, legend_of, notes_of

_WIDEST = 36  # characters of a cell in Markdown and LaTeX


def measured_text(row: RowResult) -> str:
    """Mean and spread; a gain bears its sign."""
    if row.mean is None:
        return ""
    mean = f"{row.mean:+.2f}" if row.row.against else f"{row.mean:.2f}"
    return mean if row.spread is None else f"{mean} ± {row.spread:.2f}"


_MEASURED: dict[str, Callable[[RowResult], str]] = {
    "paper": lambda row: "" if row.paper is None else f"{row.paper:.2f}",
    "measured": measured_text,
    "difference": lambda row: "" if row.difference is None else f"{row.difference:+.2f}",
    "seeds": lambda row: str(len(row.scores)),
    "parameters": lambda row: "" if row.parameters is None else f"{row.parameters / 1e6:.2f}M",
    "Multiply-Adds": lambda row: "" if row.multiply_adds is None else f"{row.multiply_adds / 1e9:.3f}B",
    "wall time": lambda row: "" if row.seconds is None else duration(row.seconds),
}


def row_columns(result: TableResult) -> list[str]:
    """What tells the rows apart; `row` where nothing does."""
    return list(dict.fromkeys(name for row in result.rows for name in row.row.columns)) or ["row"]


def cells(result: TableResult) -> list[dict[str, str]]:
    """Every row as text, by column title; columns of measurements that are empty in all rows are left out."""
    names = row_columns(result)
    shown = [name for name, text in _MEASURED.items() if name == "measured" or any(map(text, result.rows))]
    return [
        {**{name: word_of(_column(row, name)) for name in names}, **{name: _MEASURED[name](row) for name in shown}}
        for row in result.rows
    ]


def render_markdown(result: TableResult) -> str:
    """The report as Markdown, commands included."""
    table, rows = result.table, cells(result)
    lines = [f"# {table.paper or table.name}", "", f"{table.title}.", "", "  \n".join(headline(result)), ""]
    if rows:
        lines += markdown_table(list(rows[0]), [[shortened(text) for text in row.values()] for row in rows])
        lines += ["", legend_of(result), "", *([code_of(result), ""] if code_of(result) else [])]
    lines += [f"The paper's trend: {table.trend}", ""] if table.trend else []
    lines += [f"* {text}" for text in [*notes_of(result), *table.deviations]]
    lines += ["", "Commands:", "", "```", *(row.command for row in result.rows), "```"] if rows else []
    return "\n".join([*lines, ""])


def render_csv(result: TableResult) -> str:
    """One line per row, numbers unrounded."""
    stream = io.StringIO()
    names = row_columns(result)
    writer = csv.writer(stream, lineterminator="\n")
    titles = [f"paper_{result.table.metric}", "measured_mean", "measured_std", "seeds", "scores", "difference"]
    writer.writerow(
        [*names, *titles, "parameters", "multiply_adds", "seconds", "scale", "changes", "state", "code", "command"]
    )
    for row in result.rows:
        scores = " ".join(f"{score:.6f}" for score in row.scores)
        numbers = [row.paper, row.mean, row.spread, len(row.scores), scores, row.difference, row.parameters]
        named = [_column(row, name) for name in names]
        of_table = [result.table.scale, " ".join(result.table.changes)]
        rest = [row.multiply_adds, row.seconds, *of_table, row.state, "; ".join(row.code), row.command]
        writer.writerow([*named, *numbers, *rest])
    return stream.getvalue()


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def shortened(text: str) -> str:
    """Text with its middle left out where it is too wide for a column."""
    half = (_WIDEST - 1) // 2
    return text if len(text) <= _WIDEST else f"{text[:half]}…{text[-half:]}"


def _column(row: RowResult, name: str) -> Any:
    return row.row.name if name == "row" and name not in row.row.columns else row.row.columns.get(name, "")


def word_of(value: Any) -> str:
    """A value of a column as people write it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    return [_line(titles), "|" + " --- |" * len(titles), *map(_line, rows)]


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("\n", " ").replace("|", r"\|") for text in texts) + " |"
