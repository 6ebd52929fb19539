"""A file of C++ of this package as a library for this process: compiled once, kept in the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from atrous.cache import cache_folder, locked
from atrous.errors import AtrousError
from atrous.files import write_text

_log = logging.getLogger(__name__)
_COMPILER_SECONDS = 120
# Of a home that cannot be found, a folder of somebody else, a compiler, what it said, and a file that cannot be loaded.
_FAILURES = (OSError, AttributeError, RuntimeError, ValueError, AtrousError, subprocess.SubprocessError)


def cpp_compiler() -> str | None:
    """The C++ compiler of this machine, as torch.compile looks for it; None without one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)


def loaded(
    source: Path, *, flags: Sequence[str], made_with: Sequence[str], wanted_by: str, cache: str | Path | None = None
) -> ctypes.CDLL | None:
    """Load a file of C++, which is compiled first where nobody has.

    Args:
        source: The file, which may include headers that lie beside it.
        flags: What the compiler is told besides.
        made_with: What the compiled file depends on that neither `flags` nor the source says, such as versions.
        wanted_by: The key that asks for it, and what is used instead where it fails, for the log.
        cache: Folder for the compiled file; None for $ATROUS_CACHE or ~/.cache/atrous.

    Returns:
        None where there is no C++ compiler, or something fails, which is logged.
    """
    compiler = cpp_compiler()
    if compiler is None:
        _log.info("%s: there is no C++ compiler", wanted_by)
        return None
    try:
        folder = cache_folder(cache).resolve() / f"compiled-{os.geteuid()}"
        return _loaded(source, [compiler, *flags], made_with, folder)
    except _FAILURES as error:
        said = getattr(error, "stderr", "") or str(error)
        _log.warning("%s, since %s could not be compiled or loaded: %s", wanted_by, source.name, said.strip()[-300:])
        return None


def _loaded(source: Path, compiler: Sequence[str], made_with: Sequence[str], folder: Path) -> ctypes.CDLL:
    """The library, kept in a folder that this user alone writes: it is code."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_mine(folder):
        raise PermissionError(f"{folder} belongs to another user or can be written by others")
    made_of = [*compiler, *made_with, *platform.libc_ver(), platform.machine(), *_texts_of(source)]
    library = folder / f"{source.stem}-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:16]}.so"
    command = [compiler[0], str(source), *compiler[1:]]
    if not _is_whole(library):
        with locked(library):
            if not _is_whole(library):  # unless another process was faster
                _compile(command, library)
    try:
        return ctypes.CDLL(str(library))
    except OSError:  # compiled by a machine that is not quite like this one
        with locked(library):
            _compile(command, library)
        return ctypes.CDLL(str(library))


def _texts_of(source: Path) -> list[str]:
    """What a file says, and every header that it includes from beside it."""
    files, texts = [source], []
    for file in files:  # which grows meanwhile
        texts.append(file.read_text())
        named = re.findall(r'^\s*#\s*include\s*"([^"]+)"', texts[-1], flags=re.MULTILINE)
        headers = (file.parent / name for name in named)
        files += [header for header in headers if header.is_file() and header not in files]
    return texts


def _is_whole(library: Path) -> bool:
    """Whether it is as it was compiled, by this user: a part of it, after a full disk, would end the process."""
    if not (_is_mine(library) and _sum_of(library).is_file()):
        return False
    return _sum_of(library).read_bytes() == hashlib.sha256(library.read_bytes()).hexdigest().encode()


def _sum_of(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _is_mine(path: Path) -> bool:
    """Whether it is there, no link, and only this user can have written it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _compile(command: Sequence[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        arguments = [*command, "-std=c++20", "-fPIC", "-shared", "-o", str(made)]
        subprocess.run(
            arguments, check=True, capture_output=True, text=True, errors="replace", timeout=_COMPILER_SECONDS
        )
        made.chmod(0o700)
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        write_text(_sum_of(library), hashlib.sha256(made.read_bytes()).hexdigest())
        made.replace(library)
