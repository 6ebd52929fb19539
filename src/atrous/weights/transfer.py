"""One file over HTTP into `<name>.part`, going on where an earlier try broke off."""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from atrous.files import check_space, write_text

TIMEOUT = 30.0  # seconds without a byte
TRIES = 3
_CHUNK = 1 << 18
_LAST_OF_A_HEADER = "\xff"  # the last letter that HTTP has
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Report = Callable[[int, int | None], None]
"""What is told of the progress: bytes that are there, bytes of the whole file if the server says so."""


class TransferError(OSError):
    """A transfer that did not reach its end; what has arrived is kept."""


def transfer(url: str, part: Path, *, report: Report, any_version: bool) -> None:
    """Fill `part` with the whole content of `url`.

    Args:
        url: http or https.
        part: Where it goes; what is there already is gone on from if the server can, and dropped if not.
        report: Called after every chunk.
        any_version: Whether to go on with a part even where the server cannot say that its file is still the same,
            because the caller will check the sum.

    Raises:
        TransferError: Not whole after three tries, or the server answers with an error.
        NoSpaceError: The server says how large the file is, and it does not fit on the disk.
        OSError: The part cannot be written.
    """
    reason = ""
    for _ in range(TRIES):
        try:
            _try_once(url, part, report=report, any_version=any_version)
        except HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and part.is_file():
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    return  # it was whole already
                forget(part)  # it is longer than the file: not the file's beginning
                reason = "the server has less than was there already"
                continue
            raise TransferError(f"the server answers {error.code} {error.reason}") from None
        except (http.client.HTTPException, ConnectionError, TimeoutError, TransferError) as error:
            reason = str(error) or type(error).__name__
        else:
            return
    raise TransferError(reason)


def forget(part: Path) -> None:
    """Remove a part and what was noted of it."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def _version(part: Path) -> str | None:
    """What the server called the file of a part; None where that was not noted, or the note is damaged."""
    try:
        version = _note(part).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return version if version.isprintable() and max(version, default="") <= _LAST_OF_A_HEADER else None


def _try_once(url: str, part: Path, *, report: Report, any_version: bool) -> None:
    headers = _range_headers(part, any_version=any_version)
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:  # noqa: S310  # the caller saw to http(s)
        start, whole = _extent(response, part)
        if start == 0:
            forget(part)
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if version and not version.startswith("W/"):  # a weak one does not promise the same bytes
                write_text(_note(part), version)
        if whole is not None:
            check_space(part, whole - start)
        with part.open("ab") as stream:
            report(start, whole)
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                report(stream.tell(), whole)
    size = part.stat().st_size
    if whole is not None and size != whole:
        raise TransferError(f"the connection ended after {size} of {whole} bytes")


def _range_headers(part: Path, *, any_version: bool) -> dict[str, str]:
    headers = {"User-Agent": "atrous", "Accept-Encoding": "identity"}
    if part.is_file() and part.stat().st_size:
        version = _version(part)
        if version or any_version:
            headers["Range"] = f"bytes={part.stat().st_size}-"
        if version:
            headers["If-Range"] = version
    return headers


def _extent(response: http.client.HTTPResponse, part: Path) -> tuple[int, int | None]:
    """Return where the response's first byte belongs, and the size of the whole file if the server says it."""
    if response.status == http.client.PARTIAL_CONTENT:
        found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        there = part.stat().st_size if part.is_file() else 0
        if found is None or int(found[1]) != there:
            forget(part)
            raise TransferError("the server sent another range than it was asked for")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None
