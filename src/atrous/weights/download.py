"""Weight files by URL: fetched once, checked by their SHA-256, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from atrous.cache import cache_folder, locked
from atrous.errors import CheckpointError, ConfigError
from atrous.weights.transfer import Report, forget, transfer

_HEX_DIGITS = re.compile(r"[0-9a-f]{8,64}")
_WRITTEN = re.compile(r"[!-~]+")
_NO_LOGIN = "a URL with a login (before its @) is not fetched; fetch the file by other means and give its path"
_CHUNK = 1 << 20


def fetch(
    url: str | Path,
    *,
    sha256: str | None,
    cache: str | Path | None = None,
    progress: bool | None = None,
    checked_later: bool = False,
) -> Path:
    """Return the path of a file that `url` names, after fetching it if it is not in the cache yet.

    A broken transfer is gone on with at the next call. Of several processes one fetches and the others wait.

    Args:
        url: http://, https:// or file://, or a plain path; local files are checked and stay where they are. A URL holds
            no login; messages show it without its query, which may hold a token.
        sha256: All 64 hexadecimal digits, or the first 8 or more, as torch hub's file names carry them. None: the sum
            is printed with a warning that nothing was checked.
        cache: Folder for fetched files; None for $ATROUS_CACHE or ~/.cache/atrous.
        progress: Whether to show a bar; None for: on a terminal.
        checked_later: Whether the caller checks the file by other means, so that there is nothing to warn of.

    Returns:
        The local file; a fetched one lies at `<cache>/<host, :port if the URL has one>/<path of the URL>`.

    Raises:
        ConfigError: The URL or the sum is not written as above.
        CheckpointError: The file is not there, cannot be fetched, or has another sum.
    """
    if sha256 is not None and not _HEX_DIGITS.fullmatch(sha256.lower()):
        raise ConfigError(f"sha256={sha256!r}: 64 hexadecimal digits, or the first 8 or more of them")
    local = _local_path(url)
    if local is not None:
        if not local.is_file():
            raise CheckpointError(f"{local} is not there")
        _check(local, sha256, source=str(local), advice="give its own sum, or another file", quiet=checked_later)
        return local
    target = cached_path(str(url), cache=cache)
    with locked(target):
        if target.is_file():
            _check(target, sha256, source=str(target), advice="move it away to fetch it anew", quiet=checked_later)
        else:
            _fetch(str(url), target, sha256, progress=progress, quiet=checked_later)
    return target


def cached_path(url: str, *, cache: str | Path | None = None) -> Path:
    """Return where `fetch` keeps the file of an http(s) URL; one may put it there by hand.

    Raises:
        ConfigError: The URL has no host, names no file, or is none.
    """
    parts = _split(url)
    if not _WRITTEN.fullmatch(url):
        raise ConfigError(
            f"url={_public(url)!r}: only ASCII without spaces, everything else as % and two digits for each byte"
        )
    names = [name for name in unquote(parts.path).split("/") if name not in ("", ".", "..")]
    if parts.scheme not in ("http", "https") or not parts.hostname or not names:
        raise ConfigError(f"url={_public(url)!r}: http://, https:// or file:// with a file's name, or a path")
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    return cache_folder(cache).joinpath(host, *names)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _local_path(url: str | Path) -> Path | None:
    if isinstance(url, Path) or "://" not in url:
        return Path(url).expanduser()
    parts = _split(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"url={_public(url)!r}: a file:// URL has three slashes, file:///folder/name")
    return Path(url2pathname(parts.path))


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read when it is asked for
    except ValueError as error:
        if "@" in url:  # it may stand behind a login, of which the error tells a part
            raise ConfigError(f"url={url.partition(':')[0]}://***: {_NO_LOGIN}") from None
        raise ConfigError(f"url={url.partition('?')[0]!r} is not a URL ({error})") from None
    if "@" in parts.netloc:
        raise ConfigError(f"url={_public(url)!r}: {_NO_LOGIN}")
    return parts


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


def _fetch(url: str, target: Path, sha256: str | None, *, progress: bool | None, quiet: bool) -> None:
    part = target.with_name(f"{target.name}.part")
    try:
        resumed = part.is_file()
        with _shown(url, progress=progress) as report:
            transfer(url, part, report=report, any_version=sha256 is not None)
        if resumed and sha256 is not None and not sha256_of(part).startswith(sha256.lower()):
            forget(part)  # its beginning may be of an older file: once more, from the start
            with _shown(url, progress=progress) as report:
                transfer(url, part, report=report, any_version=True)
    except OSError as error:
        raise CheckpointError(_by_hand(url, target, part, error)) from None
    try:
        _check(part, sha256, source=_public(url), advice="nothing was kept of it", quiet=quiet)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
    finally:
        forget(part)


def _by_hand(url: str, target: Path, part: Path, error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or error
    arrived = part.stat().st_size if part.is_file() else 0
    kept = f" The {arrived} bytes that have arrived are kept, and the same call goes on from them." if arrived else ""
    return f"{_public(url)} cannot be fetched: {reason}.{kept} Without a network, put the file there by hand: {target}"


def _public(url: str) -> str:
    """A URL as logs may hold it: without a password or a token."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="***" if parts.query else "", fragment="").geturl()


@contextmanager
def _shown(url: str, *, progress: bool | None) -> Iterator[Report]:
    """Say what is fetched and how much it is; draw a bar on a terminal."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    visible = console.is_terminal if progress is None else progress
    said = False
    with Progress(TextColumn("{task.description}"), *columns, console=console, disable=not visible) as bar:
        task = bar.add_task(escape(_public(url).rsplit("/", 1)[-1]), total=None)

        def report(arrived: int, whole: int | None) -> None:
            nonlocal said
            if not said:
                size = f"{whole / 1e6:.1f} MB" if whole is not None else "size unknown"
                rest = f", {arrived / 1e6:.1f} MB are there already" if arrived else ""
                console.print(escape(f"fetching {_public(url)} ({size}{rest})"), soft_wrap=True)
                said = True
            bar.update(task, completed=arrived, total=whole)

        yield report
