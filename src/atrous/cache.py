"""The folder where fetched, unpacked and compiled files are kept: $ATROUS_CACHE, or ~/.cache/atrous."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atrous.errors import CheckpointError


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return `cache`, or where such files are kept if it is None; the folder need not exist yet."""
    if cache is not None:
        return Path(cache).expanduser()
    chosen = os.environ.get("ATROUS_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "atrous"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` against other processes, the ranks of one job among them; a second holder waits.

    The kernel lets go when the holder has ended, however it did.

    Raises:
        CheckpointError: The folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = (path.parent / f"{path.name}.lock").open("a")
    except OSError as error:
        raise CheckpointError(
            f"{path.parent} cannot be written ({error.strerror}); give another folder as ATROUS_CACHE"
        ) from None
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
