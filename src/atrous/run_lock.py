"""Who may train or measure a run: one process tree at a time, on every machine that shares the store."""

import fcntl
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atrous.errors import StoreError

_NAME = "lock"
_POLL_SECONDS = 0.2


@contextmanager
def hold(folder: Path, *, wait: Callable[[], bool] | None = None) -> Iterator[int | None]:
    """Hold a run; a second holder waits. The kernel lets go when the last process that holds it has ended.

    Args:
        folder: of the run; it is made.
        wait: asked again and again while another process holds the run; False gives up. By default it is waited for,
            and said once who it is.

    Yields:
        The file descriptor, to be handed to child processes; None where `wait` gave up.

    Raises:
        StoreError: the folder cannot be made, or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / _NAME).open("a")
    except OSError as error:
        reason = f"cannot be made ({error.strerror}); give another folder as store="
        if folder.is_dir():
            reason = f"cannot be locked, to write into it, ({error.strerror}); copy it, or train it in another store="
        raise StoreError(f"{folder}: {reason}") from None
    wait = wait or _announced(folder)
    with stream:
        while not _is_taken(stream.fileno(), folder):
            if not wait():
                yield None
                return
            time.sleep(_POLL_SECONDS)
        with suppress(OSError):  # only for people, and it may not fit on a full disk
            os.truncate(stream.fileno(), 0)
            os.write(stream.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield stream.fileno()


def _announced(folder: Path) -> Callable[[], bool]:
    said = itertools.chain([False], itertools.repeat(True))

    def wait() -> bool:
        if not next(said):
            print(f"{folder} is in use by {holder(folder)}; waiting for it", file=sys.stderr)  # noqa: T201
        return True

    return wait


def holder(folder: Path) -> str:
    """The process that took a run's lock last, as `process PID on HOST`."""
    try:
        return (folder / _NAME).read_text().strip() or "another process"
    except (OSError, ValueError):
        return "another process"


def _is_taken(descriptor: int, folder: Path) -> bool:
    """Take the lock, unless another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be locked ({error.strerror}); store= needs a file system with flock"
        ) from None
    return True
