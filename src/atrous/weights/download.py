"""Weight files by URL: fetched once, checked by their SHA-256, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from atrous.cache import locked
from atrous.errors import CheckpointError, ConfigError
from atrous.files import NoSpaceError
from atrous.weights.transfer import Report, forget, transfer
from atrous.weights.urls import cached_path, local_path, public

_HEX_DIGITS = re.compile(r"[0-9a-f]{8,64}")
_ARCHIVES, _GZIP = (".tar.gz", ".tgz"), b"\x1f\x8b"
_TOLERANCE = 0.2  # of a size that a page gives, in MB or MiB
_CHUNK = 1 << 20


def fetch(
    url: str | Path,
    *,
    sha256: str | None,
    cache: str | Path | None = None,
    checked_later: bool = False,
    megabytes: float | None = None,
) -> Path:
    """Return the path of a file that `url` names, after fetching it if it is not in the cache yet.

    A broken transfer is gone on with at the next call. Of several processes one fetches and the others wait.

    Args:
        url: http://, https:// or file://, or a plain path; local files are checked and stay where they are. A URL holds
            no login; messages show it without its query, which may hold a token.
        sha256: All 64 hexadecimal digits, or the first 8 or more, as torch hub's file names carry them. None: the sum
            is printed with a warning that nothing was checked.
        cache: Folder for fetched files; None for $ATROUS_CACHE or ~/.cache/atrous.
        checked_later: Whether the caller checks the file by other means, so that there is nothing to warn of.
        megabytes: About how large the file is, where that is known. Without a sum, a fetched file that is far from it
            is refused, as is a .tar.gz that is no archive: the page of a proxy, or a file that was cut off.

    Returns:
        The local file; a fetched one lies at `<cache>/<host, :port if the URL has one>/<path of the URL>`.

    Raises:
        ConfigError: The URL or the sum is not written as above.
        CheckpointError: The file is not there, cannot be fetched, has another sum, or is no such file.
        NoSpaceError: It does not fit on the disk.
    """
    if sha256 is not None and not _HEX_DIGITS.fullmatch(sha256.lower()):
        raise ConfigError(f"sha256={sha256!r}: 64 hexadecimal digits, or the first 8 or more of them")
    local = local_path(url)
    if local is not None:
        if not local.is_file():
            raise CheckpointError(f"{local} is not there")
        _check(local, sha256, source=str(local), advice="give its own sum, or another file", quiet=checked_later)
        return local
    target = cached_path(str(url), cache=cache)
    if not target.is_file():
        with locked(target):
            if not target.is_file():
                _fetch(str(url), target, sha256, quiet=checked_later, megabytes=megabytes)
                return target
    # It came whole, by its name; without the lock it can be had of a cache that may only be read.
    _check(target, sha256, source=str(target), advice="move it away to fetch it anew", quiet=checked_later)
    return target


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check(path: Path, sha256: str | None, *, source: str, advice: str, quiet: bool) -> None:
    if sha256 is None and quiet:
        return
    found = sha256_of(path)
    if sha256 is None:
        line = f"warning: {source} was not checked, no SHA-256 of it is known; it has {found}"
        Console(stderr=True).print(escape(line), style="yellow", soft_wrap=True)
    elif not found.startswith(sha256.lower()):
        raise CheckpointError(
            f"{source} is not the file that was meant: its SHA-256 is {found}, expected {sha256.lower()}; {advice}"
        )


def _check_kind(part: Path, url: str, target: Path, *, megabytes: float | None) -> None:
    """Refuse a page in place of an archive, and a file that is cut off, where no sum would tell."""
    with part.open("rb") as stream:
        head = stream.read(16)
    size = part.stat().st_size / 1e6
    if target.name.endswith(_ARCHIVES) and not head.startswith(_GZIP):
        found = f"no gzip archive, it begins with {head!r}"
    elif megabytes is not None and abs(size - megabytes) > _TOLERANCE * megabytes:
        found = f"{size:.4g} MB, expected about {megabytes:g}"
    else:
        return
    raise CheckpointError(
        f"{public(url)} is not the file that was meant, what came is {found}: a proxy may have answered, or the "
        f"connection was cut; nothing was kept of it. The file may be put there by hand: {target}"
    )


def _fetch(url: str, target: Path, sha256: str | None, *, quiet: bool, megabytes: float | None) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        resumed = part.is_file()
        with _shown(url) as report:
            transfer(url, part, report=report, any_version=sha256 is not None)
        if resumed and sha256 is not None and not sha256_of(part).startswith(sha256.lower()):
            forget(part)  # its beginning may be of an older file: once more, from the start
            with _shown(url) as report:
                transfer(url, part, report=report, any_version=True)
    except NoSpaceError:
        raise
    except OSError as error:
        raise CheckpointError(_by_hand(url, target, part, error)) from None
    try:
        if sha256 is None:
            _check_kind(part, url, target, megabytes=megabytes)
        _check(part, sha256, source=public(url), advice="nothing was kept of it", quiet=quiet)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
    finally:
        forget(part)


def _by_hand(url: str, target: Path, part: Path, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or error
    arrived = part.stat().st_size if part.is_file() else 0
    kept = f" The {arrived} bytes that have arrived are kept, and the same call goes on from them." if arrived else ""
    return f"{public(url)} cannot be fetched: {reason}.{kept} Without a network, put the file there by hand: {target}"


@contextmanager
def _shown(url: str) -> Iterator[Report]:
    """Say what is fetched and how much it is; draw a bar on a terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    said = False
    with Progress(TextColumn("{task.description}"), *columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(public(url).rsplit("/", 1)[-1]), total=None)

        def report(arrived: int, whole: int | None) -> None:
            nonlocal said
            if not said:
                size = f"{whole / 1e6:.1f} MB" if whole is not None else "size unknown"
                rest = f", {arrived / 1e6:.1f} MB are there already" if arrived else ""
                console.print(escape(f"fetching {public(url)} ({size}{rest})"), soft_wrap=True)
                said = True
            bar.update(task, completed=arrived, total=whole)

        yield report
