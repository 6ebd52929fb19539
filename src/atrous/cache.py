"""The folder where fetched, unpacked and compiled files are kept: $ATROUS_CACHE, or ~/.cache/atrous."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from atrous.errors import AtrousError, CheckpointError
from atrous.files import at_home


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return `cache`, or where such files are kept if it is None; the folder need not exist yet."""
    if cache is not None:
        return at_home(cache)
    chosen = os.environ.get("ATROUS_CACHE")
    return at_home(chosen) if chosen else Path.home() / ".cache" / "atrous"


@contextmanager
def locked(
    path: Path,
    *,
    key: str = "ATROUS_CACHE",
    error: type[AtrousError] = CheckpointError,
    waits: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold `path` against other processes, the ranks of one job among them; a second holder waits.

    The kernel lets go when the holder has ended, however it did.

    Args:
        path: what is worked on; the lock is a file beside it, NAME.lock, and stays.
        key: what names the folder, for errors.
        error: what is raised.
        waits: called once where another process has it.

    Raises:
        AtrousError: The folder cannot be made or written, or its file system has no locks; an `error`.
    """
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / f"{path.name}.lock").open("a")
    except OSError as cause:
        raise error(f"{folder} cannot be written ({cause.strerror}); give another folder as {key}") from None
    with stream:
        try:
            _take(stream.fileno(), waits)
        except OSError as cause:
            raise error(f"{folder} cannot be locked ({cause.strerror}); {key} needs a file system with flock") from None
        yield


def _take(descriptor: int, waits: Callable[[], None] | None) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waits is not None:
            waits()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
