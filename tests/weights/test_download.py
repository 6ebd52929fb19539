"""Fetching weight files: from where, to where, and with what sum."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from atrous.errors import CheckpointError, ConfigError
from atrous.files import NoSpaceError
from atrous.weights.download import fetch, sha256_of
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


def leftovers(cache: Path) -> list[str]:
    """Return the names of files that are neither a lock nor the fetched one."""
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.suffix not in (".lock", ".bin"))


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8], SHA256.upper()])
def test_a_file_is_fetched_once_and_lies_where_it_is_said_to(server: Server, tmp_path: Path, sha256: str) -> None:
    for _ in range(2):
        path = fetch(server.url, sha256=sha256, cache=tmp_path)
        assert path.read_bytes() == CONTENT
    assert (
        path
        == cached_path(server.url, cache=tmp_path)
        == tmp_path / f"127.0.0.1:{server.server_port}/models/net-weights.bin"
    )
    assert server.asked == [None]
    assert leftovers(tmp_path) == []


def test_what_is_fetched_is_said_with_its_size(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(server.url, sha256=SHA256, cache=tmp_path)
    shown = capfd.readouterr()
    assert f"fetching {server.url} (0.7 MB)" in shown.err
    assert shown.out == ""


def test_a_bar_is_drawn_on_a_terminal(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, stderr is a terminal then
    monkeypatch.setenv("NO_COLOR", "1")
    fetch(server.url, sha256=SHA256, cache=tmp_path)
    assert "700.0/700.0 kB" in capfd.readouterr().err


def test_wrong_content_is_refused_with_both_sums_and_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = OTHER
    with pytest.raises(CheckpointError, match=rf"SHA-256 is {OTHER_SHA256}, expected {SHA256}"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    assert not cached_path(server.url, cache=tmp_path).exists()
    assert leftovers(tmp_path) == []
    assert server.asked == [None]  # a second time would bring the same


def test_a_mismatch_deletes_nothing_that_is_there(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, sha256=SHA256, cache=tmp_path)
    with pytest.raises(CheckpointError, match=rf"expected {'0' * 64}; move it away to fetch it anew"):
        fetch(server.url, sha256="0" * 64, cache=tmp_path)
    assert path.read_bytes() == CONTENT


def test_an_unknown_sum_is_said_with_a_warning(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(server.url, sha256=None, cache=tmp_path)
    error = capfd.readouterr().err
    assert "was not checked" in error
    assert SHA256 in error
    for _ in range(2):
        fetch(server.url, sha256=None, cache=tmp_path / "other", checked_later=True)
    assert "not checked" not in capfd.readouterr().err


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar.gz?token=1"])
def test_a_page_in_place_of_an_archive_without_a_sum_is_refused_and_not_kept(
    server: Server, tmp_path: Path, ending: str
) -> None:
    server.content, url = b"<!DOCTYPE html><title>Log in</title>", server.url.replace(".bin", ending)
    target = cached_path(url, cache=tmp_path)
    with pytest.raises(CheckpointError) as caught:
        fetch(url, sha256=None, cache=tmp_path)
    assert "what came is no gzip archive, it begins with b'<!DOCTYPE html><': a proxy may have" in str(caught.value)
    assert str(caught.value).endswith(f"by hand: {target}")
    assert not target.exists()
    assert leftovers(tmp_path) == []
    server.content = gzip.compress(CONTENT)
    assert fetch(url, sha256=None, cache=tmp_path, megabytes=0.7).read_bytes() == server.content


@pytest.mark.parametrize(("arrived", "fits"), [(700_001, True), (750_000, True), (500_000, False), (900_000, False)])
def test_a_file_without_a_sum_is_about_as_large_as_it_should_be(
    server: Server, tmp_path: Path, arrived: int, fits: bool
) -> None:
    server.content, server.says_length = (CONTENT * 2)[:arrived], False
    if fits:
        assert fetch(server.url, sha256=None, cache=tmp_path, megabytes=0.7).stat().st_size == arrived
        return
    with pytest.raises(CheckpointError, match=rf"what came is {arrived / 1e6} MB, expected about 0\.7: a proxy may"):
        fetch(server.url, sha256=None, cache=tmp_path, megabytes=0.7)
    assert not cached_path(server.url, cache=tmp_path).exists()
    assert leftovers(tmp_path) == []


def test_a_file_larger_than_the_disk_is_refused_before_a_byte_of_it_is_written(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=600_000))
    with pytest.raises(NoSpaceError, match=r"no space left in .*: net-weights\.bin\.part needs about 0\.66"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    assert not [path for path in tmp_path.rglob("*.part") if path.exists()]
    assert server.asked == [None]


def test_only_what_is_still_to_come_has_to_fit(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = cached_path(server.url, cache=tmp_path)
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.part").write_bytes(CONTENT[:400_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=350_000))
    assert fetch(server.url, sha256=SHA256, cache=tmp_path).read_bytes() == CONTENT


def test_without_a_network_the_place_for_the_file_is_named_and_a_file_put_there_is_taken(
    server: Server, tmp_path: Path
) -> None:
    server.shutdown()
    server.server_close()  # nobody listens there any more
    target = cached_path(server.url, cache=tmp_path)
    with pytest.raises(CheckpointError, match=rf"cannot be fetched: .*refused.* by hand: {target}"):
        fetch(server.url, sha256=SHA256, cache=tmp_path)
    target.write_bytes(CONTENT)
    assert fetch(server.url, sha256=SHA256, cache=tmp_path) == target


def test_processes_that_start_together_fetch_once(server: Server, tmp_path: Path) -> None:
    script = f"from atrous.weights.download import fetch; fetch({server.url!r}, sha256={SHA256!r})"
    environment = {"ATROUS_CACHE": str(tmp_path), "PATH": ""}
    ranks = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(3)]
    assert [rank.wait(60) for rank in ranks] == [0, 0, 0]
    assert server.asked == [None]


def test_what_is_there_is_taken_without_the_lock_of_a_cache_that_may_only_be_read(
    server: Server, tmp_path: Path
) -> None:
    target = cached_path(server.url, cache=tmp_path)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"weights")
    target.with_name(f"{target.name}.lock").mkdir()  # root, too, cannot open this one
    assert fetch(server.url, sha256=hashlib.sha256(b"weights").hexdigest(), cache=tmp_path) == target
    with pytest.raises(CheckpointError, match="is not the file that was meant"):
        fetch(server.url, sha256="0" * 64, cache=tmp_path)


@pytest.mark.parametrize("as_url", [True, False])
def test_local_files_are_checked_where_they_are(tmp_path: Path, as_url: bool) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(CONTENT)
    url = path.as_uri() if as_url else str(path)
    assert fetch(url, sha256=SHA256, cache=tmp_path / "cache") == path
    assert not (tmp_path / "cache").exists()
    with pytest.raises(CheckpointError, match=r"a file.bin is not the file that was meant"):
        fetch(url, sha256="00000000")
    assert path.exists()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"a file.bin is not there"):
        fetch(url, sha256=None)


@pytest.mark.parametrize("sha256", ["", "abc", "0123456", "0" * 65, "x" * 64])
def test_sums_that_are_none_are_refused(sha256: str) -> None:
    with pytest.raises(ConfigError, match=r"sha256='.*': 64 hexadecimal digits, or the first 8 or more"):
        fetch("http://localhost/x", sha256=sha256)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "http://host",
        "http://host/",
        "http:///x",
        "file://host/x",
        "http://[::1/x",
        "http://host:eighty/x",
        "http://host:99999/x",
        "http://host/\u00fcber.pth",
        "http://h\u00f6st/x",
    ],
)
def test_urls_that_name_no_file_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"url='.*"):
        fetch(url, sha256=None, cache=tmp_path)


def test_no_url_leaves_the_cache(tmp_path: Path) -> None:
    for url in ("http://host/../../x", "http://host/%2e%2e/%2E%2E/x", "http://host/a/..%2f..%2fx"):
        assert cached_path(url, cache=tmp_path).resolve().is_relative_to(tmp_path / "host")
    assert cached_path("http://host/x?a=1", cache=tmp_path) != cached_path("http://host/x?a=2", cache=tmp_path)


def test_servers_on_two_ports_of_a_host_share_no_file(tmp_path: Path) -> None:
    places = [cached_path(f"http://localhost{port}/x", cache=tmp_path) for port in ("", ":8000", ":8001")]
    assert places == [tmp_path / name / "x" for name in ("localhost", "localhost:8000", "localhost:8001")]


def test_the_sum_is_the_standard_librarys(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(CONTENT * 3)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(CONTENT * 3).hexdigest()
