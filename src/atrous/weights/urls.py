"""The URL of a weight file: what it may be, how a message shows it, and where its file is kept."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import url2pathname

from atrous.cache import cache_folder
from atrous.errors import ConfigError
from atrous.files import at_home

_WRITTEN = re.compile(r"[!-~]+")
_NO_LOGIN = "a URL with a login (before its @) is not fetched; fetch the file by other means and give its path"


def cached_path(url: str, *, cache: str | Path | None = None) -> Path:
    """Return where `atrous.weights.download.fetch` keeps the file of an http(s) URL; one may put it there by hand.

    Raises:
        ConfigError: The URL has no host, names no file, or is none.
    """
    parts = _split(url)
    if not _WRITTEN.fullmatch(url):
        raise ConfigError(
            f"url={public(url)!r}: only ASCII without spaces, everything else as % and two digits for each byte"
        )
    names = [name for name in unquote(parts.path).split("/") if name not in ("", ".", "..")]
    if parts.scheme not in ("http", "https") or not parts.hostname or not names:
        raise ConfigError(f"url={public(url)!r}: http://, https:// or file:// with a file's name, or a path")
    if parts.query:
        names[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:8]}-{names[-1]}"
    host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
    return cache_folder(cache).joinpath(host, *names)


def local_path(url: str | Path) -> Path | None:
    """Return the file on this machine that a path or a file:// URL names; None for other URLs.

    Raises:
        ConfigError: It is no URL, has a login, or is a file:// URL of another machine.
    """
    if isinstance(url, Path) or "://" not in url:
        return at_home(url)
    parts = _split(url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise ConfigError(f"url={public(url)!r}: a file:// URL has three slashes, file:///folder/name")
    return Path(url2pathname(parts.path))


def public(url: str) -> str:
    """Return a URL as logs may hold it: without a password or a token."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="***" if parts.query else "", fragment="").geturl()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read when it is asked for
    except ValueError as error:
        if "@" in url:  # it may stand behind a login, of which the error tells a part
            raise ConfigError(f"url={url.partition(':')[0]}://***: {_NO_LOGIN}") from None
        raise ConfigError(f"url={url.partition('?')[0]!r} is not a URL ({error})") from None
    if "@" in parts.netloc:
        raise ConfigError(f"url={public(url)!r}: {_NO_LOGIN}")
    return parts
