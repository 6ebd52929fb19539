"""PyTorch's memory on a CPU in blocks that fit where one of their size was: `block_allocator.cpp`, compiled once.

A step of segmentation_models.pytorch's DeepLabv3+ with ResNet-50 (512x512, batch 2, float32, "maps", no block handed
back) takes 2425 MiB of a process with PyTorch's allocator and 1638 with this, in the same time.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import torch

from atrous.cache import cache_folder, locked
from atrous.errors import AtrousError

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_suffix(".cpp")
_COMPILER_SECONDS = 120
# Of a home that cannot be found, a folder of somebody else, a compiler, what it said, and a file that cannot be loaded.
_FAILURES = (OSError, AttributeError, RuntimeError, ValueError, AtrousError, subprocess.SubprocessError)


def use(cache: str | Path | None = None) -> bool:
    """Have PyTorch take the memory of tensors in such blocks from now on.

    Args:
        cache: Folder for the compiled file; None for $ATROUS_CACHE or ~/.cache/atrous.

    Returns:
        False where it cannot be, and PyTorch goes on as before: another allocator than glibc's, another processor than
        x86-64, no C++ compiler, or something that fails, which is logged.
    """
    compiler = cpp_compiler()
    if compiler is None or not _takes_from_glibc():
        _log.info("trainer.cpu_allocator: PyTorch's own (compiler %s, %s)", compiler, platform.libc_ver()[0])
        return False
    try:
        library = _compiled(compiler, cache_folder(cache).resolve() / f"compiled-{os.geteuid()}")
        return bool(ctypes.CDLL(str(library)).atrous_use_block_allocator())
    except _FAILURES as error:
        said = getattr(error, "stderr", "") or str(error)
        _log.warning("trainer.cpu_allocator: PyTorch's own, since another failed: %s", said.strip()[-300:])
        return False


def cpp_compiler() -> str | None:
    """The C++ compiler of this machine, as torch.compile looks for it; None without one."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))), None)


def _takes_from_glibc() -> bool:
    """Whether PyTorch does: its wheels for ARM hold mimalloc, and another allocator may have been preloaded."""
    if platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64":
        return False
    found, own = (ctypes.cast(ctypes.CDLL(name).malloc, ctypes.c_void_p).value for name in (None, "libc.so.6"))
    return found == own


def _compiled(compiler: str, folder: Path) -> Path:
    """The library in a folder that this user alone writes: it is code."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_mine(folder):
        raise PermissionError(f"{folder} belongs to another user or can be written by others")
    torch_folder = Path(torch.__file__).parent
    command = [
        *(compiler, str(_SOURCE), "-std=c++20", "-O2", "-fPIC", "-shared"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-I{torch_folder / 'include'}", f"-L{torch_folder / 'lib'}", "-lc10"),
    ]
    made_of = [*command, torch.__version__, *platform.libc_ver(), _SOURCE.read_text()]
    library = folder / f"block_allocator-{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()[:16]}.so"
    if not _is_mine(library):
        with locked(library):
            if not _is_mine(library):  # unless another process was faster
                _compile(command, library)
    return library


def _is_mine(path: Path) -> bool:
    """Whether it is there, no link, and only this user can have written it."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _compile(command: list[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        arguments = [*command, "-o", str(made)]
        subprocess.run(
            arguments, check=True, capture_output=True, text=True, errors="replace", timeout=_COMPILER_SECONDS
        )
        made.chmod(0o700)
        with made.open("rb") as stream:
            os.fsync(stream.fileno())
        made.replace(library)
