"""Carrying out a preparation: download, verify, unpack, finish. Each step that is done is not done again."""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from atrous.cache import locked
from atrous.data.preparation.extraction import extract
from atrous.data.preparation.parts import Part
from atrous.data.preparation.sbd import Track
from atrous.data.preparation.sources import Archive
from atrous.errors import ConfigError, DataError

DOWNLOADS = "downloads"


class Fetch(Protocol):
    """A downloader."""

    def __call__(self, url: str, target: Path) -> None:
        """Bring `url` to `target`, going on with what an interrupted download left.

        Raises:
            AtrousError: The host does not answer or allow it; `target` does not exist then.
        """


def choose(parts: Sequence[Part], names: Sequence[str] | None) -> list[Part]:
    """Return the parts with the given names; all by default.

    Raises:
        ConfigError: a name is unknown.
    """
    known = [part.name for part in parts]
    for name in names or ():
        if name not in known:
            raise ConfigError(f"parts={list(names or ())}: there is no part {name!r}; there are {', '.join(known)}")
    return [part for part in parts if names is None or part.name in names]


def plan(parts: Sequence[Part], root: Path) -> Iterator[str]:
    """Yield a line for each step that is left: what is downloaded from where to where, how large, how it is checked."""
    needed = 0.0
    for part in parts:
        if part.is_done(root):
            yield f"{part.name}: done already"
            continue
        for archive in part.archives:
            target, file = root / archive.becomes, root / DOWNLOADS / archive.file
            if target.is_dir():
                yield f"{part.name}: {target} is unpacked already"
                continue
            if file.is_file():
                yield f"{part.name}: use {file}, which is there already"
            else:
                needed += archive.gigabytes
                yield f"{part.name}: download {archive.url} (about {archive.gigabytes:g} GB) to {file}"
            yield f"  check it: {_checksum(archive)}"
            yield f"  unpack its {archive.inside} to {target}"
        if part.finish is not None:
            yield f"  {part.says}"
    if needed:
        free = shutil.disk_usage(_existing(root)).free / 1e9
        yield f"{needed:.1f} GB to download and about as much again unpacked; {free:.0f} GB are free there"


def carry_out(
    parts: Sequence[Part], root: Path, *, fetch: Fetch, say: Callable[[str], None], track: Track = iter
) -> None:
    """Do what is left, part by part; of two processes one does a part and the other waits.

    Args:
        parts: in the order in which they need each other.
        root: the data root.
        fetch: brings a file.
        say: gets a line before each step.
        track: wraps the ids of a long conversion, for a progress bar.

    Raises:
        DataError: a checksum is wrong, an archive cannot be unpacked, or a conversion fails.
    """
    for part in parts:
        if not part.is_done(root):
            waits = partial(say, f"{part.name}: another process prepares it; waiting for that")
            with locked(root / DOWNLOADS / f".{part.name}", key="data.root", error=DataError, waits=waits):
                if not part.is_done(root):  # another process may have done it meanwhile
                    _do(part, root, fetch=fetch, say=say, track=track)
                    continue
        say(f"{part.name}: done already")


def verify(path: Path, archive: Archive) -> str:
    """Compare a file with its published checksums.

    Returns:
        A line about what was compared.

    Raises:
        DataError: a checksum differs. The file is renamed, so that it is never taken for the archive.
    """
    found = _digests(path)
    for name, expected in (("md5", archive.md5), ("sha256", archive.sha256)):
        if expected is not None and found[name] != expected:
            aside = path.rename(path.with_name(f"{path.name}.wrong"))
            raise DataError(
                f"{archive.file}: {name} is {found[name]}, but {expected} is published ({aside.stat().st_size} bytes); "
                f"kept as {str(aside)!r}. Run the same command to download it again, or put the right file at {path}"
            )
    if archive.md5 is None and archive.sha256 is None:
        return f"{archive.file}: no checksum is published; sha256 {found['sha256']}"
    return f"{archive.file}: checksum as published"


def _do(part: Part, root: Path, *, fetch: Fetch, say: Callable[[str], None], track: Track) -> None:
    for archive in part.archives:
        if not (root / archive.becomes).is_dir():
            _bring(archive, root, fetch=fetch, say=say)
    if part.finish is not None:
        say(f"{part.name}: {part.says}")
        part.finish(root, track)
    if not part.is_done(root):
        raise DataError(f"{part.name}: unpacked below {str(root)!r}, but it is not complete; see the lists there")


def _bring(archive: Archive, root: Path, *, fetch: Fetch, say: Callable[[str], None]) -> None:
    file = root / DOWNLOADS / archive.file
    if not file.is_file():
        say(f"downloading {archive.url} to {file}")
        fetch(archive.url, file)
    say(verify(file, archive))
    target = root / archive.becomes
    say(f"unpacking {archive.inside} to {target}")
    count = extract(file, inside=archive.inside, into=target, only=archive.only)
    say(f"{count} files; {file} may be removed")


def _existing(folder: Path) -> Path:
    """Return the nearest folder, upwards, that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _checksum(archive: Archive) -> str:
    if archive.sha256 is not None:
        return f"sha256 {archive.sha256}"
    return f"md5 {archive.md5}" if archive.md5 is not None else "no checksum is published; what unpacks is taken"


def _digests(path: Path) -> dict[str, str]:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            md5.update(block)
            sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}
