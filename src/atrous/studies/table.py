"""A table as data: rows of a paper, or of any sweep, and the plain command of every row."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One row: the overrides that make its run, and what the paper reports (fractions are percent there).

    A row that is `unreachable`, for the reason given, is shown and never trained. The number of a row that is held
    `against` another one is what it has more than that.
    """

    name: str
    overrides: tuple[str, ...]
    columns: Mapping[str, Any]
    paper: Mapping[str, float] = field(default_factory=dict)
    protocol: str = "single"
    note: str = ""
    unreachable: str = ""
    against: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of a paper's table at one scale, or of a sweep that no paper has.

    `baselines` are rows that others are held against and that are not shown, so that nothing is trained for them.
    `changes` are the user's own overrides where they make it another table than the paper's, and `left_out` says how
    many rows were not chosen.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    paper: str = ""
    trend: str = ""
    scale: str = ""
    scale_label: str = ""
    is_reproduction: bool = False
    deviations: tuple[str, ...] = ()
    metric: str = "miou"
    picture: str = ""
    baselines: tuple[Row, ...] = ()
    changes: tuple[str, ...] = ()
    left_out: int = 0

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Table":
        """A table from what `dataclasses.asdict` made of it, also after a way through JSON."""
        rows, baselines = (
            tuple(Row(**{**row, "overrides": tuple(row["overrides"])}) for row in part)
            for part in (content["rows"], content.get("baselines", ()))
        )
        texts = {key: tuple(content.get(key, ())) for key in ("deviations", "changes")}
        return cls(**{**content, **texts, "rows": rows, "baselines": baselines})

    @property
    def slug(self) -> str:
        """Folder of the table's report, relative to <store>/reports.

        A table that the user changed, or chose rows of, has one of its own, which the same choice finds again.
        """
        chosen = [*sorted(self.changes), *(["rows", *(row.name for row in self.rows)] if self.left_out else [])]
        part = f"-{hashlib.sha256(' '.join(chosen).encode()).hexdigest()[:8]}" if chosen else ""
        return f"{self.name}/{self.scale}{part}" if self.scale else f"{self.name}{part}"


@dataclass(frozen=True)
class Sweep:
    """A table and the values of its seeds; whether someone asked for these, or they are what is taken otherwise."""

    table: Table
    seeds: tuple[int, ...]
    asks_for_seeds: bool = False

    def jobs(self) -> list[tuple[Row, list[str]]]:
        """Every training at every seed, first all at the first seed, as overrides of a single run.

        Rows that differ in their protocol alone share a training, which bears the name of the first of them.
        """
        context = [f"table={self.table.name}"] if self.table.paper else []
        trainings: dict[tuple[str, ...], list[Row]] = {}
        for row in self.table.rows:
            if not row.unreachable:
                trainings.setdefault(row.overrides, []).append(row)
        return [
            (rows[0], [*rows[0].overrides, f"seed={seed}", _protocols(rows), f"row={rows[0].name}", *context])
            for seed in self.seeds
            for rows in trainings.values()
        ]


def _protocols(rows: Sequence[Row]) -> str:
    return f"protocols=[{','.join(dict.fromkeys(row.protocol for row in rows))}]"
