"""What this machine can do: where a network runs, and whether bfloat16 pays there."""

from __future__ import annotations

import platform
from pathlib import Path

_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def device_type(accelerator: str) -> str:
    """`cuda` or `cpu` for the name of an accelerator; `auto` takes CUDA where there is one."""
    import torch

    if accelerator in ("cuda", "gpu") or (accelerator == "auto" and torch.cuda.is_available()):
        return "cuda"
    return "cpu"


def has_bf16(device: str) -> bool:
    """Whether bfloat16 convolutions run in hardware (emulated ones are slower than float32)."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine() in ("arm64", "aarch64"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and bool(_BF16_FLAGS & set(cpuinfo.read_text().split()))
