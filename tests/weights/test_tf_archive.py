"""Archives of the official release: unpacked once, whole, and never outside of their folder."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import signal
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrous.errors import CheckpointError
from atrous.weights import tf_archive
from atrous.weights.tf_checkpoint import open_checkpoint

FOLDER = Path(__file__).parents[1] / "oracles" / "tensorflow" / "checkpoint"
EXPECTED = np.load(FOLDER / "official.npz")
FILES = {f"model.ckpt{path.name.removeprefix('official')}": path.read_bytes() for path in FOLDER.glob("official.[id]*")}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "cache"))


def archive(path: Path, files: Mapping[str, bytes], *links: tarfile.TarInfo) -> Path:
    """Write a .tar.gz at `path`."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for link in links:
            tar.addfile(link)
    return path


def release() -> dict[str, bytes]:
    """Return what the official archives hold: a folder, a frozen graph, the checkpoint."""
    inside = {f"deeplabv3_pascal/{name}": content for name, content in FILES.items()}
    return {"deeplabv3_pascal/frozen_inference_graph.pb": b"graph", **inside}


@pytest.mark.parametrize("name", ["release.tar.gz", "release.tgz"])
def test_a_release_is_read_through_the_cache(tmp_path: Path, name: str) -> None:
    checkpoint = open_checkpoint(archive(tmp_path / name, release()))
    for variable in EXPECTED.files:
        np.testing.assert_array_equal(checkpoint[variable], EXPECTED[variable], strict=True)
    assert sorted(path.name for path in checkpoint.prefix.parent.iterdir()) == sorted(FILES)
    assert checkpoint.prefix.parent.parent == tmp_path / "cache" / "unpacked"


def test_an_archive_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path) -> None:
    path = archive(tmp_path / "release.tar.gz", release())
    first = open_checkpoint(path).prefix
    unpacked = first.with_name("model.ckpt.index").stat()
    assert open_checkpoint(path).prefix == first
    assert first.with_name("model.ckpt.index").stat() == unpacked
    os.utime(path, (1, 1))
    assert open_checkpoint(path).prefix != first


def test_what_is_unpacked_is_taken_without_the_lock_of_a_cache_that_may_only_be_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "release.tar.gz", release())
    folder = tf_archive.unpack_once(path, cache=tmp_path / "cache")
    lock = folder.with_name(f"{folder.name}.lock")
    lock.unlink()
    lock.mkdir()  # root, too, cannot open this one
    assert tf_archive.unpack_once(path, cache=tmp_path / "cache") == folder


def test_what_a_killed_process_left_half_unpacked_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    path, cache = archive(tmp_path / "release.tar.gz", release()), tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(tf_archive, "_unpack", killed)
        process = multiprocessing.get_context("fork").Process(target=open_checkpoint, args=(path,))
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list((cache / "unpacked").glob(".*"))
    folder = open_checkpoint(path).prefix.parent
    assert {entry for entry in (cache / "unpacked").iterdir() if entry.suffix != ".lock"} == {folder}


@pytest.mark.parametrize("name", ["../model.ckpt.index", "/model.ckpt.index", "a/../../model.ckpt.index", "../harm"])
def test_a_member_that_would_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "bad.tar.gz", {**release(), name: b"harm"})
    with pytest.raises(CheckpointError, match=r"bad.tar.gz: '.*' would be written outside of its folder"):
        open_checkpoint(path)
    assert not [found for found in tmp_path.rglob("*") if found.is_file() and found.read_bytes() == b"harm"]
    assert not [entry for entry in (tmp_path / "cache" / "unpacked").iterdir() if entry.is_dir()]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_link_in_place_of_a_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("folder/model.ckpt.index")
    link.type, link.linkname = kind, str(FOLDER / "official.index")
    path = archive(tmp_path / "bad.tar.gz", {"model.ckpt.data-00000-of-00001": b""}, link)
    with pytest.raises(CheckpointError, match="is a link or no file at all"):
        open_checkpoint(path)


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("deeplabv3_pascal/model.ckpt.data-00000-of-00001")
    bomb.size = 1 << 60
    (tmp_path / "bomb.tgz").write_bytes(gzip.compress(bomb.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(CheckpointError, match=r"bomb\.tgz cannot .*no space left .*model\.ckpt\.data.* needs about"):
        open_checkpoint(tmp_path / "bomb.tgz")
    assert list((tmp_path / "cache" / "unpacked").glob("*bomb*/*")) == []


@pytest.mark.parametrize("damage", ["a page", "cut off", "of another kind"])
def test_a_fetched_archive_that_cannot_be_unpacked_says_what_to_remove(tmp_path: Path, damage: str) -> None:
    whole = archive(tmp_path / "whole.tar.gz", release()).read_bytes()
    content = {"a page": b"<html>", "cut off": whole[: len(whole) // 2], "of another kind": gzip.compress(b"x" * 999)}
    for path in (tmp_path / "cache/host/release.tar.gz", tmp_path / "own.tar.gz"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[damage])
        with pytest.raises(CheckpointError, match=rf"^{path} cannot be unpacked") as caught:
            open_checkpoint(path)
        assert str(caught.value).endswith("; remove the file, and it is fetched anew") == ("cache" in path.parts)


def test_archives_with_no_or_several_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"graph.tar.gz holds no V2 checkpoint"):
        open_checkpoint(archive(tmp_path / "graph.tar.gz", {"frozen_inference_graph.pb": b""}))
    two = {f"{name.replace('model', model)}": content for model in ("a", "b") for name, content in FILES.items()}
    with pytest.raises(CheckpointError, match=r"holds 2 checkpoints \(a.ckpt, b.ckpt\)"):
        open_checkpoint(archive(tmp_path / "two.tar.gz", two))
    same = {f"{folder}/{name}": content for folder in "ab" for name, content in FILES.items()}
    with pytest.raises(CheckpointError, match=r"same.tar.gz holds several files model.ckpt"):
        open_checkpoint(archive(tmp_path / "same.tar.gz", same))


def test_missing_archives_and_unwritable_caches_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"absent.tar.gz is not there"):
        open_checkpoint(tmp_path / "absent.tar.gz")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ATROUS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"file/unpacked cannot be written .*ATROUS_CACHE"):
        open_checkpoint(archive(tmp_path / "release.tar.gz", release()))


@given(st.data())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=max(60, settings().max_examples),
)
def test_a_damaged_archive_is_refused_and_leaves_nothing_half_done(tmp_path: Path, data: st.DataObject) -> None:
    path = archive(tmp_path / "release.tar.gz", release())
    outside = data.draw(st.booleans())  # damage the compressed bytes, or those of the tar within
    content = bytearray(path.read_bytes() if outside else gzip.decompress(path.read_bytes()))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path.write_bytes(content if outside else gzip.compress(content))
    try:
        checkpoint = open_checkpoint(path)
        values = dict(checkpoint)
    except CheckpointError:
        values = {}
    for name, value in values.items():
        np.testing.assert_array_equal(value, EXPECTED[name], strict=True)
    assert not [entry for entry in (tmp_path / "cache" / "unpacked").iterdir() if entry.name.startswith(".")]
