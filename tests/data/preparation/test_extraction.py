"""Unpacking: whole archives come out whole, and hostile, damaged or oversized ones leave nothing behind."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atrous.data.preparation.extraction import extract
from atrous.errors import DataError

from ...conftest import ReadDamaged

Entry = tuple[str, bytes]
GOOD: tuple[Entry, ...] = (("top/in/a.txt", b"alpha"), ("top/in/below/b.bin", bytes(range(256)) * 40), ("top/c", b"no"))


def _tar(path: Path, entries: Sequence[Entry | tarfile.TarInfo], *, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # the mode is a plain string here
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            archive.addfile(info, io.BytesIO(entry[1]))
    return path


def _zip(path: Path, entries: Sequence[Entry]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _assert_nothing_was_left(tmp_path: Path, *archives: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in archives)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.tar", lambda path: _tar(path, GOOD, mode="w")),
        ("a.tgz", lambda path: _tar(path, GOOD)),
        ("a.zip", lambda path: _zip(path, GOOD)),
    ],
)
def test_the_wanted_folder_comes_out_whole_and_nothing_else(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    archive = make(tmp_path / name)
    assert extract(archive, inside="top/in", into=tmp_path / "deep" / "out") == 2
    assert _tree(tmp_path / "deep" / "out") == {"a.txt": GOOD[0][1], "below/b.bin": GOOD[1][1]}
    _assert_nothing_was_left(tmp_path / "deep", tmp_path / "out")


def test_only_the_wanted_entries_of_the_folder_come_out(tmp_path: Path) -> None:
    archive = _zip(tmp_path / "a.zip", [*GOOD, ("top/in/a.txt2", b""), ("top/in/belowx/d", b"")])
    assert extract(archive, inside="top/in", into=tmp_path / "out", only=("below/",)) == 1
    assert extract(archive, inside="top/in", into=tmp_path / "two", only=("a.txt",)) == 1
    assert [*_tree(tmp_path / "out"), *_tree(tmp_path / "two")] == ["below/b.bin", "a.txt"]


@pytest.mark.parametrize("make", [_tar, _zip], ids=["tar", "zip"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "could lead out"),
        ("top/in/../../../evil", "could lead out"),
        ("top/in/..\\evil", "could lead out"),
        ("/etc/evil", "absolute name"),
        ("C:/evil", "absolute name"),
    ],
)
def test_a_name_that_leaves_the_target_is_refused(
    tmp_path: Path, make: Callable[[Path, Sequence[Entry]], Path], name: str, words: str
) -> None:
    box = tmp_path / "box"
    box.mkdir()
    archive = make(box / ("a.zip" if make is _zip else "a.tgz"), [*GOOD, (name, b"evil")])
    with pytest.raises(DataError, match=words) as error:
        extract(archive, inside="top/in", into=box / "out")
    assert repr(name) in str(error.value)
    _assert_nothing_was_left(box, archive)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (_link("top/in/link", "/etc", tarfile.SYMTYPE), "symbolic link"),
        (_link("top/in/link", "a.txt", tarfile.SYMTYPE), "symbolic link"),
        (_link("top/in/link", "../../../passwd", tarfile.LNKTYPE), "hard link"),
        (_link("top/in/null", "", tarfile.CHRTYPE), "device"),
        (_link("top/in/pipe", "", tarfile.FIFOTYPE), "device"),
    ],
    ids=["link out", "link within", "hard link", "device", "pipe"],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, entry: tarfile.TarInfo, words: str) -> None:
    archive = _tar(tmp_path / "a.tar", [*GOOD, entry], mode="w")
    with pytest.raises(DataError, match=rf"entry 'top/in/.*' is a {words}"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("top/in/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("top/in/a", b"")
        archive.writestr(info, "/etc")
    with pytest.raises(DataError, match="'top/in/link' is a symbolic link"):
        extract(tmp_path / "a.zip", inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, tmp_path / "a.zip")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.69])
@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.zip"])
def test_a_truncated_archive_is_an_error_and_leaves_nothing(tmp_path: Path, name: str, share: float) -> None:
    entries = [(f"top/in/{index}", os.urandom(3000)) for index in range(6)]
    path = tmp_path / name
    archive = _zip(path, entries) if name == "a.zip" else _tar(path, entries, mode="w" if name == "a.tar" else "w:gz")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"is truncated or corrupt .*download it again"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_a_tar_that_ends_between_two_entries_is_not_taken_for_whole(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", [(f"top/in/{index}", bytes(512)) for index in range(6)], mode="w")
    archive.write_bytes(archive.read_bytes()[: 3 * 1024])
    with pytest.raises(DataError, match="no end marker"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_a_damaged_byte_in_a_zip_is_an_error(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as content:  # stored, so that the damage is in the content
        content.writestr("top/in/a", bytes(1000))
    data = bytearray(archive.read_bytes())
    data[500] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DataError, match="truncated or corrupt"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_a_file_that_is_no_archive_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("<html>404 not found</html>")
    with pytest.raises(DataError, match=r"a\.tar' is truncated or corrupt"):
        extract(tmp_path / "a.tar", inside="top", into=tmp_path / "out")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _tar(tmp_path / "a.tgz", GOOD)
    copy = shutil.copyfileobj

    def fill(source: io.BytesIO, target: io.BufferedWriter, length: int) -> None:
        if target.name.endswith("b.bin"):
            target.write(b"some")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target, length)

    monkeypatch.setattr(shutil, "copyfileobj", fill)
    with pytest.raises(DataError, match=r"disk of '.*' is full, .* while unpacking a\.tgz; nothing was kept"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


@pytest.mark.parametrize(("name", "make"), [("a.tgz", _tar), ("a.zip", _zip)])
def test_a_file_larger_than_the_disk_is_refused_before_a_byte_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[..., Path]
) -> None:
    archive = make(tmp_path / name, GOOD[1:2])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(GOOD[1][1]) - 1))
    monkeypatch.setattr(shutil, "copyfileobj", lambda *_: pytest.fail("something was written"))
    with pytest.raises(DataError, match=r"is full, or would be \(.* GB free\), while unpacking"):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_a_kill_leaves_no_folder_with_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _tar(tmp_path / "a.tgz", GOOD)

    def stop(*_: object) -> None:
        assert not (tmp_path / "out").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfileobj", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive)


def test_what_a_killed_process_left_is_gone_before_anything_is_unpacked(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tgz", GOOD)
    script = (
        "import os, shutil, sys; from pathlib import Path; from atrous.data.preparation.extraction import extract; "
        "shutil.copyfileobj = lambda *_: os.kill(os.getpid(), 9); "
        "extract(Path(sys.argv[1]), inside='top/in', into=Path(sys.argv[2]))"
    )
    for _ in range(2):
        ended = subprocess.run([sys.executable, "-c", script, archive, tmp_path / "out"], check=False)
        assert ended.returncode == -signal.SIGKILL
    (left,) = (path for path in tmp_path.iterdir() if path != archive)
    (left / "stale").touch()
    extract(archive, inside="top/in", into=tmp_path / "out")
    _assert_nothing_was_left(tmp_path, archive, tmp_path / "out")
    assert "stale" not in _tree(tmp_path / "out")


def test_a_name_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tgz", [GOOD[0], GOOD[0]])
    with pytest.raises(DataError, match="two entries have the name"):
        extract(archive, inside="top/in", into=tmp_path / "out")


def test_a_missing_folder_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds nothing below 'VOCdevkit'; its top level is top"):
        extract(_tar(tmp_path / "a.tgz", GOOD), inside="VOCdevkit", into=tmp_path / "out")


def test_what_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="exists already"):
        extract(_tar(tmp_path / "a.tgz", GOOD), inside="top/in", into=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


@given(st.data())
def test_a_damaged_archive_is_unpacked_or_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, read_damaged: ReadDamaged, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(["a.tar", "a.tgz", "a.zip"]))
    path = folder / name
    _zip(path, GOOD) if name == "a.zip" else _tar(path, GOOD, mode="w" if name == "a.tar" else "w:gz")

    def read(damaged: bytes) -> int:
        path.write_bytes(damaged)
        return extract(path, inside="top/in", into=folder / "out")

    files = read_damaged(data, path.read_bytes(), read)
    _assert_nothing_was_left(folder, path, *[folder / "out"] * (files is not None))
    shutil.rmtree(folder)
