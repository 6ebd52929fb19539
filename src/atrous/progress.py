"""How far something long is: on a terminal a bar or a word that changes, elsewhere nothing or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0  # where there is no terminal


@contextmanager
def progress(title: str, *, shown: bool = True, bar: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is: by a bar, or a line every ten seconds where the output is no terminal.

    Args:
        title: what is going on.
        shown: whether anything is shown.
        bar: whether there may be a bar; lines otherwise, on a terminal too.

    Yields:
        A function to be told (done, total); a total of 0 is not known.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, said_at = Console(stderr=True), time.monotonic()
    by_lines = shown and not (bar and console.is_terminal)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=by_lines or not shown) as drawn:
        task = drawn.add_task(escape(title), total=None)

        def report(done: int, total: int) -> None:
            nonlocal said_at
            drawn.update(task, completed=done, total=total or None)
            if by_lines and (now := time.monotonic()) - said_at > SECONDS_BETWEEN_LINES:
                said_at = now
                print(f"{title}: {done} of {total or '?'}", file=sys.stderr, flush=True)  # noqa: T201

        yield report


def tracked(items: Iterable[T], title: str, *, total: int) -> Iterator[T]:
    """Yield items, and show how many of them are done, as `progress` does.

    Args:
        items: what is gone through.
        title: what is going on.
        total: how many there are.
    """
    with progress(title) as report:
        for done, item in enumerate(items, start=1):
            yield item
            report(done, total)


@contextmanager
def doing(what: str, console: Console) -> Iterator[Callable[[str], None]]:
    """Show what is being done: beside a spinner, or a line every ten seconds where the output is no terminal.

    Args:
        what: is done first.
        console: where it is shown.

    Yields:
        A function to be told what is done next.
    """
    from rich.text import Text

    with console.status(Text(what)) as status:
        said_at = time.monotonic()

        def tell(what: str) -> None:
            nonlocal said_at
            status.update(Text(what))
            if not console.is_terminal and (now := time.monotonic()) - said_at > SECONDS_BETWEEN_LINES:
                said_at = now
                print(what, file=sys.stderr, flush=True)  # noqa: T201

        yield tell
