"""What the machine means for a run: its precision and its memory."""

import ctypes
import os
import platform
import shutil

import torch

from atrous.errors import ConfigError
from atrous.hardware import has_bf16

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = (1 << 31) - 1  # all that is free at the heap's end


def resolve_precision(key: str, device: str) -> str:
    """Lightning's precision for `recipe.precision`: `auto` is bf16 where it is in hardware, else exact float32."""
    if key != "auto":
        return key
    return "bf16-mixed" if has_bf16(device) else "32-true"


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
    compiler = os.environ.get("CXX", "g++")
    if not any(map(shutil.which, (compiler, "clang++"))):
        raise ConfigError(
            f"trainer.compile=true needs a C++ compiler, and neither {compiler} nor clang++ is on the path: install "
            "one, name it in CXX, or use trainer.compile=false"
        )


def hand_back_blocks(activation_checkpointing: str) -> None:
    """Have glibc hand large blocks back as soon as PyTorch frees them, and keep the others for the next step.

    To hand a block back costs a page fault per page when memory is taken again. To keep blocks of many sizes leaves
    holes between them: a step of segmentation_models.pytorch's DeepLabv3+ with ResNet-50 (512x512, batch 2, float32,
    "maps") took 2360 MiB and 8.7 CPU seconds with every block kept, 2200 and 8.6 with those below 17 MiB, 1910 and 9.8
    with those below 12 MiB, 1810 and 10.6 with those below 8 MiB, 1720 and 10.7 with those below 4 MiB (means of two
    processes, on a machine whose steps differ by 10%).

    Args:
        activation_checkpointing: as `trainer.activation_checkpointing`; "units" asks for little memory before all.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, (4 if activation_checkpointing == "units" else 12) << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
