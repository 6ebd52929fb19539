"""Transfers from a server of our own that break off, go on, or find another file than before."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from atrous.errors import CheckpointError
from atrous.weights import transfer
from atrous.weights.download import fetch
from atrous.weights.urls import cached_path

if TYPE_CHECKING:
    from tests.weights.conftest import Server

CONTENT = np.random.default_rng(0).integers(0, 256, 700_001, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = bytes(reversed(CONTENT))
OTHER_SHA256 = hashlib.sha256(OTHER).hexdigest()


@pytest.fixture(autouse=True)
def _serve_the_content(server: Server) -> None:
    server.content = CONTENT


def start_a_part(server: Server, cache: Path) -> None:
    """Let every try of a fetch break off: 300,000 bytes have arrived then."""
    server.breaks = [100_000] * transfer.TRIES
    with pytest.raises(CheckpointError):
        fetch(server.url, sha256=SHA256, cache=cache)
    server.asked.clear()


def test_a_connection_that_breaks_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000, 200_000]
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_that_keeps_breaking_off_is_given_up_and_gone_on_with_later(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000] * transfer.TRIES
    with pytest.raises(CheckpointError) as caught:
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    target = cached_path(server.url, cache=tmp_path)
    for part in ("the connection ended after 300000 of 700001 bytes", "300000 bytes that have arrived are kept"):
        assert part in str(caught.value)
    assert str(caught.value).endswith(f"put the file there by hand: {target}")
    assert len(server.asked) == transfer.TRIES
    assert not target.exists()
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"
    assert not list(tmp_path.rglob("*.part*"))


def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    start_a_part(server, tmp_path)
    server.ranges = False
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


@pytest.mark.parametrize("sha256", [OTHER_SHA256, None])
def test_a_file_that_changed_meanwhile_is_fetched_from_the_start(
    server: Server, tmp_path: Path, sha256: str | None
) -> None:
    start_a_part(server, tmp_path)
    server.content, server.etag = OTHER, '"v2"'
    assert fetch(server.url, sha256=sha256, cache=tmp_path).read_bytes() == OTHER


def test_a_part_of_another_file_is_dropped_where_only_the_sum_tells(server: Server, tmp_path: Path) -> None:
    server.etag = None
    start_a_part(server, tmp_path)
    server.content = OTHER
    path = fetch(server.url, sha256=OTHER_SHA256, cache=tmp_path)
    assert path.read_bytes() == OTHER
    assert server.asked == ["bytes=300000-", None]


def test_nothing_is_resumed_where_nothing_could_tell(server: Server, tmp_path: Path) -> None:
    server.etag = None
    start_a_part(server, tmp_path)
    assert fetch(server.url, sha256=None, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize("note", [b"\xff\xfe", b'"v1"\n', b"\0", b"v\r\nHost: other", "€".encode()])
def test_a_part_whose_note_is_damaged_is_fetched_from_the_start(server: Server, tmp_path: Path, note: bytes) -> None:
    start_a_part(server, tmp_path)
    (file,) = tmp_path.rglob("*.part.version")
    file.write_bytes(note)
    assert fetch(server.url, sha256=None, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_part_that_is_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    target = cached_path(server.url, cache=tmp_path)
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(CONTENT)
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    target = cached_path(server.url, cache=tmp_path)
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(CONTENT + b"more")
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT


def test_another_range_than_was_asked_for_is_never_joined(server: Server, tmp_path: Path) -> None:
    start_a_part(server, tmp_path)
    server.range_start_error = 5
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-", None]


def test_a_range_that_was_not_asked_for_is_taken_where_it_begins_the_file(server: Server, tmp_path: Path) -> None:
    server.is_always_partial = True
    server.range_start_error = 5
    with pytest.raises(CheckpointError, match="the server sent another range than it was asked for"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    server.range_start_error = 0
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (503, "503 Service Unavailable")])
def test_a_servers_refusal_is_told_at_once(server: Server, tmp_path: Path, status: int, words: str) -> None:
    server.status = status
    with pytest.raises(CheckpointError, match=rf"the server answers {words}\. Without a network, put the file there"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    assert len(server.asked) == 1


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", 0.05)
    blocked = threading.Event()
    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", lambda self: blocked.wait(5))
    with pytest.raises(CheckpointError, match="timed out"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    blocked.set()
