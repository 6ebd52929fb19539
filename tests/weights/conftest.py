"""A writer of LevelDB tables that TensorFlow would not write, and a server that may do what servers should not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from atrous.weights.crc32c import masked_crc32c

Entries = Sequence[tuple[bytes, bytes]]
TableWriter = Callable[..., bytes]


def _varint(value: int) -> bytes:
    head = b""
    while value >= 0x80:
        head, value = head + bytes([value & 0x7F | 0x80]), value >> 7
    return head + bytes([value])


def _block(entries: Entries, restart_every: int) -> bytes:
    content, restarts, before = b"", [], b""
    for number, (key, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts.append(len(content))
        else:
            while shared < min(len(before), len(key)) and before[shared] == key[shared]:
                shared += 1
        content += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    restarts = restarts or [0]
    return content + b"".join(at.to_bytes(4, "little") for at in [*restarts, len(restarts)])


def _same(content: bytes) -> bytes:
    return content


def _write_table(
    entries: Entries,
    *,
    per_block: int = 100,
    restart_every: int = 16,
    compression: int = 0,
    damage: Callable[[bytes], bytes] = _same,
    damage_index: Callable[[bytes], bytes] = _same,
) -> bytes:
    """Return a table of the entries as given; what is damaged in a block is damaged before its checksum is made."""
    data, handles = b"", []

    def add(content: bytes) -> bytes:
        nonlocal data
        handle = _varint(len(data)) + _varint(len(content))
        checked = content + bytes([compression])
        data += checked + masked_crc32c(checked).to_bytes(4, "little")
        return handle

    for start in range(0, len(entries), per_block):
        chunk = entries[start : start + per_block]
        handles.append((chunk[-1][0], add(damage(_block(chunk, restart_every)))))
    metaindex, index = add(_block([], 1)), add(damage_index(_block(handles, 1)))
    return data + (metaindex + index).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little")


@pytest.fixture(scope="session")
def write_table() -> TableWriter:
    """Write (key, value) pairs as a table; the keywords are those of `_write_table`."""
    return _write_table


class Server(ThreadingHTTPServer):
    """One file; what it may do wrong is set by the tests."""

    daemon_threads = True
    content = b""
    ranges = True
    etag: str | None = '"v1"'
    status = 200
    range_start_error = 0
    says_length = True
    is_always_partial = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.breaks: list[int] = []  # after how many bytes each of the next responses ends
        self.asked: list[str | None] = []  # the Range header of every request
        self.url = f"http://127.0.0.1:{self.server_port}/models/net-weights.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        size, start = len(server.content), 0
        if wanted and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start + server.range_start_error}-{size - 1}/{size}")
        elif server.is_always_partial:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {server.range_start_error}-{size - 1}/{size}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.says_length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = start + server.breaks.pop(0) if server.breaks else size
        self.wfile.write(server.content[start:end])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; a test gives it its content."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
