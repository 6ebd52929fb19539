"""The report of a whole store as one site: an index of both papers' tables, a page per table, a page per run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from atrous.files import write_json, write_text
from atrous.studies.reports.frame import run_page
from atrous.studies.reports.index import render_index
from atrous.studies.reports.report import uses_of, write_table
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.run_page import Use, write_run_page
from atrous.studies.reports.store import DamagedRun, Store, read_store
from atrous.studies.reports.tables import tables_of_papers

_INDEX = PurePosixPath("index.html")
_LIST = "site.json"  # the site's files, so that the next one can take away what is no longer true


def write_site(store: Path, folder: Path, *, told: Callable[[str], object]) -> Path:
    """Write the site of a store; needs an initialised Hydra, trains nothing.

    Args:
        store: The run store.
        folder: Where the site is written; files of others stay.
        told: Called with what is being done.

    Returns:
        The index.
    """
    told("reading the store")
    stored = read_store(store)
    tables = tables_of_papers(stored, told=told)
    told("writing pages")
    uses: dict[Path, list[Use]] = {}
    written = []
    for scale, results in tables.items():
        for result in results:
            page = table_page(result)
            written += write_table(result, folder, page, way=[("All tables", _up(page))])
            for path, of_run in uses_of(result, page).items():
                uses.setdefault(path, []).extend(of_run)
        told(f"pages at scale {scale}")
    pages, odd = _write_runs(stored, folder, uses)
    write_text(folder / _INDEX, render_index(stored, tables, uses, odd, table_page=table_page))
    _tidy(folder, [_INDEX, *written, *pages])
    return folder / _INDEX


def table_page(result: TableResult) -> PurePosixPath:
    """Where the page of a table lies in the site."""
    return PurePosixPath("tables") / result.table.slug / "index.html"


def _write_runs(
    stored: Store, folder: Path, uses: Mapping[Path, Sequence[Use]]
) -> tuple[list[PurePosixPath], list[DamagedRun]]:
    """Write the pages of all runs; returns them, and the runs that have none but one that says why."""
    written, odd = [], []
    for run in stored.runs:
        page, of_run = run_page(run.folder.path), uses.get(run.folder.path, ())
        files, damaged = write_run_page(run, folder, page, uses=of_run, way=[("All tables", _INDEX)])
        written += files
        odd += [] if damaged is None else [damaged]
    return written, odd


def _up(page: PurePosixPath) -> str:
    return "/".join([".."] * len(page.parent.parts) + [_INDEX.name])


def _tidy(folder: Path, written: Sequence[PurePosixPath]) -> None:
    """Remove the files of the site before this one that are no part of it, and no file of anyone else."""
    files = sorted(str(path) for path in written)
    try:
        before = json.loads((folder / _LIST).read_text())
    except (OSError, ValueError, RecursionError):
        before = None
    write_json(folder / _LIST, files)
    root = folder.resolve()
    known = before if isinstance(before, list) else []  # the first site here, or a list that was lost: its pages stay
    for name in set(map(str, known)) - set(files):
        if _is_within(root, folder / name):
            (folder / name).resolve().unlink()


def _is_within(root: Path, path: Path) -> bool:
    """Whether a path, as a list that may be damaged gives it, leads to a file below a folder."""
    try:
        return path.resolve().is_relative_to(root) and path.is_file()
    except (OSError, ValueError):  # too long, or letters that no name has
        return False
