"""Words of others on a terminal, as they are: rich would take what stands in brackets for its own markup."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def plain_table(
    title: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str], folds: bool = False
) -> Table:
    """Return a table of plain texts.

    Args:
        title: above it.
        head: titles of the columns.
        rows: cells.
        words: the columns, by their titles, that are no numbers and stand on the left.
        folds: whether a cell that is too wide is broken into lines instead of cut.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="table.title"))
    for name in head:
        justify = "left" if name in words else "right"
        table.add_column(Text(name), justify=justify, overflow="fold" if folds else "ellipsis")  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def say(console: Console, text: str) -> None:
    """Print a plain text, its lines unbroken, so that a path in it can be copied."""
    console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)
