"""What is printed: words of others as they are, and nothing that ends with the terminal that showed it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


_GONE = (errno.EPIPE, errno.EIO)  # of a pipe that nobody reads any more, of a terminal that was closed


@contextmanager
def lasting_output() -> Iterator[None]:
    """Have what is printed go nowhere, and the work on, once nobody is there to read it.

    Ctrl-C ends a `tee` beside the command whose output it takes, and a dropped connection closes the terminal: a line
    about the last step would be an error before that step is saved. So would a letter that the terminal's encoding
    does not have; a question mark stands for it.
    """
    with ExitStack() as streams:
        for redirect, stream in ((redirect_stdout, sys.stdout), (redirect_stderr, sys.stderr)):
            if stream is not None:  # of a process without any
                lasting = _Lasting(stream)
                streams.enter_context(redirect(lasting))
                streams.callback(lasting.flush)
        yield


class _Lasting:
    """A stream that is turned to the null device when its reader is gone, and that takes every letter."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._lasting(lambda: self._write(text))
        return len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:  # whose `encoding` is "charmap", another one, for all that have a table
            encoding = self._stream.encoding
            self._stream.write(text.encode(encoding, "replace").decode(encoding))

    def flush(self) -> None:
        self._lasting(self._stream.flush)

    def _lasting(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            with suppress(OSError):
                self._stream.flush()  # of what it holds


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
