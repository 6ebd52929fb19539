"""Unpacking archives that others made: nothing leaves the target, and a part is never taken for the whole."""

import errno
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from atrous.errors import DataError
from atrous.files import check_space, folder_made_whole

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)
_BLOCK = 512  # bytes; a tar ends with blocks of zeros


class Member(NamedTuple):
    """One entry of an archive.

    Attributes:
        name: as stored.
        kind: "file", "folder", or what else it is, such as "symbolic link".
        size: bytes.
        open: gives the content of a file.
    """

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


def extract(archive: Path, *, inside: str, into: Path, only: Sequence[str] = ()) -> int:
    """Unpack one folder of a tar or zip archive.

    Everything goes to a hidden folder beside `into`, which is renamed when all of it is there. The caller makes sure
    that no other process unpacks to the same place at the same time.

    Args:
        archive: the file.
        inside: the archive's folder whose content is wanted, such as "VOCdevkit/VOC2012".
        into: what that folder becomes; must not exist.
        only: names or folders (ending with a slash) below `inside`; everything by default.

    Returns:
        Number of files.

    Raises:
        DataError: the archive is truncated or corrupt, an entry is a link or device or would leave the target, the disk
            is full, or `into` exists. Nothing is left behind.
    """
    if into.exists():
        raise DataError(f"{str(into)!r} exists already; move it away to unpack {archive.name} again")
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with folder_made_whole(into) as temporary:
            files = _extract_to(temporary, archive, inside=PurePosixPath(inside), only=only)
    except _BROKEN as error:
        raise DataError(
            f"archive {str(archive)!r} is truncated or corrupt ({error}); remove it and download it again"
        ) from error
    except OSError as error:
        raise DataError(_disk_message(error, archive, into)) from error
    return files


def check_member(member: Member, archive: Path) -> PurePosixPath:
    """Return an entry's path when it is an ordinary file or folder that stays below the target.

    Raises:
        DataError: names the archive and the entry.
    """
    name, path = member.name, PurePosixPath(member.name)
    reason = ""
    if member.kind not in ("file", "folder"):
        reason = f"is a {member.kind}"
    elif path.is_absolute() or re.match(r"[A-Za-z]:", name):
        reason = "has an absolute name"
    elif ".." in path.parts or "\\" in name or "\0" in name:
        reason = "has a name that could lead out of the target folder"
    if reason:
        raise DataError(
            f"archive {str(archive)!r}: the entry {name!r} {reason}; a data set has no such entries, so nothing was "
            "unpacked. Get the archive from its official source"
        )
    return path


def _extract_to(target: Path, archive: Path, *, inside: PurePosixPath, only: Sequence[str]) -> int:
    tops: set[str] = set()
    files = 0
    for member in _members(archive):
        path = check_member(member, archive)
        tops.update(path.parts[:1])
        if not path.is_relative_to(inside):
            continue
        below = path.relative_to(inside)
        wanted = not only or any(
            below.is_relative_to(name[:-1]) if name.endswith("/") else str(below) == name for name in only
        )
        if member.kind == "file" and wanted:
            _write(member, target / below)
            files += 1
    if not files:
        raise DataError(
            f"archive {str(archive)!r} holds nothing below {str(inside)!r}; its top level is {', '.join(sorted(tops))}"
        )
    return files


def _write(member: Member, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path, member.size)  # a bomb of an archive does not fill the disk first
    source = member.open()
    assert source is not None  # it is a file
    with source, path.open("xb") as target:  # x: an archive that holds a name twice is corrupt
        shutil.copyfileobj(source, target, 1 << 20)
        if target.tell() != member.size:
            raise EOFError(f"{member.name} has {target.tell()} of {member.size} bytes")


def _members(archive: Path) -> Iterator[Member]:
    if zipfile.is_zipfile(archive):
        yield from _zip_members(archive)
    elif archive.suffix == ".zip":
        raise zipfile.BadZipFile("no central directory at its end")
    else:
        yield from _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            mode = info.external_attr >> 16
            kind = "folder" if info.is_dir() else _kind_of(mode) if stat.S_IFMT(mode) else "file"
            yield Member(info.orig_filename, kind, info.file_size, partial(content.open, info))


def _kind_of(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as content:
        for info in content:
            kind = "file" if info.isreg() else "folder" if info.isdir() else "device"
            kind = "symbolic link" if info.issym() else "hard link" if info.islnk() else kind
            yield Member(info.name, kind, info.size, partial(content.extractfile, info))
        # tarfile takes a file that ends between two entries for a whole archive.
        assert content.fileobj is not None
        content.fileobj.seek(content.offset)
        if content.fileobj.read(_BLOCK) != bytes(_BLOCK):
            raise EOFError("it has no end marker")


def _disk_message(error: OSError, archive: Path, into: Path) -> str:
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(into.parent).free / 1e9
        return (
            f"the disk of {str(into.parent)!r} is full, or would be ({free:.1f} GB free), while unpacking "
            f"{archive.name}; nothing was kept. Make room and run the same command again"
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"archive {str(archive)!r} is corrupt: two entries have the name {error.filename!r}"
    return f"unpacking {str(archive)!r} into {str(into)!r} failed ({error.strerror or error})"
