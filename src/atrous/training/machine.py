"""What the machine means for a run: its precision and its memory."""

import ctypes
import platform

import torch

from atrous.hardware import has_bf16

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30


def resolve_precision(key: str, device: str) -> str:
    """Lightning's precision for `recipe.precision`: `auto` is bf16 where it is in hardware, else exact float32."""
    if key != "auto":
        return key
    return "bf16-mixed" if has_bf16(device) else "32-true"


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype of automatic mixed precision, None for float32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def keep_freed_memory() -> None:
    """Ask glibc to keep large blocks that PyTorch frees; handing them back costs a page fault per 4 KiB each step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _KEEP_BYTES - 1)
