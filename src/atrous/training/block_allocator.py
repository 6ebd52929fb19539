"""PyTorch's memory on a CPU in blocks that fit where one of their size was: `block_allocator.cpp`, compiled once.

A step of segmentation_models.pytorch's DeepLabv3+ with ResNet-50 (512x512, batch 2, float32, "maps", no block handed
back) took 2425 MiB of a process with PyTorch's allocator and 1638 with this, in the same time, before large blocks had
a range of addresses of their own (`large_blocks.h`), which takes another 40 to 126 MiB from the peaks of
DeepLabv3 and v3+ with ResNet-50 (513x513, batch 2, bfloat16).
"""

from __future__ import annotations

import ctypes
import logging
import platform
from pathlib import Path

import torch

from atrous.compiling import loaded

_log = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_suffix(".cpp")
_INSTEAD = "trainer.cpu_allocator: PyTorch's own"
_library: ctypes.CDLL | None = None


def use() -> bool:
    """Have PyTorch take the memory of tensors in such blocks from now on.

    Returns:
        False where it cannot be, and PyTorch goes on as before: another allocator than glibc's, another processor than
        x86-64, no C++ compiler, or something that fails, which is logged.
    """
    if not _takes_from_glibc():
        _log.info("%s: memory comes from another allocator than glibc's", _INSTEAD)
        return False
    library = _loaded()
    if library is None or not library.atrous_use_block_allocator():
        return False
    if not hands_holes_back():
        _log.info("trainer.cpu_allocator: addresses are limited here: holes between large blocks keep their memory")
    return True


def hands_holes_back() -> bool:
    """Whether it is in use and large blocks lie in a range of their own: not where addresses are limited or counted."""
    return _library is not None and bool(_library.atrous_has_large_blocks())


def _loaded() -> ctypes.CDLL | None:
    """The library, which must be one: each knows only its own blocks."""
    global _library  # noqa: PLW0603
    if _library is None:
        _library = loaded(_SOURCE, flags=_flags(), made_with=[torch.__version__], wanted_by=_INSTEAD)
    return _library


def _flags() -> list[str]:
    folder = Path(torch.__file__).parent
    return [
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *("-O2", f"-I{folder / 'include'}", f"-L{folder / 'lib'}", "-lc10"),
    ]


def _takes_from_glibc() -> bool:
    """Whether PyTorch does: its wheels for ARM hold mimalloc, and another allocator may have been preloaded."""
    if platform.libc_ver()[0] != "glibc" or platform.machine() != "x86_64":
        return False
    found, own = (ctypes.cast(ctypes.CDLL(name).malloc, ctypes.c_void_p).value for name in (None, "libc.so.6"))
    return found == own
