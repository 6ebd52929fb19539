"""Atomic writes: a file is either the old one or the new one, also after a power cut or on a full disk."""

import errno
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from atrous.errors import AtrousError, ConfigError

_RESERVE_BYTES = 1 << 20  # left free by large files, so that what a failed run says of itself still fits
_LIMITS = {errno.EDQUOT: "the quota is used up", errno.EFBIG: "a limit on the size of a file is reached (ulimit -f)"}
_FULL = (errno.ENOSPC, *_LIMITS)


class NoSpaceError(AtrousError, OSError):
    """A file that does not fit on its disk; what was there before is untouched (`append_text`: but for its end).

    Args:
        message: the folder, the file and what it needs; also the error's `strerror`.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        OSError.__init__(self, errno.ENOSPC, message)

    def __str__(self) -> str:
        return str(self.strerror)


def at_home(path: str | Path) -> Path:
    """Put the home folder in the place of a ~ at the beginning; ~NAME stays as it is where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path's ends in an error then


def write_atomically(path: Path, write: Callable[[BinaryIO], None], *, size: int = 0) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk and rename it onto `path`.

    Args:
        path: the file; its folder is made. Who may read it is for the umask to say.
        write: gets a binary stream.
        size: bytes that will be written, where they are known; the file that is replaced is an estimate too.

    Raises:
        NoSpaceError: the disk has no room, which is asked before and noticed while writing.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = max(size, path.stat().st_size if path.is_file() else 0)
        check_space(path, size)
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        written = _remove(temporary)
        if (why := _why_full(error)) and not isinstance(error, NoSpaceError):
            raise _no_space(path, max(size, written), "about" if size > written else "more than", why=why) from None
        raise


def _remove(temporary: Path) -> int:
    """Remove a file, if it is there; returns how many bytes it held."""
    try:
        written = temporary.stat().st_size
        temporary.unlink()
    except OSError:  # it was never made: its folder may be none
        return 0
    return written


def check_writable(folder: Path, *, given: str | None = None) -> None:
    """Look whether a folder can be written to, or made; nothing is made yet.

    Args:
        folder: that is written to later.
        given: the key and value that lead to it, for errors; `output=FOLDER` if None.

    Raises:
        ConfigError: it cannot.
    """
    given = given or f"output={str(folder)!r}"
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        reason = "may not be written to" if nearest.is_dir() else "is not a folder"
        raise ConfigError(f"{given} cannot be used: {nearest} {reason}; give another folder")
    for path in (folder, *(nearest / name for name in folder.absolute().parts[len(nearest.absolute().parts) :])):
        try:  # a name is looked at where its folder is there
            path.lstat()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:  # too long, or letters that no name has
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigError(f"{given} cannot be used: {why}; give another folder") from None


def check_space(path: Path, size: int) -> None:
    """Refuse a file that does not fit on its disk, before a byte of it is written.

    Args:
        path: the file; its folder is there.
        size: bytes that it will have.

    Raises:
        NoSpaceError: names the folder, the file, and how much is free.
    """
    reserve = _RESERVE_BYTES if size > _RESERVE_BYTES else 0
    if size and shutil.disk_usage(path.parent).free < size + reserve:
        raise _no_space(path, size + reserve, "about")


def _why_full(error: BaseException | None) -> int:
    """The number by which an error, or one that led to it, says that there is no room; 0 where none does.

    Libraries wrap what a stream raises.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error.errno
        error = error.__cause__ or error.__context__
    return 0


def _no_space(path: Path, size: int, how: str, *, why: int = errno.ENOSPC) -> NoSpaceError:
    free = shutil.disk_usage(path.parent).free / 2**20
    needed = f"{max(size / 2**20, 0.01):.4g} MiB"
    advice = f"{_LIMITS[why]}; raise it" if why in _LIMITS else f"{free:.4g} MiB are free; free some"
    return NoSpaceError(
        f"no space left in {path.parent}: {path.name} needs {how} {needed}, {advice} and run the same command again"
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically; a disk without the room for it is refused first."""

    def write(stream: BinaryIO) -> None:
        stream.write(content)

    write_atomically(path, write, size=len(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, atomically; a question mark stands for what is no letter, as in a path's bytes."""
    write_bytes(path, text.encode(errors="replace"))


def append_text(path: Path, text: str) -> None:
    """Append UTF-8 `text` to `path`; a kill, or a full disk, may leave a part of it at the end.

    Raises:
        NoSpaceError: the disk has no room.
    """
    content = text.encode()
    try:
        with path.open("ab") as stream:
            stream.write(content)
    except OSError as error:
        if why := _why_full(error):
            raise _no_space(path, len(content), "about", why=why) from None
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=False) + "\n")


@contextmanager
def folder_made_whole(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder`, which gets that name when the block has ended without an error.

    It is removed after an error, also one by a signal (see `atrous.processes.Interrupts`), and what a killed process
    left of it is removed first. The caller makes sure that no other process makes the same at the same time.

    Args:
        folder: must not exist; the folder that it lies in must.
    """
    temporary = folder.parent / f".{folder.name}.unfinished"
    if temporary.exists():
        shutil.rmtree(temporary)
    try:
        temporary.mkdir()
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Rename a damaged file to NAME.damaged-N, the first N that is free, and return its new place."""
    taken = {other.name for other in path.parent.glob(f"{path.name}.damaged-*")}
    number = next(n for n in itertools.count(1) if f"{path.name}.damaged-{n}" not in taken)
    return path.rename(path.with_name(f"{path.name}.damaged-{number}"))
