"""A table beside its measurements: in the terminal, as Markdown, CSV, LaTeX, and pages that need nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from rich.console import Console

from atrous.files import write_text
from atrous.studies.reports.forms import cells, render_csv, render_markdown, row_columns, shortened
from atrous.studies.reports.frame import run_page
from atrous.studies.reports.latex import render_latex
from atrous.studies.reports.pictures import write_picture
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.run_page import Use, write_run_page
from atrous.studies.reports.store import read_runs
from atrous.studies.reports.table_page import render_page
from atrous.studies.reports.words import headline, legend_of, notes_of
from atrous.terminal import plain_table, say

_PAGE = PurePosixPath("index.html")


def write_report(result: TableResult, folder: Path, *, console: Console) -> None:
    """Print the table and write table.md, table.csv, table.tex, index.html and the pages of its runs into `folder`."""
    _print(result, console)
    write_table(result, folder, _PAGE)
    uses = uses_of(result, _PAGE)
    stored = read_runs(folder, sorted(uses))
    title = result.table.paper or result.table.name
    for run in stored.runs:
        page = run_page(run.folder.path, uses)
        _, damaged = write_run_page(run, folder, page, uses=uses[run.folder.path], way=[(title, _PAGE)])
        if damaged is not None:
            say(console, damaged.reason)
    say(console, f"report: {folder / _PAGE}")


def write_table(
    result: TableResult, site: Path, page: PurePosixPath, *, way: Sequence[tuple[str, str]] = ()
) -> list[PurePosixPath]:
    """Write the page of a table into a site, and its other forms beside it.

    Returns:
        The files, relative to the site.
    """
    texts = {
        page: render_page(result, page=page, way=way),
        page.parent / "table.md": render_markdown(result),
        page.parent / "table.csv": render_csv(result),
        page.parent / "table.tex": render_latex(result),
    }
    for path, text in texts.items():
        write_text(site / path, text)
    picture = write_picture(result, site / page.parent)
    return [*texts, *([] if picture is None else [page.parent / picture.name])]


def uses_of(result: TableResult, page: PurePosixPath) -> dict[Path, list[Use]]:
    """Which rows of a table each run is, by its folder."""
    found: dict[Path, list[Use]] = {}
    for row in result.rows:
        for seed in row.seeds:
            found.setdefault(seed.folder, []).append(Use(result.table, row.row.name, page))
        for run in row.other_budgets:
            found.setdefault(run.folder, []).append(Use(result.table, row.row.name, page, run))
    return found


def _print(result: TableResult, console: Console) -> None:
    rows = cells(result)
    if rows:
        title = f"{result.table.paper or result.table.name}: {result.table.title}"
        texts = [[*map(shortened, row.values())] for row in rows]
        console.print(plain_table(title, list(rows[0]), texts, words=row_columns(result)))
    for line in _told(result):
        say(console, line.replace("`", ""))


def _told(result: TableResult) -> Iterable[str]:
    yield from notes_of(result)
    yield from headline(result)
    if result.rows:
        yield legend_of(result)
