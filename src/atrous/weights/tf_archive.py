"""The official release as it is published: a checkpoint inside a .tar.gz, unpacked once into the cache."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from atrous.cache import locked
from atrous.errors import CheckpointError
from atrous.files import check_space, folder_made_whole
from atrous.weights.tf_index import CHECKPOINT_FILE


def unpack_once(archive: Path, *, cache: Path) -> Path:
    """Return a folder with the archive's checkpoint files and nothing else, in `unpacked/` of the cache.

    The folder appears whole or not at all, and is used again as long as the archive does not change.

    Args:
        archive: A .tar.gz.
        cache: Where unpacked archives are kept.

    Raises:
        CheckpointError: The archive is damaged, wants to write elsewhere, or holds links or several checkpoints.
    """
    state = archive.stat()
    identity = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    name = archive.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    folder = cache / "unpacked" / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if folder.is_dir():  # whole, and perhaps of a cache that may only be read
        return folder
    with locked(folder):
        if not folder.is_dir():
            with folder_made_whole(folder) as temporary:
                _unpack(archive, temporary, is_fetched=archive.is_relative_to(cache))
    return folder


def _unpack(archive: Path, folder: Path, *, is_fetched: bool) -> None:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in _checkpoint_files(tar, archive):
                path = folder / PurePosixPath(member.name).name
                check_space(path, member.size)  # a bomb of an archive does not fill the disk first
                content = tar.extractfile(member)
                assert content is not None  # of a regular file
                # "x": two files of one name would leave a checkpoint mixed of both
                with content, path.open("xb") as stream:
                    shutil.copyfileobj(content, stream, 1 << 20)
    except FileExistsError as error:
        name = Path(str(error.filename)).name
        raise CheckpointError(f"{archive} holds several files {name}; unpack it and give the prefix of one") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = str(error) or type(error).__name__
        is_damaged = not isinstance(error, OSError) or isinstance(error, gzip.BadGzipFile)
        advice = "; remove the file, and it is fetched anew" if is_fetched and is_damaged else ""
        raise CheckpointError(
            f"{archive} cannot be unpacked into {folder.parent} (is it whole?): {reason}{advice}"
        ) from None


def _checkpoint_files(tar: tarfile.TarFile, archive: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the members that are named as a checkpoint's files; their folders do not count.

    Members are written by their last name alone, so none can leave its folder; one that tries is refused all the same.
    """
    for member in tar:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise CheckpointError(f"{archive}: {member.name!r} would be written outside of its folder; do not trust it")
        if CHECKPOINT_FILE.search(name.name):
            if not member.isreg():
                raise CheckpointError(f"{archive}: {member.name!r} is a link or no file at all; do not trust it")
            yield member
