"""What a benchmark reports: a table, the goals that its figures are held to, and what a reader has to know of them.

Every benchmark makes sections; the terminal, the JSON and the page in docs/benchmarks are made of the same ones.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Spread
from benchmarks.turns import BenchmarkError
from rich.console import Console
from rich.table import Table

from atrous.files import write_json


@dataclass(frozen=True)
class Goal:
    """A figure and what it should be; exactly one of the two bounds is given.

    Attributes:
        what: is compared with what.
        value: as measured.
        at_least: the lower bound.
        at_most: the upper bound.
        unit: behind the numbers.
        moot: why the bound is not asked for on this machine; empty where it is.
    """

    what: str
    value: Spread
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"
    moot: str = ""

    @property
    def bound(self) -> str:
        """As `at least 2.2x`."""
        words, bound = ("at least", self.at_least) if self.at_least is not None else ("at most", self.at_most)
        return f"{words} {bound:g}{self.unit}"

    @property
    def verdict(self) -> str:
        """Whether the median keeps the bound, in a word."""
        if self.moot:
            return f"not asked here: {self.moot}"
        if self.at_least is not None:
            return "yes" if self.value.median >= self.at_least else "**no**"
        assert self.at_most is not None
        return "yes" if self.value.median <= self.at_most else "**no**"


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Attributes:
        key: names its files.
        title: its headline.
        text: what is compared with what, in Markdown.
        columns: heads of the table; the first is aligned to the left.
        rows: its cells.
        goals: what the figures are held to.
        notes: what is missing or differs, one sentence each.
        died: what became of ways that could not be measured in every turn, one sentence each.
        picture: file name of its plot; empty for none.
        figures: all that was measured, for the JSON.
        origin: the date, the commit and the command that it was measured with, as Markdown; empty where unknown.
        machine: where, in brief; empty where unknown.
    """

    key: str
    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()
    died: Sequence[str] = ()
    picture: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    machine: str = ""

    def markdown(self) -> str:
        """The section as a page shows it, whose goals stand above all sections."""
        parts = [f"## {self.title}", self.text, markdown_table(self.columns, self.rows)]
        parts += [f"![{self.title}]({self.picture})"] if self.picture else []
        notes = [*self.notes, *self.died]
        parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
        where = f", on {self.machine}" if self.machine else ""
        parts += [f"Measured {self.origin}{where}."] if self.origin else []
        return "\n\n".join(parts)

    def show(self) -> None:
        """Print it."""
        console = Console(width=None if sys.stdout.isatty() else 160)
        console.print(_rich_table(self.title, self.columns, self.rows))
        if self.goals:
            console.print(_rich_table("", _GOAL_COLUMNS, [_goal_cells(goal) for goal in self.goals]))
        for note in [*self.notes, *self.died]:
            console.print(f"- {note}", markup=False)

    def write(self, folder: Path) -> None:
        """Write `<key>.json` into a folder."""
        write_json(folder / f"{self.key}.json", asdict(self))

    @classmethod
    def read(cls, file: Path) -> "Section":
        """The section that `write` wrote, which can be shown.

        Raises:
            BenchmarkError: the file cannot be read, or holds something else.
        """
        try:
            content = json.loads(file.read_bytes())
            goals = [Goal(**{**goal, "value": Spread(**goal["value"])}) for goal in content.pop("goals")]
            section = cls(**content, goals=goals)
            texts = (section.key, section.title, section.text, section.picture, section.origin, section.machine)
            if not all(isinstance(text, str) for text in texts) or not isinstance(section.figures, dict):
                raise TypeError("it is no section")
            f"{section.markdown()}{goals_table(goals)}".encode()
        except Exception as error:  # whatever a damaged file can lead to
            raise BenchmarkError(f"{file.name} cannot be read ({error!r})") from error
        return section


_GOAL_COLUMNS = ("goal", "measured (range over turns)", "wanted", "kept")


def goals_table(goals: Sequence[Goal]) -> str:
    """Goals as a Markdown table."""
    return markdown_table(_GOAL_COLUMNS, [_goal_cells(goal) for goal in goals])


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _goal_cells(goal: Goal) -> list[str]:
    return [goal.what, goal.value.text(goal.unit), goal.bound, goal.verdict]


def _rich_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title or None)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in rows:
        table.add_row(*(cell.replace("**", "") for cell in row))
    return table
