"""What this machine can do: where a network runs, and whether bfloat16 pays there."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atrous.errors import ConfigError

GPUS = ("gpu", "cuda")
ACCELERATORS = ("auto", "cpu", *GPUS)
MOST_THREADS = 1024  # more than machines have cores: a slip of the keyboard, which would start them all
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_FULL = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",  # what PyTorch's allocator has no part in
    "STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
)


def usable_cores() -> int:
    """How many cores this process may use: a job of a cluster, or a container, has some of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Refuse an impossible number of threads (`threads`); 0 leaves it to PyTorch.

    Raises:
        ConfigError: says what would be right.
    """
    if not 0 <= threads <= MOST_THREADS:
        raise ConfigError(
            f"threads={threads}: at least 0, which leaves the number to torch, and at most {MOST_THREADS}"
        )


def device_type(accelerator: str) -> str:
    """`cuda` or `cpu` for the name of an accelerator; `auto` takes CUDA where there is one.

    Raises:
        ConfigError: another name. Whether a GPU that is named is there, `require_device` says.
    """
    if accelerator not in ACCELERATORS:
        raise ConfigError(f"device={accelerator!r}: one of {', '.join(ACCELERATORS)}")
    return "cuda" if accelerator in GPUS or (accelerator == "auto" and has_cuda()) else "cpu"


def require_device(accelerator: str, *, key: str) -> None:
    """Refuse the name of a device that does not exist, or that is not in this machine.

    Args:
        accelerator: one of ACCELERATORS; PyTorch is loaded only for a GPU.
        key: what has this value, for errors.

    Raises:
        ConfigError: says what would be right.
    """
    if accelerator not in ACCELERATORS:
        raise ConfigError(f"{key}={accelerator!r}: one of {', '.join(ACCELERATORS)}")
    if accelerator in GPUS and not has_cuda():
        raise ConfigError(f"{key}={accelerator!r}, but PyTorch finds no GPU here: {key}=cpu or {key}=auto")


def is_memory_full(error: BaseException) -> bool:
    """Whether an error says that a device or the machine has no memory left."""
    import torch

    # torch.OutOfMemoryError has this name since torch 2.5 only; the CPU's allocator raises a plain RuntimeError.
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and any(words in str(error) for words in _FULL)


def what_was_asked(error: BaseException) -> str:
    """What `is_memory_full` says of, in words: CUDA's text goes on about every other process on the device."""
    sentences = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")
    return ". ".join(sentences[:2]).rstrip(".")


def has_cuda() -> bool:
    """Whether PyTorch, which is loaded for that, finds a GPU on this machine."""
    import torch

    return torch.cuda.is_available()


def gpu_count() -> int:
    """How many GPUs PyTorch, which is loaded for that, finds on this machine; CUDA_VISIBLE_DEVICES counts."""
    import torch

    return torch.cuda.device_count()


def has_bf16(device: str) -> bool:
    """Whether bfloat16 convolutions run in hardware (emulated ones are slower than float32)."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("arm64", "aarch64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and bool(_BF16_FLAGS & set(cpuinfo.read_text().split()))


def resolve_precision(key: str, device: str) -> str:
    """Lightning's precision for `recipe.precision`: `auto` is bf16 where it is in hardware, else exact float32."""
    if key != "auto":
        return key
    return "bf16-mixed" if has_bf16(device) else "32-true"


@contextmanager
def repeatable_kernels(*, tf32: bool = False) -> Iterator[None]:
    """Have CUDA compute by the same kernels in every process; PyTorch's flags are put back afterwards.

    cuDNN's choice by trial, which trainings make, may be another one next time, and PyTorch's own default for float32
    convolutions is TensorFloat-32: either moves pixels from one class to another. PyTorch goes on with what a trial has
    chosen, also when trials are over, unless it is asked for deterministic kernels, which it chooses by themselves.

    Args:
        tf32: whether float32 is computed in TensorFloat-32, not exactly.
    """
    import torch

    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32
    cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = False, True, tf32, tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, products.allow_tf32 = before
