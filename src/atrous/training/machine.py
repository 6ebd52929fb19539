"""What the machine means for a run: its precision and its memory."""

import ctypes
import os
import platform

import torch

from atrous.compiling import cpp_compiler
from atrous.errors import ConfigError
from atrous.networks import depthwise_gradients, fused_batch_norm, strided_depthwise
from atrous.training import block_allocator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEPT_BYTES = (1 << 31) - 1  # all that is free at the heap's end


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype of automatic mixed precision, None for float32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)


def use_tf32(allowed: bool) -> None:
    """Have CUDA compute float32 products and convolutions in TensorFloat-32 (10 bits of mantissa), or exactly.

    PyTorch's own default is TensorFloat-32 for convolutions, so that "32-true" alone would not be the papers' float32.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def check_compiler(device: str) -> None:
    """Refuse trainer.compile=true where torch.compile has nothing to compile with.

    Raises:
        ConfigError: says what is missing.
    """
    if device == "cuda":
        from torch.utils._triton import has_triton

        if not has_triton():
            raise ConfigError(
                "trainer.compile=true on a GPU needs Triton: pip install triton, or trainer.compile=false"
            )
        return
    if cpp_compiler() is None:
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler, and neither {os.environ.get('CXX', 'g++')} nor clang++ is on "
            "the path: install one, name it in CXX, or use trainer.compile=false"
        )


def use_allocator(which: str, activation_checkpointing: str) -> None:
    """Have a process that trains on a CPU keep the memory that PyTorch frees for the next step, and need little of it.

    To hand memory back costs a page fault per page when it is taken again. With PyTorch's own allocator holes are left
    between blocks that are kept (`block_allocator.cpp` says why), so that there large blocks are handed back all the
    same. A step of segmentation_models.pytorch's DeepLabv3+ with ResNet-50 (512x512, batch 2, float32, "maps") takes
    2425 MiB with every block kept, 2200 with those below 17 MiB, 2008 and 11% more time with those below 12 MiB, and
    1638 MiB with every block kept by `block_allocator`, in the time of the first (before it had large blocks apart).

    Args:
        which: as `trainer.cpu_allocator`; "auto" is `block_allocator` where there is a C++ compiler.
        activation_checkpointing: as the trainer's key; "units" asks for little memory before all.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    if which == "auto" and block_allocator.use():
        libc.mallopt(_M_MMAP_MAX, 0)
    else:
        libc.mallopt(_M_MMAP_THRESHOLD, (4 if activation_checkpointing == "units" else 12) << 20)


def use_kernels(which: str) -> None:
    """Have a process that trains on a CPU take this package's compiled kernels, or PyTorch's alone.

    Args:
        which: as `trainer.cpu_kernels`; "auto" takes ours where there is a C++ compiler.
    """
    for module in (fused_batch_norm, depthwise_gradients, strided_depthwise):
        module.kernels.use(which == "auto")
