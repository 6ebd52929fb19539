"""A full memory as one line that names the key to lower, in place of a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atrous.errors import AtrousError
from atrous.hardware import is_memory_full, what_was_asked


class MemoryFullError(AtrousError):
    """The memory is full; with other keys the command may do."""

    exit_code = 1


@contextmanager
def memory_watched(advice: Callable[[], str]) -> Iterator[None]:
    """Turn the error of a full memory into words.

    Args:
        advice: says which keys to lower.

    Raises:
        MemoryFullError: there is no memory left.
    """
    try:
        yield
    except AtrousError:
        raise
    except Exception as error:
        if not is_memory_full(error):
            raise
        raise MemoryFullError(f"out of memory ({what_was_asked(error)}); {advice()}") from None
