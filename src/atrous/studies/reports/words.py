"""What must be said with the numbers of a table: the scale, how its order agrees with the paper's, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from atrous.studies.metrics import title_of
from atrous.studies.reports.rows import TableResult
from atrous.studies.table import Table


def headline(result: TableResult) -> list[str]:
    """The sentences that every form of a report begins with."""
    lines = [scale_of(result.table), choice_of(result.table), *agreement_of(result)]
    missing = sum(row.is_open for row in result.rows)
    if missing:
        lines.append(f"{missing} of {len(result.rows)} rows have no result yet.")
    if result.damaged:
        number = len(result.damaged)
        lines.append(f"{number} damaged run folder{'s are' if number > 1 else ' is'} left out:")
        lines += [f"  {damaged.reason}" for damaged in result.damaged]
    if result.aside:
        lines += [f"{aside_of(result.aside)}:", *(f"  {folder}" for folder in result.aside)]
    return [line for line in lines if line]


def scale_of(table: Table) -> str:
    """Whether the numbers are a reproduction; empty for a sweep that no paper has."""
    return f"Scale `{table.scale}`: {table.scale_label}." if table.scale else ""


def choice_of(table: Table) -> str:
    """How many of the rows are shown; empty where all are."""
    return (
        f"Chosen: {len(table.rows)} of the table's {len(table.rows) + table.left_out} rows." if table.left_out else ""
    )


def agreement_of(result: TableResult) -> list[str]:
    """Kendall's tau and what it means; nothing where there are fewer than two rows to order."""
    tau = result.agreement
    if tau is None:
        return []
    alike, reversed_, tied = _pairs(result)
    pairs = alike + reversed_ + tied
    said = [f"{alike} of {pairs} pairs of rows are in the paper's order"]
    said += [f"{reversed_} {'is' if reversed_ == 1 else 'are'} reversed"] if reversed_ else []
    said += [f"{tied} {'is' if tied == 1 else 'are'} equal in one of both"] if tied else []
    sentence = f"{', '.join(said[:-1])}{' and ' if said[1:] else ''}{said[-1]}"
    return [f"Agreement of the row order with the paper: Kendall tau = {tau:+.2f}: {sentence}."]


def aside_of(folders: Sequence[Path]) -> str:
    """How many folders of runs are left out because they do not lie in the place of theirs."""
    what = "1 run folder that was" if len(folders) == 1 else f"{len(folders)} run folders that were"
    return f"{what} moved or copied aside {'is' if len(folders) == 1 else 'are'} left out"


def legend_of(result: TableResult) -> str:
    """What the columns hold."""
    sizes = {row.size for row in result.rows if row.size}
    size = f" at {' or '.join(f'{a}x{b}' for a, b in sorted(sizes))}" if sizes else ""
    gains = [row for row in result.rows if row.row.against]
    against = "; a gain in points where a row is held against another, seed by seed" if gains else ""
    return (
        f"{title_of(result.table.metric)} in percent: mean ± standard deviation over seeds of the final weights"
        f"{against}; difference in points; Multiply-Adds true count{size}; wall time of one training."
    )


def notes_of(result: TableResult) -> list[str]:
    """What is to be said of single rows."""
    notes = [f"{row.row.name}: {row.state}" for row in result.rows if row.state != "done"]
    notes += [f"{row.row.name}: what it has more than {row.row.against}" for row in result.rows if row.row.against]
    return [*notes, *(f"{row.row.name}: {row.row.note}" for row in result.rows if row.row.note)]


def code_of(result: TableResult) -> str:
    """Which code trained the rows: the version and the commit, or all of them with their rows; empty if unknown."""
    rows: dict[str, list[str]] = {}
    for row in result.rows:
        for code in row.code:
            rows.setdefault(code, []).append(row.row.name)
        if row.scores and not row.code:
            rows.setdefault("a version that was not noted", []).append(row.row.name)
    if len(rows) < 2:
        return "".join(f"Trained by atrous {code}." for code in rows if any(row.code for row in result.rows))
    found = "; ".join(f"{code}: {', '.join(names)}" for code, names in sorted(rows.items()))
    return f"Trained by different versions of atrous: {found}."


def progress_of(result: TableResult) -> str:
    """The state of a table in a few words."""
    states = [seed.state for row in result.rows for seed in row.seeds]
    words = [
        f"{states.count(state)} {state}" for state in ("running", "queued", "stopped", "failed") if state in states
    ]
    words += (
        [f"{sum(bool(row.other_budgets) for row in result.rows)} with another budget"]
        if any(row.other_budgets for row in result.rows)
        else []
    )
    missing = sum(row.is_open for row in result.rows)
    if not missing:
        done = any(not row.row.unreachable for row in result.rows)
        return ", ".join(["done" if done else "shown only", *words])
    return ", ".join([f"{missing} open", *words])


def seeds_of(result: TableResult) -> str:
    """How many seeds the measured rows have, e.g. `3` or `1 to 3`; empty where none is measured."""
    numbers = sorted({len(row.scores) for row in result.rows if row.scores})
    return " to ".join(map(str, dict.fromkeys((numbers[0], numbers[-1])))) if numbers else ""


def _pairs(result: TableResult) -> tuple[int, int, int]:
    alike = reversed_ = tied = 0
    for (paper, ours), (paper_too, ours_too) in combinations(result.pairs, 2):
        product = (paper - paper_too) * (ours - ours_too)
        alike, reversed_, tied = alike + (product > 0), reversed_ + (product < 0), tied + (product == 0)
    return alike, reversed_, tied
