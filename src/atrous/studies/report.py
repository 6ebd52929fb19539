"""A table beside its measurements: in the terminal, as Markdown, as CSV and as one self-contained page."""

import csv
import io
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from atrous.files import write_text
from atrous.studies.page import render_page
from atrous.studies.results import RowResult, TableResult


def write_report(result: TableResult, folder: Path, *, console: Console) -> None:
    """Print the table and write table.md, table.csv and index.html into `folder`."""
    _print(result, console)
    write_text(folder / "table.md", render_markdown(result))
    write_text(folder / "table.csv", render_csv(result))
    write_text(folder / "index.html", render_page(result))
    console.print(f"report: {folder / 'index.html'}", soft_wrap=True)


def headline(result: TableResult) -> list[str]:
    """What must be said with the numbers: the scale, the agreement, what is missing."""
    table, lines = result.table, []
    if table.scale:
        lines.append(f"Scale `{table.scale}`: {table.scale_label}.")
    if result.agreement is not None:
        lines.append(f"Agreement of the row order with the paper: Kendall tau = {result.agreement:+.2f}.")
    missing = sum(row.mean is None for row in result.rows if not row.row.unreachable)
    if missing:
        lines.append(f"{missing} of {len(result.rows)} rows have no result yet.")
    return lines


def cells(row: RowResult) -> dict[str, str]:
    """A row as text, by column title."""
    text = {str(name): str(value) for name, value in row.row.columns.items()} or {"row": row.row.name}
    text["paper"] = "" if row.paper is None else f"{row.paper:.2f}"
    text["measured"] = _measured(row)
    text["difference"] = "" if row.difference is None else f"{row.difference:+.2f}"
    text["seeds"] = str(len(row.scores))
    text["parameters"] = "" if row.parameters is None else f"{row.parameters / 1e6:.2f}M"
    text["Multiply-Adds"] = "" if row.multiply_adds is None else f"{row.multiply_adds / 1e9:.3f}B"
    text["wall time"] = "" if row.seconds is None else _duration(row.seconds)
    text["state"] = row.state
    return text


def render_markdown(result: TableResult) -> str:
    """The report as Markdown, commands included."""
    table, rows = result.table, [cells(row) for row in result.rows]
    lines = [f"# {table.paper or table.name}", "", f"{table.title}.", "", *headline(result), ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(row.values()) + " |" for row in rows]
    lines += ["", _legend(result), ""]
    if table.trend:
        lines += [f"The paper's trend: {table.trend}", ""]
    lines += [f"* {text}" for text in table.deviations]
    lines += ["", "Commands:", "", "```", *(row.command for row in result.rows), "```", ""]
    return "\n".join(lines)


def render_csv(result: TableResult) -> str:
    """One line per row, numbers unrounded."""
    stream = io.StringIO()
    columns = list(result.rows[0].row.columns) or ["row"]
    writer = csv.writer(stream, lineterminator="\n")
    titles = ["paper_miou", "measured_mean", "measured_std", "seeds", "scores", "difference", "parameters"]
    writer.writerow([*columns, *titles, "multiply_adds", "seconds", "scale", "state", "command"])
    for row in result.rows:
        named = [row.row.columns.get(name, row.row.name) for name in columns]
        scores = " ".join(f"{score:.6f}" for score in row.scores)
        numbers = [row.paper, row.mean, row.spread, len(row.scores), scores, row.difference, row.parameters]
        writer.writerow([*named, *numbers, row.multiply_adds, row.seconds, result.table.scale, row.state, row.command])
    return stream.getvalue()


def _print(result: TableResult, console: Console) -> None:
    table = RichTable(title=f"{result.table.paper or result.table.name}: {result.table.title}")
    rows = [cells(row) for row in result.rows]
    shown = [name for name in rows[0] if name != "state"]
    for name in shown:
        table.add_column(name, justify="left" if name == "row" else "right")
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    console.print(table)
    notes = [f"{row.row.name}: {row.state}" for row in result.rows if row.state != "done"]
    for line in [*notes, *headline(result), _legend(result)]:
        console.print(line.replace("`", ""), highlight=False, soft_wrap=True)


def _measured(row: RowResult) -> str:
    if row.mean is None:
        return ""
    return f"{row.mean:.2f}" if row.spread is None else f"{row.mean:.2f} ± {row.spread:.2f}"


def _legend(result: TableResult) -> str:
    sizes = {row.size for row in result.rows if row.size}
    size = f" at {' or '.join(f'{a}x{b}' for a, b in sorted(sizes))}" if sizes else ""
    return (
        "mIoU in percent: mean ± standard deviation over seeds of the final weights; difference in points; "
        f"Multiply-Adds true count{size}; wall time of one training."
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
