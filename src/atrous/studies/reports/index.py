"""The first page of a report's site: every table with its progress, the runs that are no row, what is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path, PurePosixPath

from atrous.html import card, cards, table
from atrous.studies.reports.charts import sparkline
from atrous.studies.reports.frame import frame, label_of, link, listed, run_page
from atrous.studies.reports.rows import TableResult
from atrous.studies.reports.run_page import Use
from atrous.studies.reports.store import DamagedRun, Store, StoredRun
from atrous.studies.reports.words import progress_of, seeds_of

_HEAD = ("table", "tau", "trend", "rows measured", "seeds", "state", "what it compares")


def render_index(
    store: Store,
    tables: Mapping[str, Sequence[TableResult]],
    uses: Mapping[Path, Sequence[Use]],
    odd: Sequence[DamagedRun] = (),
    *,
    table_page: Callable[[TableResult], PurePosixPath],
) -> str:
    """Return the page.

    Args:
        store: What was read.
        tables: Every table, by scale.
        uses: Which rows each run is, by its folder.
        odd: Runs that were read, and whose page could not be made.
        table_page: Where the page of a table lies.
    """
    parts = [
        "<p>DeepLabv3 and DeepLabv3+: what the papers say, and what was measured here.</p>",
        _cards(store, tables),
        "<p class=\"soft\">tau: Kendall's rank correlation of the rows, paper against measurement; +1 is the paper's "
        'order. In the small pictures the <span class="paper">paper</span> and what was measured, row by row.</p>',
    ]
    for scale, results in tables.items():
        parts.append(f"<h2>Scale {escape(scale)}</h2>{label_of(results[0].table)}")
        for paper, of_paper in _by_paper(results).items():
            rows = [_row(result, table_page(result)) for result in of_paper]
            parts.append(f"<h3>{escape(paper)}</h3>{table(_HEAD, rows, text=(0, 5, 6))}")
    left_out = "They are left out of every table."
    parts += listed("Damaged run folders", [damaged.reason for damaged in store.damaged], note=left_out)
    parts += listed("Run folders moved or copied aside", list(map(str, store.aside)), note=left_out)
    is_odd = "Tables show what was read of them, which may be odd too."
    parts += listed("Runs without a page", [damaged.reason for damaged in odd], note=is_odd)
    parts += _others([run for run in store.runs if run.folder.path not in uses])
    return frame("The tables of both papers beside measurements", "".join(parts))


def _cards(store: Store, tables: Mapping[str, Sequence[TableResult]]) -> str:
    results = [result for of_scale in tables.values() for result in of_scale]
    touched = sum(result.is_touched for result in results)
    rows = [row for result in results for row in result.rows if not row.row.unreachable]
    states = [run.state for run in store.runs]
    parts = [
        card(
            f"{touched} of {len(results)}",
            "tables begun",
            detail=f"at {len(tables)} scale{'s' if len(tables) > 1 else ''}",
            main=True,
        ),
        card(f"{sum(not row.is_open for row in rows)} of {len(rows)}", "rows measured"),
        card(str(states.count("done")), "runs done", detail=f"of {len(states)}"),
    ]
    for state in ("running", "failed", "stopped"):
        parts += [card(str(states.count(state)), f"runs {state}")] if state in states else []
    parts += [card(str(len(store.damaged)), "run folders damaged")] if store.damaged else []
    return cards(parts)


def _by_paper(results: Sequence[TableResult]) -> dict[str, list[TableResult]]:
    found: dict[str, list[TableResult]] = {}
    for result in results:
        found.setdefault(_paper_of(result)[0], []).append(result)
    return found


def _paper_of(result: TableResult) -> tuple[str, str]:
    """The paper, and the table in it."""
    paper, _, place = result.table.paper.partition(", ")
    return (paper, place) if place else (paper, result.table.name)


def _row(result: TableResult, page: PurePosixPath) -> list[str]:
    rows = [row for row in result.rows if not row.row.unreachable]
    measured = sum(not row.is_open for row in rows)
    tau = "" if result.agreement is None else f"{result.agreement:+.2f}"
    place = _paper_of(result)[1]
    name = link(place[:1].upper() + place[1:], page.as_posix())
    state = escape(progress_of(result)) if result.is_touched or not rows else '<span class="soft">not begun</span>'
    picture = sparkline(result) if any(row.mean is not None for row in rows) else ""
    count = f"{measured} of {len(rows)}" if rows else "-"
    return [name, tau, picture, count, seeds_of(result), state, escape(result.table.title)]


def _others(runs: Sequence[StoredRun]) -> list[str]:
    """Runs that no table has: the trainings that others start from, and what was tried."""
    if not runs:
        return []
    rows = []
    for run in runs:
        score = next((f"{100 * entry['miou']:.2f}" for entry in run.evaluations.values()), "")
        name = link(f"{run.name}, seed {run.seed}", run_page(run.folder.path).as_posix())
        rows.append([name, score, escape(run.state), f"{run.status.get('step') or 0} of {run.max_steps}"])
    head = ("run", "mIoU %", "state", "step")
    note = '<p class="soft">Trainings that others start from, and everything that was tried beside the tables.</p>'
    return [f"<h2>Runs that are no row of a table</h2>{note}{table(head, rows)}"]
